"""Writes the post-mortem draft of an incident and keeps every revision of it, those of people among them."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine, Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Role, TimelineEvent
from bot.incidents.timeline import React
from bot.kit.db import Database
from bot.kit.errors import PermanentError, UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean
from bot.postmortems import merge, review
from bot.postmortems.facts import Facts, gather
from bot.postmortems.model import Origin, Postmortem
from bot.postmortems.people import BOT
from bot.postmortems.plan import Plan
from bot.postmortems.render import LIMIT, render

# How often the telling is begun again because the timeline grew meanwhile; after that the next draft has the rest.
TRIES = 5


@dataclass(frozen=True)
class Told:
    """The draft of a timeline of *length* events, after *last*."""

    facts: Facts
    text: str
    template: str
    length: int
    last: Postmortem | None


async def draft(
    engine: Engine,
    react: React,
    incident_id: str,
    *,
    now: datetime,
    plan: Plan | None = None,
    template: str | None = None,
) -> Postmortem:
    """The newest revision; a new one only if the timeline has more to say than the last one told.

    What people wrote into the last one stays. Raises PermanentError if there is no such incident, UserError if another
    template is asked for than the one that people have edited, and what `render` raises.
    """
    plan = plan or Plan()
    # A storm of thousands of alerts takes a second to tell; nobody may be kept from writing meanwhile.
    for left in reversed(range(TRIES)):
        told = await _tell(engine.db, incident_id, plan, template)
        # Joining takes its time as well, and whoever writes meanwhile is noticed by the number of the revision.
        merged = await asyncio.to_thread(_merged, told)
        async with engine.transaction() as tx:
            await _alone(tx, incident_id)
            last = await newest(tx.session, incident_id)
            if (last.revision if last else 0) != (told.last.revision if told.last else 0):
                if left:
                    continue
                told = Told(told.facts, told.text, told.template, told.length, last)
                merged = _merged(told)
            if left and await _length(tx.session, incident_id) != told.length:
                continue
            if last is None or last.base != told.text:
                last = await _keep(tx, react, incident_id, told, merged, now=now)
            await review.begin(tx, incident_id, plan, now=now)
            return last
    raise AssertionError("the last try keeps what it has")


async def revise(
    tx: Tx, react: React, incident: Incident, edit: "Edit", *, by: str, now: datetime, actor: str | None = None
) -> tuple[Postmortem, int]:
    """A new revision from what *by* made of an older one, and how many conflicts that makes with what came after it.

    The newest revision, where nothing changed. Raises UserError on a text that is none, or too long.
    """
    await _alone(tx, incident.id)
    last = await newest(tx.session, incident.id)
    if last is None:
        raise UserError(f"{incident.reference} has no post-mortem yet; `/inc postmortem` writes the draft.")
    base = last if edit.revision is None else await stored(tx.session, incident.id, edit.revision)
    if base is None:
        told = f"the newest is {last.revision}"
        raise UserError(f"{incident.reference} has no revision {edit.revision} of its post-mortem; {told}.")
    text = _tidy(edit.text)
    merged = await asyncio.to_thread(merge.merge, base.text, text, last.text)
    if merged.text == last.text:
        return last, 0
    document = _row(incident.id, last, merged.text, last.base, last.facts, last.template, by, edit.origin, now)
    tx.session.add(document)
    await tx.session.flush()
    what = f"section {edit.section}" if edit.section else "from a file"
    who = f"<@{by}>" if actor else by
    await timeline.record(
        tx,
        react,
        incident.id,
        "postmortem.edited",
        f"Post-mortem of {incident.reference}, revision {document.revision}: edited by {who} ({what})"
        + _warned(merged.conflicts),
        now=now,
        actor=actor,
        data={"revision": document.revision, "origin": edit.origin, "section": edit.section, "by": by}
        | ({"conflicts": merged.conflicts} if merged.conflicts else {}),
        once=str(document.revision),
    )
    return document, merged.conflicts


@dataclass(frozen=True)
class Edit:
    """What somebody wrote, and the revision that they had before them; None is the newest."""

    text: str
    origin: Origin
    revision: int | None = None
    section: str = ""


async def _alone(tx: Tx, incident_id: str) -> None:
    # Two drafts at once would take the same number; locked like this, the timeline can go on growing.
    locked = sa.select(col(Incident.id)).where(col(Incident.id) == incident_id).with_for_update(key_share=True)
    await tx.session.execute(locked)


async def _tell(db: Database, incident_id: str, plan: Plan, template: str | None) -> Told:
    async with db.read() as session:
        # The events first: what is committed meanwhile is then in the rest, or missed and noticed by its length.
        events = await timeline.whole(session, incident_id)
        incident = await session.get(Incident, incident_id)
        if incident is None:
            raise PermanentError(f"there is no incident {incident_id!r} to write a post-mortem of")
        roles = (await session.scalars(sa.select(Role).where(col(Role.incident_id) == incident_id))).all()
        last = await newest(session, incident_id)
    chosen = plan.kept(last.template) if last else plan.template(incident.severity)
    if template is not None and template != chosen:
        if last is not None and last.generated:
            raise UserError(
                f"People have edited the post-mortem of {incident.reference}, so it stays with the template {chosen!r}."
            )
        chosen = template
    facts, text = await asyncio.to_thread(_written, incident, events, roles, chosen, plan)
    return Told(facts, text, chosen, len(events), last)


async def _length(session: AsyncSession, incident_id: str) -> int:
    count = sa.select(sa.func.count()).where(col(TimelineEvent.incident_id) == incident_id)
    return int(await session.scalar(count) or 0)


def _merged(told: Told) -> merge.Merged:
    if told.last is None:
        return merge.Merged(told.text, 0)
    return merge.merge(told.last.base, told.last.text, told.text)


async def _keep(
    tx: Tx, react: React, incident_id: str, told: Told, merged: merge.Merged, *, now: datetime
) -> Postmortem:
    document = _row(
        incident_id, told.last, merged.text, told.text, told.facts.as_json(), told.template, BOT, Origin.TIMELINE, now
    )
    tx.session.add(document)
    await tx.session.flush()
    edited = ", with what people wrote" if document.generated else ""
    await timeline.record(
        tx,
        react,
        incident_id,
        "postmortem.drafted",
        f"Post-mortem draft, revision {document.revision}, written from the timeline{edited}."
        + _warned(merged.conflicts),
        now=now,
        actor=BOT,
        data={"revision": document.revision} | ({"conflicts": merged.conflicts} if merged.conflicts else {}),
        once=str(document.revision),
    )
    return document


def _row(
    incident_id: str,
    last: Postmortem | None,
    text: str,
    generated: str,
    facts: dict[str, Any],
    template: str,
    author: str,
    origin: Origin,
    now: datetime,
) -> Postmortem:
    revision = last.revision + 1 if last else 1
    return Postmortem(
        id=derived_id("postmortem", incident_id, revision),
        incident_id=incident_id,
        revision=revision,
        template=template,
        facts=facts,
        text=text,
        generated="" if generated == text else generated,
        author=author,
        origin=origin,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        created_at=now,
    )


def _warned(conflicts: int) -> str:
    if not conflicts:
        return ""
    many = "1 conflict is" if conflicts == 1 else f"{conflicts} conflicts are"
    return f" {many} marked in it: both texts stand there, and a person decides which one stays."


def _tidy(text: str) -> str:
    """Ends of lines as everywhere, nothing that cannot be seen; UserError on what is no document."""
    text = "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n")).rstrip() + "\n"
    if not text.strip():
        raise UserError("There is no text in it, so nothing was changed.")
    if len(text) > LIMIT:
        raise UserError(f"A post-mortem may have at most {LIMIT // 1_000_000} million characters.")
    return text


def _written(
    incident: Incident, events: Sequence[TimelineEvent], roles: Sequence[Role], template: str, plan: Plan
) -> tuple[Facts, str]:
    facts = gather(incident, events, roles)
    return facts, render(facts, template, plan.folder)


async def newest(session: AsyncSession, incident_id: str) -> Postmortem | None:
    """The revision with the highest number, or None before the first draft."""
    query = sa.select(Postmortem).where(col(Postmortem.incident_id) == incident_id)
    return await session.scalar(query.order_by(col(Postmortem.revision).desc()).limit(1))


async def listed(session: AsyncSession, incident_id: str) -> list[Postmortem]:
    """Every revision, oldest first."""
    query = sa.select(Postmortem).where(col(Postmortem.incident_id) == incident_id)
    return list(await session.scalars(query.order_by(col(Postmortem.revision))))


async def facts(session: AsyncSession, incident: Incident) -> Facts:
    """What the timeline says now; nothing is stored."""
    events = await timeline.whole(session, incident.id)
    roles = (await session.scalars(sa.select(Role).where(col(Role.incident_id) == incident.id))).all()
    return await asyncio.to_thread(gather, incident, events, roles)


async def stored(session: AsyncSession, incident_id: str, revision: int) -> Postmortem | None:
    """One revision, as it was written."""
    query = sa.select(Postmortem).where(
        col(Postmortem.incident_id) == incident_id, col(Postmortem.revision) == revision
    )
    return await session.scalar(query)
