"""A transaction that is left hanging on Postgres ends by itself, whoever left it."""

import asyncio

import pytest
import sqlalchemy as sa

from bot.engine import Engine, Work
from bot.kit.db import Database, unavailable

SHOW = sa.text("select current_setting('idle_in_transaction_session_timeout')")


@pytest.fixture
async def connect(postgres_server, postgres_template):
    """Makes databases on one real PostgreSQL, all the same one."""
    url, made = postgres_server.database(postgres_template), []

    def make(**how):
        made.append(Database(url, **how))
        return made[-1]

    yield make
    for db in made:
        await db.close()


async def test_every_transaction_of_ours_ends_when_nothing_is_said_in_it(connect):
    db = connect()
    said = []
    for _ in range(3):  # the same connection again, after a commit
        async with db.write() as session:
            said.append(await session.scalar(SHOW))
    async with db.read() as session:
        said.append(await session.scalar(SHOW))
    async with db.write() as one, db.write() as two:
        said += [await one.scalar(SHOW), await two.scalar(SHOW)]
    for _ in range(2):
        with db.write_now() as connection:
            said.append(connection.scalar(SHOW))

    assert set(said) == {"15s"}


async def test_a_hanging_transaction_gives_its_locks_back_and_counts_as_the_database_being_away(connect):
    hangs, works = connect(idle_seconds=0.3), connect()
    take = sa.text("update counter set value = value + 1 where name = 'incident' returning value")

    async def left_hanging():
        async with hangs.write() as session:
            assert await session.scalar(take) == 1
            async with asyncio.timeout(10), works.write() as other:
                assert await other.scalar(take) == 1  # it waited, and what the first one did is undone
            await session.scalar(take)

    with pytest.raises(sa.exc.DBAPIError) as ended:
        await left_hanging()
    async with hangs.write() as session:  # on a new connection
        again = await session.scalar(take)

    assert unavailable(ended.value)
    assert again == 2


async def test_the_durable_engines_own_connections_are_left_as_they_are(connect):
    db = connect()
    engine = db.sync_engine()
    with engine.connect() as connection:
        said = connection.scalar(SHOW)
    engine.dispose()

    assert said == "0"


async def test_work_that_takes_longer_than_a_transaction_may_idle_is_not_disturbed(connect):
    done = []
    db = connect(idle_seconds=0.2)
    engine = Engine(db, lease_seconds=3, poll_seconds=0.2, listen_seconds=0.1)

    async def slow(what):
        await asyncio.sleep(0.8)
        async with db.write() as session:
            await session.execute(SHOW)
        done.append(what)

    engine.workflow("slow", slow)
    await engine.start()
    async with engine.transaction() as tx:
        tx.enqueue(Work("slow", "slow:1", ("x",)))
    async with asyncio.timeout(15):
        while not done:
            await asyncio.sleep(0.05)
    await engine.stop(drain_seconds=2)

    assert done == ["x"]


async def test_what_was_lost_with_its_server_is_not_taken_for_committed_even_if_the_errors_were_caught(connect):
    db = connect(idle_seconds=0.2)
    errors = []

    async def careless():
        async with db.write() as session:
            await session.execute(SHOW)
            await asyncio.sleep(0.6)
            for _ in range(2):
                try:
                    await session.execute(SHOW)
                except sa.exc.SQLAlchemyError as error:
                    errors.append(error)

    with pytest.raises(sa.exc.PendingRollbackError) as ended:
        await careless()

    assert [unavailable(error) for error in [*errors, ended.value]] == [True, True, True]
    assert isinstance(errors[1], sa.exc.PendingRollbackError)
