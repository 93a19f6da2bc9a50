"""What is old and not the record goes, a little at a time; what is not over stays, and nothing is done twice for it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from bot.alerts.model import Delivery
from bot.catalog.config import Retention
from bot.engine import Engine, ExecutorLease, Retry, Work
from bot.incidents.model import Counter, Request
from bot.incidents.retention import PRUNED, Pruning
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError
from bot.web.metrics import Stored

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
TABLES = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")


def table(database, name="workflow_status"):
    return name if database.sqlite else f"dbos.{name}"


async def ids(database, name="workflow_status"):
    async with database.read() as session:
        return set(await session.scalars(sa.text(f"select workflow_uuid from {table(database, name)}")))


async def statuses(database):
    async with database.read() as session:
        rows = await session.execute(sa.text(f"select workflow_uuid, status from {table(database)}"))
        return dict(rows.all())


async def age(database, prefix, days):
    """Let the work whose id begins with *prefix* have begun, and ended if it has, so many days ago."""
    back = days * 86_400_000
    async with database.write() as session:
        await session.execute(
            sa.text(
                f"update {table(database)} set created_at = created_at - {back}, completed_at = completed_at - {back}"
                " where workflow_uuid like :prefix"
            ),
            {"prefix": f"{prefix}%"},
        )


async def rows(database, model):
    async with database.read() as session:
        return list(await session.scalars(sa.select(model)))


class Shop:
    """An engine at work, whose workflow `do` counts and does as its argument says."""

    def __init__(self, database):
        self.done = []
        self.held = asyncio.Event()
        self.engine = Engine(database, listen_seconds=0.1, poll_seconds=60)
        self.engine.workflow("do", self.do, Retry(first=0.01))

    async def do(self, name):
        self.done.append(name)
        if name == "hold":
            await self.held.wait()
        if name == "fail":
            raise PermanentError("never")

    async def promise(self, *work):
        async with self.engine.transaction() as tx:
            tx.enqueue(*(Work("do", id_, (name,)) for id_, name in work))


@pytest.fixture
async def shop(database):
    made = Shop(database)
    await made.engine.start()
    yield made
    made.held.set()
    await made.engine.stop(drain_seconds=1)


async def settled(database, expected):
    """Wait until the engine has written down that so much has ended."""
    async with asyncio.timeout(20):
        while list((await statuses(database)).values()).count("SUCCESS") < expected:
            await asyncio.sleep(0.02)


async def test_old_work_that_ended_goes_with_all_its_parts_and_no_other_does(shop, database):
    old = [(f"old:{n}", "x") for n in range(5)]
    await shop.promise(*old, ("old:fails", "fail"), ("old:held", "hold"), ("new:1", "x"))
    await settled(database, 7)
    async with database.write() as session:  # waits in a queue that nobody serves, as behind a full one
        waiting = sa.text(
            f"insert into {table(database)} (workflow_uuid, status, name, queue_name, created_at, updated_at, priority)"
            " values ('old:waits', 'ENQUEUED', 'do', 'nobody', 0, 0, 0), ('old:later', 'DELAYED', 'do', 'x', 0, 0, 0),"
            " ('old:stuck', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', 'do', 'x', 0, 0, 0)"
        )
        await session.execute(waiting)
        step = f"insert into {table(database, 'operation_outputs')} (workflow_uuid, function_id, function_name,"
        for owner in ("old:0", "new:1"):
            await session.execute(sa.text(f"{step} retention_timestamp) values ('{owner}', 1, 'step', 0)"))
    await age(database, "old:", 8)
    before = {name: await ids(database, name) for name in TABLES}

    gone = await shop.engine.prune(utc_now() - timedelta(days=7), batch=2)

    assert gone == 6
    kept = {"old:held", "old:waits", "old:later", "old:stuck", "new:1"}
    assert await ids(database) == kept
    for name in TABLES[1:]:
        assert before[name] - kept
        assert await ids(database, name) == before[name] & kept
    assert (await statuses(database))["old:held"] == "PENDING"


async def test_a_round_is_bounded_and_the_next_one_goes_on(shop, database):
    await shop.promise(*((f"old:{n}", "x") for n in range(7)))
    await settled(database, 7)
    await age(database, "old:", 8)
    before = utc_now() - timedelta(days=7)

    first = await shop.engine.prune(before, batch=2, batches=2)
    second = await shop.engine.prune(before, batch=2, batches=2)

    assert (first, second) == (4, 3)
    assert await ids(database) == set()


async def test_others_write_while_much_is_deleted(shop, database):
    await shop.promise(*((f"old:{n}", "x") for n in range(60)))
    await settled(database, 60)
    await age(database, "old:", 8)
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            async with database.write() as session:
                await session.execute(sa.insert(Counter).values(name=f"c{written}", value=1))
            written += 1

    writer = asyncio.ensure_future(write())
    try:
        gone = await shop.engine.prune(utc_now() - timedelta(days=7), batch=3)
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)

    assert gone == 60
    assert written >= 20  # at least one between any two batches


async def test_an_engine_that_forgot_runs_the_id_again_so_our_rows_must_remember(shop, database):
    # Not wished for, but so it is: the reason why every workflow looks at rows of ours before it acts.
    await shop.promise(("old:1", "x"))
    await settled(database, 1)
    await shop.promise(("old:1", "x"))
    remembered = list(shop.done)
    await age(database, "old:", 8)
    await shop.engine.prune(utc_now() - timedelta(days=7))
    await shop.promise(("old:1", "x"))
    await settled(database, 1)

    assert remembered == ["x"]
    assert shop.done == ["x", "x"]


async def test_leases_of_the_dead_go_after_a_day_and_those_of_the_living_stay(database):
    engine = Engine(database)
    async with database.write() as session:
        for name, old in (("dead", 90_000), ("quiet", 80_000), ("alive", 1)):
            statement = f"insert into executor_lease (executor_id, beat) values ('{name}', {database.now} - {old})"
            await session.execute(sa.text(statement))

    assert await engine.forget_dead() == 1
    assert {lease.executor_id for lease in await rows(database, ExecutorLease)} == {"quiet", "alive"}


def delivery(name, days):
    return Delivery(
        id=name,
        connection="am",
        source="alertmanager",
        received_at=NOW - timedelta(days=days),
        sha256="",
        body=b"raw",
        size=3,
        alerts=1,
        outcome="stored",
    )


def request(name, days, kind="command", state="done"):
    return Request(
        id=name,
        key=name,
        kind=kind,
        name="note",
        person="U1",
        deadline=0,
        recorded=0,
        received_at=NOW - timedelta(days=days),
        state=state,
    )


async def put(database, *made):
    async with database.write() as session:
        session.add_all(made)


async def pruned(database, keep=None, now=NOW):
    engine = Engine(database)
    await Pruning(engine, keep or Retention()).prune(now.isoformat())
    await engine.close()
    return engine.metrics.registry


async def test_raw_alerts_and_requests_go_after_ninety_days_and_what_waits_does_not(database):
    await put(database, delivery("d1", 91), delivery("d2", 89))
    await put(
        database,
        request("r1", 91),
        request("r2", 91, state="waiting"),
        request("r3", 91, kind="button", state="void"),
        request("r4", 89),
    )

    numbers = await pruned(database)

    assert {row.id for row in await rows(database, Delivery)} == {"d2"}
    assert {row.id for row in await rows(database, Request)} == {"r2", "r4"}
    told = {
        what: numbers.get_sample_value("tocsin_pruned_total", {"what": what}) for what in ("deliveries", "requests")
    }
    assert told == {"deliveries": 1, "requests": 2}


async def test_more_than_a_batch_goes_batch_by_batch(database):
    await put(database, *(delivery(f"d{n}", 91) for n in range(250)), delivery("kept", 1))
    await put(database, *(request(f"r{n}", 91) for n in range(250)))

    await pruned(database)

    assert {row.id for row in await rows(database, Delivery)} == {"kept"}
    assert await rows(database, Request) == []


async def test_requests_that_are_gone_still_count(database):
    await put(database, request("r1", 91), request("r2", 91, state="refused"), request("r3", 1))
    stored = Stored(Engine(database), rest=0)

    async def told():
        await stored.look()
        return {key: count for key, count in stored.found["tocsin_requests_total"].items() if count}

    before = await told()
    await pruned(database)
    after = await told()
    await put(database, request("r4", 91), request("r5", 91))
    await pruned(database)
    later = await told()

    assert before == after == {("command", "done"): 2, ("command", "refused"): 1}
    assert later == {("command", "done"): 4, ("command", "refused"): 1}
    counters = {row.name: row.value for row in await rows(database, Counter)}
    assert counters == {"incident": 0, f"{PRUNED}command.done": 3, f"{PRUNED}command.refused": 1}


async def test_what_is_kept_for_ever_stays(database):
    await put(database, delivery("d1", 9000), request("r1", 9000))

    await pruned(database, Retention(workflows="forever", deliveries="forever", requests="forever"))

    assert len(await rows(database, Delivery)) == len(await rows(database, Request)) == 1


async def test_two_processes_that_prune_at_once_delete_and_count_each_row_once(database):
    await put(database, *(request(f"r{n}", 91) for n in range(150)))

    await asyncio.gather(pruned(database), pruned(database))

    assert await rows(database, Request) == []
    assert {row.value for row in await rows(database, Counter) if row.name.startswith(PRUNED)} == {150}
