"""Writes the post-mortem draft of an incident and keeps every revision of it."""

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Role, TimelineEvent
from bot.incidents.timeline import React
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id
from bot.postmortems.facts import Facts, gather
from bot.postmortems.model import Postmortem
from bot.postmortems.people import BOT
from bot.postmortems.render import render


async def draft(tx: Tx, react: React, incident_id: str, *, now: datetime, template: str = "default") -> Postmortem:
    """The newest revision of the draft; a new one only if the timeline has more to say than the last one told.

    Raises PermanentError if there is no such incident, and what `render` raises.
    """
    # Two drafts at once would take the same number; locking the row like this lets the timeline go on growing.
    locked = sa.select(Incident).where(col(Incident.id) == incident_id).with_for_update(key_share=True)
    incident = await tx.session.scalar(locked)
    if incident is None:
        raise PermanentError(f"there is no incident {incident_id!r} to write a post-mortem of")
    roles = await tx.session.scalars(sa.select(Role).where(col(Role.incident_id) == incident_id))
    events = await timeline.whole(tx.session, incident_id)
    # A storm of thousands of alerts takes a second to tell; people's clicks are answered meanwhile.
    facts, text = await asyncio.to_thread(_written, incident, events, roles.all(), template)
    last = await newest(tx.session, incident_id)
    if last and last.text == text:
        return last
    revision = last.revision + 1 if last else 1
    document = Postmortem(
        id=derived_id("postmortem", incident_id, revision),
        incident_id=incident_id,
        revision=revision,
        template=template,
        facts=facts.as_json(),
        text=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
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
