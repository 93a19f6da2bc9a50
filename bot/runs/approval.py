"""Questions whether a run may go on: asked, answered, or left unanswered, which is a no."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import lifecycle, roles
from bot.incidents.access import Person
from bot.incidents.model import Incident
from bot.incidents.timeline import React
from bot.kit.clock import duration_text
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.kit.text import clip
from bot.runs import access, params
from bot.runs import run as runs
from bot.runs.model import Approval, ApprovalState, Run, RunState, Vote
from bot.runs.params import Param
from bot.runs.runbook import Runbook
from bot.runs.step import Question

_PARAMS = TypeAdapter(dict[str, Param])


@dataclass(frozen=True)
class Asked:
    """What the message of a question shows."""

    approval: Approval
    run: Run
    incident: Incident
    runbook: Runbook
    votes: Sequence[Vote] = ()


@dataclass(frozen=True)
class _Inputs:
    """What an answer fills in, as something that declares parameters."""

    params: Mapping[str, Param]


def who(question: Question, runbook: Runbook) -> list[str]:
    """Who may answer: whom the step names, else whom the runbook names, else the responders."""
    if question.who is not None:
        return list(question.who)
    return list(runbook.access.approve if runbook.access.approve is not None else [access.RESPONDERS])


async def of_step(session: AsyncSession, step_id: str) -> Approval | None:
    """The question that an attempt at a step asked."""
    query = sa.select(Approval).where(col(Approval.step_id) == step_id)
    return await session.scalar(query.execution_options(populate_existing=True))


async def of_run(session: AsyncSession, run_id: str) -> tuple[list[Approval], list[Vote]]:
    """Everything that a run asked, in order, and all that was answered."""
    query = sa.select(Approval).where(col(Approval.run_id) == run_id)
    asked = list(await session.scalars(query.order_by(col(Approval.asked_at), col(Approval.id))))
    return asked, [vote for one in asked for vote in await votes(session, one.id)]


async def votes(session: AsyncSession, approval_id: str) -> list[Vote]:
    """The answers so far, in order."""
    query = sa.select(Vote).where(col(Vote.approval_id) == approval_id)
    return list(await session.scalars(query.order_by(col(Vote.at), col(Vote.id))))


async def shown(session: AsyncSession, approval_id: str) -> Asked:
    """What the message of a question shows now."""
    approval = await find(session, approval_id)
    run = await runs.find(session, approval.run_id)
    return Asked(
        approval=approval,
        run=run,
        incident=await lifecycle.find(session, approval.incident_id),
        runbook=runs.definition(run),
        votes=await votes(session, approval_id),
    )


async def find(session: AsyncSession, approval_id: str, *, lock: bool = False) -> Approval:
    """The question; UserError if it does not exist any more."""
    query = sa.select(Approval).where(col(Approval.id) == approval_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    found = await session.scalar(query)
    if found is None:
        raise UserError("This question does not exist any more.")
    return found


def asked(run: Run, step_id: str, question: Question, *, now: datetime, plan: Sequence[str], digest: str) -> Approval:
    """A question as it is asked now."""
    return Approval(
        id=derived_id("approval", step_id),
        run_id=run.id,
        step_id=step_id,
        incident_id=run.incident_id,
        prompt=question.prompt,
        plan=list(plan),
        who=who(question, runs.definition(run)),
        count=question.count,
        not_requester=question.not_requester,
        require_reason=question.require_reason,
        inputs={name: Param.model_validate(given).model_dump(mode="json") for name, given in question.inputs.items()},
        sha256=run.sha256,
        digest=digest,
        asked_at=now,
        expires_at=now + question.expires,
    )


async def ask(
    tx: Tx,
    react: React,
    run: Run,
    step_id: str,
    question: Question,
    *,
    now: datetime,
    plan: Sequence[str],
    digest: str,
) -> Approval:
    """Put the question; the run waits from now on. *plan* says what a yes is for, *digest* stands for all of it."""
    approval = asked(run, step_id, question, now=now, plan=plan, digest=digest)
    tx.session.add(approval)
    await tx.session.flush()
    run.state = RunState.WAITING
    text = f"Run {run.number} asks {_names(approval.who)}: {clip(question.prompt, 300)}"
    data = {
        "approval": approval.id,
        "prompt": question.prompt,
        "plan": list(plan),
        "who": approval.who,
        "count": approval.count,
        "expires_at": approval.expires_at.isoformat(),
        "digest": digest,
    }
    await runs.event(tx, react, run, "approval.asked", text, now=now, actor="bot", data=data, once=approval.id)
    return approval


async def vote(
    tx: Tx,
    react: React,
    approval_id: str,
    *,
    yes: bool,
    by: Person,
    now: datetime,
    reason: str = "",
    inputs: Mapping[str, Any] | None = None,
    groups: frozenset[str] = frozenset(),
    current: str | None,
) -> str:
    """Take one person's answer; what to tell them. UserError, and nothing changed, where it does not count.

    *groups* are the `@names* that the person belongs to; *current* is the hash of the runbook as its file is now,
    None if it is gone.
    """
    run = await runs.find(tx.session, (await find(tx.session, approval_id)).run_id, lock=True)
    approval = await find(tx.session, approval_id, lock=True)
    if approval.state == ApprovalState.ASKED and now >= approval.expires_at:
        await close(tx, react, run, approval, ApprovalState.EXPIRED, expiry(approval), now=now)
        return f"Too late: nobody answered within {_given(approval)}, which is a no. Run {run.number} does not go on."
    still_asked(approval, run)
    await _may(tx.session, run, approval, by, groups, yes=yes)
    if current != approval.sha256:
        why = "the runbook was changed after the question was asked"
        await close(tx, react, run, approval, ApprovalState.VOID, why, now=now)
        return f"Your answer does not count: {why}. Start the run anew."
    if approval.require_reason and not reason.strip():
        raise UserError("Say why; this question wants a reason.")
    checked = params.check(_Inputs(_PARAMS.validate_python(approval.inputs)), inputs or {}) if yes else {}
    given = Vote(
        id=derived_id("vote", approval.id, by.id),
        approval_id=approval.id,
        person=by.id,
        email=by.email,
        yes=yes,
        reason=clip(reason.strip(), 1000),
        inputs=checked,
        at=now,
    )
    tx.session.add(given)
    await tx.session.flush()
    return await _counted(tx, react, run, approval, given, now=now)


def still_asked(approval: Approval, run: Run) -> None:
    """UserError with the reason where an answer would come too late."""
    if approval.state != ApprovalState.ASKED:
        raise UserError(f"This question is closed: {approval.told or approval.state}.")
    if run.state != RunState.WAITING:
        raise UserError(f"Run {run.number} does not wait for an answer any more; it is {run.state}.")


async def _counted(tx: Tx, react: React, run: Run, approval: Approval, given: Vote, *, now: datetime) -> str:
    because = f": {given.reason}" if given.reason else ""
    if not given.yes:
        why = f"<@{given.person}> said no{because}"
        await close(tx, react, run, approval, ApprovalState.REJECTED, why, now=now, actor=given.person)
        return f"You said no. Run {run.number} does not go on."
    so_far = [one for one in await votes(tx.session, approval.id) if one.yes]
    if len(so_far) >= approval.count:
        people = " and ".join(f"<@{one.person}>" for one in so_far)
        why = f"approved by {people}{because}"
        await close(tx, react, run, approval, ApprovalState.APPROVED, why, now=now, actor=given.person)
        return f"You said yes. Run {run.number} goes on."
    approval.revision += 1
    text = f"Run {run.number}: <@{given.person}> said yes ({len(so_far)} of {approval.count}){because}"
    about = {"approval": approval.id, "yes": True, "reason": given.reason, "digest": approval.digest}
    await runs.event(tx, react, run, "approval.given", text, now=now, actor=given.person, data=about, once=given.id)
    return f"You said yes; {approval.count - len(so_far)} more must."


async def close(
    tx: Tx,
    react: React,
    run: Run,
    approval: Approval,
    state: ApprovalState,
    why: str,
    *,
    now: datetime,
    actor: str = "bot",
) -> None:
    """The question is answered for good, and the run is carried on with: to its end, where it is not a yes."""
    approval.state, approval.told, approval.ended_at = state, why, now
    approval.revision += 1
    tx.session.add(approval)
    await tx.session.flush()
    about = {"approval": approval.id, "state": state, "digest": approval.digest, "why": why, "prompt": approval.prompt}
    text = f"Run {run.number}: {why}"
    await runs.event(tx, react, run, "approval.closed", text, now=now, actor=actor, data=about, once=approval.id)
    if run.state == RunState.WAITING:
        await runs.go_on(tx, react, run, now=now)


async def late(session: AsyncSession, now: datetime) -> bool:
    """Whether a question has waited too long."""
    query = sa.select(col(Approval.id)).where(
        col(Approval.state) == ApprovalState.ASKED, col(Approval.expires_at) <= now
    )
    return await session.scalar(query.limit(1)) is not None


async def expire(tx: Tx, react: React, *, now: datetime) -> int:
    """Answer every question that waited too long with no; how many there were."""
    late = sa.select(col(Approval.id)).where(
        col(Approval.state) == ApprovalState.ASKED, col(Approval.expires_at) <= now
    )
    closed = 0
    for approval_id in list(await tx.session.scalars(late.order_by(col(Approval.expires_at)).limit(50))):
        run = await runs.find(tx.session, (await find(tx.session, approval_id)).run_id, lock=True)
        approval = await find(tx.session, approval_id, lock=True)
        if approval.state == ApprovalState.ASKED:
            await close(tx, react, run, approval, ApprovalState.EXPIRED, expiry(approval), now=now)
            closed += 1
    return closed


def expiry(approval: Approval) -> str:
    """What is said of a question that nobody answered in time."""
    return f"nobody answered within {_given(approval)}, which is a no"


def _given(approval: Approval) -> str:
    return duration_text(approval.expires_at - approval.asked_at)


async def _may(
    session: AsyncSession, run: Run, approval: Approval, by: Person, groups: frozenset[str], *, yes: bool
) -> None:
    """Whether this person's answer counts. Whoever asked for the run may always say no."""
    before = {one.person: one for one in await votes(session, approval.id)}
    if by.id in before:
        raise UserError(f"You said {'yes' if before[by.id].yes else 'no'} already.")
    same = by.id == run.requested_by or bool(by.email and by.email.lower() == (run.requester_email or "").lower())
    if same and not yes:
        return
    if same and approval.not_requester:
        raise UserError("You asked for this run, so somebody else must say yes.")
    emails = {one.email.lower() for one in before.values() if one.email and one.yes}
    if yes and by.email and by.email.lower() in emails:
        raise UserError("Somebody with your e-mail address said yes already; another person must.")
    incident = await lifecycle.find(session, run.incident_id)
    held = await roles.held(session, incident.id)
    what = f"Run {run.number} may be approved"
    if why := access.refusal(approval.who, what, incident, by.id, held, groups):
        raise UserError(why)


def _names(allowed: Sequence[str]) -> str:
    return " or ".join(f"<@{one}>" if one[:1] in "UW" else one for one in allowed) or "nobody"
