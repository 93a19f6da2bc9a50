"""The message of a run: posted once, drawn anew as the run goes on, at most one edit under way."""

import asyncio
from dataclasses import dataclass, field

from bot.engine import Engine
from bot.incidents.chat import Chat
from bot.incidents.opening import Locks
from bot.incidents.parts import DONE, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import BotError
from bot.kit.tasks import spawn
from bot.runs import run as runs
from bot.runs.interpreter import Interpreter

EVERY_SECONDS = 3.0


@dataclass
class Show:
    """The workflow `show_run`, and the redrawing while a step talks."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    interpreter: Interpreter
    locks: Locks = field(default_factory=Locks)
    _soon: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)
        self.interpreter.heard = self.heard

    async def show(self, run_id: str) -> None:
        """Post the message of a run, or draw it as things stand; several changes make one edit."""
        async with self.locks.hold(run_id):
            await self._draw(run_id)

    def heard(self, run_id: str) -> None:
        """A step said something: draw the message again within `EVERY_SECONDS`."""
        if run_id not in self._soon:
            self._soon.add(run_id)
            spawn(self._later(run_id), name=f"run.show:{run_id}")

    async def _later(self, run_id: str) -> None:
        await asyncio.sleep(EVERY_SECONDS)
        self._soon.discard(run_id)
        if run_id not in self.interpreter.tails:
            return
        try:
            async with self.locks.hold(run_id):
                await self._draw(run_id, anyway=True)
        except BotError:
            return  # the next step of the run draws it anyway

    async def _draw(self, run_id: str, *, anyway: bool = False) -> None:
        async with self.engine.db.read() as session:
            noun = await runs.shown(session, run_id, list(self.interpreter.tails.get(run_id, ())))
        channel = noun.incident.channel
        if channel is None:
            return
        name, key = f"run:{run_id}", f"{noun.incident.id}:run:{run_id}"
        part = (await self.parts.begin(noun.incident.id, [name]))[name]
        if part.state == DONE:
            if part.shown < noun.run.revision or anyway:
                await self.chat.edit(channel, part.result["ts"], noun)
                await self.parts.shown(noun.incident.id, name, noun.run.revision)
            return

        async def make() -> dict[str, str]:
            return {"ts": await self.chat.post(channel, noun, key=key)}

        async def find() -> dict[str, str] | None:
            ts = await self.chat.find_post(channel, key, since=noun.run.requested_at)
            return {"ts": ts} if ts else None

        if await self.parts.make(part, make, find, quiet=True):
            await self.parts.shown(noun.incident.id, name, noun.run.revision)
