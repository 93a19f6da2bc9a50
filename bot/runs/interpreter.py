"""Carries out a runbook, step by step, and knows after a crash where it was.

Found running after a crash, a step that only reads goes on by itself, and so does one that looks whether it was done
before; any other that writes becomes `unknown`, and a person says what to do. A run that waits for people is not at
work: it is gone through again once they have answered, and what its rows say was done is not done again. When the
steps have failed, what they changed is taken back in reverse order; from then on nothing new of the steps is begun,
whatever a restart brings.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import JsonValue
from sqlalchemy.exc import SQLAlchemyError

from bot.catalog.targets import Reach
from bot.engine import Engine
from bot.incidents.model import Incident
from bot.incidents.timeline import React
from bot.kit.clock import Clock, duration_text
from bot.kit.errors import PermanentError
from bot.kit.ids import new_id
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.kit.text import clip, one_line
from bot.runs import params as values
from bot.runs import process, scratch
from bot.runs.attempt import Attempts, Ports, no, previews, storable
from bot.runs.books import alert_values, incident_values
from bot.runs.expressions import evaluate, render, render_value
from bot.runs.going import Going, Scope, Stop, Waits
from bot.runs.grants import Grants
from bot.runs.journal import SUMMARY, Journal, Lost, Opened, Outcome, Record, tried_since
from bot.runs.model import UNWOUND, ApprovalState, Phase, Run, RunState, RunStep, StepState
from bot.runs.plan import Plan
from bot.runs.raising import findings, of_called, together
from bot.runs.redact import Redactor
from bot.runs.run import BEGUN, callable_
from bot.runs.runbook import DEEPEST, Retry, Runbook, Step
from bot.runs.step import Answer, Pages, Question, Room

log = structlog.get_logger()

# Two clocks are compared at the end of a run's time.
SLACK = timedelta(milliseconds=50)
TAIL_LINES, TAIL_LINE = 8, 300
ITEMS = 200
TOLD_FAILED = (StepState.FAILED, StepState.FAILED_IGNORED)
GONE_BY = (StepState.SUCCEEDED, StepState.SKIPPED, StepState.FAILED_IGNORED, StepState.PREVIEWED)
READ_TRIES = Retry(attempts=3)
ONCE = Retry(attempts=1)
NOTHING_FAILED = {"step": "", "message": ""}

May = Callable[[Run, Incident], Awaitable[str | None]]


class Clearance(Protocol):
    """What a run must have before it writes, such as an approved change request."""

    async def waited(self, run: Run) -> float:
        """How many seconds the run has waited for it; they are not of its own time."""
        ...

    async def clear(self, run: Run, incident: Incident, runbook: Runbook, stopping: asyncio.Event) -> str | None:
        """Return when the run has it, or is stopped; why it never will otherwise."""
        ...


@dataclass(frozen=True)
class Done:
    """How a step ended. A step that *failed* for good may still be one that the run goes on without."""

    state: StepState
    name: str
    why: str = ""
    failed: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)


async def _nobody(*_: Any) -> Any:
    raise PermanentError("a look asks nobody and calls nothing")


async def _anybody(run: Run, incident: Incident) -> str | None:
    """Whoever was let to start a run may go on with it."""
    return None


@dataclass
class Interpreter:
    """The workflow `run`. What it may see of the environment is what a runbook names and *grants* allow.

    *record* and *attempts* stand in for the database and the world where a runbook is tried out; without a *record*,
    an *engine* is needed. *home* is where runs have folders of their own. *rooms* gives the place in the chat that a
    run speaks in, *pages* whoever can be woken for it, and *may* says why somebody who asked for a run may not go on
    with it any more.
    """

    engine: Engine | None
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
    reach: Reach = field(default_factory=Reach)
    folder: Path | None = None
    home: Path | None = None
    rooms: Callable[[Run, Incident], Room] | None = None
    pages: Callable[[Run, Incident], Pages] | None = None
    may: May = _anybody
    clearance: Clearance | None = None
    grants: Grants = field(default_factory=Grants)
    record: Record | None = None
    attempts: Attempts | None = None

    def __post_init__(self) -> None:
        self.journal: Record = self.record or self._journal()
        self._attempts = self.attempts or Attempts(self.steps, self.clock, self.reach, self.allow_private, self.folder)

    def _journal(self) -> Journal:
        if self.engine is None:
            raise TypeError("an interpreter needs an engine, or a record to write into")
        return Journal(self.engine, self.react, self.clock)

    async def run(self, run_id: str, round_: int) -> None:
        """Start or go on with a run; *round_* tells a stale promise from the newest one."""
        structlog.contextvars.bind_contextvars(run=run_id)
        opened = await self.journal.begin(run_id, round_)
        if opened is None:
            return
        structlog.contextvars.bind_contextvars(incident=opened.incident.id)
        going = await self._going(opened)
        watch = spawn(self._watch(going), name=f"run.watch:{run_id}")
        self.tails[run_id] = deque(maxlen=TAIL_LINES)
        try:
            await self._to_its_end(going)
            await asyncio.to_thread(scratch.clear, going.scratch)
        except Waits:
            log.info("run.waits")
        except Lost as error:
            log.warning("run.lost", reason=str(error))
        finally:
            watch.cancel()
            self.tails.pop(run_id, None)

    async def look(
        self, runbook: Runbook, incident: Incident, step: Step, *, seconds: float
    ) -> tuple[Outcome, Mapping[str, Any]]:
        """Carry out a step that only reads, apart from any run: what came of it, and what its expressions saw."""
        now = self.clock()
        run = Run(
            id=new_id(), incident_id=incident.id, number=0, runbook=runbook.id, sha256=runbook.sha256, definition={},
            requested_by="bot", concurrency_key="", state=RunState.RUNNING, requested_at=now,
        )  # fmt: skip
        going = Going(
            run, incident, runbook, {}, {}, Redactor([]), now + timedelta(seconds=seconds),
            {"run": {"id": run.id, "number": 0, "dry_run": False, "requested_by": "bot"}},
        )  # fmt: skip
        scope = await self._scope(going, runbook.model_copy(update={"params": {}, "secrets": []}), {})
        row = RunStep(
            id=new_id(), run_id=run.id, path="look", position=0, attempt=1, step=step.key, name=step.heading,
            type=step.type, effect="read", state=StepState.RUNNING, started_at=now,
        )  # fmt: skip
        ports = Ports(_nobody, _nobody)
        outcome = await self._attempts.make(going, scope, step, row, ports, room=None, say=lambda _: None)
        return outcome, scope.values

    # -- the run ------------------------------------------------------------------------------------------------

    async def _going(self, opened: Opened) -> Going:
        run = opened.run
        runbook = Runbook.from_json(run.definition)
        waited = 0.0 if self.clearance is None else await self.clearance.waited(run)
        timeout = runbook.timeout + timedelta(seconds=opened.paused_seconds + waited)
        going = Going(
            run=run,
            incident=opened.incident,
            runbook=runbook,
            books=callable_(run),
            attempts=opened.attempts,
            redact=Redactor([]),
            ends_at=(run.started_at or self.clock()) + timeout,
            base={
                "run": {"id": run.id, "number": run.number, "dry_run": run.dry_run, "requested_by": run.requested_by},
                "incident": incident_values(opened.incident),
                "alert": alert_values(opened.alerts, run.trigger_key),
            },
            scratch=await asyncio.to_thread(scratch.make, self.home, run.id),
            replaying=run.phase != Phase.STEPS,
        )
        if run.cancelled_by:
            going.cancelled.set()
        return going

    async def _scope(
        self, going: Going, runbook: Runbook, given: Mapping[str, Any], *, prefix: str = "", depth: int = 0
    ) -> Scope:
        """Where the expressions of *runbook* are computed; PermanentError where a secret of it cannot be had."""
        secrets = {name: await self._secret(name) for name in runbook.secrets}
        named = {name: given.get(name) for name, param in runbook.params.items() if param.type == "secret"}
        hidden = {name: await self._secret(str(which)) for name, which in named.items() if which}
        going.redact = going.redact.knowing(*secrets.values(), *hidden.values())
        about = {"id": runbook.id, "name": runbook.name, "owner": runbook.owner, "risk": runbook.risk}
        known = {
            **going.base,
            "params": given,
            "env": {name: self._variable(name) for name in runbook.env},
            "runbook": about,
            "failure": NOTHING_FAILED,
            "steps": {},
        }
        known["vars"] = render_value(runbook.vars, known)
        return Scope(runbook, known, secrets, hidden, prefix, depth)

    def _variable(self, name: str) -> str:
        self.grants.variable(name)
        return self.environment.get(name, "")

    async def _secret(self, name: str) -> str:
        self.grants.secret(name)
        if name in self.reach.targets.secrets:
            return await self.reach.secret(name)
        if name not in self.environment:
            raise PermanentError(f"the secret {name} is not set: it is neither in targets.yaml nor in the environment")
        return self.environment[name]

    async def _watch(self, going: Going) -> None:
        """See that somebody cancels, wherever they pressed."""
        while not going.cancelled.is_set():
            await asyncio.sleep(self.watch_seconds)
            try:
                if await self.journal.cancelled(going.run.id):
                    going.cancelled.set()
            except (SQLAlchemyError, OSError) as error:
                log.warning("run.watch_failed", reason=type(error).__name__)

    async def _to_its_end(self, going: Going) -> None:
        """The steps; where they failed, back; and what is done in any case."""
        try:
            scope = await self._scope(going, going.runbook, going.run.params)
        except PermanentError as error:
            missing = {"step": going.runbook.steps[0].heading, "message": clip(one_line(str(error)), SUMMARY)}
            await self.journal.ended(going.run.id, RunState.FAILED, missing, {})
            return
        state, failure = await self._steps(going, scope)
        if not going.run.dry_run:
            state, failure = await self._after(going, scope, state, failure)
        outputs = self._outputs(going, scope)
        found = findings(going.runbook, scope.values, state, failure, going.redact.text)
        called = [] if going.run.dry_run else [one for each in going.called.values() for one in each]
        raised = [finding.model_dump() for finding in together([*found, *called])]
        rules = any(book.raises or book.reports for book in (going.runbook, *going.books.values()))
        await self.journal.ended(going.run.id, state, failure, outputs, raised if rules else None)

    async def _steps(self, going: Going, scope: Scope) -> tuple[RunState, dict[str, Any] | None]:
        """How the steps ended. Once a later phase was begun, this is known, and they are only gone through again."""
        known = dict(going.run.failure or {}) if going.replaying else {}
        state, failure = RunState.DRY_RUN if going.run.dry_run else RunState.SUCCEEDED, None
        try:
            await self._block(going, scope, going.runbook.steps, "steps")
        except Stop as stop:
            state, failure = stop.state, stop.failure
        if known:
            state = RunState(known.pop("state"))
            failure = known if known.get("message") else None
        going.replaying = False
        return state, failure

    async def _after(
        self, going: Going, scope: Scope, state: RunState, failure: dict[str, Any] | None
    ) -> tuple[RunState, dict[str, Any] | None]:
        """What follows the steps; how the run ends by it."""
        ended, wanted = state, going.run.phase != Phase.STEPS and state == RunState.CANCELLED
        scope = scope.having(failure={**NOTHING_FAILED, **(failure or {})})
        turned = dict(failure or {})
        if going.undo and (state in UNWOUND or (wanted and going.run.phase == Phase.ROLLBACK)):
            await self._turn(going, Phase.ROLLBACK, state, turned)
            broken = await self._roll_back(going, failure)
            if broken:
                ended = RunState.ROLLBACK_FAILED
                about = failure or {"step": broken[0][0], "message": ""}
                told = f"{about['message']}; and the rollback failed at “{broken[0][0]}”: {broken[0][1]}"
                failure = {**about, "message": clip(told.removeprefix("; and "), SUMMARY)}
            elif state in (RunState.FAILED, RunState.TIMED_OUT, RunState.CANCELLED):
                ended = RunState.ROLLED_BACK
        if state in UNWOUND and going.runbook.on_failure:
            await self._turn(going, Phase.ON_FAILURE, state, turned)
            await self._tried(going, scope, going.runbook.on_failure, "on_failure")
        if going.runbook.always:
            await self._turn(going, Phase.ALWAYS, state, turned)
            if (broken := await self._tried(going, scope, going.runbook.always, "always")) and failure is None:
                failure = {"step": broken[0][0], "message": broken[0][1]}
                ended = RunState.FAILED if ended == RunState.SUCCEEDED else ended
        return ended, failure

    async def _turn(self, going: Going, phase: Phase, state: RunState, failure: Mapping[str, Any]) -> None:
        """Go on to another phase, with time of its own."""
        await self.journal.turned(going.run, phase, state, failure)
        going.phase = phase
        going.ends_at = self.clock() + going.runbook.timeout

    async def _roll_back(self, going: Going, failure: Mapping[str, Any] | None) -> list[tuple[str, str]]:
        """Take back what was begun, the last first; every part is tried. What failed, and why."""
        broken: list[tuple[str, str]] = []
        for undo in sorted(going.undo, key=lambda one: -one.position):
            scope = undo.scope.having(failure={**NOTHING_FAILED, **(failure or {})})
            broken += await self._tried(going, scope, undo.step.rollback or (), f"{undo.path}.rollback")
        return broken

    async def _tried(self, going: Going, scope: Scope, steps: Sequence[Step], path: str) -> list[tuple[str, str]]:
        """Carry out every one of *steps*, whether those before went well or not. What failed, and why."""
        broken: list[tuple[str, str]] = []
        for i, step in enumerate(steps):
            try:
                await self._step(going, scope, step, f"{path}.{i}")
            except Stop as stop:
                told = stop.failure or {"step": step.heading, "message": str(stop.state)}
                broken.append((told["step"], told["message"]))
        return broken

    def _outputs(self, going: Going, scope: Scope) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        for name, expression in scope.runbook.outputs.items():
            # Of a run that ended early, some outputs do not exist.
            with contextlib.suppress(PermanentError, ValueError):
                outputs[name] = storable(going.redact.value(evaluate(expression, scope.values)))
        return outputs

    # -- one step -----------------------------------------------------------------------------------------------

    async def _block(self, going: Going, scope: Scope, steps: Sequence[Step], path: str) -> None:
        for i, step in enumerate(steps):
            await self._step(going, scope, step, f"{path}.{i}")

    async def _step(self, going: Going, scope: Scope, step: Step, path: str) -> None:
        """Bring one step to its end, from wherever it is. Raises Stop where the run ends by it."""
        go = self._single if step.foreach is None else self._each
        done = await go(going, scope, step, path)
        self._remember(going, scope, step, done)
        if not done.failed:
            return
        if step.on_failure and not going.cancelled.is_set() and not going.run.dry_run:
            told = {"step": done.name, "message": done.why}
            await self._tried(going, scope.having(failure=told), step.on_failure, f"{path}.on_failure")
        if done.state != StepState.FAILED_IGNORED:
            raise Stop(RunState(done.result.get("ends", RunState.FAILED)), done.name, done.why or "failed")

    async def _single(self, going: Going, scope: Scope, step: Step, path: str, *, item: bool = False) -> Done:
        """One step, or one item of a foreach."""
        before = going.attempts.get(path, [])
        last = before[-1] if before else None
        name = self._name(going, scope, step) if last is None else last.name
        if last is not None:
            if last.state in BEGUN or last.state in (StepState.UNKNOWN, StepState.RUNNING):
                going.revert(step, scope, path)
            if (done := self._gone_by(last)) is not None:
                if step.type == "runbook":
                    await self._called_before(going, scope, step, last, path)
                return done
        interrupted = last if last is not None and last.state == StepState.RUNNING else None
        if going.replaying and interrupted is None:
            raise Stop(RunState.FAILED)  # everything that was begun has been gone through
        if interrupted is not None and not self._goes_on(going, scope, step, interrupted):
            await self._interrupted(going, interrupted)
        self._may_go_on(going, name)
        if last is None and (why := self._needless(going, scope, step, name)):
            await self.journal.skipped(going.run, step, going.place(path), name, why)
            return Done(StepState.SKIPPED, name)
        return await self._try(going, scope, step, path, name, interrupted, item=item)

    def _gone_by(self, last: RunStep) -> Done | None:
        """How a step ended that was brought to its end before."""
        if last.state in GONE_BY:
            ignored = last.state == StepState.FAILED_IGNORED
            return Done(StepState(last.state), last.name, last.error or "", failed=ignored, result=last.result)
        if "ends" in last.result:
            if last.state == StepState.CANCELLED:
                raise Stop(RunState.CANCELLED)
            return Done(StepState.FAILED, last.name, last.error or "failed", failed=True, result=last.result)
        if last.state == StepState.UNKNOWN:  # nobody said what became of it; somebody cancelled instead
            raise Stop(RunState.CANCELLED, last.name, "interrupted, and nobody knows whether it ended")
        return None

    async def _try(
        self, going: Going, scope: Scope, step: Step, path: str, name: str, interrupted: RunStep | None, *, item: bool
    ) -> Done:
        before = going.attempts.get(path, [])
        acting = self._stand_in(going, step)
        kind = self._attempts.effect(going, scope, acting)
        if not previews(going, acting, kind) and self._undecided(going, scope, step):
            seen = interrupted or await self.journal.started(going.run, acting, going.place(path), 1, name, kind)
            told = "cannot be previewed: whether it is needed depends on a skipped step"
            await self.journal.finished(seen, Outcome(ok=True, summary=told), StepState.PREVIEWED)
            return Done(StepState.PREVIEWED, name)
        tries = step.retry or (self.read_tries if kind == "read" else ONCE)
        attempt = (before[-1].attempt if before else 0) + (interrupted is None)
        enough = tried_since(before) + tries.attempts
        row = interrupted
        while True:
            if row is None:
                await self._still_may(going, kind, name)
                row = await self.journal.started(going.run, acting, going.place(path), attempt, name, kind)
                await self.journal.still_mine()  # this process may have slept since
            going.revert(step, scope, path)
            outcome = await self._attempt(going, scope, acting, row, path, again=row is interrupted)
            if outcome.ok:
                standing = acting is not step
                state = StepState.PREVIEWED if outcome.previewed or standing else StepState.SUCCEEDED
                await self.journal.finished(row, outcome, state)
                return Done(state, name, result={"values": outcome.values, "outputs": outcome.outputs})
            again = outcome.passing and attempt < enough and not self._over(going)
            if not again or not self._wants_more(going, scope, tries, outcome):
                return await self._failed(going, step, row, outcome, item=item)
            await self.journal.finished(row, outcome, StepState.FAILED, again=True)
            await self._pause(going, tries, attempt - tried_since(before), outcome.after)
            self._may_go_on(going, name, outcome.summary)
            attempt, row = attempt + 1, None

    async def _failed(self, going: Going, step: Step, row: RunStep, outcome: Outcome, *, item: bool) -> Done:
        """A step failed for good: the run ends by it, unless it may go on without."""
        if outcome.cancelled or going.stopping.is_set():
            await self.journal.finished(
                row, replace(outcome, summary="cancelled"), StepState.CANCELLED, ends=RunState.CANCELLED
            )
            raise Stop(RunState.CANCELLED)
        late = self._late(going)
        result: dict[str, Any] = {"values": outcome.values, "outputs": outcome.outputs}
        if step.continue_on_error and not late and not item:
            await self.journal.finished(row, outcome, StepState.FAILED_IGNORED)
            return Done(StepState.FAILED_IGNORED, row.name, outcome.summary, failed=True, result=result)
        if late:
            outcome = replace(outcome, summary=self._took(going, outcome.summary))
        ends = RunState.TIMED_OUT if late else RunState.FAILED
        await self.journal.finished(row, outcome, StepState.FAILED, ends=ends)
        return Done(
            StepState.FAILED, row.name, outcome.summary or "failed", failed=True, result={**result, "ends": ends}
        )

    async def _attempt(
        self, going: Going, scope: Scope, step: Step, row: RunStep, path: str, *, again: bool
    ) -> Outcome:
        async def ask(question: Question) -> Answer:
            return await self._ask(going, scope, row, question, path)

        async def call(name: str, given: Mapping[str, Any]) -> Mapping[str, JsonValue]:
            return await self._call(going, scope, name, given, path)

        room = None if self.rooms is None else self.rooms(going.run, going.incident)
        pages = None if self.pages is None else self.pages(going.run, going.incident)
        say = lambda told: self._say(going.run.id, told)  # noqa: E731 - two words
        ports = Ports(ask, call)
        return await self._attempts.make(going, scope, step, row, ports, room=room, say=say, pages=pages, again=again)

    def _goes_on(self, going: Going, scope: Scope, step: Step, row: RunStep) -> bool:
        """Whether an interrupted attempt is made again unasked. Of a run that ends here nothing is made again."""
        if row.effect == "read":
            return True
        return not going.stopping.is_set() and self._attempts.looks_first(going, scope, self._stand_in(going, step))

    async def _interrupted(self, going: Going, row: RunStep) -> None:
        """A write was interrupted. What is left of it here is ended, for nobody watches its time any more."""
        await process.stop(f"{going.run.id}/{row.path}")
        ask = not going.stopping.is_set()
        await self.journal.unknown(row, ask=ask)
        if ask:
            raise Waits
        raise Stop(RunState.CANCELLED, row.name, "interrupted, and nobody knows whether it ended")

    # -- many of one step -----------------------------------------------------------------------------------------

    async def _each(self, going: Going, scope: Scope, step: Step, path: str) -> Done:
        """A step once for each item of a list, so many side by side as it says."""
        before = going.attempts.get(path, [])
        last = before[-1] if before else None
        if last is not None and (done := self._gone_by(last)) is not None:
            with contextlib.suppress(PermanentError):
                for i, item in enumerate(evaluate(step.foreach or "", scope.values)):
                    self._gone_through(going, scope.having(item=item, index=i), step, f"{path}[{i}]")
            return done
        name = self._name(going, scope, step) if last is None else last.name
        if going.replaying and last is None:
            raise Stop(RunState.FAILED)
        self._may_go_on(going, name)
        items = await self._items(going, scope, step, name)
        if items is None:
            outcome = Outcome(ok=True, summary="cannot be previewed: its list needs what a skipped step would give")
            row = last or await self.journal.started(going.run, step, going.place(path), 1, name, "read")
            await self.journal.finished(row, outcome, StepState.PREVIEWED)
            return Done(StepState.PREVIEWED, name)
        place = replace(going.place(path), items=len(items))
        row = last or await self.journal.started(going.run, step, place, 1, name, "read")
        dones = await self._side_by_side(going, scope, step, path, items)
        failed = [done for done in dones if done.failed]
        counted = {
            "items": [_item(done) for done in dones],
            "count": len(items),
            "failed": len(failed),
        }
        unneeded = sum(done.state == StepState.SKIPPED for done in dones)
        told = f"{len(dones) - len(failed) - unneeded} of {len(items)} went well"
        told += f", {unneeded} not needed" if unneeded else ""
        outcome = Outcome(ok=not failed, summary=told, values=storable(counted))
        if not failed:
            states = {done.state for done in dones}
            state = states.pop() if states in ({StepState.PREVIEWED}, {StepState.SKIPPED}) else StepState.SUCCEEDED
            await self.journal.finished(row, outcome, state)
            return Done(state, name, result={"values": outcome.values, "outputs": {}})
        first = failed[0]
        return await self._failed(
            going, step, row, replace(outcome, summary=f"{told}; {first.name}: {first.why}"), item=False
        )

    async def _items(self, going: Going, scope: Scope, step: Step, name: str) -> list[Any] | None:
        """The list; None in a dry run that cannot know it."""
        try:
            found = evaluate(step.foreach or "", scope.values)
        except PermanentError as error:
            if going.guessing:
                return None
            raise Stop(RunState.FAILED, name, going.redact.text(f"foreach: {error}")) from None
        if not isinstance(found, list):
            raise Stop(RunState.FAILED, name, "foreach: gives no list")
        if len(found) > ITEMS:
            raise Stop(RunState.FAILED, name, f"foreach: gives {len(found)} items; {ITEMS} at most are gone through")
        return found

    async def _side_by_side(
        self, going: Going, scope: Scope, step: Step, path: str, items: Sequence[Any]
    ) -> list[Done]:
        """Every item; after one that failed no more are begun, unless the step says so."""
        room, broken = asyncio.Semaphore(step.parallel), asyncio.Event()

        async def one(i: int, item: Any) -> Done | None:
            async with room:
                known = f"{path}[{i}]" in going.attempts
                if broken.is_set() and not known:
                    return None
                try:
                    done = await self._single(going, scope.having(item=item, index=i), step, f"{path}[{i}]", item=True)
                except (Stop, Waits, Lost):
                    broken.set()
                    raise
                if done.failed and step.stop_on_error:
                    broken.set()
                return done

        ended = await asyncio.gather(*(one(i, item) for i, item in enumerate(items)), return_exceptions=True)
        # Whoever must be asked comes first; then what ends the run.
        for kind in (asyncio.CancelledError, Lost, Waits, Stop, BaseException):
            for outcome in ended:
                if isinstance(outcome, kind):
                    raise outcome
        return [done for done in ended if isinstance(done, Done)]

    def _gone_through(self, going: Going, scope: Scope, step: Step, path: str) -> None:
        rows = going.attempts.get(path, [])
        if rows and (rows[-1].state in BEGUN or rows[-1].state == StepState.UNKNOWN):
            going.revert(step, scope, path)

    # -- what a step can ask of the run ---------------------------------------------------------------------------

    async def _ask(self, going: Going, scope: Scope, row: RunStep, question: Question, path: str) -> Answer:
        """Put a question, and end the work here until it is answered; with the answer, go on."""
        if going.run.break_glass:
            reason = f"glass broken: {going.run.break_glass}"
            return Answer((going.run.requested_by,), reason, {}, self.clock())
        plan = Plan.after(self._attempts, going, scope, path)
        digest = await asyncio.to_thread(plan.digest)
        approval, votes = await self.journal.question(row)
        if approval is None or approval.state == ApprovalState.ASKED:
            await self.journal.asked(going.run, row, question, plan.told(), digest)
            raise Waits
        if approval.state == ApprovalState.APPROVED and approval.digest != digest:
            why = "what would be done has changed since people said yes (a file, a connection or a value)"
            await self.journal.void(going.run, row, why)
            approval.state, approval.told = ApprovalState.VOID, why
        if approval.state == ApprovalState.APPROVED:
            yes = [vote for vote in votes if vote.yes]
            given = {key: found for vote in yes for key, found in vote.inputs.items()}
            reasons = "; ".join(vote.reason for vote in yes if vote.reason)
            return Answer(tuple(vote.person for vote in yes), reasons, given, approval.ended_at or self.clock())
        state = RunState.REJECTED if approval.state == ApprovalState.REJECTED else RunState.EXPIRED
        outcome = no(going, approval.told or str(approval.state))
        await self.journal.finished(row, outcome, StepState.FAILED, ends=state)
        raise Stop(state, row.name, outcome.summary)

    async def _call(
        self, going: Going, scope: Scope, name: str, given: Mapping[str, Any], path: str
    ) -> Mapping[str, JsonValue]:
        """Carry out another runbook as a part of this run; its outputs. It is taken back with the rest."""
        book = going.books.get(name)
        if book is None:
            raise PermanentError(f"the runbook {name!r} was not there when the run was started")
        if scope.depth >= DEEPEST:
            raise PermanentError(f"runbooks call each other more than {DEEPEST} deep")
        try:
            checked = values.check(book, given)
        except values.ParamErrors as error:
            raise PermanentError(f"{name} cannot be called: {error}") from None
        inner = await self._scope(going, book, checked, prefix=f"{path}/", depth=scope.depth + 1)
        try:
            await self._block(going, inner, book.steps, f"{path}/steps")
        except Stop as stop:
            if stop.state == RunState.FAILED and not going.replaying:
                failed = inner.having(failure={**NOTHING_FAILED, **(stop.failure or {})})
                await self._tried(going, failed, book.on_failure, f"{path}/on_failure")
                await self._tried(going, failed, book.always, f"{path}/always")
                self._found(going, inner, path, RunState.FAILED, stop.failure)
                about = stop.failure or NOTHING_FAILED
                raise PermanentError(f"{about['step']}: {about['message']}") from None
            raise
        broken = await self._tried(going, inner, book.always, f"{path}/always")
        self._found(going, inner, path, RunState.SUCCEEDED, None)
        if broken:
            raise PermanentError(f"{broken[0][0]}: {broken[0][1]}")
        return self._outputs(going, inner)

    async def _called_before(self, going: Going, scope: Scope, step: Step, row: RunStep, path: str) -> None:
        """Go through what a runbook did that was called before a restart, to know what of it to take back and what it
        has found.
        """
        replaying, going.replaying = going.replaying, True
        try:
            params = self._attempts.filled(step, self._attempts.context(going, scope, step, row))
            book = going.books[str(params.model_dump()["use"])]
            checked = values.check(book, params.model_dump()["params"])
            inner = await self._scope(going, book, checked, prefix=f"{path}/", depth=scope.depth + 1)
            failed = {"step": row.name, "message": row.error} if row.state in TOLD_FAILED else None
            with contextlib.suppress(Stop):
                await self._block(going, inner, book.steps, f"{path}/steps")
            self._found(going, inner, path, RunState.FAILED if failed else RunState.SUCCEEDED, failed)
        except (Stop, PermanentError, values.ParamErrors, KeyError):
            pass  # it ended early, and all that it had begun is known now
        finally:
            going.replaying = replaying

    def _found(self, going: Going, scope: Scope, path: str, state: RunState, failure: Mapping[str, Any] | None) -> None:
        """Keep what the rules of a runbook say that the step at *path* called."""
        said = findings(scope.runbook, scope.values, state, failure, going.redact.text)
        going.called[path] = of_called(scope.runbook, said)

    # -- how a step is treated ------------------------------------------------------------------------------------

    def _stand_in(self, going: Going, step: Step) -> Step:
        """What a dry run does in the place of *step*, where the runbook says so."""
        if not going.run.dry_run or not isinstance(step.dry_run, Step):
            return step
        return step.dry_run.model_copy(update={"id": step.id, "key": step.key, "name": step.dry_run.name or step.title})

    async def _still_may(self, going: Going, kind: str, name: str) -> None:
        """Before each write: whether whoever asked for the run still may. What tidies up is not held up by this."""
        if kind == "read" or going.run.dry_run or going.phase != Phase.STEPS:
            return
        if why := await self.may(going.run, going.incident):
            raise Stop(RunState.FAILED, name, why)
        if self.clearance is not None:
            async with going.clearing:  # steps side by side ask for one
                await self._clear(going, self.clearance, name)

    async def _clear(self, going: Going, clearance: Clearance, name: str) -> None:
        """Before the first write: what a run must have for it. The time until then is not the run's."""
        if going.cleared:
            return
        began = self.clock()
        if why := await clearance.clear(going.run, going.incident, going.runbook, going.stopping):
            raise Stop(RunState.FAILED, name, why)
        going.ends_at += self.clock() - began
        self._may_go_on(going, name)
        going.cleared = True

    def _may_go_on(self, going: Going, name: str, why: str = "") -> None:
        if going.replaying:
            return
        if going.stopping.is_set():
            raise Stop(RunState.CANCELLED)
        if self._late(going):
            raise Stop(RunState.TIMED_OUT, name, self._took(going, why))

    def _took(self, going: Going, why: str) -> str:
        return clip(f"the run took longer than its {duration_text(going.runbook.timeout)}: {why}".rstrip(": "), SUMMARY)

    def _late(self, going: Going) -> bool:
        return self.clock() >= going.ends_at - SLACK

    def _over(self, going: Going) -> bool:
        return going.stopping.is_set() or self._late(going)

    def _wants_more(self, going: Going, scope: Scope, tries: Retry, outcome: Outcome) -> bool:
        """Whether a failure is one of those that the runbook wants to be tried again."""
        if tries.when is None:
            return True
        seen = {"status": None, "exit_code": None, **scope.values, **outcome.values, "error": outcome.summary}
        try:
            return bool(evaluate(tries.when, seen))
        except PermanentError as error:
            log.warning("run.retry_when", error=going.redact.text(str(error)))
            return False

    def _undecided(self, going: Going, scope: Scope, step: Step) -> bool:
        """Whether a dry run cannot know if the step is needed."""
        if not going.guessing or step.when is None:
            return False
        try:
            evaluate(step.when, scope.values)
        except PermanentError:
            return True
        return False

    def _needless(self, going: Going, scope: Scope, step: Step, name: str) -> str | None:
        """Why a step is skipped, or None."""
        if step.when is None:
            return None
        try:
            return None if evaluate(step.when, scope.values) else f"not needed: {step.when}"
        except PermanentError as error:
            if going.guessing:
                return None
            raise Stop(RunState.FAILED, name, going.redact.text(f"when: {error}")) from None

    def _name(self, going: Going, scope: Scope, step: Step) -> str:
        try:
            return clip(one_line(going.redact.text(render(step.title, scope.values))), 150)
        except PermanentError:
            return clip(one_line(step.heading), 150)

    async def _pause(self, going: Going, tries: Retry, failures: int, after: float) -> None:
        wait = tries.delay.total_seconds()
        if tries.backoff == "exponential":
            wait *= 2 ** (failures - 1)
        wait = min(wait, tries.max_delay.total_seconds())
        if tries.jitter:
            wait = random.uniform(wait / 2, wait)
        left = (going.ends_at - self.clock()).total_seconds()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(going.stopping.wait(), max(0.0, min(max(wait, after), left)))

    def _say(self, run_id: str, told: str) -> None:
        if (tail := self.tails.get(run_id)) is not None and told.strip():
            tail.append(clip(told, TAIL_LINE))
            self.heard(run_id)

    def _remember(self, going: Going, scope: Scope, step: Step, done: Done) -> None:
        """What later steps see as `steps.<id>.…`; of a step that was not needed, all that it gives is none."""
        if done.state == StepState.PREVIEWED:
            going.guessing = True
        elif step.id:
            about: dict[str, Any] = {"ok": done.state == StepState.SUCCEEDED, "state": str(done.state)}
            if done.state == StepState.SKIPPED:
                about |= dict.fromkeys((*getattr(self.steps[step.type], "RESULT", ()), *step.outputs))
            scope.values["steps"][step.id] = {
                **about,
                **done.result.get("values", {}),
                **done.result.get("outputs", {}),
            }


def _item(done: Done) -> dict[str, Any]:
    """What a foreach keeps of one item."""
    about = {"name": done.name, "ok": not done.failed, "state": str(done.state), "error": done.why}
    return {**about, **done.result.get("values", {}), **done.result.get("outputs", {})}
