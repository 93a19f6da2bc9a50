"""Somebody is woken for an incident, and what the pager said about it is written down."""

from dataclasses import dataclass

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Incident, Page
from bot.incidents.pager import Pager, PageRequest, dedup_key
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id


@dataclass
class Paging:
    """The workflow `page`, by the pager called *name*; *public_url* goes along with each page."""

    engine: Engine
    react: React
    pager: Pager
    name: str
    public_url: str | None
    clock: Clock

    async def page(self, incident_id: str, number: int) -> None:
        """Wake somebody, and write down what the pager said about it."""
        row = derived_id("page", incident_id, number)
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            if await session.get(Page, row) is not None:
                return
        try:
            await self.engine.still_mine()
            result = await self.pager.page(request(incident, self.public_url))
            outcome, detail = result.outcome, result.detail
        except PermanentError as error:
            outcome, detail = "failed", str(error)
        now = self.clock()
        async with self.engine.transaction() as tx:
            tx.session.add(
                Page(
                    id=row,
                    incident_id=incident_id,
                    number=number,
                    pager=self.name,
                    outcome=outcome,
                    detail=detail,
                    at=now,
                )
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
                data={"pager": self.name, "number": number, "detail": detail},
                once=str(number),
            )


def request(incident: Incident, url: str | None, service: str | None = None) -> PageRequest:
    """The page of *incident*, or its page of another *service*. A private title does not leave its channel."""
    other = service if service != incident.service else None
    return PageRequest(
        reference=incident.reference,
        title="a private incident; its channel in Slack says more" if incident.private else incident.title,
        severity=incident.severity,
        service=other or incident.service,
        dedup_key=dedup_key(incident.id, other),
        url=url,
    )
