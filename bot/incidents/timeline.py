"""The timeline: everything that happened, in order, never changed afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx, Work
from bot.incidents.model import Incident, TimelineEvent
from bot.kit.db import insert_for
from bot.kit.ids import derived_id, new_id
from bot.kit.text import clean

# What follows from an event: given by app.build() from bot/reactions.py, which lies above this module.
React = Callable[[TimelineEvent], Sequence[Work]]


@dataclass(frozen=True)
class Cursor:
    """A place on a timeline: the event after which a page starts."""

    at: datetime
    recorded_at: datetime
    id: str


async def record(
    tx: Tx,
    react: React,
    incident_id: str,
    kind: str,
    text: str,
    *,
    now: datetime,
    at: datetime | None = None,
    actor: str | None = None,
    data: dict[str, Any] | None = None,
    corrects: str | None = None,
    once: str | None = None,
) -> TimelineEvent | None:
    """Add one event, and promise what follows from it, in the caller's transaction.

    `at` is when it happened (default *now*), `actor` a Slack user id or ``bot``. With `once`, the same incident,
    kind and `once` are recorded a single time; a repeat returns None and nothing follows.
    """
    event = TimelineEvent(
        id=derived_id("timeline", incident_id, kind, once) if once else new_id(),
        incident_id=incident_id,
        kind=kind,
        text=clean(text),
        at=at or now,
        recorded_at=tx.moment(now),
        actor=actor,
        data=data or {},
        corrects=corrects,
    )
    connection = await tx.session.connection()
    values = event.model_dump()
    statement = insert_for(connection, TimelineEvent).values(**values).on_conflict_do_nothing(index_elements=["id"])
    # Not rowcount: it is -1 for this statement on Postgres.
    if (await connection.execute(statement.returning(col(TimelineEvent.id)))).scalar_one_or_none() is None:
        return None
    tx.enqueue(*react(event))
    return event


async def page(
    session: AsyncSession, incident_id: str, *, after: Cursor | None = None, limit: int = 50
) -> list[TimelineEvent]:
    """The next *limit* events after *after*, in timeline order: event time, then record time, then id."""
    place = sa.tuple_(col(TimelineEvent.at), col(TimelineEvent.recorded_at), col(TimelineEvent.id))
    query = sa.select(TimelineEvent).where(col(TimelineEvent.incident_id) == incident_id)
    if after:
        query = query.where(
            place
            > sa.tuple_(
                sa.literal(after.at, TimelineEvent.__table__.c.at.type),  # type: ignore[attr-defined]
                sa.literal(after.recorded_at, TimelineEvent.__table__.c.at.type),  # type: ignore[attr-defined]
                sa.literal(after.id),
            )
        )
    query = query.order_by(col(TimelineEvent.at), col(TimelineEvent.recorded_at), col(TimelineEvent.id)).limit(limit)
    return list((await session.scalars(query)).all())


def cursor(event: TimelineEvent) -> Cursor:
    """The place right after *event*."""
    return Cursor(event.at, event.recorded_at, event.id)


async def whole(session: AsyncSession, incident_id: str) -> list[TimelineEvent]:
    """All events of an incident, in order, page by page."""
    events: list[TimelineEvent] = []
    after = None
    while found := await page(session, incident_id, after=after, limit=500):
        events += found
        after = cursor(found[-1])
    return events


async def correct(tx: Tx, react: React, event: TimelineEvent, text: str, *, by: str, now: datetime) -> None:
    """Say what *event* should have said; the old row stays as it is."""
    await record(
        tx,
        react,
        event.incident_id,
        event.kind,
        text,
        now=now,
        at=event.at,
        actor=by,
        data=event.data,
        corrects=event.id,
    )


async def touch(session: AsyncSession, incident_id: str) -> int:
    """Mark the card and the announcement of an incident as stale; the number is the new revision."""
    changed = await session.execute(
        sa.update(Incident)
        .where(col(Incident.id) == incident_id)
        .values(revision=col(Incident.revision) + 1)
        .returning(col(Incident.revision))
    )
    return int(changed.scalar_one())
