"""The places a run may speak in: its incident's channel, and other channels unless the incident is private."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.chat import Chat, Remark
from bot.incidents.model import Incident
from bot.incidents.parts import DONE, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import BotError, PermanentError, TemporaryError

# The run's own message is posted by another workflow, which may be a little behind.
LOOKS = 20


@dataclass
class IncidentRoom:
    """The port `bot.runs.step.Room` for one run. What it posts is written down as a part of the incident."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    incident_id: str
    run_id: str
    look_seconds: float = 0.5

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)

    async def post(self, text: str, *, channel: str | None, thread: bool, broadcast: bool, key: str) -> dict[str, str]:
        """Say *text* once under *key*; the message's ``ts`` and ``permalink``."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, self.incident_id)
        name = f"remark:{key}"
        part = (await self.parts.begin(incident.id, [name]))[name]
        if part.state == DONE:
            return _said(part.result)
        if "channel" not in part.result:
            # Where it goes is decided once, so that it is looked for there after a crash.
            part.result = await self._where(incident, channel, thread=thread, broadcast=broadcast)
            await self.parts.keep(part, part.result)
        where, posted_as = part.result, f"{incident.id}:{name}"
        self._may(incident, str(where["channel"]))

        async def make() -> dict[str, Any]:
            ts = await self.chat.post(
                where["channel"],
                Remark(text),
                key=posted_as,
                thread=where["thread"],
                broadcast=where["broadcast"],
            )
            return {**where, "ts": ts, "permalink": await self._permalink(where["channel"], ts)}

        async def find() -> dict[str, Any] | None:
            since = datetime.fromisoformat(where["since"])
            ts = await self.chat.find_post(where["channel"], posted_as, since=since, thread=where["thread"])
            return {**where, "ts": ts, "permalink": await self._permalink(where["channel"], ts)} if ts else None

        made = await self.parts.make(part, make, find, quiet=True)
        if made is None:
            raise PermanentError(part.error or "the chat refused the message")
        return _said(made)

    async def _where(self, incident: Incident, channel: str | None, *, thread: bool, broadcast: bool) -> dict[str, Any]:
        if incident.channel is None:
            raise TemporaryError(f"{incident.reference} has no channel yet")
        below = await self._below() if thread else None
        own = channel is None or channel.lstrip("#") in (incident.channel, incident.channel_name)
        if not own and incident.private:
            raise PermanentError(self._private(incident))
        return {
            "channel": incident.channel if own else await self.chat.place(channel or ""),
            "thread": below,
            "broadcast": broadcast and below is not None,
            "since": self.clock().isoformat(),
        }

    def _may(self, incident: Incident, channel: str) -> None:
        """It may have become private since the place was chosen."""
        if incident.private and channel != incident.channel:
            raise PermanentError(self._private(incident))

    def _private(self, incident: Incident) -> str:
        return f"{incident.reference} is private: its runbooks may speak in its own channel only"

    async def _below(self) -> str | None:
        """The run's message; without one, what is said stands in the channel by itself."""
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self.look_seconds)
            part = await self.parts.find(self.incident_id, f"run:{self.run_id}")
            if part is not None and part.state == DONE:
                return str(part.result["ts"])
        return None

    async def _permalink(self, channel: str, ts: str) -> str:
        try:
            return await self.chat.permalink(channel, ts)
        except BotError:  # it stands there, link or not
            return ""


def _said(result: dict[str, Any]) -> dict[str, str]:
    return {"ts": str(result["ts"]), "permalink": str(result["permalink"])}
