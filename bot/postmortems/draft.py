"""Writes the post-mortem draft of an incident and keeps every revision of it."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine, Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Role, TimelineEvent
from bot.incidents.timeline import React
from bot.kit.db import Database
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id
from bot.postmortems.facts import Facts, gather
from bot.postmortems.model import Postmortem
from bot.postmortems.people import BOT
from bot.postmortems.render import render

# How often the telling is begun again because the timeline grew meanwhile; after that the next draft has the rest.
TRIES = 5


@dataclass(frozen=True)
class Told:
    """The draft of a timeline of *length* events."""

    facts: Facts
    text: str
    length: int


async def draft(
    engine: Engine, react: React, incident_id: str, *, now: datetime, template: str = "default"
) -> Postmortem:
    """The newest revision of the draft; a new one only if the timeline has more to say than the last one told.

    Raises PermanentError if there is no such incident, and what `render` raises.
    """
    # A storm of thousands of alerts takes a second to tell; nobody may be kept from writing meanwhile.
    for left in reversed(range(TRIES)):
        told = await _tell(engine.db, incident_id, template)
        async with engine.transaction() as tx:
            # Two drafts at once would take the same number; locked like this, the timeline can go on growing.
            locked = sa.select(col(Incident.id)).where(col(Incident.id) == incident_id).with_for_update(key_share=True)
            await tx.session.execute(locked)
            if left and await _length(tx.session, incident_id) != told.length:
                continue
            return await _keep(tx, react, incident_id, told, now=now, template=template)
    raise AssertionError("the last try keeps what it has")


async def _tell(db: Database, incident_id: str, template: str) -> Told:
    async with db.read() as session:
        # The events first: what is committed meanwhile is then in the rest, or missed and noticed by its length.
        events = await timeline.whole(session, incident_id)
        incident = await session.get(Incident, incident_id)
        if incident is None:
            raise PermanentError(f"there is no incident {incident_id!r} to write a post-mortem of")
        roles = (await session.scalars(sa.select(Role).where(col(Role.incident_id) == incident_id))).all()
    facts, text = await asyncio.to_thread(_written, incident, events, roles, template)
    return Told(facts, text, len(events))


async def _length(session: AsyncSession, incident_id: str) -> int:
    count = sa.select(sa.func.count()).where(col(TimelineEvent.incident_id) == incident_id)
    return int(await session.scalar(count) or 0)


async def _keep(tx: Tx, react: React, incident_id: str, told: Told, *, now: datetime, template: str) -> Postmortem:
    last = await newest(tx.session, incident_id)
    if last and last.text == told.text:
        return last
    revision = last.revision + 1 if last else 1
    document = Postmortem(
        id=derived_id("postmortem", incident_id, revision),
        incident_id=incident_id,
        revision=revision,
        template=template,
        facts=told.facts.as_json(),
        text=told.text,
        sha256=hashlib.sha256(told.text.encode()).hexdigest(),
        created_at=now,
    )
    tx.session.add(document)
    await tx.session.flush()
    await timeline.record(
        tx,
        react,
        incident_id,
        "postmortem.drafted",
        f"Post-mortem draft, revision {revision}, written from the timeline.",
        now=now,
        actor=BOT,
        data={"revision": revision},
        once=str(revision),
    )
    return document


def _written(
    incident: Incident, events: Sequence[TimelineEvent], roles: Sequence[Role], template: str
) -> tuple[Facts, str]:
    facts = gather(incident, events, roles)
    return facts, render(facts, template)


async def newest(session: AsyncSession, incident_id: str) -> Postmortem | None:
    """The revision with the highest number, or None before the first draft."""
    query = sa.select(Postmortem).where(col(Postmortem.incident_id) == incident_id)
    return await session.scalar(query.order_by(col(Postmortem.revision).desc()).limit(1))


async def stored(session: AsyncSession, incident_id: str, revision: int) -> Postmortem | None:
    """One revision, as it was written."""
    query = sa.select(Postmortem).where(
        col(Postmortem.incident_id) == incident_id, col(Postmortem.revision) == revision
    )
    return await session.scalar(query)
