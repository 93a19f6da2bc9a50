"""Carries out a runbook, step by step, and knows after a crash where it was.

Each attempt at a step is written down before it starts and again when it ends. Found running after a crash, a step
that only reads goes on by itself; one that writes becomes `unknown`, and a person says what to do.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import unavailable
from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.ids import derived_id
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.kit.text import clip, one_line
from bot.runs import run as runs
from bot.runs.expressions import ExpressionError, evaluate, render
from bot.runs.library import alert_values, incident_values
from bot.runs.model import ENDED, Run, RunState, RunStep, StepState
from bot.runs.redact import Redactor
from bot.runs.runbook import Retry, Runbook, Step
from bot.runs.step import Cancelled, StepContext, StepResult, effect, prepare

log = structlog.get_logger()

LONGEST_STEP = timedelta(minutes=5)
OUTPUT = 64 * 1024
GONE_BY = (StepState.SUCCEEDED, StepState.SKIPPED, StepState.FAILED_IGNORED, StepState.PREVIEWED)
READ_TRIES = Retry(attempts=3)
ONCE = Retry(attempts=1)


class _Stop(BotError):  # noqa: N818 - how a run ends, not a fault
    """The run ends here, for a reason."""

    def __init__(self, state: RunState, failure: dict[str, Any] | None = None) -> None:
        super().__init__(state)
        self.state, self.failure = state, failure


class _Asks(BotError):  # noqa: N818 - the run waits, it has not failed
    """A person must say what became of a write."""


@dataclass
class _Going:
    """A run under way in this process."""

    run: Run
    runbook: Runbook
    values: dict[str, Any]
    redact: Redactor
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    ends_at: datetime
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled_by: str | None = None


@dataclass
class Interpreter:
    """The workflow `run`. What it may see of the environment is what a runbook names."""

    engine: Engine
    react: React
    steps: Shelf
    clock: Clock
    environment: Mapping[str, str]
    allow_private: tuple[str, ...] = ()
    watch_seconds: float = 0.5
    tails: dict[str, deque[str]] = field(default_factory=dict)
    # Told that a run has said something new; the message of the run is drawn anew now and then.
    heard: Callable[[str], None] = lambda run_id: None

    async def run(self, run_id: str, round_: int) -> None:
        """Start or go on with a run; *round_* tells a stale promise from the newest one."""
        structlog.contextvars.bind_contextvars(run=run_id)
        going = await self._begin(run_id, round_)
        if going is None:
            return
        watch = spawn(self._watch(going), name=f"run.watch:{run_id}")
        self.tails[run_id] = deque(maxlen=8)
        try:
            await self._steps(going)
            state = RunState.DRY_RUN if going.run.dry_run else RunState.SUCCEEDED
            await self._end(going, state, None)
        except _Stop as stop:
            await self._end(going, stop.state, stop.failure)
        except _Asks:
            log.warning("run.asked")
        finally:
            watch.cancel()
            self.tails.pop(run_id, None)

    # -- the run ------------------------------------------------------------------------------------------------

    async def _begin(self, run_id: str, round_: int) -> _Going | None:
        now = self.clock()
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, run_id, lock=True)
            if run.state in ENDED or run.state == RunState.ASKING or run.round != round_:
                return None
            run.state = RunState.RUNNING
            run.started_at = now if run.started_at is None else run.started_at
            tx.session.add(run)
            incident = await lifecycle.find(tx.session, run.incident_id)
            alerts = await lifecycle.alerts(tx.session, run.incident_id)
            await tx.session.flush()
        structlog.contextvars.bind_contextvars(incident=run.incident_id)
        runbook = Runbook.from_json(run.definition)
        secrets = {name: self.environment[name] for name in runbook.secrets if name in self.environment}
        hidden = [str(run.params[n]) for n, p in runbook.params.items() if p.type == "secret" and run.params.get(n)]
        values = {
            "params": run.params,
            "vars": runbook.vars,
            "env": {name: self.environment.get(name, "") for name in runbook.env},
            "runbook": {"id": runbook.id, "name": runbook.name, "owner": runbook.owner, "risk": runbook.risk},
            "run": {"id": run.id, "number": run.number, "dry_run": run.dry_run, "requested_by": run.requested_by},
            "incident": incident_values(incident),
            "alert": alert_values(alerts),
            "steps": {},
        }
        return _Going(
            run=run,
            runbook=runbook,
            values=values,
            redact=Redactor([*secrets.values(), *hidden]),
            env=dict(values["env"]),
            secrets=secrets,
            ends_at=run.started_at + runbook.timeout,
        )

    async def _steps(self, going: _Going) -> None:
        async with self.engine.db.read() as session:
            before = {row.position: row for row in await runs.attempts(session, going.run.id)}
        missing = [name for name in going.runbook.secrets if name not in self.environment]
        if missing:
            message = f"the secret {', '.join(missing)} is not set in the environment of the bot"
            raise _Stop(RunState.FAILED, {"step": going.runbook.steps[0].title, "message": message})
        for position, step in enumerate(going.runbook.steps):
            last = before.get(position)
            if last is not None and last.state in GONE_BY:
                self._remember(going, step, last.result)
                continue
            if last is not None and last.state == StepState.RUNNING and last.effect != "read":
                await self._ask(going, last)
            await self._step(going, position, step, last)

    async def _watch(self, going: _Going) -> None:
        """See that somebody cancels, wherever they pressed."""
        while True:
            await asyncio.sleep(self.watch_seconds)
            try:
                async with self.engine.db.read() as session:
                    by = await session.scalar(sa.select(col(Run.cancelled_by)).where(col(Run.id) == going.run.id))
            except sa.exc.SQLAlchemyError as error:
                log.warning("run.watch_failed", reason=str(error.__cause__ or error))
                continue
            if by:
                going.cancelled_by = by
                going.cancelled.set()
                return

    async def _end(self, going: _Going, state: RunState, failure: dict[str, Any] | None) -> None:
        outputs: dict[str, Any] = {}
        for name, expression in going.runbook.outputs.items():
            with contextlib.suppress(ExpressionError):  # of a run that ended early, some outputs do not exist
                outputs[name] = going.redact.value(evaluate(expression, going.values))
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, going.run.id, lock=True)
            if run.state in ENDED:
                return
            run.outputs = outputs
            await runs.end(tx, self.react, run, state, now=self.clock(), failure=failure)

    async def _ask(self, going: _Going, row: RunStep) -> None:
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, going.run.id, lock=True)
            run.state = RunState.ASKING
            await tx.session.execute(
                sa.update(RunStep).where(col(RunStep.id) == row.id).values(state=StepState.UNKNOWN)
            )
            text = f"Run {run.number}: “{row.name}” was interrupted, and nobody knows whether it ended"
            data = {"step": row.step, "name": row.name}
            await runs.event(
                tx, self.react, run, "run.step_unknown", text, now=self.clock(), actor="bot", data=data, once=row.id
            )
        raise _Asks

    # -- one step -----------------------------------------------------------------------------------------------

    async def _step(self, going: _Going, position: int, step: Step, last: RunStep | None) -> None:
        module = self.steps[step.type]
        attempt = last.attempt if last else 1
        again = last is not None and last.state == StepState.RUNNING
        repeat = bool(last and last.result.get("repeat"))
        if last is not None and not again:
            attempt += 1
        name = self._name(going, step)
        if going.cancelled.is_set():
            raise _Stop(RunState.CANCELLED)
        if not again and step.when is not None and not self._when(going, step, name):
            await self._skip(going, position, step, name)
            return
        kind = step.effect or effect(module)
        tries = step.retry or (READ_TRIES if kind == "read" else ONCE)
        if last is not None and not again and not repeat and last.attempt >= tries.attempts:
            # Killed between the last attempt and the end of the run.
            raise _Stop(RunState.FAILED, {"step": name, "message": last.summary})
        while True:
            row = await self._start(going, position, step, name, attempt, kind, resumed=last if again else None)
            again = False
            result, error = await self._attempt(going, module, step, row)
            if result is not None and result.ok:
                await self._succeed(going, step, row, result)
                return
            message = result.summary if result is not None else str(error)
            more = attempt < tries.attempts or repeat
            repeat = False
            passing = isinstance(error, TemporaryError) or step.retry is not None
            if more and passing and not isinstance(error, Cancelled) and not going.cancelled.is_set():
                await self._fail(going, row, message, result, StepState.FAILED, final=False)
                await self._pause(going, tries, attempt, error)
                attempt += 1
                continue
            await self._over(going, step, row, message, result, error)
            return

    async def _over(
        self,
        going: _Going,
        step: Step,
        row: RunStep,
        message: str,
        result: StepResult | None,
        error: BotError | None,
    ) -> None:
        """A step failed for good: the run ends, unless it may go on without."""
        if isinstance(error, Cancelled) or going.cancelled.is_set():
            await self._fail(going, row, "cancelled", result, StepState.CANCELLED)
            raise _Stop(RunState.CANCELLED)
        if step.continue_on_error:
            await self._fail(going, row, message, result, StepState.FAILED_IGNORED)
            self._remember(going, step, {"values": dict(result.values) if result else {}})
            return
        await self._fail(going, row, message, result, StepState.FAILED)
        state = RunState.TIMED_OUT if self.clock() >= going.ends_at else RunState.FAILED
        raise _Stop(state, {"step": row.name, "message": clip(one_line(message), 500)})

    async def _attempt(
        self, going: _Going, module: ModuleType, step: Step, row: RunStep
    ) -> tuple[StepResult | None, BotError | None]:
        left = (going.ends_at - self.clock()).total_seconds()
        if left <= 0:
            return None, PermanentError(f"the run took longer than its timeout of {going.runbook.timeout}")
        seconds = min((step.timeout or LONGEST_STEP).total_seconds() if step.type != "wait" else left, left)
        context = StepContext(
            run_id=going.run.id,
            step_key=step.key,
            attempt=row.attempt,
            timeout=seconds,
            values=going.values,
            env=going.env,
            secrets=going.secrets,
            redact=going.redact,
            say=lambda line: self._say(going.run.id, line),
            cancelled=going.cancelled,
            clock=self.clock,
            started_at=row.started_at,
            allow_private=self.allow_private,
        )
        try:
            params = prepare(module, step.action, context)
            if self._previews(going, step, row):
                return StepResult(ok=True, summary=going.redact.text(module.preview(params))), None
            # Steps end by themselves at their timeout; this is for one that does not.
            async with asyncio.timeout(seconds + 15):
                return await module.run(context, params), None
        except TimeoutError:
            return None, PermanentError(f"took longer than {seconds:.0f} s")
        except (PermanentError, TemporaryError, Cancelled) as error:
            if going.run.dry_run and isinstance(error, ExpressionError):
                return StepResult(ok=True, summary="cannot be previewed: it needs what a skipped step would give"), None
            return None, type(error)(going.redact.text(str(error)))
        except Exception as error:  # a plugin's fault must end its run with a word, not be tried for hours
            if unavailable(error):
                raise
            log.exception("step.broken", step=step.key, type=step.type)
            return None, PermanentError(f"the step type {step.type} broke ({type(error).__name__}); see the log")

    def _previews(self, going: _Going, step: Step, row: RunStep) -> bool:
        if not going.run.dry_run:
            return False
        return step.dry_run == "skip" or (row.effect != "read" and step.dry_run != "run") or step.type == "wait"

    def _when(self, going: _Going, step: Step, name: str) -> bool:
        try:
            return bool(evaluate(step.when or "true", going.values))
        except ExpressionError as error:
            if going.run.dry_run:
                return True
            raise _Stop(RunState.FAILED, {"step": name, "message": f"when: {error}"}) from None

    def _name(self, going: _Going, step: Step) -> str:
        try:
            return clip(one_line(going.redact.text(render(step.title, going.values))), 150)
        except PermanentError:
            return clip(step.title, 150)

    async def _pause(self, going: _Going, tries: Retry, attempt: int, error: BotError | None) -> None:
        wait = tries.delay.total_seconds()
        if tries.backoff == "exponential":
            wait *= 2 ** (attempt - 1)
        wait = min(wait, tries.max_delay.total_seconds())
        if tries.jitter:
            wait = random.uniform(wait / 2, wait)
        if isinstance(error, TemporaryError) and step_after(error):
            wait = max(wait, error.after)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(going.cancelled.wait(), wait)

    def _say(self, run_id: str, line: str) -> None:
        if (tail := self.tails.get(run_id)) is not None and line.strip():
            tail.append(clip(line, 300))
            self.heard(run_id)

    def _remember(self, going: _Going, step: Step, result: Mapping[str, Any]) -> None:
        if step.id:
            going.values["steps"][step.id] = {**result.get("values", {}), **result.get("outputs", {})}

    # -- the journal --------------------------------------------------------------------------------------------

    async def _start(
        self,
        going: _Going,
        position: int,
        step: Step,
        name: str,
        attempt: int,
        kind: str,
        *,
        resumed: RunStep | None,
    ) -> RunStep:
        if resumed is not None:
            return resumed
        now = self.clock()
        row = RunStep(
            id=derived_id("step", going.run.id, position, attempt),
            run_id=going.run.id,
            position=position,
            attempt=attempt,
            step=step.key,
            name=name,
            type=step.type,
            effect=kind,
            state=StepState.RUNNING,
            started_at=now,
        )
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, going.run.id, lock=True)
            tx.session.add(RunStep(**row.model_dump()))
            await tx.session.flush()
            text = f"Run {run.number}: “{name}” started" + (f" (attempt {attempt})" if attempt > 1 else "")
            data = {"step": step.key, "name": name, "type": step.type, "attempt": attempt, "effect": kind}
            await runs.event(
                tx, self.react, run, "run.step_started", text, now=now, actor="bot", data=data, once=row.id
            )
        return row

    async def _succeed(self, going: _Going, step: Step, row: RunStep, result: StepResult) -> None:
        values = going.redact.value(dict(result.values))
        outputs: dict[str, Any] = {}
        previewed = self._previews(going, step, row)
        if not previewed:
            try:
                for key, expression in step.outputs.items():
                    outputs[key] = going.redact.value(evaluate(expression, {**going.values, **values}))
            except PermanentError as error:
                message = f"outputs: {going.redact.text(str(error))}"
                await self._fail(going, row, message, result, StepState.FAILED)
                raise _Stop(RunState.FAILED, {"step": row.name, "message": message}) from None
        stored = {"values": values, "outputs": outputs}
        if not previewed:
            self._remember(going, step, stored)
        state = StepState.PREVIEWED if previewed else StepState.SUCCEEDED
        kind = "run.step_skipped" if previewed else "run.step_succeeded"
        await self._write(going, row, state, result.summary, result.output, stored, None, kind)
        if step.type == "note" and not previewed:
            await self._note(going, row, values)

    async def _note(self, going: _Going, row: RunStep, values: Mapping[str, Any]) -> None:
        async with self.engine.transaction() as tx:
            await timeline.record(
                tx,
                self.react,
                going.run.incident_id,
                "note.added",
                str(values["text"]),
                now=self.clock(),
                actor="bot",
                data={"kind": values.get("kind", "note"), "run": going.run.id, "number": going.run.number},
                once=row.id,
            )

    async def _skip(self, going: _Going, position: int, step: Step, name: str) -> None:
        now = self.clock()
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, going.run.id, lock=True)
            row = RunStep(
                id=derived_id("step", run.id, position, 1),
                run_id=run.id,
                position=position,
                attempt=1,
                step=step.key,
                name=name,
                type=step.type,
                effect="read",
                state=StepState.SKIPPED,
                summary=f"not needed: {step.when}",
                started_at=now,
                ended_at=now,
            )
            tx.session.add(row)
            await tx.session.flush()
            text = f"Run {run.number}: “{name}” skipped"
            data = {"step": step.key, "name": name, "type": step.type}
            await runs.event(
                tx, self.react, run, "run.step_skipped", text, now=now, actor="bot", data=data, once=row.id
            )

    async def _fail(
        self,
        going: _Going,
        row: RunStep,
        message: str,
        result: StepResult | None,
        state: StepState,
        *,
        final: bool = True,
    ) -> None:
        output = result.output if result else ""
        values = going.redact.value(dict(result.values)) if result else {}
        kind = "run.step_failed"
        stored = {"values": values, "outputs": {}}
        await self._write(going, row, state, clip(one_line(message), 500), output, stored, message, kind, final=final)

    async def _write(
        self,
        going: _Going,
        row: RunStep,
        state: StepState,
        summary: str,
        output: str,
        stored: dict[str, Any],
        error: str | None,
        kind: str,
        *,
        final: bool = True,
    ) -> None:
        now = self.clock()
        seconds = round((now - row.started_at).total_seconds(), 3)
        summary = clip(one_line(going.redact.text(summary)), 500)
        async with self.engine.transaction() as tx:
            run = await runs.find(tx.session, going.run.id, lock=True)
            await tx.session.execute(
                sa.update(RunStep)
                .where(col(RunStep.id) == row.id)
                .values(
                    state=state,
                    summary=summary,
                    output=clip(going.redact.text(output), OUTPUT),
                    result=stored,
                    error=clip(error, 2000) if error else None,
                    ended_at=now,
                )
            )
            word = {StepState.SUCCEEDED: "done", StepState.PREVIEWED: "looked at", StepState.CANCELLED: "cancelled"}
            text = f"Run {run.number}: “{row.name}” {word.get(state, 'failed')}" + ("" if final else ", trying again")
            data = {
                "step": row.step,
                "name": row.name,
                "type": row.type,
                "attempt": row.attempt,
                "seconds": seconds,
                "summary": summary,
            }
            await runs.event(
                tx, self.react, run, kind, f"{text}: {summary}" if summary else text,
                now=now, actor="bot", data=data, once=f"{row.id}:{kind}",
            )  # fmt: skip
        going.run = run


def step_after(error: TemporaryError) -> bool:
    """Whether the other side said how long to wait (the default of TemporaryError says nothing)."""
    return error.after != 5.0
