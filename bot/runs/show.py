"""The message of a run: posted once, drawn anew as the run goes on, at most one edit under way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bot.engine import LINES, Engine, Work
from bot.incidents import lifecycle, parts
from bot.incidents.chat import Chat
from bot.incidents.model import Part
from bot.incidents.parts import DONE, FAILED, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import BotError, PermanentError
from bot.kit.ids import new_id
from bot.kit.tasks import spawn
from bot.runs import run as runs
from bot.runs.interpreter import Interpreter
from bot.runs.model import ENDED
from bot.runs.run import Shown

log = structlog.get_logger()


@dataclass
class Show:
    """The workflow `show_run`, and the redrawing while a step talks."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    interpreter: Interpreter
    every_seconds: float = 3.0
    _turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _soon: set[str] = field(default_factory=set)
    _drawn: dict[str, tuple[int, Sequence[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)
        self.interpreter.heard = self.heard

    async def show(self, run_id: str) -> None:
        """Post the message of a run, or draw it as things stand; several changes make one edit."""
        async with self._turn(run_id):
            await self._draw(run_id)

    def _turn(self, run_id: str) -> asyncio.Lock:
        """The queue sees to it that one workflow draws at a time; a step that talks must wait for it too."""
        return self._turns.setdefault(run_id, asyncio.Lock())

    def heard(self, run_id: str) -> None:
        """A step said something: draw the message again within `every_seconds`."""
        if run_id not in self._soon:
            self._soon.add(run_id)
            spawn(self._later(run_id), name=f"run.show:{run_id}")

    async def _later(self, run_id: str) -> None:
        await asyncio.sleep(self.every_seconds)
        self._soon.discard(run_id)
        if run_id not in self.interpreter.tails:
            return
        try:
            async with self._turn(run_id):
                await self._draw(run_id, anyway=True)
        except (BotError, SQLAlchemyError) as error:
            log.warning("run.not_drawn", run=run_id, reason=type(error).__name__)
            await self._draw_later(run_id)

    async def _draw_later(self, run_id: str) -> None:
        """An edit failed, or its answer was lost, so it may come through late: draw once more, whatever is shown."""
        try:
            async with self.engine.transaction() as tx:
                run = await runs.find(tx.session, run_id)
                await parts.stale(tx, run.incident_id, f"run:{run_id}")
                work = Work("show_run", f"show_run:{new_id()}", (run_id,), queue=LINES, partition=f"run:{run_id}")
                tx.enqueue(work)
        except SQLAlchemyError as error:  # the next step of the run draws it
            log.warning("run.not_drawn", run=run_id, reason=type(error).__name__)

    async def _draw(self, run_id: str, *, anyway: bool = False, again: bool = False) -> None:
        async with self.engine.db.read() as session:
            noun = await runs.shown(session, run_id, list(self.interpreter.tails.get(run_id, ())))
        if noun.incident.channel is None:
            if not anyway:
                await self._wait(noun.incident.id, run_id)
            return
        incident, name = noun.incident.id, f"run:{run_id}"
        part = await self.parts.find(incident, name) if anyway else (await self.parts.begin(incident, [name]))[name]
        if part is None or (anyway and part.state != DONE):
            return  # only the workflow posts the message, so it stands there once
        new = part.shown < noun.run.revision or (anyway and self._drawn.get(run_id) != (noun.run.revision, noun.tail))
        if part.state == DONE and not new:
            return
        try:
            if part.state == DONE and not await self._edit(noun, noun.incident.channel, part):
                if anyway:
                    return
                part = (await self.parts.begin(incident, [name]))[name]
            drawn = part.state == DONE or await self._post(noun, noun.incident.channel, part)
            if drawn and not await self.parts.shown(incident, {name: None}, noun.run.revision) and not again:
                await self._draw(run_id, again=True)  # somebody drew a newer state under this older one
                return
        except PermanentError as error:  # the channel is gone, say: a run does not need its message
            log.warning("run.not_drawn", run=run_id, reason=str(error))
            return
        if noun.run.state in ENDED:
            self._drawn.pop(run_id, None)
        else:
            self._drawn[run_id] = (noun.run.revision, noun.tail)

    async def _wait(self, incident_id: str, run_id: str) -> None:
        """A run that started by itself is often there before the channel: whoever makes that has its message drawn."""
        name = f"run:{run_id}"
        if await self.parts.find(incident_id, name) is not None:
            return
        async with self.engine.transaction() as tx:  # the opening takes the same lock: one of the two draws it
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            if incident.channel is None:
                await parts.wait(tx, incident_id, name, {"run": run_id}, now=self.clock())
                return
            tx.enqueue(Work("show_run", f"late:{run_id}", (run_id,), queue=LINES, partition=f"run:{run_id}"))

    async def _edit(self, noun: Shown, channel: str, part: Part) -> bool:
        """Draw the message anew; False if it does not exist any more, and with it the buttons."""
        try:
            await self.chat.edit(channel, part.result["ts"], noun)
        except PermanentError as error:
            if await self._find(noun, channel) is None:
                await self.parts.end(part, FAILED, {}, str(error), quiet=True)
                return False
            log.warning("run.not_drawn", run=noun.run.id, reason=str(error))
        return True

    async def _post(self, noun: Shown, channel: str, part: Part) -> bool:
        async def make() -> dict[str, str]:
            return {"ts": await self.chat.post(channel, noun, key=_key(noun))}

        async def find() -> dict[str, str] | None:
            return await self._find(noun, channel)

        return await self.parts.make(part, make, find, quiet=True) is not None

    async def _find(self, noun: Shown, channel: str) -> dict[str, str] | None:
        ts = await self.chat.find_post(channel, _key(noun), since=noun.run.requested_at)
        return {"ts": ts} if ts else None


def _key(noun: Shown) -> str:
    return f"{noun.incident.id}:run:{noun.run.id}"
