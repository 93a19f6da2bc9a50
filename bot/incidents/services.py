"""What the catalog says of a service, and how it and what it needs stand now."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.catalog.services import Directory, Service
from bot.incidents import budget
from bot.incidents.budget import Spent
from bot.incidents.model import LOGBOOK, Incident, Status
from bot.kit.clock import Clock, utc_now


@dataclass(frozen=True)
class Need:
    """Another service that this one needs, and its open incidents: those that everybody may know of."""

    name: str
    incidents: tuple[str, ...] = ()


@dataclass(frozen=True)
class About:
    """A service, for a card."""

    name: str
    service: Service
    needs: tuple[Need, ...] = ()
    spent: Spent | None = None


@dataclass(frozen=True)
class Services:
    """What is asked about services: the catalog, and the time."""

    directory: Directory = field(default_factory=Directory)
    clock: Clock = utc_now

    async def about(self, session: AsyncSession, name: str | None) -> About | None:
        """What is known of the service called *name*; None if the catalog does not have it."""
        service = self.directory.catalog.services.get(name or "")
        if name is None or service is None:
            return None
        there = await troubles(session, service.dependencies)
        needs = tuple(Need(one, tuple(i.reference for i in there if i.service == one)) for one in service.dependencies)
        spent = await budget.of_services(session, {name: service}, self.clock())
        return About(name, service, needs, spent.get(name))


async def troubles(session: AsyncSession, services: Sequence[str]) -> list[Incident]:
    """The open incidents of *services*, worst first, without private ones and mere suggestions."""
    if not services:
        return []
    query = sa.select(Incident).where(
        col(Incident.service).in_(list(services)),
        col(Incident.is_open).is_(True),
        col(Incident.private).is_(False),
        col(Incident.status) != Status.TRIAGE,
        col(Incident.number) != LOGBOOK,
    )
    return list(await session.scalars(query.order_by(col(Incident.severity), col(Incident.number)).limit(100)))
