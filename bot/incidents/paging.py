"""Somebody is woken for an incident, and what the pager said about it is written down."""

from dataclasses import dataclass
from types import ModuleType

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Page
from bot.incidents.pager import PageRequest
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id


@dataclass
class Paging:
    """The workflow `page`; *public_url* goes along with each page."""

    engine: Engine
    react: React
    pager: ModuleType
    public_url: str | None
    clock: Clock

    async def page(self, incident_id: str, number: int) -> None:
        """Wake somebody, and write down what the pager said about it."""
        row = derived_id("page", incident_id, number)
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            if await session.get(Page, row) is not None:
                return
        request = PageRequest(
            reference=incident.reference,
            title=incident.title,
            severity=incident.severity,
            service=incident.service,
            dedup_key=f"tocsin-{incident.id}",
            url=self.public_url,
        )
        try:
            await self.engine.still_mine()
            result = await self.pager.page(request)
            outcome, detail = result.outcome, result.detail
        except PermanentError as error:
            outcome, detail = "failed", str(error)
        name = self.pager.__name__.rpartition(".")[2]
        now = self.clock()
        async with self.engine.transaction() as tx:
            tx.session.add(
                Page(id=row, incident_id=incident_id, number=number, pager=name, outcome=outcome, detail=detail, at=now)
            )
            await tx.session.flush()
            await timeline.touch(tx.session, incident_id)
            await timeline.record(
                tx,
                self.react,
                incident_id,
                f"page.{outcome}",
                detail,
                now=now,
                actor="bot",
                data={"pager": name, "number": number, "detail": detail},
                once=str(number),
            )
