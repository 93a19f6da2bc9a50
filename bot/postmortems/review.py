"""How a post-mortem comes to its end: draft, in review, completed, or waived; with an owner and a day."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine, Tx
from bot.incidents import lifecycle, roles, timeline
from bot.incidents.model import Incident, Kind, RoleName
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import UserError
from bot.kit.text import clean, clip, one_line
from bot.postmortems import merge
from bot.postmortems.model import Postmortem, Review, State
from bot.postmortems.people import BOT
from bot.postmortems.plan import Plan, working_day, working_days

OPEN = (State.DRAFT, State.IN_REVIEW)
WORDS = {State.DRAFT: "a draft", State.IN_REVIEW: "in review", State.COMPLETED: "completed", State.WAIVED: "waived"}
# Nobody is reminded after so many working days: by then people have decided, without saying so.
LONGEST = 20
MOST = 200
REASON = 500
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)|(?:in\s+)?(\d{1,3})\s?([dw])", re.IGNORECASE)


async def begin(tx: Tx, incident_id: str, plan: Plan, *, now: datetime) -> None:
    """There is a draft: from now on it has a state; once the incident is over, a day as well.

    Whoever leads owns it until somebody says otherwise.
    """
    incident = await lifecycle.find(tx.session, incident_id)
    connection = await tx.session.connection()
    row = {"incident_id": incident_id, "state": State.DRAFT, "reviewed": 0, "reason": "", "round": 1, "reminded": ""}
    insert = insert_for(connection, Review).values(**row, created_at=now)
    await connection.execute(insert.on_conflict_do_nothing(index_elements=["incident_id"]))
    review = await of(tx.session, incident_id)
    if review is None or review.state not in OPEN:
        return
    if review.owner is None:
        held = await roles.held(tx.session, incident_id)
        review.owner = next((role.person for role in held if role.name == RoleName.COMMANDER), None)
    if review.due is None and incident.resolved_at is not None and not incident.is_open:
        review.due = plan.due(incident.severity, incident.resolved_at) if incident.kind == Kind.STANDARD else None
    tx.session.add(review)
    await tx.session.flush()


async def of(session: AsyncSession, incident_id: str) -> Review | None:
    """How the post-mortem of an incident stands; None before the first draft."""
    return await session.get(Review, incident_id, populate_existing=True)


async def found(session: AsyncSession, incident: Incident) -> Review:
    """The same; UserError where there is none."""
    review = await of(session, incident.id)
    if review is None:
        raise UserError(f"{incident.reference} has no post-mortem yet; `/inc postmortem` writes the draft.")
    return review


@dataclass
class Change:
    """What a person does to the post-mortem of *incident*, which the caller has locked."""

    tx: Tx
    react: React
    incident: Incident
    by: str
    now: datetime

    async def own(self, person: str) -> None:
        """*person* brings it to its end."""
        review = await self._open()
        if review.owner == person:
            raise UserError(f"<@{person}> owns it already.")
        before, review.owner = review.owner, person
        text = f"<@{person}> owns the post-mortem of {self.incident.reference}"
        await self._keep(review, "owned", text, {"owner": person, "previous": before})

    async def plan(self, due: str) -> str:
        """It shall be done by *due*, as `day` reads it; returns the day."""
        review = await self._open()
        review.due = day(due, self.now.date()).isoformat()
        review.round += 1
        review.reminded = ""
        text = f"The post-mortem of {self.incident.reference} is due {review.due}"
        await self._keep(review, "planned", text, {"due": review.due})
        return review.due

    async def hand_in(self) -> None:
        """Others shall read it."""
        review, document = await self._open(), await self._document()
        if review.state == State.IN_REVIEW and review.reviewed == document.revision:
            return
        self._settled(document)
        review.state, review.reviewed = State.IN_REVIEW, document.revision
        text = f"The post-mortem of {self.incident.reference}, revision {document.revision}, is ready for review"
        await self._keep(review, "review_asked", text, {"revision": document.revision})

    async def send_back(self, reason: str) -> None:
        """Something is to be changed first."""
        review = await self._open()
        if review.state != State.IN_REVIEW:
            raise UserError("It is not in review. `/inc postmortem review` hands it in.")
        reason = _reason(reason, "Say what is to be changed.")
        review.state, review.reason = State.DRAFT, reason
        text = f"Changes are asked for in the post-mortem of {self.incident.reference}: {reason}"
        await self._keep(review, "review_returned", text, {"reason": reason, "revision": review.reviewed})

    async def complete(self, revision: int | None = None) -> None:
        """It is done. *revision* is the one that the person has seen: another one is not what they said yes to."""
        review, document = await self._open(), await self._document()
        if self.incident.is_open:
            raise UserError(f"{self.incident.reference} is still open; its post-mortem cannot be completed.")
        if review.state != State.IN_REVIEW:
            raise UserError("It is not in review yet. `/inc postmortem review` hands it in.")
        if revision is not None and revision != document.revision:
            raise UserError(
                f"There is a newer revision: you have seen {revision}, it is {document.revision} now. Open the review "
                "again with `/inc postmortem review`."
            )
        self._settled(document)
        review.state, review.reviewed = State.COMPLETED, document.revision
        review.decided_by, review.decided_at = self.by, self.now
        text = f"The post-mortem of {self.incident.reference} is completed with revision {document.revision}"
        await self._keep(review, "completed", text, {"revision": document.revision})

    async def waive(self, reason: str) -> None:
        """There will be none, for a reason."""
        review = await self._open()
        reason = _reason(reason, "Say why there is none: `/inc postmortem waive the same as INC-3`.")
        review.state, review.reason = State.WAIVED, reason
        review.decided_by, review.decided_at = self.by, self.now
        await self._keep(review, "waived", f"No post-mortem of {self.incident.reference}: {reason}", {"reason": reason})

    async def reopen(self) -> None:
        """It goes on after all."""
        review = await found(self.tx.session, self.incident)
        if review.state in OPEN:
            raise UserError(f"The post-mortem of {self.incident.reference} is {WORDS[State(review.state)]}, not over.")
        review.state, review.decided_by, review.decided_at = State.DRAFT, None, None
        review.round += 1
        review.reminded = ""
        await self._keep(review, "reopened", f"The post-mortem of {self.incident.reference} is a draft again", {})

    async def _open(self) -> Review:
        review = await found(self.tx.session, self.incident)
        if review.state not in OPEN:
            raise UserError(
                f"The post-mortem of {self.incident.reference} is {WORDS[State(review.state)]}. "
                "`/inc postmortem reopen` makes it a draft again."
            )
        return review

    async def _document(self) -> Postmortem:
        query = sa.select(Postmortem).where(col(Postmortem.incident_id) == self.incident.id)
        document = await self.tx.session.scalar(query.order_by(col(Postmortem.revision).desc()).limit(1))
        if document is None:
            raise UserError(f"{self.incident.reference} has no post-mortem yet; `/inc postmortem` writes the draft.")
        return document

    def _settled(self, document: Postmortem) -> None:
        if left := merge.conflicts(document.text):
            raise UserError(
                f"{left} conflict{'s' if left > 1 else ''} in it wait{'' if left > 1 else 's'} for a decision: keep "
                "one of the two texts between the markers, by `/inc postmortem edit` or in the file."
            )

    async def _keep(self, review: Review, what: str, text: str, data: dict[str, object]) -> None:
        self.tx.session.add(review)
        await self.tx.session.flush()
        await timeline.record(
            self.tx, self.react, self.incident.id, f"postmortem.{what}", text, now=self.now, actor=self.by, data=data
        )


def day(word: str, today: date) -> date:
    """`2026-12-01`, `5d` (working days) or `2w`; UserError on anything else."""
    hint = "Write `2026-12-01`, `5d` (working days) or `2w`."
    match = _DAY.fullmatch(word.strip())
    if match is None:
        raise UserError(f"That is no day. {hint}")
    try:
        if match[1]:
            wanted = date.fromisoformat(match[1])
        elif match[3].lower() == "w":
            wanted = today + timedelta(weeks=int(match[2]))
        else:
            wanted = working_day(today, int(match[2]))
    except (ValueError, OverflowError):
        raise UserError(f"That is no day. {hint}") from None
    if wanted < today:
        raise UserError(f"{wanted.isoformat()} is over already.")
    return wanted


def _reason(text: str, hint: str) -> str:
    reason = clip(one_line(clean(text)), REASON)
    if not reason:
        raise UserError(hint)
    return reason


def window(due: date, today: date) -> str | None:
    """Which reminder is due *today*: `soon` on the working day before, `today`, then `late-N` on each fifth working
    day after; None where nobody is to be reminded.
    """
    late = working_days(due, today)
    if late > LONGEST:
        return None
    if today > due:
        return f"late-{late // 5 * 5}" if late >= 5 else "late-0" if late else "today"
    if today == due:
        return "today"
    return "soon" if working_days(today, due) <= 1 else None


@dataclass
class Reminders:
    """The tick that reminds people of post-mortems; once for each window, whichever process ticks."""

    engine: Engine
    react: React
    clock: Clock

    async def tick(self) -> None:
        """Remind of everything whose window has begun."""
        now = self.clock()
        today = now.date()
        until = (today + timedelta(days=4)).isoformat()  # from Friday on, Monday is the next working day
        since = (today - timedelta(weeks=6)).isoformat()
        query = sa.select(Review).where(col(Review.state).in_(OPEN), col(Review.due).between(since, until))
        query = query.order_by(col(Review.due).desc()).limit(MOST)
        async with self.engine.db.read() as session:
            waiting = list(await session.scalars(query))
        for review in waiting:
            reached = window(date.fromisoformat(review.due), today) if review.due else None
            if reached is not None and reached != review.reminded:
                await self._remind(review.incident_id, reached, now)

    async def _remind(self, incident_id: str, reached: str, now: datetime) -> None:
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            review = await of(tx.session, incident_id)
            if review is None or review.state not in OPEN or review.due is None or review.reminded == reached:
                return
            review.reminded = reached
            tx.session.add(review)
            await tx.session.flush()
            await timeline.record(
                tx,
                self.react,
                incident_id,
                "postmortem.reminded",
                _reminder(incident, review, reached),
                now=now,
                actor=BOT,
                data={"window": reached, "due": review.due, "owner": review.owner, "state": review.state},
                once=f"{review.round}:{reached}",
            )


def _reminder(incident: Incident, review: Review, reached: str) -> str:
    when = {"soon": f"is due {review.due}", "today": "is due today"}.get(reached, f"was due {review.due}")
    whose = f"<@{review.owner}>" if review.owner else "nobody: `/inc postmortem owner @somebody`"
    return (
        f"The post-mortem of {incident.reference} {when} and is {WORDS[State(review.state)]}; it belongs to {whose}. "
        "`/inc postmortem status` shows what is missing."
    )
