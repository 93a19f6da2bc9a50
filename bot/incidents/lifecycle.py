"""What may happen to an incident; each change leaves its line on the timeline."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlmodel import col

from bot.alerts.model import AlertRow, AlertState
from bot.engine import Tx
from bot.incidents import timeline
from bot.incidents.model import ACTIVE, LOGBOOK, Counter, Incident, Kind, Sev, Status
from bot.incidents.timeline import React
from bot.kit.errors import UserError
from bot.kit.ids import new_id
from bot.kit.text import clean, clip, one_line

# The operations log is a row among the incidents, and none of them.
_AN_INCIDENT = col(Incident.number) != LOGBOOK
# What a note is, said before it: an action goes into a runbook that is made from the incident.
_SAYS = re.compile(r"(note|finding|action|decision):\s*", re.IGNORECASE)


async def number(session: AsyncSession) -> int:
    """The next incident number. The row stays locked until the commit, so none is given twice."""
    taken = await session.execute(
        sa.update(Counter)
        .where(col(Counter.name) == "incident")
        .values(value=col(Counter.value) + 1)
        .returning(col(Counter.value))
    )
    return int(taken.scalar_one())


async def find(session: AsyncSession, incident_id: str, *, lock: bool = False) -> Incident:
    """The incident, locked against other writers if asked."""
    query = sa.select(Incident).where(col(Incident.id) == incident_id)
    if lock:
        # What others write meanwhile may still point at it; what this session saw before the lock does not stand.
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    found = await session.scalar(query)
    if found is None:
        raise UserError("This incident does not exist any more.")
    return found


async def by_number(session: AsyncSession, wanted: int) -> Incident:
    """The incident people call INC-*wanted*."""
    found = await session.scalar(sa.select(Incident).where(col(Incident.number) == wanted, _AN_INCIDENT))
    if found is None:
        raise UserError(f"There is no INC-{wanted}. `/inc list` shows the open ones.")
    return found


async def by_channel(session: AsyncSession, channel: str) -> Incident | None:
    """The incident that lives in this channel."""
    return await session.scalar(sa.select(Incident).where(col(Incident.channel) == channel, _AN_INCIDENT))


async def listed(session: AsyncSession, *, open_only: bool = True, limit: int = 50) -> list[Incident]:
    """Incidents, newest first."""
    query = sa.select(Incident).where(_AN_INCIDENT)
    if open_only:
        query = query.where(col(Incident.is_open).is_(True))
    return list(await session.scalars(query.order_by(col(Incident.number).desc()).limit(limit)))


async def declare(
    tx: Tx,
    react: React,
    *,
    title: str,
    severity: Sev,
    by: str,
    now: datetime,
    summary: str = "",
    private: bool = False,
    kind: Kind = Kind.STANDARD,
    service: str | None = None,
    incident_id: str | None = None,
) -> Incident:
    """A person says that there is an incident."""
    title = clip(one_line(clean(title)), 200)
    if not title:
        raise UserError("An incident needs a title: `/inc declare Checkout fails for card payments`")
    incident = Incident(
        id=incident_id or new_id(),
        number=await number(tx.session),
        title=title,
        summary=clean(summary)[:3000],
        severity=severity,
        status=Status.INVESTIGATING,
        kind=kind,
        private=private,
        service=service,
        declared_by=by,
        detected_at=now,
        opened_at=now,
    )
    tx.session.add(incident)
    await tx.session.flush()
    await timeline.record(
        tx,
        react,
        incident.id,
        "incident.opened",
        f"{incident.reference} declared by <@{by}>: {title}",
        now=now,
        actor=by,
        data={"severity": severity, "title": title, "service": service, "source": "person", "private": private},
        once="first",
    )
    return incident


async def accept(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime, text: str | None = None) -> None:
    """Yes, what the alert suggested is an incident."""
    if incident.status != Status.TRIAGE:
        raise UserError(f"{incident.reference} is already {_standing(incident)}.")
    incident.status = Status.INVESTIGATING
    incident.opened_at = now
    text = text or f"<@{by}> accepted {incident.reference}"
    await _changed(tx, react, incident, "incident.accepted", text, by=by, now=now)


async def decline(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime) -> None:
    """No, this is not an incident."""
    if incident.status != Status.TRIAGE:
        raise UserError(f"{incident.reference} is already {_standing(incident)}, so it cannot be declined.")
    incident.status = Status.DECLINED
    incident.is_open = False
    await _changed(tx, react, incident, "incident.declined", f"<@{by}> declined {incident.reference}", by=by, now=now)


async def set_severity(
    tx: Tx, react: React, incident: Incident, severity: Sev, *, by: str, now: datetime, reason: str = ""
) -> None:
    """It is worse, or less bad, than was thought."""
    if incident.severity == severity:
        raise UserError(f"{incident.reference} is {severity} already.")
    before, incident.severity = incident.severity, severity
    text = f"Severity {before} → {severity}" + (f": {reason}" if reason else "")
    data = {"from": before, "to": severity, "reason": reason}
    await _changed(tx, react, incident, "severity.changed", text, by=by, now=now, data=data)


async def set_status(tx: Tx, react: React, incident: Incident, status: Status, *, by: str, now: datetime) -> None:
    """How far the responders have come."""
    if incident.status not in ACTIVE:
        raise UserError(f"{incident.reference} is {_standing(incident)}. To go on with it: `/inc reopen`")
    if incident.status == status:
        raise UserError(f"{incident.reference} is {status} already.")
    before, incident.status = incident.status, status
    if status == Status.MONITORING and incident.mitigated_at is None:
        incident.mitigated_at = now
    data = {"from": before, "to": status}
    await _changed(tx, react, incident, "status.changed", f"Status {before} → {status}", by=by, now=now, data=data)


async def resolve(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime, note: str = "") -> None:
    """It is over: the service works again."""
    if not incident.is_open:
        raise UserError(f"{incident.reference} is {_standing(incident)} already.")
    incident.status = Status.DOCUMENTING
    incident.is_open = False
    incident.resolved_at = now
    if incident.mitigated_at is None:
        incident.mitigated_at = now
    note = clean(note)[:2000]
    text = "Resolved" + (f": {note}" if note else "")
    await _changed(tx, react, incident, "incident.resolved", text, by=by, now=now, data={"note": note})


async def reopen(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime, reason: str = "") -> None:
    """It is not over after all."""
    if incident.is_open:
        raise UserError(f"{incident.reference} is open already ({incident.status}).")
    if incident.group_key and await _taken(tx.session, incident):
        # The alerts went on to another incident; two open ones for the same group would share every later alert.
        incident.group_key = None
    incident.status = Status.INVESTIGATING
    incident.is_open = True
    incident.resolved_at = None
    incident.mitigated_at = None
    reason = clean(reason)[:2000]
    text = "Reopened" + (f": {reason}" if reason else "")
    await _changed(tx, react, incident, "incident.reopened", text, by=by, now=now, data={"reason": reason})


async def note(
    tx: Tx, react: React, incident: Incident, text: str, *, by: str, now: datetime, at: datetime | None = None
) -> str:
    """Somebody writes down what they see or do; what kind of note it is. A first word such as `action:` says it."""
    text = clean(text).strip()[:3000]
    kind = "note"
    if said := _SAYS.match(text):
        kind, text = said[1].lower(), text[said.end() :]
    if not text:
        raise UserError("What shall the note say? `/inc note action: Rolled back the 14:00 deployment`")
    await timeline.record(tx, react, incident.id, "note.added", text, now=now, at=at, actor=by, data={"kind": kind})
    return kind


async def request_draft(
    tx: Tx, react: React, incident: Incident, *, by: str, now: datetime, once: str, template: str | None = None
) -> None:
    """Somebody wants the post-mortem draft, now."""
    text = f"Post-mortem draft of {incident.reference} requested"
    data = {"template": template} if template else None
    await timeline.record(tx, react, incident.id, "postmortem.requested", text, now=now, actor=by, data=data, once=once)


async def keep_open(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime) -> None:
    """The alerts are gone, the incident is not."""
    text = f"<@{by}> keeps {incident.reference} open although its alerts have resolved"
    await timeline.record(tx, react, incident.id, "note.added", text, now=now, actor=by, data={"kind": "decision"})


async def retry_parts(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime) -> None:
    """Try again what could not be set up."""
    text = f"<@{by}> tries again what could not be set up"
    await timeline.record(tx, react, incident.id, "part.retried", text, now=now, actor=by)


async def alerts(session: AsyncSession, incident_id: str, *, limit: int = 100) -> list[AlertRow]:
    """The alerts of an incident, firing ones first, newest first."""
    firing = sa.case((col(AlertRow.state) == AlertState.FIRING, 0), else_=1)
    query = sa.select(AlertRow).where(col(AlertRow.incident_id) == incident_id)
    return list(await session.scalars(query.order_by(firing, col(AlertRow.starts_at).desc()).limit(limit)))


async def count(session: AsyncSession, incident_id: str, state: AlertState) -> int:
    """How many alerts of an incident are in *state*."""
    query = sa.select(sa.func.count()).select_from(AlertRow)
    query = query.where(col(AlertRow.incident_id) == incident_id, col(AlertRow.state) == state)
    return int(await session.scalar(query) or 0)


def without_firing(connection: sa.Connection, ids: Sequence[str]) -> list[tuple[str, int]]:
    """Those of the incidents *ids* that are open and have no firing alert, and how many of their alerts are silent."""
    mine = col(AlertRow.incident_id) == col(Incident.id)
    silent = sa.select(sa.func.count()).where(mine, col(AlertRow.state) == str(AlertState.STALE)).scalar_subquery()
    found = connection.execute(
        sa.select(col(Incident.id), silent)
        .where(
            col(Incident.id).in_(ids),
            col(Incident.is_open).is_(True),
            ~sa.exists().where(mine, col(AlertRow.state) == str(AlertState.FIRING)),
        )
        .order_by(col(Incident.id))
    )
    return [(incident_id, int(count)) for incident_id, count in found]


async def still_open(connection: AsyncConnection, incidents: Sequence[str]) -> set[str]:
    """Those of *incidents* that are open."""
    found: set[str] = set()
    for start in range(0, len(incidents), 400):
        some = col(Incident.id).in_(incidents[start : start + 400])
        rows = await connection.execute(sa.select(col(Incident.id)).where(some, col(Incident.is_open).is_(True)))
        found.update(rows.scalars())
    return found


def quiet_text(silent: int) -> str:
    """What the timeline says when nothing fires any more, and not every alert was said to have resolved."""
    return f"No alert of this incident fires any more; of {silent} nothing was heard for long, not even the end"


async def counted(session: AsyncSession, incident_id: str) -> int:
    """How many alerts an incident has."""
    query = sa.select(sa.func.count()).select_from(AlertRow).where(col(AlertRow.incident_id) == incident_id)
    return int(await session.scalar(query) or 0)


async def _changed(
    tx: Tx,
    react: React,
    incident: Incident,
    kind: str,
    text: str,
    *,
    by: str,
    now: datetime,
    data: dict[str, Any] | None = None,
) -> None:
    tx.session.add(incident)
    await tx.session.flush()
    await timeline.touch(tx.session, incident.id)
    await timeline.record(tx, react, incident.id, kind, text, now=now, actor=by, data=data)


async def _taken(session: AsyncSession, incident: Incident) -> bool:
    query = sa.select(col(Incident.id)).where(
        col(Incident.group_key) == incident.group_key, col(Incident.is_open).is_(True), col(Incident.id) != incident.id
    )
    return await session.scalar(query) is not None


def _standing(incident: Incident) -> str:
    return "resolved" if incident.resolved_at and not incident.is_open else incident.status
