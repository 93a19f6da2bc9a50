"""What may happen to a run: started, cancelled, answered; each leaves its line on the timeline."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import lifecycle, roles, timeline
from bot.incidents.model import Incident, Role, RoleName, Sev
from bot.incidents.timeline import React
from bot.kit.errors import PermanentError, UserError
from bot.kit.text import clean
from bot.runs import access, audit, params
from bot.runs.expressions import render, render_value
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
    Trigger,
    Vote,
)
from bot.runs.runbook import Runbook

REPEAT, ACCEPT, ABANDON = "repeat", "accept", "abandon"
# A step that came this far may have changed something, however it ended.
BEGUN = (StepState.SUCCEEDED, StepState.FAILED, StepState.FAILED_IGNORED, StepState.CANCELLED)


@dataclass(frozen=True)
class Shown:
    """What a run's message shows: the run, its steps so far (the newest attempt at each, in the order in which they
    were begun), the last lines of what is running, whether there is something that could be rolled back, how many
    files it made, and who had a part in it by an answer.
    """

    run: Run
    incident: Incident
    runbook: Runbook
    steps: Sequence[RunStep]
    tail: Sequence[str] = ()
    revertible: bool = False
    files: int = 0
    people: Sequence[str] = ()

    @property
    def asking(self) -> RunStep | None:
        """The write that was started and may or may not have ended."""
        return next((step for step in self.steps if step.state == StepState.UNKNOWN), None)


@dataclass(frozen=True)
class Asked:
    """Who or what asks for a run. *groups* are the `@names` that a person is known to belong to."""

    by: str
    trigger: Trigger = Trigger.PERSON
    email: str | None = None
    groups: frozenset[str] = frozenset()
    key: str | None = None  # what the trigger was about: an episode of an alert, or a time
    because: str = ""  # why nobody had to ask
    break_glass: str | None = None


async def start(
    tx: Tx,
    react: React,
    incident: Incident,
    runbook: Runbook,
    raw: Mapping[str, Any],
    *,
    asked: Asked,
    now: datetime,
    run_id: str,
    dry_run: bool = False,
    uses: Mapping[str, Runbook] | None = None,
    commit: str | None = None,
) -> Run:
    """Check who asks and with which values, and promise the run. Raises UserError, or ParamErrors by parameter."""
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
    held = await roles.held(tx.session, incident.id)
    if asked.trigger == Trigger.PERSON:
        for book in (runbook, *(uses or {}).values()):
            what = (
                f"{book.name} may be run" if book is runbook else f"{runbook.name} calls {book.name}, which may be run"
            )
            if why := access.refusal(book.access.run, what, incident, asked.by, held, asked.groups):
                raise UserError(why)
    if asked.break_glass is not None:
        _may_break_glass(incident, asked, held)
    checked = params.check(runbook, raw)
    key = concurrency_key(runbook, checked)
    hold = await _alone(tx, react, incident, runbook, key, asked, now)
    query = sa.select(sa.func.coalesce(sa.func.max(col(Run.number)), 0)).where(col(Run.incident_id) == incident.id)
    run = Run(
        id=run_id,
        incident_id=incident.id,
        number=int(await tx.session.scalar(query) or 0) + 1,
        runbook=runbook.id,
        sha256=runbook.sha256,
        git_commit=commit,
        schema_version=runbook.version,
        definition=runbook.as_json(),
        uses={name: book.as_json() for name, book in (uses or {}).items()},
        params=checked,
        dry_run=dry_run,
        trigger=asked.trigger,
        trigger_key=asked.key,
        because=asked.because,
        requested_by=asked.by,
        requester_email=asked.email,
        break_glass=asked.break_glass,
        concurrency_key=key,
        held=hold,
        state=RunState.QUEUED,
        requested_at=now,
    )
    tx.session.add(run)
    await tx.session.flush()
    what = "dry run of " if dry_run else ""
    how = {
        Trigger.PERSON: "",
        Trigger.AUTO: ", started by itself",
        Trigger.SCHEDULE: ", on schedule",
        Trigger.COMMAND: ", from the command line",
    }
    because = f" because {asked.because}" if asked.because else ""
    waits = ", waits its turn" if hold else ""
    await event(
        tx,
        react,
        run,
        "run.held" if hold else "run.started",
        f"Run {run.number}: {what}{runbook.name}{how[asked.trigger]}{because}{waits}",
        now=now,
        actor=asked.by,
        data={
            "name": runbook.name,
            "params": checked,
            "dry_run": dry_run,
            "sha256": runbook.sha256,
            "commit": commit,
            "trigger": asked.trigger,
            "because": asked.because,
        },
        once=run.id,
    )
    if asked.break_glass is not None:
        text = f"Run {run.number} goes without approvals: <@{asked.by}> broke the glass: {asked.break_glass}"
        about = {"reason": asked.break_glass}
        await event(tx, react, run, "run.glass_broken", text, now=now, actor=asked.by, data=about, once=run.id)
    return run


def _may_break_glass(incident: Incident, asked: Asked, held: Sequence[Role]) -> None:
    commander = any(role.name == RoleName.COMMANDER and role.person == asked.by for role in held)
    if incident.severity != Sev.SEV1 or not commander:
        raise UserError("Only the commander of a SEV1 may go without approvals.")
    if not (asked.break_glass or "").strip():
        raise UserError("Say why approvals cannot be waited for; it is written on the timeline.")


async def cancel(tx: Tx, react: React, run_id: str, *, by: str, now: datetime) -> Run:
    """Stop a run as soon as its step lets itself be stopped. What it takes back, it takes back to the end."""
    run = await find_alone(tx.session, run_id)
    if run.state in ENDED:
        raise UserError(f"Run {run.number} has ended already ({run.state}).")
    if run.cancelled_by:
        raise UserError(f"Run {run.number} is being cancelled already.")
    if run.phase != Phase.STEPS:
        raise UserError(f"Run {run.number} is tidying up ({run.phase}), which is not stopped half way.")
    run.cancelled_by = by
    text = f"Run {run.number} cancelled by <@{by}>"
    await event(tx, react, run, "run.cancelled", text, now=now, actor=by, once=run.id)
    if run.state in PAUSED:  # nobody is at work who would see it
        await _close_questions(tx, react, run, "the run was cancelled", now=now)
        await go_on(tx, react, run, now=now)
    elif run.held:
        await end(tx, react, run, RunState.CANCELLED, now=now, failure=None)
    return run


async def roll_back(tx: Tx, react: React, run_id: str, *, by: str, now: datetime) -> Run:
    """Take back what a cancelled run has changed, as its runbook says how."""
    run = await find_alone(tx.session, run_id)
    if run.state != RunState.CANCELLED or not await revertible(tx.session, run):
        raise UserError(f"There is nothing of run {run.number} to roll back (it is {run.state}).")
    other = await _others(tx.session, run.concurrency_key)
    if other:
        raise UserError(f"Run {other[0].number} is at work on the same thing; let it end first.")
    run.phase, run.state, run.ended_at = Phase.ROLLBACK, RunState.QUEUED, None
    run.failure = {"state": RunState.CANCELLED, "step": "", "message": f"cancelled by <@{run.cancelled_by}>"}
    run.round += 1
    text = f"Run {run.number}: <@{by}> has it rolled back"
    await event(tx, react, run, "run.answered", text, now=now, actor=by, data={"answer": "roll_back"})
    return run


async def revertible(session: AsyncSession, run: Run) -> bool:
    """Whether a step that was begun says how it is taken back."""
    steps = definition(run).steps
    ways = {f"steps.{i}" for i, step in enumerate(steps) if step.rollback}
    return any(
        re.sub(r"\[\d+\]$", "", row.path) in ways and row.state in (*BEGUN, StepState.UNKNOWN)
        for row in await attempts(session, run.id)
    )


async def answer(tx: Tx, react: React, run_id: str, choice: str, *, by: str, now: datetime) -> Run:
    """Say what to do about a write that was interrupted: repeat it, treat it as done, or give it up and roll back."""
    run = await find(tx.session, run_id, lock=True)
    if run.state != RunState.ASKING:
        raise UserError(f"Run {run.number} does not ask anything (any more); it is {run.state}.")
    query = sa.select(RunStep).where(col(RunStep.run_id) == run_id, col(RunStep.state) == StepState.UNKNOWN)
    step = await tx.session.scalar(query.order_by(col(RunStep.position)).limit(1))
    if step is None:
        raise PermanentError(f"run {run_id} asks without a step to ask about")
    step.ended_at = now
    # Time in which the run waited for this answer does not count as the run's.
    step.result = {"paused_seconds": max(0.0, (now - step.started_at).total_seconds())}
    if choice == ACCEPT:
        step.state, step.summary = StepState.SUCCEEDED, "treated as done"
    elif choice == REPEAT:
        step.state, step.summary = StepState.FAILED, "interrupted; run again"
        step.result = {**step.result, "repeat": True}
    else:
        step.state, step.error = StepState.FAILED, "interrupted, and nobody knows whether it ended"
        step.summary = step.error
        step.result = {**step.result, "ends": RunState.FAILED}
    words = {REPEAT: "run again", ACCEPT: "treat as done", ABANDON: "give up and roll back"}
    data = {"answer": choice, "step": step.step}
    text = f"Run {run.number}: <@{by}> answered “{words[choice]}” for “{step.name}”"
    await tx.session.flush()
    if await tx.session.scalar(query.limit(1)) is not None:  # several were at work side by side: ask about the next
        await event(tx, react, run, "run.step_answered", text, now=now, actor=by, data=data, once=step.id)
        return run
    run.round += 1
    run.state = RunState.QUEUED
    await event(tx, react, run, "run.answered", text, now=now, actor=by, data=data)
    return run


async def go_on(tx: Tx, react: React, run: Run, *, now: datetime) -> None:
    """A run that waited is carried on with, to its end at least."""
    run.round += 1
    run.state = RunState.QUEUED
    text = f"Run {run.number} goes on"
    await event(tx, react, run, "run.resumed", text, now=now, actor="bot", once=f"{run.id}:{run.round}")


async def _close_questions(tx: Tx, react: React, run: Run, why: str, *, now: datetime) -> None:
    asked = sa.select(Approval).where(col(Approval.run_id) == run.id, col(Approval.state) == ApprovalState.ASKED)
    for approval in list(await tx.session.scalars(asked)):
        approval.state, approval.told, approval.ended_at = ApprovalState.VOID, why, now
        approval.revision += 1
        about = {"approval": approval.id, "state": approval.state}
        text = f"Run {run.number}: the question is void: {why}"
        await event(tx, react, run, "approval.closed", text, now=now, actor="bot", data=about, once=approval.id)
    unknown = sa.update(RunStep).where(col(RunStep.run_id) == run.id, col(RunStep.state) == StepState.UNKNOWN)
    await tx.session.execute(unknown.values(ended_at=now))


async def end(
    tx: Tx, react: React, run: Run, state: RunState, *, now: datetime, failure: dict[str, Any] | None
) -> None:
    """The run is over: nothing of it is at work any more, and the next in line on the same key may begin.

    *run* comes from `find_alone`.
    """
    run.state, run.failure, run.ended_at, run.held = state, failure, now, False
    left = sa.case((col(RunStep.effect) == "read", StepState.CANCELLED), else_=StepState.UNKNOWN)
    await tx.session.execute(
        sa.update(RunStep)
        .where(col(RunStep.run_id) == run.id, col(RunStep.state) == StepState.RUNNING)
        .values(state=left, ended_at=now)
    )
    await _close_questions(tx, react, run, "the run has ended", now=now)
    seconds = max(0.0, (now - (run.started_at or run.requested_at)).total_seconds())  # clocks are put back at times
    why = f": {failure['message']} (at “{failure['step']}”)" if failure and failure.get("step") else ""
    text = f"Run {run.number} {str(state).replace('_', ' ')} after {seconds:.0f} s{why}"
    data = {"state": state, "seconds": round(seconds, 3), "failure": failure, "outputs": run.outputs}
    await event(tx, react, run, "run.ended", text, now=now, actor="bot", data=data, once=f"{run.id}:{run.round}")
    await _release(tx, react, run, now=now)


async def _release(tx: Tx, react: React, ended: Run, *, now: datetime) -> None:
    """Let the oldest run that waits for *ended*'s key begin."""
    await _key_lock(tx.session, ended.concurrency_key)
    waiting = sa.select(Run).where(
        col(Run.concurrency_key) == ended.concurrency_key, col(Run.held), col(Run.state) == RunState.QUEUED
    )
    first = await tx.session.scalar(waiting.order_by(col(Run.requested_at), col(Run.id)).limit(1).with_for_update())
    if first is None:
        return
    at_work = [run for run in await _others(tx.session, ended.concurrency_key) if run.id != ended.id]
    if len(at_work) >= definition(first).concurrency.limit:
        return
    first.held = False
    text = f"Run {first.number}: {definition(first).name} begins, it was its turn"
    await event(tx, react, first, "run.started", text, now=now, actor="bot", once=f"{first.id}:released")


async def event(
    tx: Tx,
    react: React,
    run: Run,
    kind: str,
    text: str,
    *,
    now: datetime,
    actor: str,
    data: Mapping[str, Any] | None = None,
    once: str | None = None,
) -> None:
    """Put something about a run on the timeline, and mark its message as stale."""
    run.revision += 1
    tx.session.add(run)
    await tx.session.flush()
    alone = run.definition.get("concurrency", {}).get("limit", 1) == 1
    line = run.concurrency_key if alone else f"{run.concurrency_key}#{run.id}"
    about = {"run": run.id, "number": run.number, "runbook": run.runbook, "key": line}
    recorded = await timeline.record(
        tx,
        react,
        run.incident_id,
        kind,
        text,
        now=now,
        actor=actor,
        data={**about, "round": run.round, **(data or {})},
        once=once,
    )
    if recorded is not None:
        exactly = {"runbook": run.runbook, "sha256": run.sha256, "commit": run.git_commit, "number": run.number}
        told = {**exactly, "text": recorded.text, **(data or {})}
        audit.note(tx, audit.Line(recorded.recorded_at, actor, kind, run.id, run.incident_id, told))


async def find(session: AsyncSession, run_id: str, *, lock: bool = False) -> Run:
    """The run, locked against other writers if asked."""
    query = sa.select(Run).where(col(Run.id) == run_id)
    if lock:
        # Read anew, or what this session saw before the lock would stand. The key stays free to be referred to:
        # rows that point at the run are written by others at the same time.
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    found = await session.scalar(query)
    if found is None:
        raise UserError("This run does not exist any more.")
    return found


async def find_alone(session: AsyncSession, run_id: str) -> Run:
    """The run, locked, and its key before it: whoever may end a run takes the locks in this order, as `start` does."""
    key = await session.scalar(sa.select(col(Run.concurrency_key)).where(col(Run.id) == run_id))
    if key is not None:
        await _key_lock(session, key)
    return await find(session, run_id, lock=True)


def callable_(run: Run) -> dict[str, Runbook]:
    """The runbooks that a run may call, as they were when it was started."""
    return {name: Runbook.from_json(book) for name, book in run.uses.items()}


def definition(run: Run) -> Runbook:
    """The runbook as it was when the run was started."""
    return Runbook.from_json(run.definition)


async def shown(session: AsyncSession, run_id: str, tail: Sequence[str] = ()) -> Shown:
    """What the message of a run shows now."""
    run = await find(session, run_id)
    files = sa.select(sa.func.count()).select_from(RunFile)
    voters = sa.select(col(Vote.person)).join(Approval, col(Approval.id) == col(Vote.approval_id)).distinct()
    return Shown(
        run=run,
        incident=await lifecycle.find(session, run.incident_id),
        runbook=definition(run),
        steps=list({row.path: row for row in await attempts(session, run_id)}.values()),
        tail=tail,
        revertible=run.state in (RunState.CANCELLED, RunState.ASKING) and await revertible(session, run),
        files=int(await session.scalar(files.where(col(RunFile.run_id) == run_id)) or 0),
        people=list(await session.scalars(voters.where(col(Approval.run_id) == run_id))),
    )


async def of_incident(session: AsyncSession, incident_id: str) -> list[Run]:
    """Every run of an incident, in order."""
    query = sa.select(Run).where(col(Run.incident_id) == incident_id)
    return list(await session.scalars(query.order_by(col(Run.number))))


async def attempts(session: AsyncSession, run_id: str) -> list[RunStep]:
    """Every attempt at every step, in order."""
    query = sa.select(RunStep).where(col(RunStep.run_id) == run_id)
    return list(await session.scalars(query.order_by(col(RunStep.position), col(RunStep.attempt))))


def concurrency_key(runbook: Runbook, checked: Mapping[str, Any]) -> str:
    """What a run with these values touches."""
    about = {"id": runbook.id, "name": runbook.name}
    known: dict[str, Any] = {"params": checked, "runbook": about}
    made = dict(runbook.vars)
    for name, value in runbook.vars.items():
        with contextlib.suppress(PermanentError):  # it needs what only a run that has begun knows
            made[name] = render_value(value, known)
    return clean(render(runbook.concurrency.key, {**known, "vars": made}))[:200]


async def _key_lock(session: AsyncSession, key: str) -> None:
    """Two people may press at once; the lock lasts until the commit. SQLite has one writer anyway."""
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        await session.execute(sa.text("select pg_advisory_xact_lock(hashtext(:key))"), {"key": key})


async def _others(session: AsyncSession, key: str) -> list[Run]:
    """The runs on *key* that have begun, or may at any moment."""
    query = sa.select(Run).where(col(Run.concurrency_key) == key, col(Run.state).not_in(ENDED), ~col(Run.held))
    return list(await session.scalars(query.order_by(col(Run.requested_at))))


async def _alone(
    tx: Tx, react: React, incident: Incident, runbook: Runbook, key: str, asked: Asked, now: datetime
) -> bool:
    """Whether a new run on *key* must wait for others; UserError where it is refused instead."""
    await _key_lock(tx.session, key)
    others = await _others(tx.session, key)
    if len(others) < runbook.concurrency.limit:
        return False
    if runbook.concurrency.on_conflict == "queue":
        return True
    if runbook.concurrency.on_conflict == "cancel_running":
        for other in others:
            if not other.cancelled_by and other.phase == Phase.STEPS:
                await cancel(tx, react, other.id, by=asked.by, now=now)
        return bool(await _others(tx.session, key))
    other = others[0]
    which = f"run {other.number}"
    if other.incident_id != incident.id:
        there = await lifecycle.find(tx.session, other.incident_id)
        which = "a run of a private incident" if there.private else f"{which} of {there.reference}"
    raise UserError(
        f"{runbook.name} is at work on this already: {which}, started by {_who(other)}, is {other.state}. "
        "Wait for it to end, or cancel it."
    )


def _who(run: Run) -> str:
    return f"<@{run.requested_by}>" if run.trigger == Trigger.PERSON else "the bot itself"
