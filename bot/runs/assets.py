"""Assets of the catalog, with what runs said of them last."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.catalog.services import Asset, Catalog
from bot.runs.model import AssetReport


@dataclass(frozen=True)
class Looked:
    """One asset; *asset* is None where catalog.yaml does not have it, and only a run spoke of it."""

    name: str
    asset: Asset | None
    reports: Sequence[AssetReport] = ()

    @property
    def bad(self) -> bool:
        """Whether anything about it is not known to be as it should be."""
        return any(report.ok is not True for report in self.reports)

    def fits(self, word: str) -> bool:
        """Whether *word* is a part of its name, or its kind, service or owner."""
        of = (self.asset.kind, self.asset.service, self.asset.owner) if self.asset is not None else ()
        return word in self.name.lower() or word in [part.lower() for part in of if part]


async def known(session: AsyncSession, catalog: Catalog, *, service: str | None = None) -> list[Looked]:
    """All of them, or those of one *service*."""
    query = sa.select(AssetReport).order_by(col(AssetReport.asset), col(AssetReport.kind))
    reports: dict[str, list[AssetReport]] = {}
    for report in await session.scalars(query):
        reports.setdefault(report.asset, []).append(report)
    names = dict.fromkeys([*catalog.assets, *reports])
    found = [Looked(name, catalog.assets.get(name), reports.get(name, ())) for name in names]
    return [one for one in found if service is None or (one.asset is not None and one.asset.service == service)]
