"""The message of a run: posted once, drawn anew as the run goes on, at most one edit under way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col

from bot.engine import LINES, Engine, Work
from bot.incidents import parts
from bot.incidents.chat import Chat
from bot.incidents.model import Part
from bot.incidents.parts import DONE, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import BotError, PermanentError
from bot.kit.ids import new_id
from bot.kit.tasks import spawn
from bot.runs import run as runs
from bot.runs import sharing
from bot.runs.interpreter import Interpreter
from bot.runs.model import ENDED, Approval, ApprovalState, Run
from bot.runs.standing import Standing

log = structlog.get_logger()

# So many of the runs that came before the channel are shown in it: the operations log may have years of them.
LATE = 20


@dataclass
class Show:
    """The workflows `show_run` and `show_runs`, and the redrawing while a step talks."""

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
            await self._breathe(run_id)
            await self._draw(run_id)

    async def _breathe(self, run_id: str) -> None:
        """Let the last edit stand for a while, whichever process made it: what happens meanwhile goes into the next."""
        async with self.engine.db.read() as session:
            run = await runs.find(session, run_id)
            part = await session.get(Part, (run.incident_id, f"run:{run_id}"))
        if part is not None and part.state == DONE:
            since = (self.clock() - part.changed_at).total_seconds()
            await asyncio.sleep(min(self.every_seconds, max(0.0, self.every_seconds - since)))

    async def show_all(self, incident_id: str) -> None:
        """The channel is there: show the runs, the questions and the files that came before it."""
        asked = sa.select(col(Approval.id), col(Approval.run_id)).where(
            col(Approval.incident_id) == incident_id, col(Approval.state) == ApprovalState.ASKED
        )
        async with self.engine.transaction() as tx:
            begun = sa.select(col(Run.id)).where(col(Run.incident_id) == incident_id)
            newest = list(await tx.session.scalars(begun.order_by(col(Run.number).desc()).limit(LATE)))
            for run_id in reversed(newest):
                line = f"run:{run_id}"
                tx.enqueue(Work("show_run", f"show_run:late:{run_id}", (run_id,), queue=LINES, partition=line))
            for approval_id, run_id in (await tx.session.execute(asked)).all():
                work = f"show_approval:late:{approval_id}"
                tx.enqueue(Work("show_approval", work, (approval_id,), queue=LINES, partition=f"run:{run_id}"))
            for file_id, run_id in await sharing.waiting(tx.session, incident_id):
                line = f"files:{run_id}"
                tx.enqueue(Work("share_file", f"share_file:late:{file_id}", (file_id,), queue=LINES, partition=line))

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
                await self._breathe(run_id)
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
            return
        incident, name = noun.incident.id, f"run:{run_id}"
        standing = Standing(self.parts, self.chat, incident, noun.incident.channel, name, noun.run.requested_at)
        part = await self.parts.find(incident, name) if anyway else await standing.begin()
        if part is None or (anyway and part.state != DONE):
            return  # only the workflow posts the message, so it stands there once
        new = part.shown < noun.run.revision or (anyway and self._drawn.get(run_id) != (noun.run.revision, noun.tail))
        if part.state == DONE and not new:
            return
        try:
            if part.state == DONE and not await standing.edit(part, noun):
                if anyway:
                    return
                part = await standing.begin()
            drawn = part.state == DONE or await standing.post(part, noun)
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
