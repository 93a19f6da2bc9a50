"""Alerts become rows: every request that came in meanwhile is stored in one short transaction, then answered.

What is new opens an incident or joins one, what repeats only counts. One such transaction runs at a time, whoever
runs it: SQLite has one writer anyway, on Postgres an advisory lock makes it so. No two can then see the same alert as
new, and the lock is held for milliseconds however many requests a transaction carries.
"""

import asyncio
import contextlib
import hashlib
import json
import zlib
from collections import Counter as Tally
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlmodel import SQLModel, col

from bot.alerts import dedupe, routing
from bot.alerts.dedupe import Outcome, Stored
from bot.alerts.model import Alert, AlertRow, AlertState, AlertStatus, Delivery, Episode
from bot.alerts.routing import Open, Routes
from bot.catalog.services import Service
from bot.engine import Batch, Engine, Work
from bot.incidents import lifecycle, statements
from bot.incidents.model import Counter, Incident, Kind, Status, TimelineEvent
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for, unavailable
from bot.kit.errors import TemporaryError
from bot.kit.ids import derived_id, new_id
from bot.kit.tasks import spawn
from bot.kit.text import clean

log = structlog.get_logger()

BATCH, BATCH_ALERTS = 200, 5_000  # deliveries and alerts in one transaction
STORM, GATHER_SECONDS = 4, 0.01  # deliveries answered at once that make a storm; how long it may gather
QUEUE, QUEUE_BYTES = 2_000, 128 * 1024 * 1024
ANSWER_SECONDS = 20.0  # after that the sender is told to try again, which does no harm
KEPT = 256 * 1024  # bytes of a body that are kept
CHUNK = 400  # values in one IN list
REMEMBERED = 5_000  # alerts whose rows need not be taken apart again while they stay as they are
LOCK = 0x746F6373  # "tocs": the advisory lock's number

T = TypeVar("T")
Key = tuple[str, str]


@dataclass(frozen=True)
class Packed:
    """A body as it is kept."""

    sha256: str
    body: bytes


def pack(body: bytes) -> Packed:
    """Done before the transaction, since nobody else can write during it."""
    return Packed(hashlib.sha256(body).hexdigest(), zlib.compress(body[:KEPT], 1))


@dataclass(frozen=True)
class Incoming:
    """One authenticated request, parsed."""

    connection: str
    source: str
    body: bytes
    alerts: tuple[Alert, ...]
    received_at: datetime
    packed: Packed | None = None


@dataclass(frozen=True)
class Receipt:
    """What became of a request: for each alert its dedup key, the outcome, and the incident it belongs to."""

    delivery_id: str
    results: list[tuple[str, str, str | None]]


@dataclass
class _Waiting:
    incoming: Incoming
    delivery_id: str
    answer: asyncio.Future[Receipt]
    until: float


@dataclass
class _Known:
    """An alert as this transaction knows it: what is stored, and what was made of it since."""

    id: str
    key: Key
    source: str
    dedup_key: str
    state: AlertState
    starts_at: datetime
    ends_at: datetime | None
    first_seen_at: datetime
    last_seen_at: datetime
    episode_id: str
    title: str = ""
    severity: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    seen: int = 0
    seen_before: int = 0
    episode: int = 1
    incident_id: str | None = None
    incident: int | None = None
    fresh: bool = False
    seen_again: bool = False
    changed: bool = False

    @property
    def reference(self) -> str | None:
        return None if self.incident is None else f"INC-{self.incident}"

    def copy(self) -> "_Known":
        made = object.__new__(_Known)
        made.__dict__.update(self.__dict__)
        return made


class _Memory:
    """The alerts that were met lately, as their rows were read.

    A row that is as it was means what it meant. Nothing here is believed before the row was looked at, so whoever
    else changes it, and whatever transaction fails, nothing has to be forgotten.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, tuple[Sequence[Any], _Known]] = OrderedDict()

    def recall(self, key: Key, row: Sequence[Any]) -> _Known | None:
        """What *row* means, if it is the one that was read last."""
        found = self._kept.get(key)
        if found is None or found[0] != row:
            return None
        self._kept.move_to_end(key)
        return found[1].copy()

    def keep(self, row: Sequence[Any], known: _Known) -> None:
        """Remember that *row* means what is *known*, as long as nothing was made of it."""
        self._kept[known.key] = row, known.copy()
        self._kept.move_to_end(known.key)
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)


@dataclass
class _Case:
    """One alert of one request, and what was decided about it."""

    alert: Alert
    delivery: _Waiting
    known: _Known
    decision: dedupe.Decision
    episode_id: str
    at: datetime
    before: str | None = None
    said: str = ""

    def __post_init__(self) -> None:
        self.said = self.said or str(self.decision.outcome)


@dataclass
class _Open:
    """An open incident that alerts can join."""

    id: str
    number: int
    severity: str


class Intake:
    """Stores what senders send. Made once per process; `accept` may be called from any number of requests."""

    def __init__(
        self,
        engine: Engine,
        react: React,
        routes: Callable[[], Routes],
        clock: Clock,
        services: Callable[[], Mapping[str, Service]] = dict,
        answer_seconds: float = ANSWER_SECONDS,
        outbox: Callable[[Sequence[TimelineEvent]], Sequence[Work]] = lambda events: (),
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._answer_seconds = answer_seconds
        self._gather_seconds = gather_seconds
        self._engine = engine
        self._react = react
        self._routes = routes
        self._clock = clock
        self._services = services
        self._memory = _Memory()
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._expected = 0
        self._all_here: asyncio.Event | None = None
        self._stopped = False
        engine.metrics.watch("tocsin_intake_waiting_deliveries", lambda: len(self._queue))
        engine.metrics.watch("tocsin_intake_waiting_bytes", lambda: self._bytes)

    async def accept(self, incoming: Incoming) -> Receipt:
        """Store *incoming*; returns when it is committed.

        Raises TemporaryError when it cannot be stored now. It may then have been stored all the same, and sending
        it again is harmless.
        """
        if self._stopped:
            raise TemporaryError("Tocsin is stopping")
        if len(self._queue) >= QUEUE or self._bytes + len(incoming.body) > QUEUE_BYTES:
            raise TemporaryError("too many alerts are waiting to be stored")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(incoming, new_id(), loop.create_future(), loop.time() + self._answer_seconds)
        self._queue.append(waiting)
        self._bytes += len(incoming.body)
        if self._writer is None:
            self._writer = spawn(self._drain(), name="intake.writer")
        elif self._all_here is not None and len(self._queue) >= self._expected:
            self._all_here.set()
        # When time is up, or the sender has gone, the answer is settled: what is still queued is not written then.
        return await waiting.answer

    async def stop(self) -> None:
        """Refuse what comes now, finish what has come."""
        self._stopped = True
        if self._all_here is not None:
            self._all_here.set()
        if self._writer is not None:
            await asyncio.wait((self._writer,))

    async def _drain(self) -> None:
        """Write until nothing waits. What comes in during one transaction is the next one's batch."""
        try:
            while batch := self._next():
                with self._watched(batch):
                    await self._write(batch)
                await self._gather(len(batch))
        finally:
            self._writer = None

    async def _gather(self, answered: int) -> None:
        """In a storm, those who were just answered are back in a moment: wait for them, and commit once for all.

        What a transaction costs by itself is as much as thirty more deliveries in it. Who comes alone never waits.
        """
        expected = min(BATCH, answered + len(self._queue))
        if answered < STORM or len(self._queue) >= expected or self._stopped:
            return
        self._expected, self._all_here = expected, asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._gather_seconds):
                    await self._all_here.wait()
        finally:
            self._all_here = None

    @contextlib.contextmanager
    def _watched(self, batch: Sequence[_Waiting]) -> Iterator[None]:
        """Whoever waits for too long hears so. One clock for all of them: they come by the thousand, and few wait."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal handle
            now, next_ = loop.time(), float("inf")
            for waiting in (*batch, *self._queue):
                if waiting.until <= now:
                    _fail(waiting, TemporaryError("the database did not answer in time"))
                elif not waiting.answer.done():
                    next_ = min(next_, waiting.until)
            # Those who come now wait as long as any that wait already.
            handle = loop.call_at(min(next_, now + self._answer_seconds), look)

        handle = loop.call_at(min(waiting.until for waiting in batch), look)
        try:
            yield
        finally:
            handle.cancel()

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        alerts = 0
        while self._queue and len(batch) < BATCH and alerts < BATCH_ALERTS:
            waiting = self._queue.popleft()
            self._bytes -= len(waiting.incoming.body)
            if not waiting.answer.done():
                batch.append(waiting)
                alerts += len(waiting.incoming.alerts)
        return batch

    async def _write(self, batch: list[_Waiting]) -> None:
        """One transaction; if something in it is bad, each request by itself, so that it fails alone."""
        try:
            receipts = await self._engine.batch(partial(self._store, batch))
        except Exception as error:  # whatever it is, it is the answer to those who wait
            if unavailable(error):
                reason = str(getattr(error, "orig", None) or error).strip().splitlines()
                log.warning("intake.unavailable", deliveries=len(batch), reason=reason[0] if reason else "")
                for waiting in batch:
                    _fail(waiting, TemporaryError("the database did not answer"))
            elif len(batch) > 1:
                log.warning("intake.one_by_one", deliveries=len(batch), reason=type(error).__name__)
                for waiting in batch:
                    await self._write([waiting])
            else:
                log.error("intake.failed", delivery=batch[0].delivery_id, exc_info=error)
                _fail(batch[0], error)
            return
        outcomes = Tally(outcome for receipt in receipts for _, outcome, _ in receipt.results)
        self._engine.metrics.stored(len(batch), outcomes)
        for waiting, receipt in zip(batch, receipts, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(receipt)

    def _store(self, waiting: list[_Waiting], batch: Batch) -> list[Receipt]:
        return _Transaction(
            batch=batch,
            memory=self._memory,
            react=self._react,
            routes=self._routes(),
            services=self._services(),
            now=self._clock(),
            outbox=self._outbox,
        ).run(waiting)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def alone(connection: sa.Connection) -> None:
    """Whoever changes many alerts at once does so one after the other, until the commit; else they would deadlock."""
    if connection.dialect.name == "sqlite":
        return  # it began with BEGIN IMMEDIATE
    # A process that hangs in here does not stop the others for long: the server ends its transaction (kit/db.py).
    connection.execute(sa.text("select set_config('lock_timeout', '10s', true)"))
    connection.execute(sa.text("select pg_advisory_xact_lock(:number)"), {"number": LOCK})


@dataclass
class _Transaction:
    """What one transaction knows and is going to write, in the order in which it happens."""

    batch: Batch
    memory: _Memory
    react: React
    routes: Routes
    services: Mapping[str, Service]
    now: datetime
    outbox: Callable[[Sequence[TimelineEvent]], Sequence[Work]]
    known: dict[Key, _Known] = field(default_factory=dict)
    groups: dict[str, _Open] = field(default_factory=dict)
    episodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    events: list[TimelineEvent] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection = self.batch.connection
        self.words = statements.words(self.connection)

    def run(self, batch: list[_Waiting]) -> list[Receipt]:
        alone(self.connection)
        self._look_up({(w.incoming.connection, a.fingerprint) for w in batch for a in w.incoming.alerts})
        cases = [self._judge(waiting, alert) for waiting in batch for alert in waiting.incoming.alerts]
        self._place([case for case in cases if case.decision.outcome in (Outcome.NEW, Outcome.NEW_EPISODE)])
        self._write_alerts()
        for case in cases:
            if case.decision.outcome is Outcome.RESOLVE:
                self._resolved(case)
        self._cleared([case for case in cases if case.decision.outcome is Outcome.RESOLVE])
        self._write_events()
        if self.stale:  # timeline.touch, for many at once
            self.connection.exec_driver_sql(self.words.touched, (self.words.listed(sorted(self.stale)),))
        receipts = [Receipt(waiting.delivery_id, []) for waiting in batch]
        by_id = {receipt.delivery_id: receipt for receipt in receipts}
        for case in cases:
            by_id[case.delivery.delivery_id].results.append((case.alert.dedup_key, case.said, case.known.reference))
        self._write_deliveries(batch, receipts)
        return receipts

    # What is known ------------------------------------------------------------------------------------------------

    def _look_up(self, keys: Iterable[Key]) -> None:
        asked: dict[str, list[str]] = {}
        for connection, fingerprint in sorted(keys):
            asked.setdefault(connection, []).append(fingerprint)
        for connection, fingerprints in asked.items():
            for some in _chunks(fingerprints, CHUNK):
                self._recall(connection, some)

    def _recall(self, connection: str, fingerprints: Sequence[str]) -> None:
        """Look at the rows; those that are as they were when they were read last need not be read again."""
        words, size = self.words, len(statements.ROW)
        new: dict[str, Sequence[Any]] = {}
        found = self.connection.exec_driver_sql(words.look, (connection, words.listed(fingerprints)))
        for row in json.loads(found.scalar_one()):
            fingerprint, seen, last_seen_at = row[size:]
            known = self.memory.recall((connection, fingerprint), row[:size])
            if known is None:
                new[fingerprint] = row[:size]
            else:
                known.seen = known.seen_before = seen
                known.last_seen_at = statements.moment(last_seen_at)
                self.known[known.key] = known
        if new:
            self._read(connection, new)

    def _read(self, connection: str, rows: Mapping[str, Sequence[Any]]) -> None:
        for row in self.connection.execute(_ALERTS, {"connection": connection, "fingerprints": list(rows)}):
            values = dict(row._mapping)
            key = (connection, values.pop("fingerprint"))
            values["episode"] = values["episode"] or 1
            values["seen_before"] = row.seen
            known = self.known[key] = _Known(**{**values, "key": key, "state": AlertState(row.state)})
            self.memory.keep(rows[key[1]], known)

    # What is decided ----------------------------------------------------------------------------------------------

    def _judge(self, waiting: _Waiting, alert: Alert) -> _Case:
        """Compare one alert with what is known, and remember what it changes for the next one."""
        incoming = waiting.incoming
        received = incoming.received_at
        key = (incoming.connection, alert.fingerprint)
        stored = self.known.get(key)
        decision = dedupe.decide(Stored(stored.state, stored.starts_at, stored.ends_at) if stored else None, alert)
        known = stored or self._new(key, incoming, alert)
        before, happened = None, alert.ends_at
        match decision.outcome:
            case Outcome.NEW:
                happened = alert.starts_at
                self._describe(known, alert, received)
                self._begin(known, waiting, decision)
            case Outcome.NEW_EPISODE:
                happened, before = alert.starts_at, known.reference
                self._again(known, alert.starts_at or received)
                self._describe(known, alert, received)
                self._begin(known, waiting, decision)
            case Outcome.REPEAT:
                if known.state is not AlertState.FIRING:
                    known.state, known.changed = AlertState.FIRING, True
                    if known.incident_id is not None:
                        self.stale.add(known.incident_id)
                self._describe(known, alert, received)
            case Outcome.RESOLVE:
                self._end(known, alert, received)
            case Outcome.ORPHAN_RESOLVE if stored is None:
                self._describe(known, alert, received)
                self._begin(known, waiting, decision)
            case Outcome.ORPHAN_RESOLVE:
                known.ends_at, known.changed = alert.ends_at, True
        return _Case(alert, waiting, known, decision, known.episode_id, min(happened or received, received), before)

    def _new(self, key: Key, incoming: Incoming, alert: Alert) -> _Known:
        resolved = alert.status is AlertStatus.RESOLVED
        ends_at = alert.ends_at if resolved else None
        starts_at = alert.starts_at or ends_at or incoming.received_at
        state = AlertState.RESOLVED if resolved else AlertState.FIRING
        known = _Known(
            id=new_id(),
            key=key,
            source=incoming.source,
            dedup_key=alert.dedup_key,
            state=state,
            starts_at=starts_at,
            ends_at=ends_at,
            first_seen_at=incoming.received_at,
            last_seen_at=incoming.received_at,
            episode_id=new_id(),
            fresh=True,
        )
        self.known[key] = known
        return known

    def _again(self, known: _Known, starts_at: datetime) -> None:
        if known.state is not AlertState.RESOLVED:
            self.ended.append({"_id": known.episode_id, "_ends_at": starts_at})
        known.state, known.starts_at, known.ends_at = AlertState.FIRING, starts_at, None
        known.episode_id, known.episode, known.changed = new_id(), known.episode + 1, True

    def _describe(self, known: _Known, alert: Alert, received: datetime) -> None:
        severity = str(routing.severity(alert, self.routes))
        newest = (alert.title, severity, alert.labels, alert.annotations, alert.url)
        if newest != (known.title, known.severity, known.labels, known.annotations, known.url):
            known.title, known.severity, known.labels, known.annotations, known.url = newest
            known.changed = True
        known.seen += 1
        known.seen_again = True
        known.last_seen_at = max(known.last_seen_at, received)

    def _begin(self, known: _Known, waiting: _Waiting, decision: dedupe.Decision) -> None:
        self.episodes[known.episode_id] = {
            "id": known.episode_id,
            "alert_id": known.id,
            "number": known.episode,
            "starts_at": known.starts_at,
            "ends_at": self._ended_at(known, waiting),
            "incident_id": None,
            "delivery_id": waiting.delivery_id,
            "decision": decision.reason,
        }

    def _ended_at(self, known: _Known, waiting: _Waiting) -> datetime | None:
        if known.state is not AlertState.RESOLVED:
            return None
        return max(known.ends_at or waiting.incoming.received_at, known.starts_at)

    def _end(self, known: _Known, alert: Alert, received: datetime) -> None:
        known.state, known.changed = AlertState.RESOLVED, True
        known.ends_at = max(alert.ends_at, known.starts_at) if alert.ends_at else None
        known.last_seen_at = max(known.last_seen_at, received)
        self.ended.append({"_id": known.episode_id, "_ends_at": known.ends_at or max(received, known.starts_at)})

    # Which incident -----------------------------------------------------------------------------------------------

    def _place(self, cases: list[_Case]) -> None:
        """Give every new episode its incident: the open one of its group, a new one, or none."""
        routed = [(case, routing.route(case.alert, self.routes, connection=case.known.key[0])) for case in cases]
        wanted = sorted({route.group_key for _, route in routed if route.open is not Open.NEVER})
        self._look_up_groups(wanted)
        for case, route in routed:
            if route.open is Open.NEVER:
                case.said = "stored"
                case.known.incident_id = case.known.incident = None
                continue
            joined = self.groups.get(route.group_key) or self._open(case, route)
            if joined is None:  # somebody reopened one of the same group a moment ago
                self._look_up_groups([route.group_key])
                joined = self.groups[route.group_key]
            if case.said not in ("opened", "suggested"):
                self._attach(case, route, joined)
            self._link(case, joined)

    def _look_up_groups(self, keys: Sequence[str]) -> None:
        if keys:
            for group_key, *found in self.connection.exec_driver_sql(self.words.groups, (self.words.listed(keys),)):
                self.groups[group_key] = _Open(*found)

    def _open(self, case: _Case, route: routing.Decision) -> _Open | None:
        """A new incident; None when there is an open one of this group after all."""
        counter = sa.select(col(Counter.value)).where(col(Counter.name) == "incident").with_for_update()
        number = int((self.connection.execute(counter)).scalar_one()) + 1
        suggested = route.open is Open.SUGGEST
        service = self.services.get(route.service or "")
        values = Incident(
            id=new_id(),
            number=number,
            title=case.alert.title,
            severity=route.severity,
            status=Status.TRIAGE if suggested else Status.INVESTIGATING,
            kind=Kind.STANDARD,
            private=route.private,
            service=route.service,
            route=route.route,
            group_key=route.group_key,
            runbooks=list(dict.fromkeys([*route.runbooks, *(service.runbooks if service else ())])),
            team=service.owner if service else None,
            detected_at=case.at,
            opened_at=case.delivery.incoming.received_at,
        ).model_dump()
        added = self.connection.execute(
            insert_for(self.connection, _table(Incident))
            .values(**values)
            .on_conflict_do_nothing(index_elements=["group_key"], index_where=_IS_OPEN[self.connection.dialect.name])
            .returning(col(Incident.id))
        )
        if added.scalar_one_or_none() is None:
            return None
        self.connection.execute(sa.update(Counter).where(col(Counter.name) == "incident").values(value=number))
        found = _Open(values["id"], number, route.severity)
        self.groups[route.group_key] = found
        case.said = "suggested" if suggested else "opened"
        text = f"INC-{number} {case.said} by an alert: {case.alert.title}"
        self._event(found.id, f"incident.{case.said}", text, case, self._data(case, route, found), once="first")
        return found

    def _attach(self, case: _Case, route: routing.Decision, joined: _Open) -> None:
        again = case.decision.outcome is Outcome.NEW_EPISODE and case.known.incident_id == joined.id
        text = f"{'Alert fires again' if again else 'Alert joined'}: {case.alert.title}"
        self._event(joined.id, "alert.attached", text, case, self._data(case, route, joined), once=case.episode_id)
        self.stale.add(joined.id)
        case.said = "attached"

    def _link(self, case: _Case, joined: _Open) -> None:
        case.known.incident_id, case.known.incident, case.known.changed = joined.id, joined.number, True
        self.episodes[case.episode_id]["incident_id"] = joined.id

    def _data(self, case: _Case, route: routing.Decision, incident: _Open) -> dict[str, Any]:
        before = case.before if case.before != f"INC-{incident.number}" else None
        return {
            **_facts(case),
            "source": "alert",
            "service": route.service,
            "route": route.route,
            "routed": route.reason,
            "severity": route.severity,
            "level": str(route.level),
            # Worse than the incident: said, not done. People decide how bad an incident is.
            "worse": route.severity < incident.severity,
            "private": route.private,
            **({"before": before, "note": f"happened before: {before}"} if before else {}),
        }

    # What has ended -----------------------------------------------------------------------------------------------

    def _resolved(self, case: _Case) -> None:
        case.said = "resolved"
        if case.known.incident_id is None:
            return
        text = f"Alert resolved: {case.known.title}"
        data = {**_facts(case), "title": case.known.title, "level": case.known.severity}
        self._event(case.known.incident_id, "alert.resolved", text, case, data, once=case.episode_id)
        self.stale.add(case.known.incident_id)

    def _cleared(self, cases: list[_Case]) -> None:
        """Say so when the last firing alert of an open incident has resolved."""
        last = {case.known.incident_id: case for case in cases if case.known.incident_id}
        for some in _chunks(sorted(key for key in last if key), CHUNK):
            for incident_id, silent in lifecycle.without_firing(self.connection, some):
                case = last[incident_id]
                data: dict[str, Any] = {"alert": case.known.id, "episode": case.episode_id}
                if silent:
                    text, data = lifecycle.quiet_text(silent), {**data, "silent": silent}
                    self._event(incident_id, "alerts.quiet", text, case, data, once=case.episode_id)
                else:
                    text = "Every alert of this incident has resolved"
                    self._event(incident_id, "alerts.cleared", text, case, data, once=case.episode_id)

    def _event(self, incident_id: str, kind: str, text: str, case: _Case, data: dict[str, Any], *, once: str) -> None:
        """Events wait until the rows they speak of are written; those of one moment keep their order."""
        self.events.append(
            TimelineEvent.model_construct(  # all of it is ours: checking it again would cost as much as storing it
                id=derived_id("timeline", incident_id, kind, once),
                incident_id=incident_id,
                kind=kind,
                text=clean(text),
                at=case.at,
                recorded_at=self.now + timedelta(microseconds=len(self.events)),
                data=data,
            )
        )

    # What is written ----------------------------------------------------------------------------------------------

    def _write_alerts(self) -> None:
        fresh = [known for known in self.known.values() if known.fresh]
        changed = [known for known in self.known.values() if known.changed and not known.fresh]
        again = [known for known in self.known.values() if known.seen_again and not known.changed and not known.fresh]
        self.words.add(self.connection, _table(AlertRow), [_row(known) for known in fresh])
        self._many(_CHANGED, [_bound(known) for known in changed])
        self._seen(again)
        self.words.add(self.connection, _table(Episode), list(self.episodes.values()))
        self._many(_ENDED, self.ended)

    def _seen(self, again: Sequence[_Known]) -> None:
        """Count what only repeats: most of what ever comes, so a few statements for all of it.

        All are given the newest time of their batch; its deliveries are milliseconds apart.
        """
        times: dict[int, list[_Known]] = {}
        for known in again:
            times.setdefault(known.seen - known.seen_before, []).append(known)
        for count, alerts in sorted(times.items()):
            newest = max(known.last_seen_at for known in alerts)
            ids = self.words.listed(sorted(known.id for known in alerts))
            self.connection.exec_driver_sql(self.words.seen, (count, self.words.moment(newest), ids))

    def _write_events(self) -> None:
        """`timeline.record` for many at once. An episode is told once, so none of these can be there already."""
        self.words.add(self.connection, _table(TimelineEvent), [event.__dict__ for event in self.events])
        # A burst of alerts that join or resolve together is one change to look at, so what follows, follows once.
        last = {(event.incident_id, event.kind): event for event in self.events}
        for event in last.values():
            self.batch.enqueue(*self.react(event))
        # Other systems are told of each of them.
        self.batch.enqueue(*self.outbox(self.events))

    def _write_deliveries(self, batch: list[_Waiting], receipts: list[Receipt]) -> None:
        self.words.add(self.connection, _table(Delivery), list(map(_kept, batch, receipts)))

    def _many(self, statement: sa.Executable, rows: list[dict[str, Any]]) -> None:
        if rows:
            self.connection.execute(statement, rows)


def _table(model: type[SQLModel]) -> sa.Table:
    found = sa.inspect(model).local_table
    if not isinstance(found, sa.Table):
        raise TypeError(f"{model.__name__} is not one table")
    return found


_IS_OPEN = {"sqlite": sa.text("is_open = 1"), "postgresql": sa.text("is_open")}

_ALERTS = (
    sa.select(
        col(AlertRow.id),
        col(AlertRow.source),
        col(AlertRow.fingerprint),
        col(AlertRow.dedup_key),
        col(AlertRow.state),
        col(AlertRow.starts_at),
        col(AlertRow.ends_at),
        col(AlertRow.first_seen_at),
        col(AlertRow.last_seen_at),
        col(AlertRow.episode_id),
        col(AlertRow.title),
        col(AlertRow.severity),
        col(AlertRow.labels),
        col(AlertRow.annotations),
        col(AlertRow.url),
        col(AlertRow.seen),
        col(AlertRow.incident_id),
        col(Episode.number).label("episode"),
        col(Incident.number).label("incident"),
    )
    .outerjoin(Episode, col(Episode.id) == col(AlertRow.episode_id))
    .outerjoin(Incident, col(Incident.id) == col(AlertRow.incident_id))
    .where(
        col(AlertRow.connection) == sa.bindparam("connection"),
        col(AlertRow.fingerprint).in_(sa.bindparam("fingerprints", expanding=True)),
    )
)

# Everything that may change; the identity and the first time do not.
_CHANGING = (
    "state",
    "title",
    "severity",
    "labels",
    "annotations",
    "url",
    "starts_at",
    "ends_at",
    "last_seen_at",
    "seen",
    "episode_id",
    "incident_id",
)

_CHANGED = (
    sa.update(_table(AlertRow))
    .where(_table(AlertRow).c.id == sa.bindparam("_id"))
    .values({name: sa.bindparam(f"_{name}") for name in _CHANGING})
)

_ENDED = (
    sa.update(_table(Episode))
    .where(_table(Episode).c.id == sa.bindparam("_id"))
    .values(ends_at=sa.bindparam("_ends_at"))
)


def _kept(waiting: _Waiting, receipt: Receipt) -> dict[str, Any]:
    """What is kept of a request."""
    incoming = waiting.incoming
    packed = incoming.packed or pack(incoming.body)
    detail: dict[str, Any] = {"results": dict(Tally(said for _, said, _ in receipt.results))}
    if len(incoming.body) > KEPT:
        detail["cut"] = KEPT
    return {
        "id": waiting.delivery_id,
        "connection": incoming.connection,
        "source": incoming.source,
        "received_at": incoming.received_at,
        "sha256": packed.sha256,
        "body": packed.body,
        "size": len(incoming.body),
        "alerts": len(incoming.alerts),
        "outcome": "stored",
        "detail": detail,
    }


def _row(known: _Known) -> dict[str, Any]:
    """A new row."""
    return {
        "id": known.id,
        "connection": known.key[0],
        "source": known.source,
        "fingerprint": known.key[1],
        "dedup_key": known.dedup_key,
        "first_seen_at": known.first_seen_at,
        **{name: _plain(known, name) for name in _CHANGING},
    }


def _bound(known: _Known) -> dict[str, Any]:
    """The values of `_CHANGED`."""
    return {"_id": known.id, **{f"_{name}": _plain(known, name) for name in _CHANGING}}


def _plain(known: _Known, name: str) -> Any:
    value = getattr(known, name)
    return dict(value) if isinstance(value, Mapping) else str(value) if isinstance(value, AlertState) else value


def _facts(case: _Case) -> dict[str, Any]:
    """What the timeline keeps of an alert."""
    alert = case.alert
    return {
        "alert": case.known.id,
        "episode": case.episode_id,
        "title": alert.title,
        "connection": case.known.key[0],
        "sender": case.known.source,
        "fingerprint": case.known.key[1],
        "labels": dict(alert.labels),
        "url": alert.url or case.known.url,
        "runbook_url": alert.runbook_url,
        "reason": case.decision.reason,
        "delivery": case.delivery.delivery_id,
    }


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
