"""What is known of a run, committed before each attempt at a step starts and again when it ends."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from bot.alerts.model import AlertRow
from bot.engine import Engine, Tx
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Incident
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import UNAVAILABLE, unavailable
from bot.kit.errors import BotError
from bot.kit.ids import derived_id
from bot.kit.text import clip, one_line
from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.model import (
    ENDED,
    PAUSED,
    Approval,
    ApprovalState,
    Phase,
    Run,
    RunFile,
    RunState,
    RunStep,
    StepState,
    Vote,
)
from bot.runs.runbook import Step
from bot.runs.step import File, Question

log = structlog.get_logger()

SUMMARY = 500
OUTPUT = 64 * 1024
WORDS = {StepState.SUCCEEDED: "done", StepState.PREVIEWED: "looked at", StepState.CANCELLED: "cancelled"}
PHASES = {
    Phase.STEPS: "goes through its steps",
    Phase.ROLLBACK: "takes back what it has changed",
    Phase.ON_FAILURE: "does what is to be done after a failure",
    Phase.ALWAYS: "does what is always done at the end",
}
KINDS = {StepState.SUCCEEDED: "run.step_succeeded", StepState.PREVIEWED: "run.step_skipped"}


class Lost(BotError):  # noqa: N818 - not a fault of this process
    """The run was ended, or is carried out by another process that took this one for dead."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a step went: redacted, bounded and fit to be stored."""

    ok: bool
    summary: str
    output: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    previewed: bool = False
    cancelled: bool = False
    passing: bool = False
    after: float = 0.0
    files: tuple[File, ...] = ()


@dataclass(frozen=True)
class Opened:
    """A run that is to be carried out, or gone on with: *attempts* are those made so far, by the step's path.

    *paused_seconds* is how long the run waited for people so far.
    """

    run: Run
    incident: Incident
    alerts: list[AlertRow]
    attempts: Mapping[str, list[RunStep]]
    paused_seconds: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where in a run a step stands: its path, its place in the order, and the phase; of a foreach, how many *items*."""

    path: str
    position: int
    phase: str
    items: int | None = None


class Record(Protocol):
    """What an interpreter writes down, and where: the database, or the memory of a test of a runbook."""

    async def begin(self, run_id: str, round_: int) -> Opened | None:
        """The run, from now on running; None if there is nothing (more) to do under this promise."""
        ...

    async def cancelled(self, run_id: str) -> bool:
        """Whether somebody asked for the end of the run."""
        ...

    async def started(self, run: Run, step: Step, place: Place, attempt: int, name: str, effect: str) -> RunStep:
        """An attempt at a step begins right after this is written down."""
        ...

    async def still_mine(self) -> None:
        """Raises where another process took this one for dead and goes on in its place."""
        ...

    async def skipped(self, run: Run, step: Step, place: Place, name: str, why: str) -> None:
        """A step is not needed."""
        ...

    async def finished(
        self, row: RunStep, outcome: Outcome, state: StepState, *, ends: RunState | None = None, again: bool = False
    ) -> None:
        """An attempt ended. *ends* is the end that the run comes to by it; *again*: another attempt follows."""
        ...

    async def unknown(self, row: RunStep, *, ask: bool) -> None:
        """A write was interrupted; with *ask* the run waits until a person says what became of it."""
        ...

    async def asked(self, run: Run, row: RunStep, question: Question, plan: list[str], digest: str) -> Approval:
        """People are asked, and the run waits for them."""
        ...

    async def question(self, row: RunStep) -> tuple[Approval | None, list[Vote]]:
        """What this attempt asked, if it did, and what was answered."""
        ...

    async def void(self, run: Run, row: RunStep, why: str) -> None:
        """A yes does not hold any more."""
        ...

    async def turned(self, run: Run, phase: Phase, state: RunState, failure: Mapping[str, Any] | None) -> None:
        """The run has come to another phase; *state* and *failure* are how its steps ended."""
        ...

    async def ended(
        self,
        run_id: str,
        state: RunState,
        failure: dict[str, Any] | None,
        outputs: Mapping[str, Any],
        raised: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """The run is over. *raised* is what the rules of its runbook say; None if they were not asked."""
        ...


@dataclass
class Journal:
    """The rows of runs and steps, each change with its line on the timeline."""

    engine: Engine
    react: React
    clock: Clock

    async def begin(self, run_id: str, round_: int) -> Opened | None:
        """The run, from now on running; None if there is nothing (more) to do under this promise."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, run_id, lock=True)
            if run.state in ENDED or run.state in PAUSED or run.held or run.round != round_:
                return None
            run.state = RunState.RUNNING
            run.started_at = now if run.started_at is None else run.started_at
            rows: dict[str, list[RunStep]] = {}
            for row in await runs.attempts(tx.session, run_id):
                rows.setdefault(row.path, []).append(row)
            await tx.session.flush()
            asked = await tx.session.scalars(sa.select(Approval).where(col(Approval.run_id) == run_id))
            waited = sum((one.ended_at - one.asked_at).total_seconds() for one in asked if one.ended_at is not None)
            return Opened(
                run=run,
                incident=await lifecycle.find(tx.session, run.incident_id),
                alerts=await lifecycle.alerts(tx.session, run.incident_id),
                attempts=rows,
                paused_seconds=paused(rows) + waited,
            )

    async def cancelled(self, run_id: str) -> bool:
        """Whether somebody asked for the end of the run, here or in another process."""
        async with self.engine.db.read() as session:
            return bool(await session.scalar(sa.select(col(Run.cancelled_by)).where(col(Run.id) == run_id)))

    async def started(self, run: Run, step: Step, place: Place, attempt: int, name: str, effect: str) -> RunStep:
        """An attempt at a step begins right after this is written down."""
        row = begun(run, step, place, attempt, name, effect, StepState.RUNNING, self.clock())
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            if there.state != RunState.RUNNING or there.round != run.round:
                raise Lost(f"run {run.id} is {there.state}")
            if await tx.session.get(RunStep, row.id) is not None:
                raise Lost(f"attempt {attempt} at this step of run {run.id} was begun by another process")
            await _add(tx, row)
            text = f"Run {there.number}: “{name}” started" + (f" (attempt {attempt})" if attempt > 1 else "")
            await self._event(tx, there, row, "run.step_started", text, {"effect": effect})
        return row

    async def still_mine(self) -> None:
        """Raises where another process took this one for dead and goes on in its place."""
        await self.engine.still_mine()

    async def skipped(self, run: Run, step: Step, place: Place, name: str, why: str) -> None:
        """A step is not needed."""
        row = begun(run, step, place, 1, name, "read", StepState.SKIPPED, self.clock())
        row.summary = clip(one_line(why), SUMMARY)
        row.ended_at = row.started_at
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            await _add(tx, row)
            await self._event(tx, there, row, "run.step_skipped", f"Run {there.number}: “{name}” skipped")

    async def finished(
        self, row: RunStep, outcome: Outcome, state: StepState, *, ends: RunState | None = None, again: bool = False
    ) -> None:
        """An attempt ended. *ends* is the end that the run comes to by it; *again* says that another attempt follows.

        Nobody else knows how it ended, so this is tried until the database takes it.
        """
        now = self.clock()
        stored: dict[str, Any] = {"values": dict(outcome.values), "outputs": dict(outcome.outputs)}
        if ends is not None:
            stored["ends"] = ends
        values = {
            "state": state,
            "summary": outcome.summary,
            "output": outcome.output,
            "result": stored,
            "error": None if outcome.ok else outcome.summary,
            "ended_at": now,
        }
        word = WORDS.get(state, "failed, trying again" if again else "failed")

        async def write(tx: Tx) -> None:
            run = await runs.find(tx.session, row.run_id, lock=True)
            change = sa.update(RunStep).where(col(RunStep.id) == row.id, col(RunStep.state) == StepState.RUNNING)
            changed = await tx.session.execute(change.values(**values))
            if not changed.rowcount:  # type: ignore[attr-defined]
                there = await tx.session.get(RunStep, row.id)
                if there is not None and there.state == state and there.ended_at == now:
                    return  # our own commit, whose answer was lost
                raise Lost(f"step {row.step} of run {row.run_id} is not running any more")
            text = f"Run {run.number}: “{row.name}” {word}" + (f": {outcome.summary}" if outcome.summary else "")
            data = {
                "seconds": max(0.0, round((now - row.started_at).total_seconds(), 3)),
                "summary": outcome.summary,
                "exit_code": outcome.values.get("exit_code"),
                "output_sha256": hashlib.sha256(outcome.output.encode()).hexdigest() if outcome.output else None,
            }
            await self._event(tx, run, row, KINDS.get(state, "run.step_failed"), text, data)
            if row.type == "note" and state == StepState.SUCCEEDED:
                await self._note(tx, run, row, outcome.values)
            await self._keep(tx, run, row, outcome.files, now)

        await self._surely(write)

    async def unknown(self, row: RunStep, *, ask: bool) -> None:
        """A write was interrupted; with *ask* the run waits until a person says what became of it."""
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, row.run_id, lock=True)
            if run.state not in (RunState.RUNNING, RunState.ASKING):
                raise Lost(f"run {row.run_id} is {run.state}")
            run.state = RunState.ASKING if ask else run.state
            await tx.session.execute(
                sa.update(RunStep).where(col(RunStep.id) == row.id).values(state=StepState.UNKNOWN)
            )
            text = f"Run {run.number}: “{row.name}” was interrupted, and nobody knows whether it ended"
            await self._event(tx, run, row, "run.step_unknown", text)

    async def asked(self, run: Run, row: RunStep, question: Question, plan: list[str], digest: str) -> Approval:
        """People are asked, and the run waits for them."""
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            if there.state != RunState.RUNNING or there.round != run.round:
                raise Lost(f"run {run.id} is {there.state}")
            if (known := await approvals.of_step(tx.session, row.id)) is not None:
                there.state = RunState.WAITING
                return known
            return await approvals.ask(
                tx, self.react, there, row.id, question, now=self.clock(), plan=plan, digest=digest
            )

    async def question(self, row: RunStep) -> tuple[Approval | None, list[Vote]]:
        """What this attempt asked, if it did, and what was answered."""
        async with self.engine.db.read() as session:
            found = await approvals.of_step(session, row.id)
            return found, await approvals.votes(session, found.id) if found else []

    async def void(self, run: Run, row: RunStep, why: str) -> None:
        """A yes does not hold any more."""
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            found = await approvals.of_step(tx.session, row.id)
            if found is not None and found.state != ApprovalState.VOID:
                await approvals.close(tx, self.react, there, found, ApprovalState.VOID, why, now=self.clock())

    async def turned(self, run: Run, phase: Phase, state: RunState, failure: Mapping[str, Any] | None) -> None:
        """The run has come to another phase; *state* and *failure* are how its steps ended."""

        async def write(tx: Tx) -> None:
            there = await runs.find(tx.session, run.id, lock=True)
            if there.state != RunState.RUNNING or there.round != run.round:
                raise Lost(f"run {run.id} is {there.state}")
            if there.phase == phase:
                return
            there.phase = phase
            there.failure = {"step": "", "message": "", **(failure or {}), "state": state}
            text = f"Run {there.number}: {PHASES[phase]}"
            about = {"phase": phase}
            await runs.event(
                tx, self.react, there, "run.phase_changed", text,
                now=self.clock(), actor="bot", data=about, once=f"{run.id}:{phase}",
            )  # fmt: skip

        await self._surely(write)

    async def ended(
        self,
        run_id: str,
        state: RunState,
        failure: dict[str, Any] | None,
        outputs: Mapping[str, Any],
        raised: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """The run is over."""

        async def write(tx: Tx) -> None:
            run = await runs.find_alone(tx.session, run_id)
            if run.state in ENDED:
                return
            run.outputs, run.raised = dict(outputs), None if raised is None else list(raised)
            await runs.end(tx, self.react, run, state, now=self.clock(), failure=failure)

        await self._surely(write)

    async def _keep(self, tx: Tx, run: Run, row: RunStep, files: tuple[File, ...], now: datetime) -> None:
        """Hold what a step made until it is shared in the channel."""
        for i, file in enumerate(files):
            kept = RunFile(
                id=derived_id("file", row.id, i),
                run_id=run.id,
                step_id=row.id,
                name=file.name,
                title=file.title or row.name,
                size=len(file.content),
                content=file.content,
                made_at=now,
            )
            tx.session.add(kept)
            await tx.session.flush()
            about = {"file": kept.id, "name": kept.name, "size": kept.size, "step": row.step}
            text = f"Run {run.number}: “{row.name}” gave {kept.name}"
            await runs.event(tx, self.react, run, "run.file_made", text, now=now, actor="bot", data=about, once=kept.id)

    async def _event(
        self, tx: Tx, run: Run, row: RunStep, kind: str, text: str, data: Mapping[str, Any] | None = None
    ) -> None:
        about = {"step": row.step, "path": row.path, "name": row.name, "type": row.type, "attempt": row.attempt}
        about |= data or {}
        await runs.event(tx, self.react, run, kind, text, now=self.clock(), actor="bot", data=about, once=row.id)

    async def _note(self, tx: Tx, run: Run, row: RunStep, values: Mapping[str, Any]) -> None:
        await timeline.record(
            tx,
            self.react,
            run.incident_id,
            "note.added",
            str(values["text"]),
            now=self.clock(),
            actor="bot",
            data={"kind": values.get("kind", "note"), "run": run.id, "number": run.number},
            once=row.id,
        )

    async def _surely(self, write: Callable[[Tx], Awaitable[None]]) -> None:
        wait = 0.2
        while True:
            try:
                async with self.engine.transaction() as tx:
                    await write(tx)
                return
            except (*UNAVAILABLE, DBAPIError) as error:
                if not unavailable(error):
                    raise
                log.warning("run.journal_waits", wait_seconds=wait, reason=type(error).__name__)
            await asyncio.sleep(wait)
            wait = min(wait * 2, 10.0)


def begun(
    run: Run, step: Step, place: Place, attempt: int, name: str, effect: str, state: StepState, now: datetime
) -> RunStep:
    """The row of an attempt that begins now. Begun anew after a crash it is the same one."""
    return RunStep(
        id=derived_id("step", run.id, place.path, attempt),
        run_id=run.id,
        path=place.path,
        phase=place.phase,
        position=place.position,
        attempt=attempt,
        step=step.key,
        name=name,
        type=step.type,
        effect=effect,
        state=state,
        result={} if place.items is None else {"items": place.items},
        started_at=now,
    )


async def _add(tx: Tx, row: RunStep) -> None:
    tx.session.add(RunStep(**row.model_dump()))
    await tx.session.flush()


def paused(attempts: Mapping[str, list[RunStep]]) -> float:
    """Seconds in which a run waited for a person instead of working."""
    return sum(float(row.result.get("paused_seconds", 0)) for rows in attempts.values() for row in rows)


def tried_since(rows: list[RunStep]) -> int:
    """The attempt after which counting starts anew: the last one that a person had repeated."""
    return max((row.attempt for row in rows if row.result.get("repeat")), default=0)
