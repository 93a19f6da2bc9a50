"""The post-mortem in the format that somebody asked for, in the incident's channel, once for each time it was asked."""

from dataclasses import dataclass, field
from datetime import datetime

from bot.engine import Engine, Tx
from bot.incidents import lifecycle, parts, timeline
from bot.incidents.chat import Chat, Upload
from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.parts import Parts
from bot.incidents.timeline import React
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
) -> None:
    """Somebody wants the post-mortem as *exporter* writes it: a stored *revision*, or what the timeline says now."""
    if incident.channel is None:
        raise UserError(
            f"{incident.reference} has no channel to share a file in; "
            f"`tocsin postmortem export {incident.reference} --format {exporter}` writes one."
        )
    text = f"Post-mortem of {incident.reference} as {exporter} requested"
    data = {"exporter": exporter, "revision": revision}
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
    plan: Plan = field(default_factory=Plan)

    async def export(self, incident_id: str, event_id: str) -> None:
        """Write what the event asks for and share it. What cannot be written is given up, with the reason."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            event = await session.get(TimelineEvent, event_id)
        if event is None or incident.channel is None:
            return
        exporter, channel = str(event.data["exporter"]), incident.channel
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

    async def _document(self, incident_id: str, revision: int | None) -> Postmortem:
        if revision is None:
            return await draft(self.engine, self.react, incident_id, now=self.clock(), plan=self.plan)
        async with self.engine.db.read() as session:
            found = await stored(session, incident_id, revision)
        if found is None:
            raise PermanentError(f"there is no revision {revision} of this post-mortem any more")
        return found
