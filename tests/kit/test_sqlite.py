"""How SQLite is used: writers take turns, those for whom somebody waits first, and little changes threads."""

import asyncio
import contextlib
import sqlite3
import threading
import time

import pytest
import sqlalchemy as sa

from bot.kit import sqlite
from bot.kit.db import Database


@pytest.fixture
async def db(tmp_path):
    made = Database(f"sqlite:///{tmp_path}/t.db")
    async with made.write() as session:
        await session.execute(sa.text("create table t (n integer)"))
    yield made
    await made.close()


def waiting(turns: sqlite.Turns, order: list[str], name: str, *, urgent: bool) -> threading.Thread:
    """Somebody who waits for a turn, notes it, and lets the next one."""

    def go() -> None:
        turns.take(urgent=urgent)
        order.append(name)
        turns.give()

    before = len(turns._urgent) + len(turns._others)
    thread = threading.Thread(target=go)
    thread.start()
    while len(turns._urgent) + len(turns._others) == before:
        time.sleep(0.001)
    return thread


def test_turns_are_taken_in_order_and_urgent_ones_first():
    turns, order = sqlite.Turns(), []
    turns.take()
    threads = [waiting(turns, order, name, urgent=name.startswith("u")) for name in ("a", "b", "u1", "u2")]
    turns.give()
    for thread in threads:
        thread.join()
    assert order == ["u1", "u2", "a", "b"]


async def test_the_log_is_copied_into_the_database_by_those_for_whom_nobody_waits(db):
    size, much = 5_000_000, sa.text("insert into t (n) values (zeroblob(:size))")
    for _ in range(2):
        with db.write_now() as connection:
            connection.execute(much, {"size": size})
    left_alone = db.path.stat().st_size
    async with db.write() as session:
        await session.execute(sa.text("insert into t values (1)"))

    assert left_alone < size
    assert db.path.stat().st_size > 2 * size


async def test_a_log_that_has_grown_large_is_copied_by_whoever_is_next(db):
    size = 40_000_000
    with db.write_now() as connection:
        connection.execute(sa.text("insert into t (n) values (zeroblob(:size))"), {"size": size})

    assert db.path.stat().st_size > size


def test_urgent_ones_do_not_starve_the_others():
    turns, order = sqlite.Turns(), []
    turns.take()
    names = ["other", *(f"u{n}" for n in range(sqlite.IN_A_ROW + 3))]
    threads = [waiting(turns, order, name, urgent=name != "other") for name in names]
    turns.give()
    for thread in threads:
        thread.join()
    assert order.index("other") == sqlite.IN_A_ROW


async def test_a_transaction_gives_its_turn_back_however_it_ends(db):
    with pytest.raises(ZeroDivisionError):
        async with db.write():
            raise ZeroDivisionError
    with pytest.raises(sa.exc.OperationalError):
        async with db.write() as session:
            await session.execute(sa.text("insert into nowhere values (1)"))
    with pytest.raises(ZeroDivisionError), db.write_now():
        raise ZeroDivisionError
    with db.write_now() as connection:
        connection.execute(sa.text("insert into t values (1)"))
    assert not db.turns._taken


async def test_a_cancelled_transaction_gives_its_turn_back(db):
    entered = asyncio.Event()

    async def hold() -> None:
        async with db.write() as session:
            await session.execute(sa.text("insert into t values (1)"))
            entered.set()
            await asyncio.sleep(60)

    holder = asyncio.ensure_future(hold())
    await entered.wait()
    waiter = asyncio.ensure_future(hold())
    await asyncio.sleep(0.05)  # it waits for the turn, in its thread
    waiter.cancel()
    holder.cancel()
    for task in (holder, waiter):
        with contextlib.suppress(asyncio.CancelledError):
            await task
    async with asyncio.timeout(10):
        async with db.write() as session:
            assert await session.scalar(sa.text("select count(*) from t")) == 0


async def test_the_engines_half_takes_turns_with_ours(db):
    engine = db.sync_engine()

    def insert() -> None:
        with engine.begin() as connection:
            connection.execute(sa.text("insert into t values (2)"))

    async with db.write() as session:
        await session.execute(sa.text("insert into t values (1)"))
        other = asyncio.ensure_future(asyncio.to_thread(insert))
        await asyncio.sleep(0.1)
        assert not other.done()
    await other
    async with db.read() as session:
        assert list(await session.scalars(sa.text("select n from t order by n"))) == [1, 2]
    engine.dispose()
    assert not db.turns._taken


async def test_inside_a_transaction_statements_run_where_they_are_asked_for_and_the_rest_in_a_thread(tmp_path):
    made = await sqlite.connect_async(str(tmp_path / "t.db"), sqlite.Turns())
    seen = {}

    def where(name: str) -> int:
        seen[name] = threading.get_ident()
        return 1

    await made.create_function("here", 1, where)
    try:
        await made.execute("select here('outside')")
        await made.execute("begin immediate")
        await made.execute("select here('inside')")
        await made.rollback()
    finally:
        await made.close()
    assert seen["inside"] == threading.get_ident()
    assert seen["outside"] != threading.get_ident()


def test_a_turn_that_does_not_come_is_a_database_that_is_locked():
    turns = sqlite.Turns()
    turns.take()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        turns.take(seconds=0.01)
    assert not turns._others
