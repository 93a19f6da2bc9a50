"""Runbooks by the clock: each time of a schedule once, however many processes look, and whatever the clock does.

What was handled is a row for each runbook. A time is promised to the engine under an id made of runbook and time, and
the run has an id made of the same: neither two processes nor a clock that is put back start it again.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.engine import Engine, Tx, Work
from bot.incidents import timeline
from bot.incidents.logbook import Logbook
from bot.incidents.model import Incident
from bot.incidents.timeline import React
from bot.kit.clock import Clock, duration_text
from bot.kit.db import insert_for, unavailable
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.runs import cron
from bot.runs import run as runs
from bot.runs.automation import BOT, EVERY, switched
from bot.runs.books import Books
from bot.runs.model import Clockwork, Run, Trigger
from bot.runs.runbook import Runbook, Schedule, used

log = structlog.get_logger()

# A time that is further back than this was missed; every process looks several times a minute.
LATE = timedelta(minutes=2)
# A clock that is behind what was handled by more than this was put back; processes differ by seconds.
BACK = timedelta(minutes=5)


@dataclass(frozen=True)
class Due:
    """What is to be done about the times that came: start the run of *at*, if there is one, and what was *missed*."""

    handled_at: datetime
    at: datetime | None = None
    missed: int = 0
    late: bool = False


def due(schedule: Schedule, handled_at: datetime, now: datetime) -> Due | None:
    """What came since *handled_at*; None if nothing did."""
    if handled_at - now > BACK:
        return Due(now)  # what has run by the wrong clock does not run again: a run's id is made of its time
    found = cron.missed(schedule.cron, schedule.timezone, handled_at, now)
    if found is None:
        return None
    late = now - found.last > LATE
    if late and schedule.catch_up == "skip":
        return Due(found.last, None, found.count, late=True)
    return Due(found.last, found.last, found.count if late else found.count - 1, late)


def spec(schedule: Schedule) -> str:
    """What of a schedule says when: with another one, counting begins anew."""
    return f"{schedule.cron} {schedule.timezone}"


def spread(schedule: Schedule, runbook: str, at: datetime) -> timedelta:
    """How much later than *at* it starts: by chance, and the same for every process."""
    chance = int.from_bytes(hashlib.sha256(f"{runbook} {at.isoformat()}".encode()).digest()[:4]) / 2**32
    return schedule.jitter * chance


def local(schedule: Schedule, at: datetime) -> str:
    """*at* as people who wrote the schedule say it."""
    return f"{at.astimezone(ZoneInfo(schedule.timezone)):%a %d %b %H:%M %Z}"


@dataclass
class Schedules:
    """The tick, and the workflow `schedule`. Where it is not *on*, no time is ever promised."""

    engine: Engine
    react: React
    clock: Clock
    books: Books
    logbook: Logbook
    on: bool = True

    async def tick(self) -> None:
        """Look which times have come. Every process does, and one of them promises the run."""
        try:
            await self._look()
        except sa.exc.SQLAlchemyError as error:
            if not unavailable(error):
                raise
            log.warning("schedule.not_looked", reason=type(error).__name__)  # what comes meanwhile is late, not lost

    async def _look(self) -> None:
        now = self.clock()
        books = self.books.runbooks.values() if self.on else ()
        scheduled = {book.id: book for book in books if book.schedule is not None}
        async with self.engine.db.read() as session:
            known = {row.runbook: row for row in await session.scalars(sa.select(Clockwork))}
        if gone := sorted(set(known) - set(scheduled)):
            async with self.engine.transaction() as tx:
                await tx.session.execute(sa.delete(Clockwork).where(col(Clockwork.runbook).in_(gone)))
        for book in scheduled.values():
            row = known.get(book.id)
            fresh = row is None or row.spec != spec(_schedule(book))
            if fresh or (row is not None and await self._due(book, row.handled_at, now) is not None):
                async with self.engine.transaction() as tx:
                    await self._handle(tx, book, now)

    async def start(self, name: str, at: str) -> None:
        """Start the run of one time, if Git still says so."""
        moment, now = datetime.fromisoformat(at), self.clock()
        book = self.books.runbooks.get(name)
        schedule = book.schedule if book is not None else None
        if not self.on or book is None or schedule is None or not _comes(schedule, moment):
            log.info("schedule.gone", runbook=name, at=at)
            self.engine.metrics.scheduled("gone")
            return
        run_id = _run_id(name, moment)
        async with self.engine.transaction() as tx:
            if await tx.session.get(Run, run_id) is not None:
                return
            incident = await self.logbook.open(tx, now=now)
            said = await switched(tx.session)
            off = next((one for key in (EVERY, name) if (one := said.get(key)) is not None and one.off), None)
            if off is not None:
                why = f"<@{off.by}> has switched it off"
                outcome = await self._withheld(tx, incident, book, moment, why, "off", str(off.at))
            else:
                outcome = await self._start(tx, incident, book, moment, run_id, now)
        self.engine.metrics.scheduled(outcome)

    async def _start(
        self, tx: Tx, incident: Incident, book: Runbook, moment: datetime, run_id: str, now: datetime
    ) -> str:
        schedule = _schedule(book)
        late = now - moment - schedule.jitter
        because = f"it was {local(schedule, moment)}"
        because += f", {duration_text(late)} ago" if late > LATE else ""
        asked = runs.Asked(BOT, trigger=Trigger.SCHEDULE, key=moment.isoformat(), because=because)
        books = used(book, self.books.runbooks)
        try:
            await runs.start(
                tx, self.react, incident, book, schedule.params,
                asked=asked, now=now, run_id=run_id, uses=books, commit=self.books.commit,
            )  # fmt: skip
        except UserError as error:
            return await self._withheld(tx, incident, book, moment, str(error), "refused", moment.isoformat())
        return "started"

    async def _withheld(
        self, tx: Tx, incident: Incident, book: Runbook, moment: datetime, reason: str, why: str, about: str
    ) -> str:
        text = f"{book.name} did not run at its time ({local(_schedule(book), moment)}): {reason}"
        data = {"runbook": book.id, "name": book.name, "why": why, "reason": reason, "at": moment.isoformat()}
        once = f"{book.id}:{why}:{about}"
        await timeline.record(
            tx, self.react, incident.id, "runbook.withheld", text, now=self.clock(), actor=BOT, data=data, once=once
        )
        return why

    # -- which times have come --------------------------------------------------------------------------------------

    async def _handle(self, tx: Tx, book: Runbook, now: datetime) -> None:
        """What has come is written down as handled, and promised, in one transaction."""
        schedule = _schedule(book)
        connection = await tx.session.connection()
        row = {"runbook": book.id, "spec": spec(schedule), "handled_at": now}
        insert = insert_for(connection, Clockwork).values(**row)
        await connection.execute(insert.on_conflict_do_nothing(index_elements=["runbook"]))
        query = sa.select(Clockwork).where(col(Clockwork.runbook) == book.id)
        there = await tx.session.scalar(query.with_for_update().execution_options(populate_existing=True))
        if there is None:
            return  # another process has another Git, which does not know this runbook
        if there.spec != spec(schedule):
            there.spec, there.handled_at = spec(schedule), now
            return
        found = await self._due(book, there.handled_at, now)
        if found is None:
            return
        there.handled_at = found.handled_at
        last = found.at or found.handled_at
        if await tx.session.get(Run, _run_id(book.id, last)) is not None:
            return  # the clock was put back, and this time has had its run
        if found.missed:
            await self._missed(tx, book, found, now)
        if found.at is not None:
            await tx.session.flush()
            name = f"schedule:{book.id}:{found.at:%Y-%m-%dT%H:%MZ}"
            delay = max(timedelta(), found.at + spread(schedule, book.id, found.at) - now)
            tx.enqueue(Work("schedule", name, (book.id, found.at.isoformat()), delay_seconds=delay.total_seconds()))

    async def _due(self, book: Runbook, handled_at: datetime, now: datetime) -> Due | None:
        """In a thread where there may be much to count."""
        if now - handled_at < timedelta(hours=1):
            return due(_schedule(book), handled_at, now)
        return await asyncio.to_thread(due, _schedule(book), handled_at, now)

    async def _missed(self, tx: Tx, book: Runbook, found: Due, now: datetime) -> None:
        times = "one time was" if found.missed == 1 else f"{found.missed} times were"
        what = "nothing is made up for" if found.at is None else "one run makes up for it"
        at = local(_schedule(book), found.handled_at)
        text = f"{book.name}: {times} missed while the bot was away, the last one at {at}; {what}"
        if not found.late:
            text = f"{book.name}: {times} missed while the bot was away; the run of {at} makes up for it"
        incident = await self.logbook.open(tx, now=now)
        data = {"runbook": book.id, "name": book.name, "missed": found.missed, "caught_up": found.at is not None}
        data["at"] = found.handled_at.isoformat()
        once = f"{book.id}:{found.handled_at.isoformat()}"
        await timeline.record(
            tx, self.react, incident.id, "schedule.missed", text, now=now, actor=BOT, data=data, once=once
        )
        self.engine.metrics.scheduled("missed", found.missed)


def _schedule(book: Runbook) -> Schedule:
    if book.schedule is None:
        raise UserError(f"{book.id} has no schedule.")
    return book.schedule


def _comes(schedule: Schedule, at: datetime) -> bool:
    """Whether *at* is one of its times."""
    found = cron.missed(schedule.cron, schedule.timezone, at - timedelta(microseconds=1), at)
    return found is not None and found.last == at.astimezone(UTC)


def _run_id(runbook: str, at: datetime) -> str:
    return derived_id("run", "schedule", runbook, at.astimezone(UTC).isoformat())
