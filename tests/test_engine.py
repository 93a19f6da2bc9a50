"""The durable engine: what is promised with a commit is done, soon, once, and by somebody."""

import asyncio
import json
import statistics
import threading
import time

import pytest
import sqlalchemy as sa
from dbos._dbos import _get_dbos_instance

from bot.engine import LINES, MAIN, RUNS, VERSION, Batch, Engine, ExecutorLease, Retry, Superseded, Work
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.ids import new_id


class Diary:
    """What the workflows of a test did, and a way to wait for it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []

    async def note(self, name: str) -> None:
        self.done.append((name, time.monotonic()))

    def names(self) -> list[str]:
        return [name for name, _ in self.done]

    async def until(self, count: int, within: float = 10.0) -> None:
        async with asyncio.timeout(within):
            while len(self.done) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
async def diary():
    return Diary()


@pytest.fixture
async def engine(database, diary):
    made = Engine(
        database, listen_seconds=0.1, poll_seconds=60
    )  # a poll that never comes: only the poke can start work
    made.workflow("note", diary.note)
    await made.start()
    yield made
    await made.stop(drain_seconds=0)


async def test_committed_work_starts_at_once_without_the_poll(engine, diary):
    waits = []
    for n in range(10):
        async with engine.transaction() as tx:
            tx.enqueue(Work("note", f"note:{n}", (str(n),)))
        committed = time.monotonic()
        await diary.until(n + 1)
        waits.append(diary.done[-1][1] - committed)

    assert diary.names() == [str(n) for n in range(10)]
    assert statistics.median(waits) < 1  # the poll is a minute away


async def test_work_of_a_transaction_that_fails_is_never_done(engine, diary):
    async def fail() -> None:
        async with engine.transaction() as tx:
            tx.enqueue(Work("note", "note:lost", ("lost",)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with engine.transaction() as tx:
        tx.enqueue(Work("note", "note:kept", ("kept",)))
    await diary.until(1)
    await asyncio.sleep(0.1)

    assert diary.names() == ["kept"]


async def test_the_same_work_promised_twice_is_done_once(engine, diary):
    for _ in range(3):
        async with engine.transaction() as tx:
            tx.enqueue(Work("note", "note:same", ("same",)), Work("note", "note:same", ("same",)))
    async with engine.transaction() as tx:
        tx.enqueue(Work("note", "note:end", ("end",)))
    await diary.until(2)
    await asyncio.sleep(0.1)

    assert sorted(diary.names()) == ["end", "same"]


@pytest.mark.parametrize("queue", [LINES, RUNS])
async def test_work_in_one_partition_is_done_one_at_a_time_in_order_and_the_next_starts_at_once(database, queue):
    running: list[str] = []
    most = 0
    ended: list[int] = []

    async def work(number: int) -> None:
        nonlocal most
        running.append(str(number))
        most = max(most, len(running))
        await asyncio.sleep(0.03)
        running.remove(str(number))
        ended.append(number)

    engine = Engine(database, listen_seconds=0.1, poll_seconds=60)  # a poll that never comes
    engine.workflow("work", work)
    await engine.start()
    try:
        for n in range(5):
            async with engine.transaction() as tx:
                tx.enqueue(Work("work", f"work:{n}", (n,), queue=queue, partition="web-1"))
        async with asyncio.timeout(20):
            while len(ended) < 5:
                await asyncio.sleep(0.01)
    finally:
        await engine.stop(drain_seconds=0)

    assert most == 1
    assert ended == list(range(5))


async def test_partitions_do_not_wait_for_each_other(database):
    here: set[str] = set()
    together = asyncio.Event()

    async def work(partition: str) -> None:
        here.add(partition)
        if len(here) == 3:
            together.set()
        await together.wait()

    engine = Engine(database, listen_seconds=0.1, poll_seconds=60)
    engine.workflow("work", work)
    await engine.start()
    try:
        async with engine.transaction() as tx:
            tx.enqueue(*(Work("work", f"work:{p}", (p,), queue=LINES, partition=p) for p in ("a", "b", "c")))
        async with asyncio.timeout(10):
            await together.wait()
    finally:
        await engine.stop(drain_seconds=0)

    assert here == {"a", "b", "c"}


async def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_parked(database):
    tries = 0
    parked: list[tuple[str, str, str]] = []

    async def flaky() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise TemporaryError("not yet", after=0.01)

    async def hopeless() -> None:
        raise PermanentError("no such channel")

    async def broken() -> None:
        raise ValueError("xoxb-secret in here")

    async def tell(workflow: str, work_id: str, args: tuple, why: str) -> None:
        parked.append((workflow, work_id, why))

    engine = Engine(database, listen_seconds=0.1, poll_seconds=60, parked=tell)
    for name, run in (("flaky", flaky), ("hopeless", hopeless), ("broken", broken)):
        engine.workflow(name, run, Retry(first=0.01))
    await engine.start()
    try:
        async with engine.transaction() as tx:
            tx.enqueue(*(Work(name, f"{name}:1") for name in ("flaky", "hopeless", "broken")))
        async with asyncio.timeout(10):
            while tries < 3 or len(parked) < 2:
                await asyncio.sleep(0.01)
    finally:
        await engine.stop(drain_seconds=0)

    assert sorted(parked) == [
        ("broken", "broken:1", "an unexpected ValueError; the log holds the details"),
        ("hopeless", "hopeless:1", "no such channel"),
    ]


async def test_a_command_beside_the_bot_promises_and_the_bot_does_it(database, diary):
    beside = Engine(Database(str(database.url.render_as_string(hide_password=False))))
    async with beside.transaction() as tx:
        tx.enqueue(Work("note", "note:beside", ("beside",)))
    await beside.close()
    await beside.db.close()

    engine = Engine(database, listen_seconds=0.1, poll_seconds=0.2)
    engine.workflow("note", diary.note)
    await engine.start()
    await diary.until(1)
    await engine.stop(drain_seconds=0)

    assert diary.names() == ["beside"]


async def test_what_a_stopped_process_left_is_taken_over_by_the_next(database, diary):
    started = asyncio.Event()

    async def stuck(name: str) -> None:
        started.set()
        await asyncio.Event().wait()

    first = Engine(database, listen_seconds=0.1, poll_seconds=0.2)
    first.workflow("note", stuck)
    await first.start()
    async with first.transaction() as tx:
        tx.enqueue(Work("note", "note:left", ("left",)))
    await asyncio.wait_for(started.wait(), 10)
    await first.stop(drain_seconds=0)

    second = Engine(database, listen_seconds=0.1, poll_seconds=0.2)
    second.workflow("note", diary.note)
    await second.start()
    await diary.until(1)
    await second.stop(drain_seconds=0)

    assert diary.names() == ["left"]


async def test_a_second_process_on_sqlite_is_refused_with_what_to_do(tmp_path, sqlite_template):
    path = tmp_path / "one.db"
    path.write_bytes(sqlite_template.read_bytes())
    first, second = Engine(Database(f"sqlite:///{path}")), Engine(Database(f"sqlite:///{path}"))
    await first.start()
    try:
        with pytest.raises(UserError, match=r"Another tocsin is running.*Postgres"):
            await second.start()
    finally:
        await first.stop(drain_seconds=0)
        await first.db.close()
        await second.db.close()


async def test_the_queues_are_few_and_inputs_are_stored_as_json(engine, diary):
    async with engine.transaction() as tx:
        tx.enqueue(Work("note", "note:json", ("plain",)))
    await diary.until(1)

    schema = "" if engine.db.sqlite else "dbos."
    async with engine.db.read() as session:
        inputs = await session.scalar(
            sa.text(f"select inputs from {schema}workflow_input where workflow_uuid = 'note:json'")
        )
        queues = await session.scalars(sa.text(f"select name from {schema}queues order by name"))
    assert json.loads(inputs)["positionalArgs"] == ["plain"]
    assert sorted(queues) == sorted([MAIN, LINES, RUNS])


def test_ids_sort_by_the_time_they_were_made():
    ids = []
    for _ in range(3):
        ids.append(new_id())
        time.sleep(0.002)

    assert ids == sorted(ids)
    assert len(set(ids)) == 3


async def test_work_that_was_claimed_and_not_begun_is_found_again(database, diary):
    engine = Engine(database, lease_seconds=0.6, listen_seconds=0.1, poll_seconds=60)
    engine.workflow("note", diary.note)
    await engine.start()
    try:
        engine.serving = False  # no poke
        async with engine.transaction() as tx:
            tx.enqueue(Work("note", "note:claimed", ("claimed",)))
        engine.serving = True
        system = _get_dbos_instance()._sys_db
        claimed, _ = await asyncio.to_thread(
            system.start_queued_workflows, engine._queues[MAIN], engine.executor_id, VERSION, None, 0, owner_xid="x"
        )
        await diary.until(1)
    finally:
        await engine.stop(drain_seconds=0)

    assert claimed == ["note:claimed"]
    assert diary.names() == ["claimed"]


async def test_what_a_statement_was_given_stays_out_of_its_error(database):
    async def twice() -> None:
        async with database.write() as session:
            for _ in range(2):
                await session.execute(sa.insert(ExecutorLease).values(executor_id="hunter2-SECRET", beat=0))

    with pytest.raises(sa.exc.IntegrityError) as error:
        await twice()

    assert "parameters" in str(error.value)
    assert "[parameters: ('hunter2" not in str(error.value)


@pytest.mark.parametrize(("taken", "outcome"), [(True, "superseded"), (False, "went on")])
async def test_a_process_that_slept_through_its_lease_asks_whether_its_work_is_still_its_own(database, taken, outcome):
    went: list[str] = []
    begun, go, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go.wait()
        try:
            await engine.still_mine()
            went.append("went on")
        except Superseded:
            went.append("superseded")
            raise
        finally:
            ended.set()

    engine = Engine(database, lease_seconds=30, listen_seconds=0.1, poll_seconds=60)
    engine.workflow("work", work)
    await engine.start()
    try:
        async with engine.transaction() as tx:
            tx.enqueue(Work("work", "work:1"))
        await asyncio.wait_for(begun.wait(), 10)
        engine.last_beat -= 100  # it was stopped meanwhile
        if taken:
            schema = "" if database.sqlite else "dbos."
            async with database.write() as session:
                await session.execute(sa.text(f"update {schema}workflow_status set executor_id = 'another'"))
        go.set()
        await asyncio.wait_for(ended.wait(), 10)
        await asyncio.sleep(0.1)
    finally:
        await engine.stop(drain_seconds=0)

    assert went == [outcome]
    assert engine.lease_age() < 30, "it renewed its lease before it looked"


async def test_outside_of_a_workflow_there_is_nothing_to_ask(engine):
    await engine.still_mine()


async def test_work_that_merges_is_done_once_for_all_that_wait_and_again_for_what_comes_after_it_began(
    database: Database,
):
    begun, go = asyncio.Event(), asyncio.Event()
    seen: list[int] = []
    state = 0

    async def look(_place: str) -> None:
        seen.append(state)
        begun.set()
        await go.wait()

    engine = Engine(database, listen_seconds=0.1, poll_seconds=60)
    engine.workflow("look", look)
    await engine.start()
    try:
        for state in range(1, 6):
            async with engine.transaction() as tx:
                work = Work("look", f"look:{state}", ("p",), queue=LINES, partition="p", merges=True)
                elsewhere = Work("look", f"other:{state}", ("q",), queue=LINES, partition="q", merges=True)
                tx.enqueue(work, elsewhere) if state == 1 else tx.enqueue(work)
            if state == 1:
                await asyncio.wait_for(begun.wait(), 10)
                await asyncio.sleep(0.2)  # both have begun
        go.set()
        async with asyncio.timeout(10):
            while len(seen) < 3:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert seen == [1, 1, 5]  # once in each place, and once more for the four that came while it was under way
    finally:
        go.set()
        await engine.stop(drain_seconds=1)


async def test_two_in_one_transaction_that_merge_are_one(engine: Engine, diary: Diary):
    async with engine.transaction() as tx:
        for n in range(3):
            tx.enqueue(Work("note", f"note:{n}", ("drawn",), queue=LINES, partition="p", merges=True))
    await diary.until(1)
    await asyncio.sleep(0.2)
    assert diary.names() == ["drawn"]


async def test_a_promise_that_merged_with_one_that_is_beginning_just_then_is_kept_all_the_same(database: Database):
    """Promises and beginnings at once: what was committed last is seen by a run that began after it."""
    committed, seen = 0, 0

    async def look() -> None:
        nonlocal seen
        found = committed
        await asyncio.sleep(0.001)
        seen = max(seen, found)

    engine = Engine(database, listen_seconds=0.1, poll_seconds=60)
    engine.workflow("look", look)
    await engine.start()
    try:
        for n in range(1, 61):
            committed = n  # a run that began before may or may not see it; one that begins after must follow
            async with engine.transaction() as tx:
                tx.enqueue(Work("look", f"look:{n}", (), queue=LINES, partition="p", merges=True))
            await asyncio.sleep(0.005 * (n % 5))
        async with asyncio.timeout(10):
            while seen < 60:
                await asyncio.sleep(0.01)
    finally:
        await engine.stop(drain_seconds=1)


async def test_work_begins_when_nobody_waits_for_an_answer_and_after_a_while_all_the_same(engine: Engine, diary: Diary):
    await engine.batch(lambda batch: batch.enqueue(Work("note", "note:first", ("first",))))
    await diary.until(1, within=5)

    asking = True

    async def ask() -> None:
        while asking:
            await engine.batch(lambda batch: time.sleep(0.002))

    asker = asyncio.ensure_future(ask())
    try:
        await engine.batch(lambda batch: batch.enqueue(Work("note", "note:second", ("second",))))
        await asyncio.sleep(0.2)
        assert diary.names() == ["first"]
        await diary.until(2, within=8)  # though they never stop asking
    finally:
        asking = False
        await asker


async def test_who_has_just_come_in_is_waited_for_as_well(engine: Engine, diary: Diary):
    coming, last = True, 0.0

    async def come() -> None:
        nonlocal last
        while coming:
            engine.courtesy.knock()
            last = time.monotonic()
            await asyncio.sleep(0.002)

    comes = asyncio.ensure_future(come())
    await engine.batch(lambda batch: batch.enqueue(Work("note", "note:x", ("x",))))
    asked = time.monotonic()
    await asyncio.sleep(0.1)
    coming = False
    await comes
    await diary.until(1, within=5)

    ((_, begun),) = diary.done
    assert begun > last or begun > asked + engine.courtesy.WHILE


async def test_a_batch_is_written_and_promised_whole_or_not_at_all(engine: Engine, diary: Diary):
    insert = sa.text("insert into counter (name, value) values (:name, 1)")

    def fails(batch: Batch) -> None:
        batch.connection.execute(insert, {"name": "lost"})
        batch.enqueue(Work("note", "note:lost", ("lost",)))
        raise ZeroDivisionError

    def works(batch: Batch) -> str:
        batch.connection.execute(insert, {"name": "kept"})
        batch.enqueue(Work("note", "note:kept", ("kept",)))
        return "what it gives"

    with pytest.raises(ZeroDivisionError):
        await engine.batch(fails)
    given = await engine.batch(works)
    await diary.until(1)
    async with engine.db.read() as session:
        names = set((await session.scalars(sa.text("select name from counter"))).all())

    assert given == "what it gives"
    assert diary.names() == ["kept"]
    assert {"lost", "kept"} & names == {"kept"}


async def test_who_stops_waiting_for_a_batch_does_not_stop_it(engine: Engine):
    begun = threading.Event()

    def slow(batch: Batch) -> None:
        begun.set()
        time.sleep(0.2)
        batch.connection.execute(sa.text("insert into counter (name, value) values ('slow', 1)"))

    waiter = asyncio.ensure_future(engine.batch(slow))
    await asyncio.to_thread(begun.wait, 5)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    async with asyncio.timeout(5):
        while True:
            async with engine.db.read() as session:
                if await session.scalar(sa.text("select count(*) from counter where name = 'slow'")):
                    break
            await asyncio.sleep(0.01)
