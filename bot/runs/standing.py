"""A message that is posted once for a thing and drawn anew as that thing changes: a run's, a question's."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from bot.incidents.chat import Chat
from bot.incidents.model import Part
from bot.incidents.parts import FAILED, Parts, Result
from bot.kit.errors import PermanentError

log = structlog.get_logger()


@dataclass(frozen=True)
class Standing:
    """Where such a message stands: *name* is its part, *since* when what it shows began."""

    parts: Parts
    chat: Chat
    incident_id: str
    channel: str
    name: str
    since: datetime

    @property
    def key(self) -> str:
        """What the message carries, invisible, to be found by."""
        return f"{self.incident_id}:{self.name}"

    async def begin(self) -> Part:
        """Write down that it is looked after now."""
        return (await self.parts.begin(self.incident_id, [self.name]))[self.name]

    async def post(self, part: Part, noun: Any) -> bool:
        """Say it, unless it stands there already; False if the chat refuses it."""

        async def make() -> Result:
            return {"ts": await self.chat.post(self.channel, noun, key=self.key)}

        return await self.parts.make(part, make, self.find, quiet=True) is not None

    async def edit(self, part: Part, noun: Any) -> bool:
        """Draw the message anew; False if it does not exist any more, and with it the buttons."""
        try:
            await self.chat.edit(self.channel, part.result["ts"], noun)
        except PermanentError as error:
            if await self.find() is None:
                await self.parts.end(part, FAILED, {}, str(error), quiet=True)
                return False
            log.warning("message.not_drawn", part=self.name, reason=str(error))
        return True

    async def find(self) -> Result | None:
        """The message that an earlier attempt left behind."""
        ts = await self.chat.find_post(self.channel, self.key, since=self.since)
        return {"ts": ts} if ts else None
