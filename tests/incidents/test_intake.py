import asyncio
import sqlite3
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from bot.alerts import routing
from bot.alerts.model import Alert, AlertRow, AlertStatus, Delivery, Episode, Severity
from bot.alerts.routing import Routes
from bot.catalog.services import Service
from bot.engine import Engine, Work
from bot.incidents.intake import KEPT, LOCK, QUEUE_BYTES, REMEMBERED, STORM, Incoming, Intake
from bot.incidents.model import Counter, Incident, TimelineEvent
from bot.kit import yaml
from bot.kit.db import Database
from bot.kit.errors import TemporaryError

ROOT = Path(__file__).parents[2]
T = datetime(2026, 3, 1, 10, tzinfo=UTC)


def at(minutes):
    return T + timedelta(minutes=minutes)


def firing(name="web-1", starts=0, service="checkout", severity=Severity.CRITICAL, **labels):
    labels = {"alertname": "Errors", "service": service, "instance": name, **labels}
    found = Alert(AlertStatus.FIRING, f"Errors on {name}", name, name, severity, labels, starts_at=at(starts))
    return replace(found, url="https://prometheus.example.com/graph")


def resolved(name="web-1", ends=20, starts=0):
    return Alert(AlertStatus.RESOLVED, f"Errors on {name}", name, name, starts_at=at(starts), ends_at=at(ends))


def routes(text):
    found = routing.read(yaml.load(text, "routes.yaml"))
    return lambda: found


class Story:
    """One intake on one database, and a look at what it left there. Nothing is faked."""

    def __init__(self, db, table=Routes, services=dict, clock=lambda: at(60), **how):
        self.db = db
        self.reacted = []
        self.engine = Engine(db)
        self.intake = Intake(self.engine, self.react, table, clock, services, **how)

    def react(self, event):
        self.reacted.append(event.kind)
        return [Work("refresh", f"refresh:{event.id}", (event.incident_id,))]

    async def send(self, *alerts, connection="am", received=30, body=b"{}"):
        incoming = Incoming(connection, "alertmanager", body, alerts, at(received))
        return await self.intake.accept(incoming)

    async def outcomes(self, *alerts, **how):
        return [(outcome, incident) for _, outcome, incident in (await self.send(*alerts, **how)).results]

    async def rows(self, model, *order):
        async with self.db.read() as session:
            return list(await session.scalars(sa.select(model).order_by(*(order or [sa.text("1")]))))

    async def events(self, kind=None):
        found = await self.rows(TimelineEvent, TimelineEvent.recorded_at, TimelineEvent.at)
        return [event for event in found if kind in (None, event.kind)]

    async def end(self, number):
        async with self.db.write() as session:
            closed = sa.update(Incident).where(Incident.number == number).values(is_open=False, status="documenting")
            await session.execute(closed)


class Holding:
    """Somebody else who holds what every writer needs."""

    def __init__(self, db):
        if db.sqlite:
            self.connection = sqlite3.connect(db.path, isolation_level=None, check_same_thread=False)
            self.words = "BEGIN IMMEDIATE"
        else:
            address = db.sync_url.set(drivername="postgresql").render_as_string(hide_password=False)
            self.connection = psycopg.connect(address)
            self.words = f"select pg_advisory_xact_lock({LOCK})"

    def take(self):
        self.connection.execute(self.words)

    def give(self):
        self.connection.rollback()
        self.connection.close()


@pytest.fixture
async def tell(database):
    """Makes stories, on the test's database unless told otherwise, and tidies up after them."""
    told = []

    def make(db=database, kind=Story, **how):
        told.append(kind(db, **how))
        return told[-1]

    yield make
    for story in told:
        await story.engine.close()
        await story.db.close()


@pytest.fixture
def story(tell):
    return tell()


async def test_a_new_alert_opens_an_incident(story):
    assert await story.outcomes(firing(starts=5)) == [("opened", "INC-1")]

    (incident,) = await story.rows(Incident)
    assert (incident.title, incident.severity, incident.status) == ("Errors on web-1", "SEV1", "investigating")
    assert (incident.service, incident.route, incident.is_open) == ("checkout", "default", True)
    assert (incident.detected_at, incident.opened_at) == (at(5), at(30))
    (event,) = await story.events()
    assert (event.kind, event.at, event.recorded_at) == ("incident.opened", at(5), at(60))
    (row,) = await story.rows(AlertRow)
    (episode,) = await story.rows(Episode)
    assert event.data["alert"] == row.id == episode.alert_id
    assert event.data["episode"] == row.episode_id == episode.id
    assert event.data["labels"]["instance"] == "web-1"
    assert event.data["url"] == "https://prometheus.example.com/graph"
    assert row.incident_id == episode.incident_id == incident.id
    assert story.reacted == ["incident.opened"]


async def test_a_repeat_of_a_firing_alert_only_counts(story):
    await story.send(firing())
    assert await story.outcomes(firing(), received=40) == [("repeat", "INC-1")]

    (row,) = await story.rows(AlertRow)
    assert (row.seen, row.first_seen_at, row.last_seen_at) == (2, at(30), at(40))
    assert story.reacted == ["incident.opened"]
    assert len(await story.rows(Episode)) == 1


async def test_a_repeat_may_bring_news_about_the_alert(story):
    await story.send(firing())
    await story.send(replace(firing(), annotations={"summary": "worse"}, severity=Severity.HIGH))

    (row,) = await story.rows(AlertRow)
    assert (row.annotations, row.severity, row.seen) == ({"summary": "worse"}, "high", 2)


async def test_an_alert_of_the_same_group_joins_and_marks_the_card_stale(story):
    await story.send(firing(severity=Severity.HIGH))
    assert await story.outcomes(firing("web-2")) == [("attached", "INC-1")]

    (incident,) = await story.rows(Incident)
    (event,) = await story.events("alert.attached")
    assert incident.revision == 2
    assert incident.severity == "SEV2"
    assert (event.data["severity"], event.data["worse"]) == ("SEV1", True)


async def test_another_service_gets_another_incident(story):
    receipt = await story.send(firing(), firing("db-1", service="search"), firing("web-2"))

    assert [result[1:] for result in receipt.results] == [
        ("opened", "INC-1"),
        ("opened", "INC-2"),
        ("attached", "INC-1"),
    ]


async def test_the_last_alert_that_resolves_clears_the_incident(story):
    await story.send(firing("web-1"), firing("web-2"))
    assert await story.outcomes(resolved("web-1")) == [("resolved", "INC-1")]
    assert not await story.events("alerts.cleared")

    await story.send(resolved("web-2", ends=25))

    (cleared,) = await story.events("alerts.cleared")
    assert cleared.text == "Every alert of this incident has resolved"
    assert cleared.at == at(25)
    assert [event.at for event in await story.events("alert.resolved")] == [at(20), at(25)]
    assert {episode.ends_at for episode in await story.rows(Episode)} == {at(20), at(25)}
    (incident,) = await story.rows(Incident)
    assert incident.is_open
    assert incident.revision == 4


async def test_an_incident_is_not_cleared_while_something_of_the_same_delivery_fires(story):
    await story.send(firing("web-1"))
    await story.send(resolved("web-1"), firing("web-2"))

    assert not await story.events("alerts.cleared")


async def test_the_end_of_an_alert_whose_incident_is_over_clears_nothing(story):
    await story.send(firing())
    await story.end(1)
    await story.send(resolved())

    assert [event.kind for event in await story.events()] == ["incident.opened", "alert.resolved"]


async def test_a_late_copy_of_what_has_resolved_opens_nothing(story):
    await story.send(firing())
    await story.send(resolved())
    assert await story.outcomes(firing()) == [("stale_duplicate", "INC-1")]

    (row,) = await story.rows(AlertRow)
    assert row.state == "resolved"


async def test_a_new_episode_joins_the_incident_that_is_still_open(story):
    await story.send(firing())
    await story.send(resolved())
    assert await story.outcomes(firing(starts=25)) == [("attached", "INC-1")]

    assert sorted(episode.number for episode in await story.rows(Episode)) == [1, 2]
    (event,) = await story.events("alert.attached")
    assert event.text == "Alert fires again: Errors on web-1"


async def test_a_new_episode_after_the_incident_was_closed_opens_another_and_names_the_first(story):
    await story.send(firing())
    await story.send(resolved())
    await story.end(1)
    assert await story.outcomes(firing(starts=25)) == [("opened", "INC-2")]

    opened = await story.events("incident.opened")
    assert opened[-1].data["before"] == "INC-1"
    assert opened[-1].data["note"] == "happened before: INC-1"


async def test_a_repeat_of_an_alert_whose_incident_was_closed_opens_nothing(story):
    await story.send(firing())
    await story.end(1)

    assert await story.outcomes(firing()) == [("repeat", "INC-1")]
    assert len(await story.rows(Incident)) == 1


async def test_a_resolve_nobody_waited_for_is_kept_and_does_nothing(story):
    assert await story.outcomes(resolved()) == [("orphan_resolve", None)]
    assert await story.outcomes(resolved()) == [("ignored", None)]
    assert await story.outcomes(firing()) == [("stale_duplicate", None)]

    (row,) = await story.rows(AlertRow)
    assert (row.state, row.starts_at, row.ends_at) == ("resolved", at(0), at(20))
    assert not await story.rows(TimelineEvent)


async def test_a_burst_is_told_alert_by_alert_in_order_but_followed_up_once(story):
    await story.send(*[firing(f"web-{i}") for i in range(40)])

    events = await story.events()
    assert [event.kind for event in events] == ["incident.opened", *["alert.attached"] * 39]
    assert [event.data["title"] for event in events] == [f"Errors on web-{i}" for i in range(40)]
    assert story.reacted == ["incident.opened", "alert.attached"]


async def test_many_copies_in_one_delivery_are_one_alert(story):
    receipt = await story.send(*[firing() for _ in range(250)])

    assert [outcome for _, outcome, _ in receipt.results] == ["opened", *["repeat"] * 249]
    (row,) = await story.rows(AlertRow)
    assert row.seen == 250


async def test_a_whole_life_in_one_delivery_comes_out_right(story):
    receipt = await story.send(firing(), resolved(), firing(starts=22), resolved(ends=28, starts=22))

    assert [outcome for _, outcome, _ in receipt.results] == ["opened", "resolved", "attached", "resolved"]
    assert sorted((e.number, e.ends_at) for e in await story.rows(Episode)) == [(1, at(20)), (2, at(28))]
    assert len(await story.events("alerts.cleared")) == 1


async def test_the_same_fingerprint_from_two_connections_is_two_alerts(story):
    await story.send(firing(), connection="one")
    await story.send(firing(), connection="two")

    assert len(await story.rows(AlertRow)) == 2


async def test_what_is_only_suggested_waits_in_triage_and_what_is_unimportant_is_only_kept(story):
    warning = firing("a", service="a", severity=Severity.MEDIUM)
    assert await story.outcomes(warning, firing("b", severity=Severity.LOW)) == [
        ("suggested", "INC-1"),
        ("stored", None),
    ]

    (incident,) = await story.rows(Incident)
    assert (incident.status, incident.severity, incident.is_open) == ("triage", "SEV3", True)
    assert story.reacted == ["incident.suggested"]
    assert len(await story.rows(AlertRow)) == 2


async def test_a_route_and_the_catalog_furnish_the_incident(tell):
    table = routes(
        "version: 1\nroutes:\n"
        "  - {name: pay, match: service=checkout, service: payments, private: true,\n"
        "     severity: {critical: SEV2}, runbooks: [a]}\n"
    )
    services = {"payments": Service(owner="team-pay", runbooks=("a", "b"))}
    story = tell(table=table, services=lambda: services)
    await story.send(firing())

    (incident,) = await story.rows(Incident)
    assert (incident.service, incident.team, incident.route, incident.severity) == (
        "payments",
        "team-pay",
        "pay",
        "SEV2",
    )
    assert incident.runbooks == ["a", "b"]
    assert incident.private


async def test_times_a_sender_does_not_give_or_gets_wrong_are_the_time_of_arrival(story):
    await story.send(replace(firing("a"), starts_at=None), replace(firing("b", service="b"), starts_at=at(31)))
    await story.send(replace(resolved("a"), starts_at=None, ends_at=None), received=50)

    assert [event.at for event in await story.events("incident.opened")] == [at(30), at(30)]
    assert [event.at for event in await story.events("alert.resolved")] == [at(50)]


async def test_the_delivery_is_kept_with_its_body(story):
    receipt = await story.send(firing(), firing("web-2"), body=b"x" * (KEPT + 5))

    (delivery,) = await story.rows(Delivery)
    assert delivery.id == receipt.delivery_id
    assert (delivery.size, delivery.alerts, delivery.connection) == (KEPT + 5, 2, "am")
    assert delivery.detail == {"results": {"opened": 1, "attached": 1}, "cut": KEPT}
    assert len(delivery.body) < 10_000


async def test_a_delivery_without_alerts_is_kept_too(story):
    assert (await story.send()).results == []
    assert len(await story.rows(Delivery)) == 1


async def test_fifty_deliveries_of_one_alert_at_once_open_exactly_one_incident(story):
    receipts = await asyncio.gather(*(story.send(firing()) for _ in range(50)))

    outcomes = sorted(receipt.results[0][1] for receipt in receipts)
    assert outcomes == ["opened", *["repeat"] * 49]
    assert len(await story.rows(Incident)) == 1
    assert len(await story.rows(Delivery)) == 50
    (counter,) = await story.rows(Counter)
    assert counter.value == 1


async def test_two_processes_at_once_open_exactly_one_incident_for_each_group(tell, database_url):
    one, two = tell(), tell(Database(database_url))
    alerts = [firing(f"web-{i}", service=f"s{i % 3}") for i in range(30)]

    receipts = await asyncio.gather(*(story.send(alert) for alert in alerts for story in (one, two)))

    outcomes = [receipt.results[0][1] for receipt in receipts]
    assert (outcomes.count("opened"), outcomes.count("attached"), outcomes.count("repeat")) == (3, 27, 30)
    assert sorted(incident.number for incident in await one.rows(Incident)) == [1, 2, 3]


PROCESS = """
import asyncio, sys
from datetime import datetime, timedelta
from bot.alerts.model import Alert, AlertStatus, Severity
from bot.alerts.routing import Routes
from bot.engine import Engine
from bot.incidents.intake import Incoming, Intake
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import TemporaryError

async def main(url):
    db = Database(url)
    engine = Engine(db)
    intake = Intake(engine, lambda event: [], Routes, utc_now)
    print("ready", flush=True)
    sys.stdin.readline()
    started = datetime.fromisoformat("2026-03-01T10:00:00+00:00")

    async def send(n):
        labels = {"alertname": "Errors", "service": f"s{n % 3}"}
        key = f"web-{n}"
        alert = Alert(AlertStatus.FIRING, "Errors", key, key, Severity.CRITICAL, labels, starts_at=started)
        while True:
            try:
                receipt = await intake.accept(Incoming("am", "alertmanager", b"{}", (alert,), utc_now()))
                return print(receipt.results[0][1], flush=True)
            except TemporaryError:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(send(n) for n in range(30)))
    await engine.close()
    await db.close()

asyncio.run(main(sys.argv[1]))
"""


async def test_two_processes_of_the_operating_system_open_exactly_one_incident_for_each_group(story, database_url):
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, database_url, cwd=ROOT, **pipes)
        for _ in range(2)
    ]
    for process in both:
        assert await process.stdout.readline() == b"ready\n"
    told = [
        out.decode().split() for out, _ in await asyncio.gather(*(process.communicate(b"go\n") for process in both))
    ]

    assert [process.returncode for process in both] == [0, 0]
    outcomes = sorted(outcome for one in told for outcome in one)
    assert (outcomes.count("opened"), outcomes.count("attached"), outcomes.count("repeat")) == (3, 27, 30)
    assert len(await story.rows(Incident)) == 3
    assert {row.seen for row in await story.rows(AlertRow)} == {2}


async def test_the_database_itself_refuses_a_second_open_incident_of_a_group_and_nothing_else(story):
    def incident(number, group, is_open):
        return Incident(
            id=f"i{number}", number=number, title="x", severity="SEV1", status="investigating", is_open=is_open,
            group_key=group, detected_at=T, opened_at=T,
        )  # fmt: skip

    async def insert(*row):
        async with story.db.write() as session:
            session.add(incident(*row))

    for row in ((1, "g", False), (2, "g", True), (3, "g", False), (4, "other", True), (5, None, True), (6, None, True)):
        await insert(*row)
    with pytest.raises(sa.exc.IntegrityError, match=r"one_open_incident_per_group|incident\.group_key"):
        await insert(7, "g", True)
    async with story.db.write() as session:
        again = sa.update(Incident).where(Incident.number == 1).values(is_open=True)
        with pytest.raises(sa.exc.IntegrityError):
            await session.execute(again)

    assert len(await story.rows(Incident)) == 6


async def test_numbers_have_no_gaps_and_go_on_where_people_left_off(story):
    async with story.db.write() as session:
        await session.execute(sa.update(Counter).values(value=41))

    assert await story.outcomes(firing()) == [("opened", "INC-42")]
    assert await story.outcomes(firing("b", service="b")) == [("opened", "INC-43")]


async def test_a_delivery_that_cannot_be_stored_fails_alone(story):
    poisoned = replace(firing("bad", service="bad"), annotations={"broken": object()})

    with capture_logs() as logged:
        results = await asyncio.gather(
            story.send(firing("a")), story.send(poisoned), story.send(firing("b")), return_exceptions=True
        )

    assert [result.results[0][1] for result in results[::2]] == ["opened", "attached"]
    assert isinstance(results[1], Exception)
    assert not isinstance(results[1], TemporaryError)
    assert [entry["event"] for entry in logged] == ["intake.one_by_one", "intake.failed"]
    assert len(await story.rows(Delivery)) == 2
    assert await story.outcomes(firing("c")) == [("attached", "INC-1")]


async def test_an_incident_that_is_reopened_in_the_same_moment_is_joined(story):
    await story.send(firing())
    await story.end(1)
    async with story.db.write() as session:
        await session.execute(sa.update(Incident).values(is_open=True))
        waiting = asyncio.ensure_future(story.outcomes(firing("web-2")))
        await asyncio.sleep(0.2)

    assert await waiting == [("attached", "INC-1")]
    (counter,) = await story.rows(Counter)
    assert counter.value == 1


async def test_a_database_that_is_away_is_said_to_be():
    away = Story(Database("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"))

    with pytest.raises(TemporaryError, match="the database did not answer"):
        await away.send(firing())
    await away.db.close()


async def test_a_database_that_is_locked_for_longer_than_a_sender_waits_loses_and_doubles_nothing(tell, database):
    story = tell(answer_seconds=0.3)
    held = Holding(database)
    await asyncio.to_thread(held.take)
    first = await asyncio.gather(*(story.send(firing(f"web-{n}")) for n in range(5)), return_exceptions=True)
    second = await asyncio.gather(*(story.send(firing(f"web-{n}")) for n in range(10)), return_exceptions=True)
    await asyncio.to_thread(held.give)
    third = await asyncio.gather(*(story.send(firing(f"web-{n}")) for n in range(10)))

    assert {type(answer) for answer in (*first, *second)} == {TemporaryError}
    assert {str(answer) for answer in (*first, *second)} == {"the database did not answer in time"}
    assert {receipt.results[0][2] for receipt in third} == {"INC-1"}
    assert len(await story.rows(AlertRow)) == 10
    assert len(await story.rows(Incident)) == 1
    assert len(await story.events()) == 10


async def test_in_a_storm_those_who_are_answered_at_different_times_come_to_share_their_transactions(tell):
    loop, queued, transactions = asyncio.get_running_loop(), threading.Event(), []

    async def repeat(name, times):
        for _ in range(times):
            await story.send(firing(name))
            for _ in range(20):  # the way to the sender and back
                await asyncio.sleep(0)

    def others_come():
        others.extend(asyncio.ensure_future(repeat(f"other-{n}", 4)) for n in range(STORM))
        loop.call_soon(queued.set)

    def clock():  # asked once in each transaction, in its thread
        transactions.append(len(transactions))
        if len(transactions) == 1:
            loop.call_soon_threadsafe(others_come)
            assert queued.wait(30)
        return at(60)

    others = []
    story = tell(clock=clock, gather_seconds=1e6)
    await asyncio.gather(*(repeat(f"web-{n}", 5) for n in range(STORM)))
    await asyncio.gather(*others)
    await story.intake.stop()

    assert len(transactions) == 5


async def test_who_sends_alone_waits_for_nobody(tell):
    story = tell(gather_seconds=1e6)

    assert [await story.outcomes(firing("web-1")) for _ in range(3)] == [
        [("opened", "INC-1")],
        [("repeat", "INC-1")],
        [("repeat", "INC-1")],
    ]


async def test_who_does_not_come_back_in_a_storm_holds_up_the_others_for_a_moment_only(tell):
    story = tell(gather_seconds=0.01)
    await asyncio.gather(*(story.send(firing(f"web-{n}")) for n in range(STORM)))

    assert await story.outcomes(firing("web-1")) == [("repeat", "INC-1")]


async def test_more_than_can_wait_is_refused_for_now(story):
    waiting = asyncio.gather(story.send(firing()))
    await asyncio.sleep(0)
    with pytest.raises(TemporaryError, match="too many alerts"):
        await story.send(firing(), body=bytes(QUEUE_BYTES))

    await waiting


async def test_what_came_before_the_stop_is_finished_and_what_comes_after_is_refused(story):
    waiting = asyncio.gather(*(story.send(firing(f"web-{i}")) for i in range(5)))
    await asyncio.sleep(0)
    await story.intake.stop()

    assert len(await waiting) == 5
    with pytest.raises(TemporaryError, match="stopping"):
        await story.send(firing())


async def test_a_sender_that_hangs_up_disturbs_nobody(story):
    gone = asyncio.ensure_future(story.send(firing("gone", service="gone")))
    stays = asyncio.ensure_future(story.send(firing()))
    await asyncio.sleep(0)
    gone.cancel()

    assert (await stays).results[0][1] == "opened"
    assert await story.outcomes(firing("web-2")) == [("attached", (await stays).results[0][2])]


async def test_what_another_process_made_of_an_alert_is_seen_though_it_was_remembered(tell):
    ours, theirs = tell(), tell()
    alert = firing(severity=Severity.CRITICAL)
    first = [await ours.outcomes(alert) for _ in range(3)]
    await theirs.send(replace(alert, title="Another title", annotations={"more": "words"}))
    counted = await ours.outcomes(alert)
    await theirs.send(resolved())
    late = await ours.outcomes(alert)
    (row,) = await ours.rows(AlertRow)

    assert first == [[("opened", "INC-1")], [("repeat", "INC-1")], [("repeat", "INC-1")]]
    assert (counted, late) == ([("repeat", "INC-1")], [("stale_duplicate", "INC-1")])
    assert (row.title, dict(row.annotations), row.state, row.seen) == (alert.title, {}, "resolved", 5)


async def test_what_a_failed_transaction_made_of_an_alert_is_not_remembered(tell):
    broken = []

    class Breaking(Story):
        def react(self, event):
            if broken:
                raise ZeroDivisionError
            return super().react(event)

    story = tell(kind=Breaking)
    await story.send(firing())
    await story.send(firing())
    broken.append(True)
    with pytest.raises(ZeroDivisionError):
        await story.send(resolved(), replace(firing("web-2"), title="New"))
    broken.clear()
    again = await story.outcomes(firing())
    (row,) = await story.rows(AlertRow)

    assert again == [("repeat", "INC-1")]
    assert (row.state, row.seen) == ("firing", 3)


async def test_more_alerts_than_are_remembered_are_counted_all_the_same(story):
    many = [firing(f"web-{n}") for n in range(REMEMBERED + 50)]
    await story.send(*many)
    for _ in range(2):
        assert {outcome for outcome, _ in await story.outcomes(*many)} == {"repeat"}

    assert {row.seen for row in await story.rows(AlertRow)} == {3}
    assert len(story.intake._memory._kept) == REMEMBERED
