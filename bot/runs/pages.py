"""What a run may do with the pager, always about its own incident, and what is written down about it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bot.engine import Engine
from bot.incidents import lifecycle, paging, timeline
from bot.incidents.model import Incident, Page
from bot.incidents.pager import Action, ActResult, Acts, Kind, Pager, PageRequest, Seen
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
    due: Callable[[Incident, Page, datetime], datetime | None] = lambda incident, page, now: None

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
                await self._wrote(incident, page, key, "failed", str(error))
            raise
        if kind == "page":
            outcome = "sent" if result.outcome == "done" else "nobody"
            await self._wrote(incident, page, key, outcome, result.detail, result.seen)
        elif kind in ("ack", "resolve"):
            await self._settled(incident, page, kind, key)
        return result

    async def missed(self, *, key: str, service: str | None, why: str) -> None:
        """A page that is not known to have gone through counts as failed, until it is asked for again."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, self.incident_id)
        page = paging.request(incident, self.public_url, service)
        await self._wrote(incident, page, key, "failed", why)

    async def wake(self, why: str, *, key: str, service: str | None) -> None:
        """A page of its own, once for each *key*, that says *why*; who was woken for the incident is woken again."""
        async with self.engine.transaction() as tx:
            await paging.wake(tx, self.react, self.incident_id, why, key=key, now=self.clock(), service=service)

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

    async def _settled(self, incident: Incident, asked: PageRequest, kind: Kind, key: str) -> None:
        """What the run moved in the pager is so here as well."""
        now, acked = self.clock(), kind == "ack"
        async with self.engine.transaction() as tx:
            await lifecycle.find(tx.session, incident.id, lock=True)
            for page in await paging.pages_of(tx.session, incident.id):
                if page.dedup_key != asked.dedup_key or page.state not in ("sent", "acknowledged"):
                    continue
                if acked and not paging.waits(page):
                    continue
                page.due_at, page.heard = None, {**page.heard, "state": "acknowledged" if acked else "resolved"}
                if acked:
                    page.acknowledged_at, page.acknowledged_by = now, "a runbook"
                else:
                    page.resolved_at = now
                tx.session.add(page)
                await tx.session.flush()
                await timeline.touch(tx.session, incident.id)
                what = "acknowledged" if acked else "resolved"
                data = {"pager": page.pager, "via": "slack", "by": "a runbook", "number": page.number}
                data |= {"pages": [page.number]} if acked else {}
                await timeline.record(
                    tx, self.react, incident.id, f"page.{what}", f"A runbook has {what} the page",
                    now=now, actor="bot", data=data, once=f"{key}:{page.number}",
                )  # fmt: skip

    async def _wrote(
        self, incident: Incident, asked: PageRequest, key: str, outcome: str, detail: str, seen: Seen | None = None
    ) -> None:
        now, row = self.clock(), derived_id("page", incident.id, key)
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident.id, lock=True)  # no two pages get one number
            kept = await tx.session.get(Page, row)
            page = kept or Page(
                id=row, incident_id=incident.id, number=await paging.next_number(tx.session, incident.id),
                pager=self.name, outcome=outcome, detail=detail, at=now, dedup_key=asked.dedup_key,
                service=asked.service if asked.service != incident.service else None,
            )  # fmt: skip
            page.outcome, page.detail, page.at = outcome, detail, now
            page.due_at = self.due(incident, page, now) if outcome == "sent" else None
            paging.look_of(page, seen)
            tx.session.add(page)
            await tx.session.flush()
            await timeline.touch(tx.session, incident.id)
            await timeline.record(
                tx,
                self.react,
                incident.id,
                f"page.{outcome}",
                detail,
                now=now,
                actor="bot",
                data={"pager": self.name, "number": page.number, "detail": detail},
                once=key,
            )
