"""Tickets of an incident: wanted by rule or by a person, opened once, and kept in step in both directions.

Nothing here follows the order in which things were said. What counts is how each side stands when it is looked at:
our rows say what was last agreed on (`phase`, `status`, `done`), so a change of our own that comes back is no change,
and a webhook is only a knock at the door. Who has the last word on which field is in `bot/catalog/tracking.py`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.catalog.tracking import Phase, Rule, Tracking
from bot.engine import LINES, Engine, Tx, Work
from bot.incidents import lifecycle, tasks, timeline
from bot.incidents.model import (
    ACTIVE,
    LOGBOOK,
    Incident,
    Status,
    Task,
    TaskKind,
    TaskState,
    Ticket,
    TicketState,
    TimelineEvent,
    TrackerWord,
)
from bot.incidents.timeline import React
from bot.incidents.tracker import Changes, Gone, Heard, Issue, Move, Purpose, Tracker, Wish
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError, UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean, clip, one_line

log = structlog.get_logger()

BOT = "bot"
# What of an incident is written below its ticket, as it happens.
TOLD = ("severity.changed", "incident.resolved", "incident.reopened")
OVER: tuple[Phase, ...] = ("resolved", "canceled")
PRIVATE = "A private incident"


def phase(status: str) -> Phase:
    """How an incident of that status stands, in the words of trackers.yaml."""
    if status in (Status.DECLINED, Status.CANCELED, Status.MERGED):
        return "canceled"
    words: Mapping[str, Phase] = {word: word for word in get_args(Phase)}
    return words.get(status, "resolved")


def met(rule: Rule, incident: Incident) -> bool:
    """Whether *incident* gets a ticket by *rule*."""
    return (
        incident.status != Status.TRIAGE
        and incident.is_open
        and incident.number != LOGBOOK
        and (not rule.severity or incident.severity in rule.severity)
        and (not rule.service or incident.service in rule.service)
        and (not rule.kind or incident.kind in rule.kind)
        and (rule.private or not incident.private)
    )


# -- rows -------------------------------------------------------------------------------------------------------------


async def of(session: AsyncSession, incident_id: str) -> list[Ticket]:
    """The tickets of an incident, oldest first."""
    query = sa.select(Ticket).where(col(Ticket.incident_id) == incident_id)
    return list(await session.scalars(query.order_by(col(Ticket.created_at), col(Ticket.id))))


async def want(
    tx: Tx,
    incident: Incident,
    tracker: str,
    key: str,
    *,
    now: datetime,
    by: str = BOT,
    purpose: Purpose = "incident",
    task: Task | None = None,
    asked: str | None = None,
    title: str = "",
    body: str = "",
    severity: str = "",
) -> bool:
    """There should be a ticket; False if it is wanted already. One that failed is tried again."""
    row = derived_id("ticket", tracker, key, asked or "")
    there = await tx.session.get(Ticket, row, with_for_update=True, populate_existing=True)
    if there is not None and there.state in (TicketState.WANTED, TicketState.MADE):
        return False
    if there is None:
        there = Ticket(
            id=row,
            incident_id=incident.id,
            tracker=tracker,
            purpose=purpose,
            key=key,
            title=title,
            body=body,
            severity=severity,
            task_id=None if task is None else task.id,
            asked=asked,
            wanted_by=by,
            revision=0,
            created_at=now,
            changed_at=now,
        )
    there.state, there.error = TicketState.WANTED, None
    await promise(tx, there)
    return True


async def promise(tx: Tx, ticket: Ticket) -> None:
    """Have *ticket* brought up to date; one that waits to be already will do."""
    ticket.revision += 1
    tx.session.add(ticket)
    await tx.session.flush()
    tx.enqueue(work(ticket))


def work(ticket: Ticket) -> Work:
    """One ticket at a time, whichever direction."""
    id_, line = f"ticket:{ticket.id}:{ticket.revision}", f"ticket:{ticket.id}"
    return Work("ticket", id_, (ticket.id,), queue=LINES, partition=line, merges=True)


def incident_key(tracking: Tracking, incident: Incident) -> str:
    """What the ticket of an incident is found again by."""
    return f"{tracking.file.prefix}-{incident.reference}"


def task_key(tracking: Tracking, incident: Incident, task: Task) -> str:
    """What the ticket of a follow-up is found again by."""
    return f"{incident_key(tracking, incident)}-{task.label}"


async def export(tx: Tx, tracking: Tracking, incident: Incident, task: Task, *, by: str, now: datetime) -> bool:
    """A follow-up goes to the tracker for follow-ups; False if it is there already."""
    if tracking.file.followups is None:
        raise UserError("There is no tracker for follow-ups; trackers.yaml names one with `followups: {tracker: …}`.")
    key = task_key(tracking, incident, task)
    return await want(tx, incident, tracking.file.followups.tracker, key, now=now, by=by, purpose="followup", task=task)


async def export_all(tx: Tx, tracking: Tracking, incident: Incident, *, by: str, now: datetime) -> int:
    """Every open follow-up that is not there yet; how many."""
    count = 0
    for task in await tasks.listed(tx.session, incident.id, TaskKind.FOLLOWUP):
        if task.state == TaskState.OPEN:
            count += await export(tx, tracking, incident, task, by=by, now=now)
    return count


async def keep(tx: Tx, tracker: str, heard: Heard, body_hash: str, *, now: datetime) -> str | None:
    """Write down what a webhook says, and promise to look; what became of it: None if no ticket of ours is meant."""
    mine = (col(Ticket.tracker) == tracker, col(Ticket.remote_id) == clean(heard.id))
    query = sa.select(Ticket).where(*mine)
    found = list(await tx.session.scalars(query.order_by(col(Ticket.created_at))))
    if not found:
        return None
    connection = await tx.session.connection()
    outcome = "repeat"
    for ticket in found:
        row = {
            "id": derived_id("word", tracker, ticket.id, clean(heard.delivery or "") or body_hash),
            "tracker": tracker,
            "ticket_id": ticket.id,
            "what": clip(one_line(clean(heard.what)), 100),
            "by": clip(one_line(clean(heard.by)), 100),
            "received_at": now,
        }
        insert = insert_for(connection, TrackerWord).values(**row).on_conflict_do_nothing(index_elements=["id"])
        if (await connection.execute(insert.returning(col(TrackerWord.id)))).scalar_one_or_none() is not None:
            line = f"ticket:{ticket.id}"
            tx.enqueue(Work("ticket_heard", f"ticket_heard:{row['id']}", (row["id"],), queue=LINES, partition=line))
            outcome = "stored"
    return outcome


# -- work -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heed:
    """What our side did because of a change there; *words* say it after the change, or why nothing was done."""

    words: str = ""
    followed: bool = False


@dataclass
class Tickets:
    """The workflows `tickets`, `ticket`, `ticket_heard` and `followups`. *names* says what people are called."""

    engine: Engine
    react: React
    clock: Clock
    tracking: Tracking
    trackers: Mapping[str, Tracker]
    public_url: str | None = None
    names: Callable[[str], str] = str

    async def consider(self, incident_id: str) -> None:
        """Something happened to an incident: tickets that it should have by now, and those it has."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            key = incident_key(self.tracking, incident)
            there = await of(tx.session, incident_id)
            for name in dict.fromkeys(rule.tracker for rule in self.tracking.file.tickets if met(rule, incident)):
                if not any(one.tracker == name and one.purpose == "incident" for one in there):
                    await want(tx, incident, name, key, now=now)
            for ticket in there:
                if ticket.purpose == "change":
                    continue  # it follows its run, not the incident
                if ticket.tracker in self.trackers and ticket.state == TicketState.MADE:
                    await promise(tx, ticket)

    async def followups(self, incident_id: str) -> None:
        """The post-mortem is being written: follow-ups go where they are worked on."""
        if self.tracking.file.followups is None or self.tracking.file.followups.at != "postmortem":
            return
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            await export_all(tx, self.tracking, incident, by=BOT, now=self.clock())

    async def settle(self, ticket_id: str) -> None:
        """Bring a ticket to where it should be: opened, moved, spoken to. Doing it again changes nothing."""
        ticket = await self._ticket(ticket_id)
        tracker = self.trackers.get(ticket.tracker)
        structlog.contextvars.bind_contextvars(ticket=ticket_id, incident=ticket.incident_id)
        if tracker is None:
            await self._fail(ticket, f"trackers.yaml has no tracker {ticket.tracker!r} any more")
            return
        try:
            if ticket.purpose == "change":
                await self._concluded(ticket, tracker)
                return
            if ticket.state == TicketState.WANTED:
                ticket = await self._opened(ticket, tracker)
            if ticket.state == TicketState.MADE:
                await self._follow(ticket, tracker)
        except Gone as error:
            await self._fail(ticket, str(error), TicketState.GONE if ticket.remote_id else TicketState.FAILED)
        except PermanentError as error:
            await self._fail(ticket, str(error))

    async def hear(self, word_id: str) -> None:
        """Somebody did something there: look how the ticket stands, and follow where it has the last word."""
        async with self.engine.db.read() as session:
            word = await session.get(TrackerWord, word_id)
        if word is None:
            return
        ticket = await self._ticket(word.ticket_id)
        tracker = self.trackers.get(ticket.tracker)
        structlog.contextvars.bind_contextvars(ticket=ticket.id, incident=ticket.incident_id)
        if tracker is None or ticket.remote_id is None or ticket.state == TicketState.GONE:
            return
        if ticket.purpose == "change":
            return  # its run looks by itself
        try:
            issue = _tidy(await tracker.read(ticket.remote_id))
        except Gone as error:
            await self._fail(ticket, str(error), TicketState.GONE)
            return
        except PermanentError as error:
            await self._fail(ticket, str(error))
            return
        await self._taken(ticket, issue, word.by)

    async def give_up(self, tx: Tx, ticket_id: str, why: str) -> None:
        """Trying for hours did not help."""
        ticket = await tx.session.get(Ticket, ticket_id)
        if ticket is not None:
            await self._failed(tx, ticket, why, TicketState.FAILED if ticket.remote_id is None else None)

    # -- towards the tracker --------------------------------------------------------------------------------------

    async def _opened(self, ticket: Ticket, tracker: Tracker) -> Ticket:
        """It is there now, opened or found."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, ticket.incident_id)
            task = None if ticket.task_id is None else await tasks.find(session, ticket.task_id)
        await self.engine.still_mine()
        if ticket.asked is not None:
            issue = _tidy(await tracker.find(ticket.asked))
        else:
            issue = _tidy(await tracker.create(self._wish(ticket, incident, task)))
        now = self.clock()
        async with self.engine.transaction() as tx:
            row = await self._locked(tx, ticket.id)
            _seen(row, issue, now=now)
            row.state, row.error = TicketState.MADE, None
            if row.purpose != "finding":
                row.severity = incident.severity
            if row.asked is not None:  # it is brought nowhere by being linked
                row.phase = phase(incident.status)
            else:  # where it stands is where both begin; what differs here is brought there next
                row.phase = "resolved" if issue.done else "investigating"
            tx.session.add(row)
            await tx.session.flush()
            kind = "ticket.opened" if row.asked is None else "ticket.linked"
            said = {"followup": f" for {task.label}" if task else "", "finding": f": {clip(row.title, 200)}"}
            verb = "opened" if row.asked is None else "linked"
            text = f"Ticket {issue.reference} {verb} in {row.tracker}{said.get(row.purpose, '')}"
            more = {"task": row.task_id} if row.task_id else {}
            await self._record(
                tx, row, kind, text, now=now, actor=row.wanted_by, data=more, once=f"{row.id}:{issue.id}"
            )
        return row

    async def _follow(self, ticket: Ticket, tracker: Tracker) -> None:
        """What happened here, in the order: what is said below it, how bad it is, where it stands."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, ticket.incident_id)
            task = None if ticket.task_id is None else await tasks.find(session, ticket.task_id)
            told = sa.select(TimelineEvent).where(
                col(TimelineEvent.incident_id) == incident.id, col(TimelineEvent.kind).in_(TOLD)
            )
            events = list(await session.scalars(told.order_by(col(TimelineEvent.at), col(TimelineEvent.recorded_at))))
        remote = ticket.remote_id or ""
        if ticket.purpose == "incident":
            for event in events:
                if event.id not in ticket.told and event.recorded_at >= ticket.created_at:
                    await self.engine.still_mine()
                    await tracker.comment(remote, self._said(incident, event), f"{ticket.key}-{event.id[-8:]}")
                    ticket = await self._told(ticket, event.id)
            if ticket.severity != incident.severity:
                if self._truth(ticket).severity == "tocsin":
                    await self.engine.still_mine()
                    await tracker.rank(remote, incident.severity)
                ticket = await self._change(ticket, severity=incident.severity)
        wanted = self._stands(ticket, incident, task)
        if wanted is not None and wanted != ticket.phase:
            await self._move(ticket, tracker, incident, wanted)
        elif ticket.error is not None:
            await self._change(ticket, error=None)

    async def _move(self, ticket: Ticket, tracker: Tracker, incident: Incident, wanted: Phase) -> None:
        move = self._asked(ticket, wanted)
        issue: Issue | None = None
        if move is not None:
            note = "" if incident.private else await self._note(ticket)
            await self.engine.still_mine()
            move = Move(move.done, move.status, note, wanted == "canceled")
            issue = _tidy(await tracker.move(ticket.remote_id or "", move))
        now = self.clock()
        async with self.engine.transaction() as tx:
            row = await self._locked(tx, ticket.id)
            before, row.phase, row.error = row.status, wanted, None
            if issue is not None:
                _seen(row, issue, now=now)
            tx.session.add(row)
            await tx.session.flush()
            if issue is not None and issue.status != before:
                text = f"{row.reference} in {row.tracker}: {before} → {issue.status}"
                data = {"from": before, "to": issue.status}
                await self._record(tx, row, "ticket.moved", text, now=now, data=data)

    async def _concluded(self, ticket: Ticket, tracker: Tracker) -> None:
        """The run of a change request has ended."""
        if not ticket.standing or ticket.remote_id is None or ticket.phase == "closed":
            return
        if not isinstance(tracker, Changes):
            raise PermanentError(f"{ticket.tracker} has no change requests")
        await self.engine.still_mine()
        ok = ticket.standing == "done"
        issue = _tidy(await tracker.conclude(ticket.remote_id, f"{ticket.key}-end", ok=ok, note=ticket.body))
        now = self.clock()
        async with self.engine.transaction() as tx:
            row = await self._locked(tx, ticket.id)
            _seen(row, issue, now=now)
            row.phase, row.error = "closed", None
            tx.session.add(row)
            await tx.session.flush()
            text = f"Change {issue.reference} in {row.tracker} is {issue.status}"
            await self._record(tx, row, "change.closed", text, now=now, data={"change": row.id}, once=row.id)

    def _stands(self, ticket: Ticket, incident: Incident, task: Task | None) -> Phase | None:
        """How our side of a ticket stands; None where our side has no say."""
        truth = self._truth(ticket)
        if task is not None:
            if truth.followups == "tracker":
                return None
            return _as_phase(task)
        if ticket.purpose == "finding":
            return "resolved" if ticket.standing == "resolved" else "investigating"
        now = phase(incident.status)
        owner = truth.resolution if (now in OVER) != (ticket.phase in OVER) else truth.status
        return None if owner == "tracker" else now

    def _asked(self, ticket: Ticket, wanted: Phase) -> Move | None:
        """What is asked of the tracker so that *wanted* shows there; None if nothing is."""
        words, done = self.tracking.accesses[ticket.tracker].entry.status, wanted in OVER
        if ticket.done and done:
            return None  # however it was closed there, it is closed
        if ticket.status is not None and words.back.get(ticket.status) == wanted:
            return None
        if (status := words.out.get(wanted)) is not None:
            return Move(done, status)
        return Move(done) if done != ticket.done else None

    async def _note(self, ticket: Ticket) -> str:
        """What ended it, for trackers that want to know."""
        query = (
            sa.select(TimelineEvent)
            .where(col(TimelineEvent.incident_id) == ticket.incident_id, col(TimelineEvent.kind) == "incident.resolved")
            .order_by(col(TimelineEvent.at).desc())
            .limit(1)
        )
        async with self.engine.db.read() as session:
            found = await session.scalar(query)
        return "" if found is None or ticket.purpose != "incident" else self._plain(str(found.data.get("note") or ""))

    def _wish(self, ticket: Ticket, incident: Incident, task: Task | None) -> Wish:
        """What is written into a new ticket. Of a private incident, nothing but its reference."""
        url, hidden = self.public_url, incident.private
        about = f"{incident.reference}: {PRIVATE if hidden else self._plain(incident.title)}"
        if task is not None:
            title = f"Follow-up {task.label} of {incident.reference}" if hidden else self._plain(task.text)
            lines = [f"Follow-up {task.label} of {about}"]
            if not hidden:
                lines += [f"Owner: {self.names(task.owner)}" if task.owner else "", f"Good for: {task.type or ''}"]
            body = "\n".join(line for line in lines if line and not line.endswith(": "))
        elif ticket.purpose == "finding":
            title, body = ticket.title, ticket.body
        else:
            title = about
            lines = [f"Severity: {incident.severity}", f"Status: {incident.status}"]
            if not hidden:
                lines += [f"Service: {incident.service}" if incident.service else ""]
                lines += [f"Channel: #{incident.channel_name}" if incident.channel_name else ""]
                lines += [f"\n{self._plain(incident.summary)}" if incident.summary else ""]
            body = "\n".join(line for line in lines if line)
        return Wish(
            key=ticket.key,
            title=title,
            body=f"{body}\n\nOpened by Tocsin ({ticket.key}).",
            severity=ticket.severity or incident.severity,
            purpose=ticket.purpose,  # type: ignore[arg-type]
            service=None if hidden else incident.service,
            url=url,
            due=None if task is None else task.due,
        )

    def _said(self, incident: Incident, event: TimelineEvent) -> str:
        if incident.private:
            return {"severity.changed": "The severity has changed", "incident.resolved": "Resolved"}.get(
                event.kind, "Reopened"
            )
        return self._plain(event.text)

    def _plain(self, text: str) -> str:
        """*text* with names in the place of mentions."""
        return re.sub(r"<@([UW][A-Z0-9]{1,20})>", lambda found: self.names(found[1]), text)

    # -- towards us -----------------------------------------------------------------------------------------------

    async def _taken(self, ticket: Ticket, issue: Issue, by: str) -> None:
        """Follow what was changed there since both sides last agreed."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, ticket.incident_id, lock=True)
            row = await self._locked(tx, ticket.id)
            before, ended = row.status, issue.done != row.done
            if issue.status == before and not ended:
                return  # our own word that came back, or nothing that is followed
            _seen(row, issue, now=now)
            who = f" by {by}" if by else ""
            via = f"{issue.reference} is {issue.status} in {row.tracker}{who}"
            if row.purpose == "followup":
                task = await tasks.find(tx.session, row.task_id or "")
                heed = await self._heed_task(tx, row, task, issue, via, now=now)
                stands = _as_phase(task)
            elif row.purpose == "incident":
                heed = await self._heed(tx, row, incident, issue, ended, via, now=now)
                stands = phase(incident.status)
            else:
                heed, stands = Heed(), phase(incident.status)
            if heed.followed:
                row.phase = stands  # else what is to be brought there still is
            tx.session.add(row)
            await tx.session.flush()
            text = f"{issue.reference} in {row.tracker}: {before} → {issue.status}{who}{heed.words}"
            data = {"from": before, "to": issue.status, "by": by, "news": bool(heed.words) and not heed.followed}
            await self._record(tx, row, "ticket.heard", text, now=now, data=data)

    async def _heed(
        self, tx: Tx, row: Ticket, incident: Incident, issue: Issue, ended: bool, via: str, *, now: datetime
    ) -> Heed:
        """What an incident does because of its ticket. That it is over, or is not any more, counts where it is news."""
        truth, entry = self._truth(row), self.tracking.accesses[row.tracker].entry
        told = entry.status.back.get(issue.status)
        over = issue.done if told is None else told in OVER
        name = incident.reference
        if over and incident.is_open:
            if truth.resolution == "tocsin":
                return Heed(f"; {name} stays open, since Tocsin has the last word on that")
            await lifecycle.resolve(tx, self.react, incident, by=BOT, now=now, note=via)
            return Heed(f"; {name} is resolved by that", followed=True)
        if ended and not over and phase(incident.status) == "resolved":
            if truth.resolution == "tocsin":
                return Heed(f"; {name} stays resolved, since Tocsin has the last word on that")
            await lifecycle.reopen(tx, self.react, incident, by=BOT, now=now, reason=via)
            return Heed(f"; {name} is reopened by that", followed=True)
        wanted = Status(told) if told in set(ACTIVE) else None
        if wanted is not None and incident.status in ACTIVE and incident.status != wanted and truth.status != "tocsin":
            await lifecycle.set_status(tx, self.react, incident, wanted, by=BOT, now=now)
            return Heed(f"; {name} is {wanted} by that", followed=True)
        return Heed()

    async def _heed_task(self, tx: Tx, row: Ticket, task: Task, issue: Issue, via: str, *, now: datetime) -> Heed:
        if issue.done == (task.state != TaskState.OPEN):
            return Heed()
        if self._truth(row).followups == "tocsin":
            return Heed(f"; {task.label} stays {task.state}, since Tocsin has the last word on that")
        told = f", as {via}"
        if issue.done:
            canceled = self.tracking.accesses[row.tracker].entry.status.back.get(issue.status) == "canceled"
            await (tasks.drop if canceled else tasks.finish)(tx, self.react, task, by=BOT, now=now, via=told)
        else:
            await tasks.reopen(tx, self.react, task, by=BOT, now=now, via=told)
        return Heed(f"; {task.label} is {task.state} by that", followed=True)

    # -- what is written down -------------------------------------------------------------------------------------

    def _truth(self, ticket: Ticket) -> Any:
        return self.tracking.accesses[ticket.tracker].entry.truth

    async def _ticket(self, ticket_id: str) -> Ticket:
        async with self.engine.db.read() as session:
            found = await session.get(Ticket, ticket_id)
        if found is None:
            raise PermanentError(f"there is no ticket {ticket_id!r}")
        return found

    async def _locked(self, tx: Tx, ticket_id: str) -> Ticket:
        found = await tx.session.get(Ticket, ticket_id, with_for_update=True, populate_existing=True)
        if found is None:
            raise PermanentError(f"there is no ticket {ticket_id!r}")
        return found

    async def _told(self, ticket: Ticket, event_id: str) -> Ticket:
        return await self._change(ticket, told=[*ticket.told, event_id])

    async def _change(self, ticket: Ticket, **values: Any) -> Ticket:
        async with self.engine.transaction() as tx:
            row = await self._locked(tx, ticket.id)
            for name, value in values.items():
                setattr(row, name, value)
            row.changed_at = self.clock()
            tx.session.add(row)
            if "error" in values:
                await timeline.touch(tx.session, row.incident_id)
        return row

    async def _fail(self, ticket: Ticket, why: str, state: TicketState | None = None) -> None:
        if state is None and ticket.remote_id is None:
            state = TicketState.FAILED
        async with self.engine.transaction() as tx:
            await self._failed(tx, await self._locked(tx, ticket.id), why, state)

    async def _failed(self, tx: Tx, row: Ticket, why: str, state: TicketState | None) -> None:
        """A ticket could not be brought up to date; people hear of each reason once."""
        again = row.error == why and (state is None or row.state == state)
        row.error, row.changed_at = why, self.clock()
        if state is not None:
            row.state = state
        tx.session.add(row)
        await tx.session.flush()
        if again:
            return
        what = row.reference or f"A ticket in {row.tracker}"
        hint = (
            f" `/inc ticket {row.tracker}` tries again." if row.purpose == "incident" and row.remote_id is None else ""
        )
        text = f"{what} could not be brought up to date: {why}.{hint}"
        if row.remote_id is None:
            text = f"{what} could not be opened: {why}.{hint}"
        if row.state == TicketState.GONE:
            text = f"{what} is gone from {row.tracker}, and is not followed any more"
        log.warning("ticket.failed", ticket=row.id, reason=why)
        await self._record(tx, row, "ticket.failed", text, now=self.clock(), data={"reason": why, "state": row.state})

    async def _record(
        self,
        tx: Tx,
        row: Ticket,
        kind: str,
        text: str,
        *,
        now: datetime,
        actor: str = BOT,
        data: Mapping[str, Any] | None = None,
        once: str | None = None,
    ) -> None:
        about = {
            "ticket": row.id,
            "tracker": row.tracker,
            "purpose": row.purpose,
            "reference": row.reference,
            "url": row.url,
            **(data or {}),
        }
        await timeline.touch(tx.session, row.incident_id)
        await timeline.record(tx, self.react, row.incident_id, kind, text, now=now, actor=actor, data=about, once=once)


def _as_phase(task: Task) -> Phase:
    """How a follow-up stands, in the same words as an incident."""
    words: Mapping[str, Phase] = {TaskState.DONE: "resolved", TaskState.DROPPED: "canceled"}
    return words.get(task.state, "investigating")


def _tidy(issue: Issue) -> Issue:
    """*issue* as any database can keep it."""

    def short(text: str) -> str:
        return clip(one_line(clean(text)), 300)

    return Issue(
        id=short(issue.id),
        reference=short(issue.reference),
        url=clip(clean(issue.url), 2000),
        status=short(issue.status),
        done=issue.done,
        title=short(issue.title),
    )


def _seen(row: Ticket, issue: Issue, *, now: datetime) -> None:
    """What the tracker says now."""
    row.remote_id, row.reference, row.url = issue.id, issue.reference, issue.url
    row.status, row.done, row.changed_at = issue.status, issue.done, now


def named(tracking: Tracking, text: str) -> tuple[str, str | None]:
    """The tracker that *text* names, by name or by an address in it, and what is to be linked; UserError if unclear."""
    words: Sequence[str] = text.split()
    names = list(tracking.accesses)
    if not names:
        raise UserError("There is no tracker; trackers.yaml lists them (docs/trackers.md).")
    link = bool(words) and words[0].lower() == "link"
    rest = [word for word in words[link:] if word not in names]
    chosen = [word for word in words[link:] if word in names]
    if link and not rest:
        raise UserError("Which ticket? `/inc ticket link https://…` with its address, or its number.")
    asked = rest[0] if link else None
    if not link and rest:
        raise UserError(f"There is no tracker `{clip(rest[0], 50)}`; there is: {', '.join(names)}.")
    if not chosen and asked is not None:
        chosen = [name for name, access in tracking.accesses.items() if asked.startswith(access.url + "/")]
    if not chosen and len(names) == 1:
        chosen = names
    if len(chosen) != 1:
        raise UserError(f"In which tracker? There is: {', '.join(names)}.")
    return chosen[0], asked
