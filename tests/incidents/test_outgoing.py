"""What leaves for sinks: a row each, in order, tried for a day, nothing lost, and people told of what was given up."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from bot.alerts.model import Alert, AlertStatus, Severity
from bot.alerts.routing import Routes
from bot.catalog.sinks import Configured, SinkSettings
from bot.engine import Engine
from bot.incidents import lifecycle, outgoing
from bot.incidents.intake import Incoming, Intake
from bot.incidents.model import Incident, Sev, TimelineEvent
from bot.incidents.outgoing import Deliveries, Outbox, Outgoing
from bot.incidents.sink import Receipt, Said
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError, UserError
from tests.fakes.sink import FakeSink


class World:
    """An engine that is not started, sinks that are planned, and a clock that is set."""

    def __init__(self, database, **settings) -> None:
        self.now = utc_now()
        self.engine = Engine(database)
        self.promised = []
        self.fakes: dict[str, FakeSink] = {}
        self.sinks: dict[str, Configured] = {}
        for name, keys in (settings or {"all": {}}).items():
            self.sinks[name] = Configured(name, SinkSettings(kind="fake", **keys))
            self.fakes[name] = FakeSink()
        self.outbox = Outbox(self.sinks)
        self.deliveries = Deliveries(
            self.engine, self.react, self.sinks, self.fakes, None, lambda: self.now, first=timedelta(seconds=5)
        )

    def react(self, event):
        work = self.outbox((event,))
        self.promised += work
        return work

    async def declare(self, title="Payments are down", **more) -> Incident:
        async with self.engine.transaction() as tx:
            return await lifecycle.declare(
                tx, self.react, title=title, severity=Sev.SEV2, by="U1", now=self.now, **more
            )

    async def note(self, incident, text) -> None:
        self.now += timedelta(seconds=1)
        async with self.engine.transaction() as tx:
            await lifecycle.note(tx, self.react, incident, text, by="U1", now=self.now)

    async def go(self) -> None:
        """Do what was promised, as the engine would."""
        while self.promised:
            work = self.promised.pop(0)
            await self.deliveries.dispatch(*work.args)
            for name in self.sinks:
                await self.deliveries.deliver(name, work.args[0])

    async def again(self, incident, **later) -> None:
        self.now += timedelta(**later)
        for name in self.sinks:
            await self.deliveries.deliver(name, incident.id)

    async def rows(self) -> list[Outgoing]:
        async with self.engine.db.read() as session:
            order = (Outgoing.sink, Outgoing.recorded_at, Outgoing.event_id)
            return list(await session.scalars(sa.select(Outgoing).order_by(*order)))

    async def kinds(self) -> list[str]:
        async with self.engine.db.read() as session:
            query = sa.select(TimelineEvent.kind).order_by(TimelineEvent.recorded_at, TimelineEvent.id)
            return list(await session.scalars(query))

    def told(self, name="all") -> list[str]:
        return [message.text for message in self.fakes[name].told]


@pytest.fixture
async def world(database):
    made = World(database)
    yield made
    await made.engine.close()


async def test_every_event_is_told_in_order_and_written_down(world):
    incident = await world.declare()
    for text in ("one", "two", "three"):
        await world.note(incident, text)
    await world.go()

    assert world.told()[1:] == ["one", "two", "three"]
    rows = await world.rows()
    assert [row.state for row in rows] == ["delivered"] * 4
    assert [(row.attempts, row.detail) for row in rows] == [(1, "taken")] * 4


async def test_doing_it_again_tells_nothing_again(world):
    await world.declare()
    promised = list(world.promised)
    await world.go()
    world.promised = promised
    await world.go()

    assert len(world.told()) == 1


async def test_an_hour_without_an_answer_loses_nothing_and_keeps_the_order(world):
    world.fakes["all"].away = TemporaryError("away")
    incident = await world.declare()
    for text in ("one", "two"):
        await world.note(incident, text)
    await world.go()
    for _ in range(120):
        await world.again(incident, seconds=30)
    tried = len(world.told())
    world.fakes["all"].away = None
    world.fakes["all"].told.clear()
    await world.again(incident, hours=1.3)

    assert 5 < tried < 15  # of the first alone: the others wait for their turn
    assert world.told()[1:] == ["one", "two"]
    assert [row.state for row in await world.rows()] == ["delivered"] * 3
    assert "delivery.given_up" not in await world.kinds()


async def test_where_order_does_not_matter_one_that_fails_holds_up_no_other(database):
    world = World(database, all={"ordered": False})
    incident = await world.declare()
    await world.note(incident, "two")
    world.fakes["all"].answers = [TemporaryError("not this one")]
    await world.go()

    assert [row.state for row in await world.rows()] == ["waiting", "delivered"]
    await world.again(incident, seconds=10)
    assert [row.state for row in await world.rows()] == ["delivered", "delivered"]
    await world.engine.close()


async def test_the_time_that_the_other_side_asks_for_is_waited(world):
    world.fakes["all"].answers = [TemporaryError("slow down", after=300)]
    incident = await world.declare()
    await world.go()
    await world.again(incident, seconds=299)
    before = len(world.told())
    await world.again(incident, seconds=2)

    assert (before, len(world.told())) == (1, 2)


async def test_after_a_day_it_is_given_up_and_told_once(world):
    world.fakes["all"].away = TemporaryError("away")
    incident = await world.declare()
    await world.note(incident, "one")
    await world.go()
    for _ in range(60):
        await world.again(incident, hours=1.3)
    rows = await world.rows()

    assert [row.state for row in rows] == ["given_up", "given_up"]
    assert rows[0].detail == "tried for a day: away"
    assert (await world.kinds()).count("delivery.given_up") == 1


async def test_a_refusal_is_given_up_at_once_and_what_follows_is_told(world):
    world.fakes["all"].answers = [PermanentError("the token is revoked")]
    incident = await world.declare()
    await world.note(incident, "one")
    await world.go()

    assert [row.state for row in await world.rows()] == ["given_up", "delivered"]
    async with world.engine.db.read() as session:
        event = await session.scalar(sa.select(TimelineEvent).where(TimelineEvent.kind == "delivery.given_up"))
    assert "the token is revoked" in event.text
    assert "tocsin deliveries --failed" in event.text


async def test_what_a_sink_says_follows_from_a_delivery_is_recorded_once(world):
    said = Receipt("delivered", "published", "p1", Said("statuspage.published", "Published", {"url": "x"}))
    world.fakes["all"].answers = [said]
    await world.declare()
    await world.go()

    assert (await world.kinds()).count("statuspage.published") == 1
    assert [row.reference for row in await world.rows() if row.kind == "incident.opened"] == ["p1"]


async def test_a_private_incident_is_not_told_or_only_that_it_is(database):
    world = World(database, never={}, refs={"private": "reference"})
    incident = await world.declare("Somebody reads the payroll", private=True, service="payroll")
    await world.note(incident, "It is the auditor")
    await world.go()

    rows = await world.rows()
    assert [row.state for row in rows if row.sink == "never"] == ["skipped"] * 2
    assert world.fakes["never"].told == []
    assert len(world.fakes["refs"].told) == 2
    whole = repr(world.fakes["refs"].told)
    assert not any(word in whole for word in ("payroll", "auditor", "U1"))
    assert incident.reference in whole
    await world.engine.close()


async def test_filters_leave_no_row(database):
    world = World(database, notes={"events": ["note.*"]}, sev1={"severity": ["SEV1"]}, shop={"services": ["shop"]})
    incident = await world.declare(service="search")
    await world.note(incident, "one")
    await world.go()

    assert [(row.sink, row.kind) for row in await world.rows()] == [("notes", "note.added")]
    await world.engine.close()


async def test_what_no_sink_wants_promises_nothing(database):
    world = World(database, notes={"events": ["note.*"]})
    await world.declare()

    assert world.promised == []
    assert Outbox({})((TimelineEvent(id="1", kind="note.added"),)) == []
    await world.engine.close()


async def test_a_crash_while_it_is_sent_is_one_attempt_and_it_is_sent_again(world):
    world.fakes["all"].answers = [RuntimeError("killed here")]
    incident = await world.declare()
    with pytest.raises(RuntimeError):
        await world.go()
    (row,) = await world.rows()
    assert (row.state, row.attempts) == ("waiting", 1)

    await world.again(incident, seconds=10)
    assert [row.state for row in await world.rows()] == ["delivered"]


async def test_a_sink_that_is_not_configured_any_more_is_given_up(world):
    await world.declare()
    work = world.promised.pop()
    await world.deliveries.dispatch(*work.args)
    world.deliveries.sinks, world.deliveries.made = {}, {}
    await world.deliveries.deliver("all", work.args[0])

    (row,) = await world.rows()
    assert (row.state, row.detail) == ("given_up", "sinks.yaml has no sink of this name any more")


async def test_the_clock_promises_what_is_due_and_nothing_else(world):
    incident = await world.declare()
    later = world.now + timedelta(seconds=10)
    row = Outgoing(
        id="1" * 32, sink="all", incident_id=incident.id, event_id="2" * 32, kind="note.added", attempts=1,
        recorded_at=world.now, created_at=world.now, next_at=later,
    )  # fmt: skip
    async with world.engine.transaction() as tx:
        tx.session.add(row)

    async def promised() -> int:
        async with world.engine.transaction() as tx:
            table = "workflow_status" if world.engine.db.sqlite else "dbos.workflow_status"
            return await tx.session.scalar(sa.text(f"select count(*) from {table} where name = 'deliver'"))

    await world.deliveries.tick()
    early = await promised()
    world.now = later
    for _ in range(2):  # several processes tick
        await world.deliveries.tick()

    assert (early, await promised()) == (0, 1)


async def test_a_delivery_that_was_given_up_can_be_tried_anew(world):
    world.fakes["all"].answers = [PermanentError("no")]
    incident = await world.declare()
    await world.go()
    (row,) = await world.rows()
    async with world.engine.transaction() as tx:
        with pytest.raises(UserError, match="six characters"):
            await outgoing.again(tx, row.id[:3], now=world.now)
        with pytest.raises(UserError, match="No delivery"):
            await outgoing.again(tx, "ffffff%", now=world.now)
        await outgoing.again(tx, row.id[:12], now=world.now)
    async with world.engine.db.read() as session:
        failing = await outgoing.listed(session, failed=True, limit=10)
    await world.again(incident, seconds=0)

    assert failing == []
    assert [row.state for row in await world.rows()] == ["delivered"]


async def test_everything_that_was_given_up_can_be_tried_anew_at_once(world):
    world.fakes["all"].away = PermanentError("the token is revoked")
    incident = await world.declare()
    await world.note(incident, "one")
    await world.go()
    world.fakes["all"].away = None
    world.fakes["all"].told.clear()
    async with world.engine.transaction() as tx:
        tried = await outgoing.all_again(tx, now=world.now)
    await world.again(incident, seconds=0)

    assert len(tried) == 2
    assert [row.state for row in await world.rows()] == ["delivered", "delivered"]
    assert world.told()[1:] == ["one"]


async def test_who_was_told_of_an_incident_hears_how_it_ends_also_when_it_is_less_bad_by_then(database):
    world = World(database, bad={"severity": ["SEV1", "SEV2"]}, worst={"severity": ["SEV1"]})
    incident = await world.declare()
    await world.go()
    world.now += timedelta(seconds=1)
    async with world.engine.transaction() as tx:
        found = await lifecycle.find(tx.session, incident.id, lock=True)
        await lifecycle.set_severity(tx, world.react, found, Sev.SEV4, by="U1", now=world.now)
    await world.go()

    assert [(row.sink, row.kind) for row in await world.rows()] == [
        ("bad", "incident.opened"),
        ("bad", "severity.changed"),
    ]
    await world.engine.close()


async def test_a_burst_of_alerts_tells_a_sink_of_each(database):
    world = World(database)
    now = world.now
    intake = Intake(world.engine, lambda event: (), Routes, lambda: world.now, outbox=world.outbox)
    promised = []
    intake._outbox = lambda events: promised.extend(world.outbox(events)) or world.outbox(events)
    alerts = tuple(
        Alert(
            AlertStatus.FIRING,
            f"Disk {n}",
            f"f{n}",
            f"f{n}",
            severity=Severity.CRITICAL,
            labels={"service": "db"},
            starts_at=now,
        )
        for n in range(5)
    )
    for _ in range(2):  # repeats are no events
        await intake.accept(Incoming("c", "generic", b"{}", alerts, now))
    await intake.stop()
    pieces, world.promised = len(promised), promised
    await world.go()

    assert pieces == 1
    assert [row.kind for row in await world.rows()].count("alert.attached") == 4
    assert len(world.told()) == 5
    await world.engine.close()


def test_the_wait_grows_to_an_hour():
    made = Deliveries(None, None, {}, {}, None, lambda: datetime.now())
    waits = [made._wait(attempt).total_seconds() for attempt in range(1, 30)]

    assert 4 <= waits[0] <= 6
    assert max(waits) <= 3600 * 1.2
    assert waits[-1] >= 3600 * 0.8
