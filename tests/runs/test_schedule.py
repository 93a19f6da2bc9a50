"""Times of a schedule: which have come, which were missed, and that each is promised and run once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import logbook, timeline
from bot.incidents.chat import Channel
from bot.incidents.logbook import Logbook
from bot.kit.db import Database
from bot.kit.errors import PermanentError
from bot.runs.automation import EVERY, switch
from bot.runs.books import Books
from bot.runs.model import Clockwork, Run
from bot.runs.runbook import Schedule, load
from bot.runs.schedule import Due, Schedules, due, spread
from tests.fakes.chat import FakeChat
from tests.runs.conftest import nothing_follows
from tests.runs.test_runbook import SHELF

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOURLY = Schedule(cron="0 * * * *")
BOOK = """version: 1
id: demo
name: Demo
owner: team
schedule: {cron: '0 * * * *', params: {host: web-1}, jitter: 10m}
params: {host: {}}
concurrency: {key: 'x:{{ params.host }}'}
steps: [{note: done}]
"""


def later(**by: float) -> datetime:
    return NOON + timedelta(**by)


def test_a_time_that_has_come_is_due_once():
    assert due(HOURLY, later(minutes=-30), later(seconds=5)) == Due(NOON, NOON)
    assert due(HOURLY, NOON, later(seconds=5)) is None
    assert due(HOURLY, NOON, later(minutes=59)) is None


@pytest.mark.parametrize(
    ("catch_up", "found"),
    [("once", Due(NOON, NOON, missed=3, late=True)), ("skip", Due(NOON, None, missed=3, late=True))],
)
def test_what_was_missed_is_made_up_for_once_or_not(catch_up, found):
    schedule = HOURLY.model_copy(update={"catch_up": catch_up})

    assert due(schedule, later(hours=-3), later(minutes=10)) == found


def test_the_run_of_now_stands_for_what_was_missed_before():
    skipping = HOURLY.model_copy(update={"catch_up": "skip"})

    assert due(skipping, later(hours=-3), later(seconds=5)) == Due(NOON, NOON, missed=2)


def test_a_clock_that_was_put_back_goes_on_from_there():
    assert due(HOURLY, later(hours=5), later(minutes=10)) == Due(later(minutes=10))
    assert due(HOURLY, later(minutes=4), later(minutes=1)) is None  # two processes differ by that much


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(["0 * * * *", "30 2 * * *", "*/20 * * * mon-fri"]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.sampled_from(["once", "skip"]),
    st.datetimes(datetime(2026, 3, 20), datetime(2026, 11, 1), timezones=st.just(UTC)),
    st.lists(st.integers(min_value=-7200, max_value=90_000), min_size=1, max_size=25),
)
def test_however_the_clock_goes_no_time_is_handed_out_twice_going_forward(cron, zone, catch_up, now, moves):
    schedule = Schedule(cron=cron, timezone=zone, catch_up=catch_up)
    handled, given_out = now, []
    for seconds in moves:
        now += timedelta(seconds=max(seconds, 0))  # what a clock that goes back does is a run's id to catch
        found = due(schedule, handled, now)
        if found is not None:
            handled = found.handled_at
            given_out += [found.at] if found.at else []
            assert found.handled_at <= now

    assert given_out == sorted(set(given_out))


def test_chance_spreads_the_start_and_is_the_same_for_every_process():
    schedule = Schedule(cron="0 * * * *", jitter="10m")
    found = [spread(schedule, name, NOON) for name in ("a", "b", "c", "d")]

    assert found == [spread(schedule, name, NOON) for name in ("a", "b", "c", "d")]
    assert len(set(found)) == 4
    assert all(timedelta() <= one < timedelta(minutes=10) for one in found)
    assert spread(HOURLY, "a", NOON) == timedelta()


def ops() -> FakeChat:
    return FakeChat(channels={"COPS": Channel("COPS", "ops")})


# -- with a database --------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class Bench:
    """One process's part in it, without its engine at work: what is promised stays there to be looked at."""

    def __init__(self, engine: Engine, clock: Clock, books: Books) -> None:
        log = Logbook(engine, nothing_follows, ops(), clock, "ops")
        self.engine, self.clock, self.books = engine, clock, books
        self.schedules = Schedules(engine, nothing_follows, clock, books, log)

    async def promised(self) -> list[str]:
        table = "workflow_status" if self.engine.db.sqlite else "dbos.workflow_status"
        query = sa.text(f"select workflow_uuid from {table} where name = 'schedule' order by workflow_uuid")
        async with self.engine.db.read() as session:
            return list(await session.scalars(query))

    async def tick(self, **by: float) -> list[str]:
        self.clock.now = later(**by)
        await self.schedules.tick()
        return await self.promised()

    async def runs(self) -> list[Run]:
        async with self.engine.db.read() as session:
            return list(await session.scalars(sa.select(Run).order_by(col(Run.number))))

    async def told(self) -> list[str]:
        async with self.engine.db.read() as session:
            return [event.text for event in await timeline.whole(session, logbook.ID)]


@pytest.fixture
async def bench(database_url):
    shelf = SHELF if SHELF.modules else SHELF.load()
    engine = Engine(Database(database_url))
    yield Bench(engine, Clock(), Books({"demo": load(BOOK, "demo.yaml", shelf)}))
    await engine.close()
    await engine.db.close()


async def test_a_schedule_that_is_new_begins_now_and_each_time_is_promised_once(bench):
    assert await bench.tick() == []
    assert await bench.tick(minutes=59) == []
    assert await bench.tick(minutes=60, seconds=1) == ["schedule:demo:2026-03-02T13:00Z"]
    assert await bench.tick(minutes=60, seconds=9) == ["schedule:demo:2026-03-02T13:00Z"]
    assert len(await bench.tick(hours=2)) == 2


async def test_nothing_is_promised_and_nothing_starts_where_the_operator_has_not_said_so(bench):
    await bench.tick()
    bench.schedules.on = False
    assert await bench.tick(hours=1) == []
    await bench.schedules.start("demo", later(hours=1).isoformat())
    assert await bench.runs() == []

    bench.schedules.on = True  # after a while: what came meanwhile was not missed
    assert await bench.tick(hours=5, minutes=1) == []
    assert not await bench.told()


async def test_several_that_look_at_the_same_moment_promise_it_once(bench, database_url):
    others = [Bench(Engine(Database(database_url)), bench.clock, bench.books) for _ in range(3)]
    await bench.tick()
    bench.clock.now = later(hours=1)

    await asyncio.gather(*(one.schedules.tick() for one in (bench, *others)))

    assert await bench.promised() == ["schedule:demo:2026-03-02T13:00Z"]
    for one in others:
        await one.engine.close()
        await one.engine.db.close()


async def test_one_time_is_one_run_however_often_it_is_told_to_start(bench):
    bench.clock.now = later(minutes=3)
    for _ in range(2):
        await bench.schedules.start("demo", NOON.isoformat())

    (run,) = await bench.runs()
    assert (run.params, run.trigger, run.because) == ({"host": "web-1"}, "schedule", "it was Mon 02 Mar 12:00 UTC")
    assert run.incident_id == logbook.ID


async def test_a_time_that_has_had_its_run_is_not_promised_again_when_the_clock_was_put_back(bench):
    await bench.tick(minutes=-10)
    await bench.tick(seconds=1)
    await bench.schedules.start("demo", NOON.isoformat())
    await bench.tick(hours=-2)

    # The engine has forgotten the promise by then, as it does after some days.
    table = "workflow_status" if bench.engine.db.sqlite else "dbos.workflow_status"
    async with bench.engine.db.write() as session:
        await session.execute(sa.text(f"delete from {table}"))
    assert await bench.tick(seconds=2) == []
    assert not [text for text in await bench.told() if "missed" in text]


async def test_with_other_times_counting_begins_anew(bench):
    await bench.tick()
    moved = bench.books.runbooks["demo"].model_copy(update={"schedule": Schedule(cron="30 * * * *")})
    bench.books.runbooks = {"demo": moved}

    assert await bench.tick(hours=5, minutes=10) == []
    assert await bench.tick(hours=5, minutes=31) == ["schedule:demo:2026-03-02T17:30Z"]


async def test_what_git_does_not_have_any_more_starts_nothing_and_is_forgotten(bench):
    await bench.tick()
    assert await bench.tick(hours=1) != []
    there, bench.books.runbooks = bench.books.runbooks, {}
    await bench.schedules.start("demo", later(hours=1).isoformat())
    await bench.tick(hours=1, minutes=1)

    assert await bench.runs() == []
    async with bench.engine.db.read() as session:
        assert list(await session.scalars(sa.select(Clockwork))) == []
    bench.books.runbooks = there
    assert len(await bench.tick(days=30)) == 1  # back after a month: nothing to make up for


async def test_a_promise_for_a_time_that_is_none_any_more_starts_nothing(bench):
    moved = bench.books.runbooks["demo"].model_copy(update={"schedule": Schedule(cron="30 * * * *")})
    bench.books.runbooks = {"demo": moved}

    await bench.schedules.start("demo", NOON.isoformat())

    assert await bench.runs() == []


async def test_a_run_that_is_still_at_work_keeps_the_next_one_from_starting_and_it_is_told(bench):
    await bench.schedules.start("demo", NOON.isoformat())
    bench.clock.now = later(hours=1)
    await bench.schedules.start("demo", later(hours=1).isoformat())

    assert len(await bench.runs()) == 1
    told = (await bench.told())[-1]
    assert told.startswith(
        "Demo did not run at its time (Mon 02 Mar 13:00 UTC): Demo is at work on this already: run 1"
    )
    assert "started by the bot itself" in told


@pytest.mark.parametrize("name", ["demo", EVERY])
async def test_what_people_have_switched_off_does_not_run_by_the_clock_and_it_is_told_once(bench, name):
    async with bench.engine.transaction() as tx:
        log = await logbook.opened(tx, now=NOON)
        await switch(tx, nothing_follows, [log], name, off=True, by="UBOB", now=NOON)
    for hours in (0, 1, 2):
        bench.clock.now = later(hours=hours)
        await bench.schedules.start("demo", bench.clock.now.isoformat())

    assert await bench.runs() == []
    assert [text for text in await bench.told() if "did not run" in text] == [
        "Demo did not run at its time (Mon 02 Mar 12:00 UTC): <@UBOB> has switched it off"
    ]


async def test_the_log_is_one_row_whoever_opens_it_and_finds_its_channel(bench):
    chat = ops()
    log = Logbook(bench.engine, nothing_follows, chat, bench.clock, "ops")

    async def opened() -> str:
        async with bench.engine.transaction() as tx:
            return (await log.open(tx, now=NOON)).id

    assert set(await asyncio.gather(*(opened() for _ in range(4)))) == {logbook.ID}
    await log.settle()
    async with bench.engine.transaction() as tx:
        found = await log.open(tx, now=NOON)
        assert tx.work == []
    assert (found.channel, found.channel_name, found.reference) == ("COPS", "ops", "OPS-0")
    moved = Logbook(bench.engine, nothing_follows, chat, bench.clock, "other")
    async with bench.engine.transaction() as tx:
        await moved.open(tx, now=NOON)
        assert [work.workflow for work in tx.work] == ["logbook"]


async def test_a_log_without_a_channel_is_a_log_all_the_same_and_looks_again(bench):
    chat = ops()
    chat.faults["place"] = [PermanentError("there is no channel #ops")]
    log = Logbook(bench.engine, nothing_follows, chat, bench.clock, "ops")
    async with bench.engine.transaction() as tx:
        await log.open(tx, now=NOON)

    await log.settle()
    async with bench.engine.db.read() as session:
        assert (await logbook.find(session)).channel is None
    await log.settle()
    async with bench.engine.db.read() as session:
        assert (await logbook.find(session)).channel == "COPS"
