"""What leaves for other systems: a row for each event and sink, delivered in order, tried for a day, kept on record.

An event that a sink wants promises `dispatch` in its own transaction, and nothing more: nobody waits for a sink.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel, col

from bot.catalog.sinks import Configured
from bot.engine import LINES, Engine, Tx, Work
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.sink import Receipt, Sink, message
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean, clip, one_line
from bot.metrics import Metrics

log = structlog.get_logger()

WAITING, DELIVERED, GIVEN_UP, SKIPPED = "waiting", "delivered", "given_up", "skipped"
STATES = (WAITING, DELIVERED, GIVEN_UP, SKIPPED)
FIRST, MOST, PATIENCE = timedelta(seconds=5), timedelta(hours=1), timedelta(days=1)
CHUNK = 200  # events in one dispatch, lines in one look at the clock


class Outgoing(SQLModel, table=True):
    """One event for one sink. `detail` is what was said last, `reference` the other side's name for it."""

    __tablename__ = "outgoing"
    __table_args__ = (
        sa.Index("outgoing_line", "sink", "incident_id", "recorded_at", "event_id"),
        sa.Index("outgoing_due", "state", "next_at"),
    )

    id: str = Field(primary_key=True, max_length=32)
    sink: str
    incident_id: str = Field(foreign_key="incident.id", max_length=32)
    event_id: str = Field(max_length=32)
    kind: str
    state: str = WAITING
    attempts: int = 0
    detail: str = ""
    reference: str | None = None
    recorded_at: datetime
    created_at: datetime
    tried_at: datetime | None = None
    next_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Outbox:
    """What follows for sinks from events: nothing unless one of them wants that kind."""

    sinks: Mapping[str, Configured]

    def __call__(self, events: Sequence[TimelineEvent]) -> list[Work]:
        """The work for *events* of one transaction, in order, one piece for each incident."""
        if not self.sinks:
            return []
        wanted: dict[str, list[str]] = {}
        for event in events:
            if any(sink.wants(event.kind) for sink in self.sinks.values()):
                wanted.setdefault(event.incident_id, []).append(event.id)
        return [
            Work(
                "dispatch",
                f"dispatch:{ids[start]}",
                (incident_id, ids[start : start + CHUNK]),
                queue=LINES,
                partition=f"dispatch:{incident_id}",
            )
            for incident_id, ids in wanted.items()
            for start in range(0, len(ids), CHUNK)
        ]

    def after(self, react: React) -> React:
        """*react*, and after it what leaves for sinks."""
        return lambda event: [*react(event), *self((event,))]


@dataclass
class Deliveries:
    """The workflows `dispatch` and `deliver`."""

    engine: Engine
    react: React
    sinks: Mapping[str, Configured]
    made: Mapping[str, Sink]
    public_url: str | None
    clock: Clock
    first: timedelta = FIRST
    patience: timedelta = PATIENCE

    async def dispatch(self, incident_id: str, event_ids: list[str]) -> None:
        """Make the rows of *event_ids* for every sink that is told of them."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id)
            place = (col(TimelineEvent.recorded_at), col(TimelineEvent.id))
            query = sa.select(TimelineEvent).where(col(TimelineEvent.id).in_(event_ids)).order_by(*place)
            told = await self._told(tx.session, incident_id)
            rows = [
                self._row(sink, incident, event, now)
                for event in await tx.session.scalars(query)
                for sink in self.sinks.values()
                if sink.takes(event.kind, incident.severity, incident.service, told=sink.name in told)
            ]
            if not rows:
                return
            connection = await tx.session.connection()
            insert = insert_for(connection, Outgoing).values([row.model_dump() for row in rows])
            await connection.execute(insert.on_conflict_do_nothing(index_elements=["id"]))
            for name in dict.fromkeys(row.sink for row in rows if row.state == WAITING):
                tx.enqueue(line(name, incident_id, event_ids[0]))

    async def _told(self, session: AsyncSession, incident_id: str) -> set[str]:
        """The sinks that were told of the incident before: they hear how it ends, also when it is less bad by then."""
        picky = [name for name, sink in self.sinks.items() if sink.settings.severity]
        if not picky:
            return set()
        query = sa.select(col(Outgoing.sink)).distinct()
        query = query.where(col(Outgoing.sink).in_(picky), col(Outgoing.incident_id) == incident_id)
        return set(await session.scalars(query))

    def _row(self, sink: Configured, incident: Incident, event: TimelineEvent, now: datetime) -> Outgoing:
        row = Outgoing(
            id=derived_id("outgoing", sink.name, event.id),
            sink=sink.name,
            incident_id=incident.id,
            event_id=event.id,
            kind=event.kind,
            recorded_at=event.recorded_at,
            created_at=now,
            next_at=now,
        )
        if incident.private and sink.settings.private == "never":
            row.state, row.detail, row.ended_at = SKIPPED, "the incident is private", now
        return row

    async def deliver(self, name: str, incident_id: str) -> None:
        """Deliver what waits for the sink called *name* of one incident, one after the other, until nothing is due."""
        while (row := await self._begin(name, incident_id)) is not None:
            sink = self.made.get(name)
            if sink is None:
                await self._end(row, GIVEN_UP, "sinks.yaml has no sink of this name any more")
                continue
            async with self.engine.db.read() as session:
                incident = await lifecycle.find(session, incident_id)
                event = await session.get(TimelineEvent, row.event_id)
            if event is None:
                await self._end(row, GIVEN_UP, "the event is not on record any more")
                continue
            if incident.private and self.sinks[name].settings.private == "never":
                await self._end(row, SKIPPED, "the incident is private")
                continue
            await self.engine.still_mine()
            try:
                receipt = await sink.send(message(event, incident, self.public_url))
            except TemporaryError as error:
                await self._later(row, error)
            except (PermanentError, UserError) as error:
                await self._end(row, GIVEN_UP, str(error))
            else:
                await self._end(row, receipt.outcome, receipt.detail, receipt)

    async def _begin(self, name: str, incident_id: str) -> Outgoing | None:
        """The next row that is due, with the time already noted at which it is tried again; None if there is none."""
        settings = self.sinks[name].settings if name in self.sinks else None
        now = self.clock()
        async with self.engine.transaction() as tx:
            query = sa.select(Outgoing).where(
                col(Outgoing.sink) == name, col(Outgoing.incident_id) == incident_id, col(Outgoing.state) == WAITING
            )
            if settings is not None and not settings.ordered:
                query = query.where(col(Outgoing.next_at) <= now)
            order = (col(Outgoing.recorded_at), col(Outgoing.event_id))
            row: Outgoing | None = await tx.session.scalar(query.order_by(*order).limit(1).with_for_update())
            if row is None or row.next_at > now:
                return None
            row.attempts, row.tried_at = row.attempts + 1, now
            row.next_at = now + self._wait(row.attempts)
            tx.session.add(row)
            await tx.session.flush()
            return row.model_copy()

    def _wait(self, attempts: int) -> timedelta:
        wait = min(MOST, self.first * 2 ** min(attempts - 1, 20))
        return timedelta(seconds=wait.total_seconds() * random.uniform(0.8, 1.2))

    async def _later(self, row: Outgoing, error: TemporaryError) -> None:
        """Not now; after a day, never."""
        now = self.clock()
        if now - row.created_at >= self.patience:
            await self._end(row, GIVEN_UP, f"tried for a day: {error}")
            return
        self._counted(row.sink, "again")
        log.warning("delivery.again", sink=row.sink, delivery=row.id, attempt=row.attempts, reason=str(error))
        until = max(row.next_at, now + timedelta(seconds=error.after))
        async with self.engine.transaction() as tx:
            change = sa.update(Outgoing).where(col(Outgoing.id) == row.id, col(Outgoing.state) == WAITING)
            await tx.session.execute(change.values(next_at=until, detail=_said(str(error))))

    async def _end(self, row: Outgoing, state: str, detail: str, receipt: Receipt | None = None) -> None:
        """Write down what came of it; that it was given up is told in the channel, once for each sink."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            change = sa.update(Outgoing).where(col(Outgoing.id) == row.id, col(Outgoing.state) == WAITING)
            values = {"state": state, "detail": _said(detail), "ended_at": now, "tried_at": row.tried_at}
            reference = receipt.reference if receipt else None
            ended = await tx.session.execute(change.values(**values, reference=reference).returning(col(Outgoing.id)))
            if ended.scalar_one_or_none() is None:
                return
            if state == GIVEN_UP:
                await self._tell(tx, row, detail, now)
            elif receipt is not None and receipt.said is not None:
                said = receipt.said
                await timeline.record(
                    tx, self.react, row.incident_id, said.kind, said.text,
                    now=now, actor="bot", data={"sink": row.sink, **said.data}, once=row.id,
                )  # fmt: skip
        self._counted(row.sink, state)

    async def _tell(self, tx: Tx, row: Outgoing, detail: str, now: datetime) -> None:
        log.error("delivery.given_up", sink=row.sink, delivery=row.id, kind=row.kind, reason=_said(detail))
        await timeline.record(
            tx,
            self.react,
            row.incident_id,
            "delivery.given_up",
            f"{row.sink} was not told of this incident: {_said(detail)}. `tocsin deliveries --failed` lists what is "
            "missing there",
            now=now,
            actor="bot",
            data={"sink": row.sink, "delivery": row.id, "of": row.kind, "reason": _said(detail)},
            once=row.sink,
        )

    def _counted(self, sink: str, outcome: str) -> None:
        metrics: Metrics = self.engine.metrics
        metrics.sunk(sink if sink in self.sinks else "(unknown)", outcome)

    async def tick(self) -> None:
        """By the clock: promise the lines in which something is due again."""
        now = self.clock()
        async with self.engine.db.read() as session:
            query = sa.select(col(Outgoing.sink), col(Outgoing.incident_id)).distinct()
            due = await session.execute(
                query.where(col(Outgoing.state) == WAITING, col(Outgoing.next_at) <= now).limit(CHUNK)
            )
            lines = [tuple(found) for found in due]
        if not lines:
            return
        async with self.engine.transaction() as tx:
            tx.enqueue(*(line(name, incident_id, f"{now.timestamp():.1f}") for name, incident_id in lines))


def line(name: str, incident_id: str, why: str) -> Work:
    """Deliver what waits for a sink of one incident: one at a time, whichever process does it."""
    place = f"deliver:{name}:{incident_id}"
    return Work("deliver", f"{place}:{why}", (name, incident_id), queue=LINES, partition=place, merges=True)


async def listed(session: AsyncSession, *, failed: bool, limit: int) -> list[tuple[Outgoing, int]]:
    """Deliveries and the numbers of their incidents, newest first; with *failed*, those given up and those that wait
    although they were tried.
    """
    query = sa.select(Outgoing, col(Incident.number)).join(Incident, col(Incident.id) == col(Outgoing.incident_id))
    if failed:
        late = sa.and_(col(Outgoing.state) == WAITING, col(Outgoing.attempts) > 0)
        query = query.where(sa.or_(col(Outgoing.state) == GIVEN_UP, late))
    query = query.order_by(col(Outgoing.created_at).desc(), col(Outgoing.id)).limit(limit)
    return [(row, number) for row, number in await session.execute(query)]


async def again(tx: Tx, wanted: str, *, now: datetime) -> Outgoing:
    """Have a delivery that is over tried anew. *wanted* is its id, or how it begins."""
    if len(wanted) < 6:
        raise UserError("give at least six characters of the id that `tocsin deliveries` shows")
    query = sa.select(Outgoing).where(col(Outgoing.id).startswith(wanted.lower(), autoescape=True)).limit(2)
    found = list(await tx.session.scalars(query))
    if len(found) != 1:
        raise UserError(f"{'No' if not found else 'More than one'} delivery has an id that begins with {wanted!r}.")
    _anew(tx, found[0], now)
    await tx.session.flush()
    return found[0]


async def all_again(tx: Tx, *, now: datetime, limit: int = 5000) -> list[Outgoing]:
    """The same for everything that was given up, oldest first; at most *limit* at once."""
    query = sa.select(Outgoing).where(col(Outgoing.state) == GIVEN_UP)
    rows = list(await tx.session.scalars(query.order_by(col(Outgoing.recorded_at)).limit(limit)))
    for row in rows:
        _anew(tx, row, now)
    await tx.session.flush()
    return rows


def _anew(tx: Tx, row: Outgoing, now: datetime) -> None:
    row.state, row.attempts, row.detail, row.ended_at = WAITING, 0, "", None
    row.created_at = row.next_at = now
    tx.session.add(row)
    tx.enqueue(line(row.sink, row.incident_id, f"again:{now.timestamp():.3f}"))


def _said(text: str) -> str:
    return clip(one_line(clean(text)), 500)
