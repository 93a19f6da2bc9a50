"""Carries out a runbook, step by step, and knows after a crash where it was.

Found running after a crash, a step that only reads goes on by itself; one that writes becomes `unknown`, and a person
says what to do.
"""

import asyncio
import contextlib
import json
import math
import random
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from bot.engine import Engine
from bot.incidents.timeline import React
from bot.kit.clock import Clock, duration_text
from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.kit.text import clip, one_line
from bot.runs import process
from bot.runs.books import alert_values, incident_values
from bot.runs.expressions import ExpressionError, evaluate, render
from bot.runs.journal import OUTPUT, SUMMARY, Journal, Lost, Opened, Outcome, paused, tried_since
from bot.runs.model import Run, RunState, RunStep, StepState
from bot.runs.redact import Redactor
from bot.runs.runbook import Retry, Runbook, Step
from bot.runs.step import Cancelled, StepContext, StepResult, effect, prepare

log = structlog.get_logger()

LONGEST_STEP = timedelta(minutes=5)
# Steps end by themselves at their timeout; this is for one that does not.
GRACE = 15.0
# Two clocks are compared at the end of a run's time.
SLACK = timedelta(milliseconds=50)
VALUES = 4 * 1024**2
TAIL_LINES, TAIL_LINE = 8, 300
GONE_BY = (StepState.SUCCEEDED, StepState.SKIPPED, StepState.FAILED_IGNORED, StepState.PREVIEWED)
READ_TRIES = Retry(attempts=3)
ONCE = Retry(attempts=1)
# They only read, and yet a dry run does without: one takes time, the other writes on the timeline.
PREVIEWED = ("wait", "note")
NEEDS = "cannot be previewed: it needs what a skipped step would give"


class _Stop(BotError):  # noqa: N818 - how a run ends, not a fault
    """The run ends here, for a reason."""

    def __init__(self, state: RunState, step: str = "", message: str = "") -> None:
        super().__init__(state)
        self.state = state
        self.failure = {"step": step, "message": clip(one_line(message), SUMMARY)} if message else None


class _Asks(BotError):  # noqa: N818 - the run waits, it has not failed
    """A person must say what became of a write."""


@dataclass
class _Going:
    """A run under way in this process. *guessing*: a dry run that has left out a step whose results are missing."""

    run: Run
    runbook: Runbook
    values: dict[str, Any]
    redact: Redactor
    secrets: Mapping[str, str]
    ends_at: datetime
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    guessing: bool = False


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
    read_tries: Retry = READ_TRIES
    tails: dict[str, deque[str]] = field(default_factory=dict)
    # Told that a run has said something new; the message of the run is drawn anew now and then.
    heard: Callable[[str], None] = lambda run_id: None

    def __post_init__(self) -> None:
        self.journal = Journal(self.engine, self.react, self.clock)

    async def run(self, run_id: str, round_: int) -> None:
        """Start or go on with a run; *round_* tells a stale promise from the newest one."""
        structlog.contextvars.bind_contextvars(run=run_id)
        opened = await self.journal.begin(run_id, round_)
        if opened is None:
            return
        structlog.contextvars.bind_contextvars(incident=opened.incident.id)
        going = self._going(opened)
        watch = spawn(self._watch(going), name=f"run.watch:{run_id}")
        self.tails[run_id] = deque(maxlen=TAIL_LINES)
        try:
            await self._to_its_end(going, opened)
        except _Asks:
            log.warning("run.asked")
        except Lost as error:
            log.warning("run.lost", reason=str(error))
        finally:
            watch.cancel()
            self.tails.pop(run_id, None)

    # -- the run ------------------------------------------------------------------------------------------------

    def _going(self, opened: Opened) -> _Going:
        run = opened.run
        runbook = Runbook.from_json(run.definition)
        secrets = {name: self.environment[name] for name in runbook.secrets if name in self.environment}
        hidden = [str(run.params[n]) for n, p in runbook.params.items() if p.type == "secret" and run.params.get(n)]
        values = {
            "params": run.params,
            "vars": runbook.vars,
            "env": {name: self.environment.get(name, "") for name in runbook.env},
            "runbook": {"id": runbook.id, "name": runbook.name, "owner": runbook.owner, "risk": runbook.risk},
            "run": {"id": run.id, "number": run.number, "dry_run": run.dry_run, "requested_by": run.requested_by},
            "incident": incident_values(opened.incident),
            "alert": alert_values(opened.alerts),
            "steps": {},
        }
        going = _Going(
            run=run,
            runbook=runbook,
            values=values,
            redact=Redactor([*secrets.values(), *hidden]),
            secrets=secrets,
            ends_at=(run.started_at or self.clock())
            + runbook.timeout
            + timedelta(seconds=paused(opened.attempts)),
        )  # fmt: skip
        if run.cancelled_by:
            going.cancelled.set()
        return going

    async def _watch(self, going: _Going) -> None:
        """See that somebody cancels, wherever they pressed."""
        while not going.cancelled.is_set():
            await asyncio.sleep(self.watch_seconds)
            try:
                if await self.journal.cancelled(going.run.id):
                    going.cancelled.set()
            except (SQLAlchemyError, OSError) as error:
                log.warning("run.watch_failed", reason=type(error).__name__)

    async def _to_its_end(self, going: _Going, opened: Opened) -> None:
        state, failure = RunState.DRY_RUN if going.run.dry_run else RunState.SUCCEEDED, None
        try:
            missing = [name for name in going.runbook.secrets if name not in self.environment]
            if missing:
                told = f"the secret {', '.join(missing)} is not set in the environment of the bot"
                raise _Stop(RunState.FAILED, going.runbook.steps[0].title, told)
            for position, step in enumerate(going.runbook.steps):
                await self._step(going, position, step, opened.attempts.get(position, []))
        except _Stop as stop:
            state, failure = stop.state, stop.failure
        await self.journal.ended(going.run.id, state, failure, self._outputs(going))

    def _outputs(self, going: _Going) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for name, expression in going.runbook.outputs.items():
            # Of a run that ended early, some outputs do not exist.
            with contextlib.suppress(PermanentError, ValueError):
                outputs[name] = _storable(going.redact.value(evaluate(expression, going.values)))
        return outputs

    # -- one step -----------------------------------------------------------------------------------------------

    async def _step(self, going: _Going, position: int, step: Step, before: list[RunStep]) -> None:
        """Bring one step to its end, from wherever the attempts *before* have brought it."""
        last = before[-1] if before else None
        interrupted = last if last is not None and last.state == StepState.RUNNING else None
        if last is not None and last.state in GONE_BY:
            self._remember(going, step, StepState(last.state), last.result)
            return
        if last is not None and "ends" in last.result:
            # Stopped between this attempt and the end of the run.
            cancelled = last.state == StepState.CANCELLED
            raise _Stop(RunState(last.result["ends"]), last.name, "" if cancelled else last.error or "failed")
        if interrupted is not None and interrupted.effect != "read":
            await self._ask(going, interrupted)
        name = self._name(going, step)
        self._may_go_on(going, name)
        if last is None and not self._needed(going, step, name):
            await self.journal.skipped(going.run.id, step, position, name)
            self._remember(going, step, StepState.SKIPPED, {})
            return
        await self._try(going, position, step, name, before, interrupted)

    async def _try(
        self,
        going: _Going,
        position: int,
        step: Step,
        name: str,
        before: list[RunStep],
        interrupted: RunStep | None,
    ) -> None:
        module = self.steps[step.type]
        kind = self._effect(going, module, step)
        tries = step.retry or (self.read_tries if kind == "read" else ONCE)
        attempt = (before[-1].attempt if before else 0) + (interrupted is None)
        enough = tried_since(before) + tries.attempts
        row = interrupted
        while True:
            if row is None:
                run = going.run
                row = await self.journal.started(run.id, run.round, step, position, attempt, name, kind)
                await self.engine.still_mine()  # this process may have slept since
            outcome = await self._attempt(going, module, step, row)
            if outcome.ok:
                state = StepState.PREVIEWED if outcome.previewed else StepState.SUCCEEDED
                going.guessing = going.guessing or outcome.previewed
                await self.journal.finished(row, outcome, state)
                break
            if not outcome.passing or attempt >= enough or self._over(going):
                state = await self._failed(going, step, row, outcome)
                break
            await self.journal.finished(row, outcome, StepState.FAILED, again=True)
            await self._pause(going, tries, attempt - tried_since(before), outcome.after)
            self._may_go_on(going, name, outcome.summary)
            attempt, row = attempt + 1, None
        self._remember(going, step, state, {"values": outcome.values, "outputs": outcome.outputs})

    async def _failed(self, going: _Going, step: Step, row: RunStep, outcome: Outcome) -> StepState:
        """A step failed for good: the run ends, unless it may go on without."""
        if outcome.cancelled or going.cancelled.is_set():
            outcome = replace(outcome, summary="cancelled")
            await self.journal.finished(row, outcome, StepState.CANCELLED, ends=RunState.CANCELLED)
            raise _Stop(RunState.CANCELLED)
        late = self._late(going)
        if step.continue_on_error and not late:
            await self.journal.finished(row, outcome, StepState.FAILED_IGNORED)
            return StepState.FAILED_IGNORED
        if late:
            outcome = replace(outcome, summary=self._took(going, outcome.summary))
        ends = RunState.TIMED_OUT if late else RunState.FAILED
        await self.journal.finished(row, outcome, StepState.FAILED, ends=ends)
        raise _Stop(ends, row.name, outcome.summary or "failed")

    async def _attempt(self, going: _Going, module: ModuleType, step: Step, row: RunStep) -> Outcome:
        """One attempt; whatever a plugin does comes out as an outcome with a word."""
        context = self._context(going, step, row)
        try:
            return await self._outcome(going, module, step, row.effect, context)
        except TimeoutError:
            return self._no(going, f"took longer than {context.timeout:.0f} s")
        except Cancelled as error:
            return replace(self._no(going, str(error)), cancelled=True)
        except TemporaryError as error:
            # The default of TemporaryError says nothing about how long the other side wants us to wait.
            after = 0.0 if error.after == TemporaryError("").after else error.after
            return replace(self._no(going, str(error)), passing=True, after=after)
        except PermanentError as error:
            if going.guessing and isinstance(error, ExpressionError):
                return Outcome(ok=True, summary=NEEDS, previewed=True)
            return self._no(going, str(error))
        except Exception as error:  # noqa: BLE001 - a plugin's fault ends its run with a word, not after hours of tries
            told = going.redact.text(f"{type(error).__name__}: {error}")[:2000]
            log.error("step.broken", step=step.key, type=step.type, error=told, where=_where(error))
            return self._no(going, f"the step type {step.type} broke ({type(error).__name__}); see the log")

    async def _outcome(self, going: _Going, module: ModuleType, step: Step, kind: str, context: StepContext) -> Outcome:
        try:
            params = prepare(module, step.action, context)
        except PermanentError:
            if going.guessing:
                return Outcome(ok=True, summary=NEEDS, previewed=True)
            raise
        if self._previews(going, step, kind):
            return Outcome(ok=True, summary=self._line(going, module.preview(params)), previewed=True)
        async with asyncio.timeout(context.timeout + GRACE):
            result = await module.run(context, params)
        if not isinstance(result, StepResult):
            raise TypeError("a step gives a StepResult back")
        plain = _storable(dict(result.values))
        outcome = Outcome(
            ok=result.ok,
            summary=self._line(going, result.summary),
            # A megabyte takes a second; the rest of the bot goes on meanwhile.
            output=await asyncio.to_thread(_both_ends, going.redact, result.output, OUTPUT),
            values=await asyncio.to_thread(going.redact.value, plain),
            passing=step.retry is not None,
        )
        if not outcome.ok:
            return outcome
        outputs = {}
        for key, expression in step.outputs.items():
            try:
                found = evaluate(expression, {**going.values, **outcome.values})
            except PermanentError as error:
                told = self._line(going, f"outputs: {key}: {error}")
                return replace(outcome, ok=False, passing=False, summary=told)
            outputs[key] = _storable(going.redact.value(found))
        return replace(outcome, outputs=outputs)

    async def _ask(self, going: _Going, row: RunStep) -> None:
        """A write was interrupted. What is left of it here is ended, for nobody watches its time any more."""
        await process.stop(f"{going.run.id}/{row.step}")
        ask = not going.cancelled.is_set()
        await self.journal.unknown(row, ask=ask)
        if ask:
            raise _Asks
        raise _Stop(RunState.CANCELLED, row.name, "interrupted, and nobody knows whether it ended")

    # -- how a step is treated ------------------------------------------------------------------------------------

    def _may_go_on(self, going: _Going, name: str, why: str = "") -> None:
        if going.cancelled.is_set():
            raise _Stop(RunState.CANCELLED)
        if self._late(going):
            raise _Stop(RunState.TIMED_OUT, name, self._took(going, why))

    def _took(self, going: _Going, why: str) -> str:
        return clip(f"the run took longer than its {duration_text(going.runbook.timeout)}: {why}".rstrip(": "), SUMMARY)

    def _late(self, going: _Going) -> bool:
        return self.clock() >= going.ends_at - SLACK

    def _over(self, going: _Going) -> bool:
        return going.cancelled.is_set() or self._late(going)

    def _context(self, going: _Going, step: Step, row: RunStep | None = None) -> StepContext:
        left = max(0.0, (going.ends_at - self.clock()).total_seconds())
        most = step.timeout or (None if step.type == "wait" else LONGEST_STEP)
        return StepContext(
            run_id=going.run.id,
            step_key=step.key,
            attempt=row.attempt if row else 1,
            timeout=left if most is None else min(most.total_seconds(), left),
            values=going.values,
            env=going.values["env"],
            secrets=going.secrets,
            redact=going.redact,
            say=lambda line: self._say(going.run.id, line),
            cancelled=going.cancelled,
            clock=self.clock,
            started_at=row.started_at if row else None,
            allow_private=self.allow_private,
        )

    def _effect(self, going: _Going, module: ModuleType, step: Step) -> str:
        if step.effect is not None:
            return step.effect
        try:
            return effect(module, prepare(module, step.action, self._context(going, step)))
        except PermanentError:
            return effect(module)  # the attempt will say what is wrong

    def _previews(self, going: _Going, step: Step, kind: str) -> bool:
        if not going.run.dry_run:
            return False
        return step.dry_run == "skip" or ((kind != "read" or step.type in PREVIEWED) and step.dry_run != "run")

    def _needed(self, going: _Going, step: Step, name: str) -> bool:
        if step.when is None:
            return True
        try:
            return bool(evaluate(step.when, going.values))
        except PermanentError as error:
            if going.guessing:
                return True
            raise _Stop(RunState.FAILED, name, going.redact.text(f"when: {error}")) from None

    def _name(self, going: _Going, step: Step) -> str:
        try:
            return clip(one_line(going.redact.text(render(step.title, going.values))), 150)
        except PermanentError:
            return clip(one_line(step.title), 150)

    async def _pause(self, going: _Going, tries: Retry, failures: int, after: float) -> None:
        wait = tries.delay.total_seconds()
        if tries.backoff == "exponential":
            wait *= 2 ** (failures - 1)
        wait = min(wait, tries.max_delay.total_seconds())
        if tries.jitter:
            wait = random.uniform(wait / 2, wait)
        left = (going.ends_at - self.clock()).total_seconds()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(going.cancelled.wait(), max(0.0, min(max(wait, after), left)))

    def _say(self, run_id: str, line: str) -> None:
        if (tail := self.tails.get(run_id)) is not None and line.strip():
            tail.append(clip(line, TAIL_LINE))
            self.heard(run_id)

    def _remember(self, going: _Going, step: Step, state: StepState, result: Mapping[str, Any]) -> None:
        """What later steps see as `steps.<id>.…`."""
        if state == StepState.PREVIEWED:
            going.guessing = True
        elif step.id:
            about = {"ok": state == StepState.SUCCEEDED, "state": str(state)}
            going.values["steps"][step.id] = {**about, **result.get("values", {}), **result.get("outputs", {})}

    def _no(self, going: _Going, why: str) -> Outcome:
        return Outcome(ok=False, summary=self._line(going, why))

    def _line(self, going: _Going, text: str) -> str:
        return clip(one_line(going.redact.text(text)), SUMMARY)


def _where(error: Exception) -> list[str]:
    """The way to a fault, without any of the values, which may be secret."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-5:]]


def _both_ends(redact: Redactor, text: str, limit: int) -> str:
    """*text* without secrets, or its first quarter and its end where it is longer than *limit*."""
    if len(text) <= limit:
        return redact.text(text)
    head, tail = limit // 4, limit - limit // 4
    first = redact.split(text[: head + redact.margin], head)[0]
    last = redact.split(text[-tail - redact.margin :], -tail)[1]
    return f"{first}\n… {len(text) - limit} characters left out …\n{last}"


def _storable(value: Any) -> Any:
    """*value* as both databases keep it; ValueError or TypeError if it is no JSON or too much of it."""
    plain = _finite(value)
    if len(json.dumps(plain, ensure_ascii=False, allow_nan=False)) > VALUES:
        raise ValueError("more than can be kept")
    return plain


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
