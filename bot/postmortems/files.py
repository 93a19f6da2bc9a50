"""The post-mortem in the format that somebody asked for, in the incident's channel or on its ticket, once each time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from bot.engine import Engine, Tx
from bot.incidents import lifecycle, parts, tickets, timeline
from bot.incidents.chat import Chat, Upload
from bot.incidents.model import Incident, Ticket, TicketState, TimelineEvent
from bot.incidents.parts import Parts
from bot.incidents.timeline import React
from bot.incidents.tracker import Tracker
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError, UserError
from bot.kit.shelf import Shelf
from bot.postmortems import press
from bot.postmortems.draft import draft, stored
from bot.postmortems.exporter import file_name
from bot.postmortems.model import Postmortem
from bot.postmortems.plan import Plan


async def ask(
    tx: Tx,
    react: React,
    incident: Incident,
    exporter: str,
    *,
    revision: int | None = None,
    by: str,
    now: datetime,
    once: str,
    ticket: bool = False,
) -> None:
    """Somebody wants the post-mortem as *exporter* writes it: a stored *revision*, or what the timeline says now.

    In the channel, or with *ticket* attached to the incident's tickets.
    """
    if ticket and incident.private:
        raise UserError(f"{incident.reference} is private; its post-mortem is not put where others can read it.")
    if ticket and not await _tickets(tx.session, incident.id):
        raise UserError(f"{incident.reference} has no ticket. `/inc ticket` opens or links one.")
    if incident.channel is None and not ticket:
        raise UserError(
            f"{incident.reference} has no channel to share a file in; "
            f"`tocsin postmortem export {incident.reference} --format {exporter}` writes one."
        )
    text = f"Post-mortem of {incident.reference} as {exporter} requested"
    data = {"exporter": exporter, "revision": revision, "place": "ticket" if ticket else "slack"}
    await timeline.record(
        tx, react, incident.id, "postmortem.export_requested", text, now=now, actor=by, data=data, once=once
    )


@dataclass
class Files:
    """The workflow `export`."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    exporters: Shelf
    trackers: Mapping[str, Tracker] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)

    async def export(self, incident_id: str, event_id: str) -> None:
        """Write what the event asks for and share it. What cannot be written is given up, with the reason."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            event = await session.get(TimelineEvent, event_id)
        if event is None:
            return
        if event.data.get("place") == "ticket":
            await self._attach(incident, event)
        elif incident.channel is not None:
            await self._share(incident, event, incident.channel)

    async def _share(self, incident: Incident, event: TimelineEvent, channel: str) -> None:
        exporter, event_id, incident_id = str(event.data["exporter"]), event.id, incident.id
        kept, part_name = Parts(self.engine, self.react, self.clock), f"export:{event_id}"
        part = (await kept.begin(incident_id, [part_name]))[part_name]
        document = await self._document(incident_id, event.data.get("revision"))
        name = file_name(incident.reference, document.revision, self.exporters[exporter])

        async def make() -> parts.Result:
            content = await press.write(self.exporters, exporter, document)
            title = f"Post-mortem of {incident.reference}, revision {document.revision}"
            comment = f":page_facing_up: {title}, as {exporter}" + (f", for <@{event.actor}>." if event.actor else ".")
            return {"file": await self.chat.upload(channel, Upload(name, content, title, comment))}

        async def find() -> parts.Result | None:
            found = await self.chat.find_upload(channel, name, since=event.recorded_at)
            return {"file": found} if found else None

        if await kept.make(part, make, find, quiet=True) is None:
            raise PermanentError(part.error or "the chat refused the file")
        async with self.engine.transaction() as tx:
            await timeline.record(
                tx,
                self.react,
                incident_id,
                "postmortem.exported",
                f"Post-mortem, revision {document.revision}, shared in the channel as {exporter}",
                now=self.clock(),
                actor="bot",
                data={"revision": document.revision, "exporter": exporter, "place": "slack"},
                once=event_id,
            )

    async def _attach(self, incident: Incident, event: TimelineEvent) -> None:
        """Hang it on every ticket of the incident; a tracker takes a file once under its name."""
        exporter = str(event.data["exporter"])
        document = await self._document(incident.id, event.data.get("revision"))
        name = file_name(incident.reference, document.revision, self.exporters[exporter])
        content = await press.write(self.exporters, exporter, document)
        async with self.engine.db.read() as session:
            found = await _tickets(session, incident.id)
        for ticket in found:
            tracker = self.trackers.get(ticket.tracker)
            if tracker is None:
                raise PermanentError(f"trackers.yaml has no tracker {ticket.tracker!r} any more")
            await self.engine.still_mine()
            await tracker.attach(str(ticket.remote_id), name, content)
            async with self.engine.transaction() as tx:
                await timeline.record(
                    tx,
                    self.react,
                    incident.id,
                    "postmortem.exported",
                    f"Post-mortem, revision {document.revision}, attached to {ticket.reference} as {exporter}",
                    now=self.clock(),
                    actor="bot",
                    data={
                        "revision": document.revision,
                        "exporter": exporter,
                        "place": "ticket",
                        "reference": ticket.reference,
                    },
                    once=f"{event.id}:{ticket.id}",
                )

    async def _document(self, incident_id: str, revision: int | None) -> Postmortem:
        if revision is None:
            return await draft(self.engine, self.react, incident_id, now=self.clock(), plan=self.plan)
        async with self.engine.db.read() as session:
            found = await stored(session, incident_id, revision)
        if found is None:
            raise PermanentError(f"there is no revision {revision} of this post-mortem any more")
        return found


async def _tickets(session: AsyncSession, incident_id: str) -> list[Ticket]:
    """The tickets of the incident itself that exist."""
    found = await tickets.of(session, incident_id)
    return [one for one in found if one.purpose == "incident" and one.state == TicketState.MADE and one.remote_id]
