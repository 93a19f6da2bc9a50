"""What a run may do with the pager, always about its own incident, and what is written down about it."""

from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle, paging, timeline
from bot.incidents.model import Incident, Page
from bot.incidents.pager import Action, ActResult, Acts, Kind, Pager
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id

OPENLY = ("note", "change_event")


@dataclass
class IncidentPages:
    """The port `bot.runs.step.Pages` for one incident, by the pager called *name*."""

    engine: Engine
    react: React
    pager: Pager
    name: str
    clock: Clock
    incident_id: str
    public_url: str | None = None

    async def act(
        self, kind: Kind, *, key: str, service: str | None = None, message: str = "", user: str | None = None
    ) -> ActResult:
        """Do it. A page that was sent, or failed, is written on the timeline and on the card."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, self.incident_id)
        if incident.private and kind in OPENLY:
            raise PermanentError(f"{incident.reference} is private: what is said about it stays in its channel")
        page = paging.request(incident, self.public_url, service)
        said = "" if incident.private else message
        named = service is not None and service != incident.service
        try:
            result = await self._done(Action(kind, page, key, said, user, named))
        except PermanentError as error:
            if kind == "page":
                await self._wrote(incident, key, "failed", str(error))
            raise
        if kind == "page":
            await self._wrote(incident, key, "sent" if result.outcome == "done" else "nobody", result.detail)
        return result

    async def missed(self, *, key: str, service: str | None, why: str) -> None:
        """A page that is not known to have gone through counts as failed, until it is asked for again."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, self.incident_id)
        await self._wrote(incident, key, "failed", why)

    async def wake(self, why: str, *, key: str, service: str | None) -> None:
        """A page of its own, once for each *key*, that says *why*; who was woken for the incident is woken again."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, self.incident_id)
            if await session.get(Page, derived_id("page", incident.id, key)) is not None:
                return
        page = paging.request(incident, self.public_url, service)
        page = replace(page, title=page.title if incident.private else why, dedup_key=f"{page.dedup_key}:{key}")
        try:
            result = await self.pager.page(page)
            outcome, detail = result.outcome, result.detail
        except PermanentError as error:
            outcome, detail = "failed", str(error)
        await self._wrote(incident, key, outcome, detail, why)

    async def _done(self, action: Action) -> ActResult:
        if isinstance(self.pager, Acts):
            return await self.pager.act(action)
        if action.kind != "page":
            raise PermanentError(
                f"the pager {self.name!r} can only page; set `pager` in tocsin.yaml to one that can more"
            )
        paged = await self.pager.page(action.page)
        if paged.outcome == "failed":
            raise PermanentError(paged.detail)
        return ActResult("done" if paged.outcome == "sent" else "nobody", paged.detail, proof=paged.proof)

    async def _wrote(self, incident: Incident, key: str, outcome: str, detail: str, why: str = "") -> None:
        now, row = self.clock(), derived_id("page", incident.id, key)
        async with self.engine.transaction() as tx:
            await lifecycle.find(tx.session, incident.id, lock=True)  # no two pages get one number
            last = await tx.session.scalar(
                sa.select(sa.func.max(col(Page.number))).where(col(Page.incident_id) == incident.id)
            )
            kept = await tx.session.get(Page, row)
            # The first number belongs to the page that an incident begins with, even if that one is late.
            page = kept or Page(
                id=row, incident_id=incident.id, number=max(last or 1, 1) + 1, pager=self.name, outcome=outcome,
                detail=detail, at=now,
            )  # fmt: skip
            page.outcome, page.detail, page.at = outcome, detail, now
            tx.session.add(page)
            await tx.session.flush()
            await timeline.touch(tx.session, incident.id)
            await timeline.record(
                tx,
                self.react,
                incident.id,
                f"page.{outcome}",
                f"{why}: {detail}" if why else detail,
                now=now,
                actor="bot",
                data={"pager": self.name, "number": page.number, "detail": detail},
                once=key,
            )
