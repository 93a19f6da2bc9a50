"""What may happen to a run: started, cancelled, answered; each leaves its line on the timeline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import lifecycle, roles, timeline
from bot.incidents.model import Incident
from bot.incidents.timeline import React
from bot.kit.errors import PermanentError, UserError
from bot.kit.text import clean
from bot.runs import access, params
from bot.runs.expressions import render
from bot.runs.model import ENDED, Run, RunState, RunStep, StepState
from bot.runs.runbook import Runbook

REPEAT, ACCEPT, ABANDON = "repeat", "accept", "abandon"


@dataclass(frozen=True)
class Shown:
    """What a run's message shows: the run, its steps so far, and the last lines of what is running."""

    run: Run
    incident: Incident
    runbook: Runbook
    steps: Sequence[RunStep]
    tail: Sequence[str] = ()

    @property
    def asking(self) -> RunStep | None:
        """The write that was started and may or may not have ended."""
        return next((step for step in self.steps if step.state == StepState.UNKNOWN), None)


async def start(
    tx: Tx,
    react: React,
    incident: Incident,
    runbook: Runbook,
    raw: Mapping[str, Any],
    *,
    by: str,
    now: datetime,
    run_id: str,
    dry_run: bool = False,
) -> Run:
    """Check who asks and with which values, and promise the run. Raises UserError, or ParamErrors by parameter."""
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
    if why := access.refusal(runbook, incident, by, await roles.held(tx.session, incident.id)):
        raise UserError(why)
    checked = params.check(runbook, raw)
    key = _key(runbook, checked)
    await _alone(tx.session, incident, runbook, key)
    query = sa.select(sa.func.coalesce(sa.func.max(col(Run.number)), 0)).where(col(Run.incident_id) == incident.id)
    run = Run(
        id=run_id,
        incident_id=incident.id,
        number=int(await tx.session.scalar(query) or 0) + 1,
        runbook=runbook.id,
        sha256=runbook.sha256,
        definition=runbook.as_json(),
        params=checked,
        dry_run=dry_run,
        requested_by=by,
        concurrency_key=key,
        state=RunState.QUEUED,
        requested_at=now,
    )
    tx.session.add(run)
    await tx.session.flush()
    what = "dry run of " if dry_run else ""
    await event(
        tx,
        react,
        run,
        "run.started",
        f"Run {run.number}: {what}{runbook.name}",
        now=now,
        actor=by,
        data={"name": runbook.name, "params": _shown(runbook, checked), "dry_run": dry_run, "sha256": runbook.sha256},
        once=run.id,
    )
    return run


async def cancel(tx: Tx, react: React, run_id: str, *, by: str, now: datetime) -> Run:
    """Stop a run as soon as its step lets itself be stopped."""
    run = await find(tx.session, run_id, lock=True)
    if run.state in ENDED:
        raise UserError(f"Run {run.number} has ended already ({run.state}).")
    if run.cancelled_by:
        raise UserError(f"Run {run.number} is being cancelled already.")
    run.cancelled_by = by
    text = f"Run {run.number} cancelled by <@{by}>"
    await event(tx, react, run, "run.cancelled", text, now=now, actor=by, once=run.id)
    if run.state == RunState.ASKING:  # nobody is at work who would see it
        await end(tx, react, run, RunState.CANCELLED, now=now, failure=None)
    return run


async def answer(tx: Tx, react: React, run_id: str, choice: str, *, by: str, now: datetime) -> Run:
    """Say what to do about a write that was interrupted: repeat it, treat it as done, or end the run."""
    run = await find(tx.session, run_id, lock=True)
    if run.state != RunState.ASKING:
        raise UserError(f"Run {run.number} does not ask anything (any more); it is {run.state}.")
    query = sa.select(RunStep).where(col(RunStep.run_id) == run_id, col(RunStep.state) == StepState.UNKNOWN)
    step = await tx.session.scalar(query)
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
        step.state, step.summary = StepState.FAILED, "interrupted; run ended"
    words = {REPEAT: "run again", ACCEPT: "treat as done", ABANDON: "end the run"}
    run.round += 1
    data = {"answer": choice, "step": step.step}
    text = f"Run {run.number}: <@{by}> answered “{words[choice]}” for “{step.name}”"
    if choice == ABANDON:
        failure = {"step": step.name, "message": "interrupted, and nobody knows whether it ended"}
        await end(tx, react, run, RunState.FAILED, now=now, failure=failure)
        await event(tx, react, run, "run.abandoned", text, now=now, actor=by, data=data)
        return run
    run.state = RunState.QUEUED
    await event(tx, react, run, "run.answered", text, now=now, actor=by, data=data)
    return run


async def end(
    tx: Tx, react: React, run: Run, state: RunState, *, now: datetime, failure: dict[str, Any] | None
) -> None:
    """The run is over: nothing of it is at work any more, and its secrets are not needed any more."""
    run.state, run.failure, run.ended_at = state, failure, now
    run.params = _masked(run.definition.get("params", {}), run.params)
    left = sa.case((col(RunStep.effect) == "read", StepState.CANCELLED), else_=StepState.UNKNOWN)
    await tx.session.execute(
        sa.update(RunStep)
        .where(col(RunStep.run_id) == run.id, col(RunStep.state) == StepState.RUNNING)
        .values(state=left, ended_at=now)
    )
    seconds = (now - (run.started_at or run.requested_at)).total_seconds()
    why = f": {failure['message']} (at “{failure['step']}”)" if failure else ""
    text = f"Run {run.number} {str(state).replace('_', ' ')} after {seconds:.0f} s{why}"
    data = {"state": state, "seconds": round(seconds, 3), "failure": failure}
    await event(tx, react, run, "run.ended", text, now=now, actor="bot", data=data, once=run.id)


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
    about = {"run": run.id, "number": run.number, "runbook": run.runbook, "key": run.concurrency_key}
    await timeline.record(
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


def definition(run: Run) -> Runbook:
    """The runbook as it was when the run was started."""
    return Runbook.from_json(run.definition)


async def shown(session: AsyncSession, run_id: str, tail: Sequence[str] = ()) -> Shown:
    """What the message of a run shows now."""
    run = await find(session, run_id)
    return Shown(
        run=run,
        incident=await lifecycle.find(session, run.incident_id),
        runbook=definition(run),
        steps=list({row.position: row for row in await attempts(session, run_id)}.values()),
        tail=tail,
    )


async def attempts(session: AsyncSession, run_id: str) -> list[RunStep]:
    """Every attempt at every step, in order."""
    query = sa.select(RunStep).where(col(RunStep.run_id) == run_id)
    return list(await session.scalars(query.order_by(col(RunStep.position), col(RunStep.attempt))))


def _key(runbook: Runbook, checked: Mapping[str, Any]) -> str:
    about = {"id": runbook.id, "name": runbook.name}
    known = {"params": _shown(runbook, checked), "runbook": about, "vars": runbook.vars}
    return clean(render(runbook.concurrency.key, known))[:200]


async def _alone(session: AsyncSession, incident: Incident, runbook: Runbook, key: str) -> None:
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        # Two people may press at once; the lock lasts until the commit. SQLite has one writer anyway.
        await session.execute(sa.text("select pg_advisory_xact_lock(hashtext(:key))"), {"key": key})
    running = sa.select(Run).where(col(Run.concurrency_key) == key, col(Run.state).not_in(ENDED))
    other = await session.scalar(running.limit(1))
    if other is None:
        return
    which = f"run {other.number}"
    if other.incident_id != incident.id:
        there = await lifecycle.find(session, other.incident_id)
        which = "a run of a private incident" if there.private else f"{which} of {there.reference}"
    raise UserError(
        f"{runbook.name} is at work on this already: {which}, started by <@{other.requested_by}>, is {other.state}. "
        "Wait for it to end, or cancel it."
    )


def _shown(runbook: Runbook, checked: Mapping[str, Any]) -> dict[str, Any]:
    return _masked({name: {"type": param.type} for name, param in runbook.params.items()}, checked)


def _masked(declared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    secret = {name for name, param in declared.items() if param.get("type") == "secret"}
    return {name: "***" if name in secret and value is not None else value for name, value in values.items()}
