"""Writes the draft and shares it in the incident's channel, once for each revision."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.chat import Chat, Drafted, Upload
from bot.incidents.model import Incident
from bot.incidents.parts import Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.postmortems import merge
from bot.postmortems.draft import draft
from bot.postmortems.model import Postmortem
from bot.postmortems.plan import Plan


@dataclass
class Share:
    """The workflow `draft`."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    tell: Callable[[str, str], Awaitable[None]]
    formats: Sequence[str] = ()
    plan: Plan = field(default_factory=Plan)

    async def draft(self, incident_id: str, event_id: str | None = None, template: str | None = None) -> None:
        """A new revision if there is more to tell, and its file in the channel; first, word of the event it ends."""
        if event_id is not None:
            await self.tell(incident_id, event_id)
        document = await draft(
            self.engine, self.react, incident_id, now=self.clock(), plan=self.plan, template=template
        )
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
        channel = incident.channel
        if channel is None:
            return
        parts = Parts(self.engine, self.react, self.clock)
        name = f"document:{document.revision}"
        part = (await parts.begin(incident_id, [name]))[name]
        file = f"{incident.reference.lower()}-postmortem-{document.revision}.md"
        upload = Upload(
            name=file,
            content=document.text.encode(),
            title=f"Post-mortem draft of {incident.reference}, revision {document.revision}",
            comment=(
                f":page_facing_up: Post-mortem draft of {incident.reference}, revision {document.revision}. "
                "The facts come from the timeline; the questions in it are for people."
                + _conflicts(merge.conflicts(document.text))
            ),
        )

        async def make() -> dict[str, str]:
            return {"file": await self.chat.upload(channel, upload)}

        async def find() -> dict[str, str] | None:
            found = await self.chat.find_upload(channel, file, since=document.created_at)
            return {"file": found} if found else None

        if await parts.make(part, make, find):
            async with self.engine.transaction() as tx:
                await timeline.record(
                    tx,
                    self.react,
                    incident_id,
                    "postmortem.exported",
                    f"Post-mortem draft, revision {document.revision}, shared in the channel",
                    now=self.clock(),
                    actor="bot",
                    data={"revision": document.revision, "exporter": "md", "place": "slack"},
                    once=f"slack:{document.revision}",
                )
            if self.formats:
                await self._offer(incident, channel, document)

    async def _offer(self, incident: Incident, channel: str, document: Postmortem) -> None:
        """A menu of formats below the file; the message of a file can hold none."""
        parts = Parts(self.engine, self.react, self.clock)
        name = f"formats:{document.revision}"
        part = (await parts.begin(incident.id, [name]))[name]

        async def make() -> dict[str, str]:
            return {"ts": await self.chat.post(channel, Drafted(incident, document.revision, self.formats), key=name)}

        async def find() -> dict[str, str] | None:
            found = await self.chat.find_post(channel, name, since=document.created_at)
            return {"ts": found} if found else None

        await parts.make(part, make, find, quiet=True)


def _conflicts(count: int) -> str:
    if not count:
        return ""
    return (
        f"\n:warning: {count} conflict{'s' if count > 1 else ''} in it: people and the timeline have changed the same "
        "lines. Both stand there, between markers; keep one of them."
    )
