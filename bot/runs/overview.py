"""The runs of an incident, and the questions they ask, as lists of them show them."""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.incidents.chat import Card
from bot.incidents.model import Part, TimelineEvent
from bot.runs.model import Approval, ApprovalState, Run

# What somebody who comes late wants to know of what happened.
TOLD = (
    *("incident.opened", "incident.accepted", "incident.resolved", "incident.reopened", "severity.changed"),
    *("status.changed", "role.assigned", "note.added", "page.sent", "page.failed", "page.nobody", "alerts.cleared"),
    *("page.delayed", "page.acknowledged", "page.unanswered", "page.escalated", "page.resolved"),
    *("run.ended", "run.glass_broken", "run.answered", "approval.closed", "work.parked"),
)


@dataclass(frozen=True)
class Listed:
    """A run and where its message stands, if there is one."""

    run: Run
    ts: str | None = None

    @property
    def name(self) -> str:
        """What people call its runbook."""
        return str(self.run.definition.get("name") or self.run.runbook)


@dataclass(frozen=True)
class Waiting:
    """A question that nobody has answered yet, and where it stands."""

    approval: Approval
    number: int
    ts: str | None = None


@dataclass(frozen=True)
class CatchUp:
    """What somebody who comes late is shown."""

    card: Card
    runs: Sequence[Listed] = ()
    questions: Sequence[Waiting] = ()
    events: Sequence[TimelineEvent] = ()


async def listed(session: AsyncSession, incident_id: str, *, limit: int = 30) -> list[Listed]:
    """The runs of an incident, newest first."""
    message = sa.and_(col(Part.incident_id) == col(Run.incident_id), col(Part.name) == "run:" + col(Run.id))
    query = sa.select(Run, Part).outerjoin(Part, message).where(col(Run.incident_id) == incident_id)
    found = await session.execute(query.order_by(col(Run.number).desc()).limit(limit))
    return [Listed(run, _ts(part)) for run, part in found]


async def questions(session: AsyncSession, incident_id: str) -> list[Waiting]:
    """The open questions of an incident's runs, the most pressing first."""
    message = sa.and_(
        col(Part.incident_id) == col(Approval.incident_id), col(Part.name) == "approval:" + col(Approval.id)
    )
    query = (
        sa.select(Approval, col(Run.number), Part)
        .join(Run, col(Run.id) == col(Approval.run_id))
        .outerjoin(Part, message)
        .where(col(Approval.incident_id) == incident_id, col(Approval.state) == ApprovalState.ASKED)
    )
    found = await session.execute(query.order_by(col(Approval.expires_at)))
    return [Waiting(approval, number, _ts(part)) for approval, number, part in found]


async def lately(session: AsyncSession, incident_id: str, *, limit: int = 12) -> list[TimelineEvent]:
    """The last things on the timeline that somebody who comes late should know, oldest first."""
    query = sa.select(TimelineEvent).where(
        col(TimelineEvent.incident_id) == incident_id, col(TimelineEvent.kind).in_(TOLD)
    )
    order = (col(TimelineEvent.at).desc(), col(TimelineEvent.recorded_at).desc(), col(TimelineEvent.id).desc())
    return list(reversed(list(await session.scalars(query.order_by(*order).limit(limit)))))


def _ts(part: Part | None) -> str | None:
    return str(part.result["ts"]) if part is not None and part.result.get("ts") else None
