"""Runbooks of the library on a real PostgreSQL: real sessions that block, idle, replicate; a real dump."""

import asyncio
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from bot.catalog.targets import Connection, Reach, Targets
from bot.runs.model import RunState
from tests.postgres import Postgres, postgres
from tests.runbooks.test_on_services import quick

ROLES = """
create role reader login in role pg_monitor;
create role operator login in role pg_monitor, pg_signal_backend;
create role app login;
create role restore login createdb;
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres(port=free_port()) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES)
        yield made


class Shop:
    """A database, sessions of its application, and the connections of runbooks to it."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.url = server.database()
        self.name = self.url.split("/")[3].split("?")[0]
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute("create table orders (id int primary key, state text)")
            admin.execute("insert into orders values (1, 'open')")
            admin.execute("grant all on orders to app")

    def reach(self) -> Reach:
        where = f"/{self.name}?host={self.server.folder}&port={self.server.port}"
        reader = Connection(kind="postgres", url=f"postgresql://reader@{where}", private=True)
        operator = Connection(kind="postgres", url=f"postgresql://operator@{where}", private=True, write=True)
        return Reach(Targets(connections={"pg_orders_ro": reader, "pg_orders_operator": operator}))

    def connect(self, name: str, **more) -> psycopg.Connection:
        url = self.url.replace("postgres@", "app@")
        return psycopg.connect(url, application_name=name, **more)

    def waiting(self) -> int:
        query = "select count(*) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query).fetchone()[0]

    @contextmanager
    def blocked(self, *, busy: bool) -> Iterator[dict[str, BaseException | None]]:
        """Two sessions: one holds a lock, busy with a query or with nothing, and the other waits for it."""
        ends: dict[str, BaseException | None] = {}
        holder, waiter = self.connect("holder"), self.connect("waiter")
        holder.execute("update orders set state = 'held' where id = 1")

        def work(name: str, connection: psycopg.Connection, query: str) -> None:
            try:
                connection.execute(query)
                ends[name] = None
            except psycopg.Error as error:
                ends[name] = error

        threads = [threading.Thread(target=work, args=("waiter", waiter, "update orders set state = 'mine'"))]
        if busy:
            threads.append(threading.Thread(target=work, args=("holder", holder, "select pg_sleep(60)")))
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while not self.waiting():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.02)
        try:
            yield ends
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()
        finally:
            for connection in (holder, waiter):
                connection.close()


@pytest.fixture
def shop(server: Postgres, library) -> Shop:
    made = Shop(server)
    library.reach = made.reach()
    return made


async def test_the_query_that_blocks_another_is_cancelled_after_a_yes(library, shop):
    with shop.blocked(busy=True) as ends:
        run = await library.play("postgres-locks", {"database": "orders"}, quick)

        assert run.state == RunState.SUCCEEDED, run.failure
        assert run.outputs["blocked"] == 1
        assert await asyncio.to_thread(shop.waiting) == 0
    assert isinstance(ends["holder"], psycopg.errors.QueryCanceled)
    assert ends["waiter"] is None
    assert "orders: 1 blocked queries" in await library.said()
    assert "Cancelled the query of backend" in await library.said()


async def test_a_session_that_blocks_and_does_nothing_is_ended_after_a_yes(library, shop):
    with shop.blocked(busy=False) as ends:
        run = await library.play("postgres-locks", {"database": "orders"}, quick)

        assert run.state == RunState.SUCCEEDED, run.failure
    assert ends == {"waiter": None}
    assert "Ended the session of backend" in await library.said()


async def test_after_a_no_the_block_is_still_there(library, shop):
    with shop.blocked(busy=False):
        run = await library.play("postgres-locks", {"database": "orders"}, quick, yes=False)

        assert run.state == RunState.REJECTED
        assert await asyncio.to_thread(shop.waiting) == 1
        with psycopg.connect(shop.url, autocommit=True) as admin:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holder'")


async def test_without_a_block_nobody_is_asked(library, shop):
    run = await library.play("postgres-locks", {"database": "orders", "slow_after": "10s"}, quick)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"blocked": 0, "slow": 0}


async def test_sessions_that_idle_in_a_transaction_are_ended_and_others_are_left(library, shop):
    idle, other = shop.connect("idle"), shop.connect("other", autocommit=True)
    idle.execute("select 1")
    other.execute("select 1")
    await asyncio.sleep(1.1)

    run = await library.play(
        "postgres-connections", {"database": "orders", "idle_after": "1s"},
        lambda text: quick(text).replace("min: 30", "min: 1"),
    )  # fmt: skip

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs["ended"] == 1
    with pytest.raises(psycopg.OperationalError):
        idle.execute("select 1")
    assert other.execute("select 1").fetchone() == (1,)
    assert "Ended 1 sessions of orders" in await library.said()
    other.close()


async def test_a_primary_without_replicas_is_told_with_the_slot_that_waits(library, shop):
    with psycopg.connect(shop.url, autocommit=True) as admin:
        admin.execute("select pg_create_physical_replication_slot('old_replica', true)")
    try:
        run = await library.play("postgres-replication-lag", {"database": "orders", "retained": 0.1}, quick)
    finally:
        with psycopg.connect(shop.url, autocommit=True) as admin:
            admin.execute("select pg_drop_replication_slot('old_replica')")

    assert run.state == RunState.SUCCEEDED, run.failure
    assert "No replica is connected to the primary of orders. Slots that wait for one: old_replica." in (
        await library.said()
    )


async def test_a_replica_that_has_stopped_to_replay_is_named(library, shop):
    with replica(shop.server) as copy:
        with psycopg.connect(copy.url("postgres"), autocommit=True) as admin:
            admin.execute("select pg_wal_replay_pause()")
        with psycopg.connect(shop.url, autocommit=True) as admin:
            admin.execute("insert into orders select n, 'x' from generate_series(2, 20000) n")
        run = await library.play("postgres-replication-lag", {"database": "orders", "backlog": 0.5}, quick)
        there = Shop.reach(shop).targets.connections["pg_orders_ro"]
        url = there.url.replace(str(shop.server.folder), str(copy.folder)).replace(
            f"port={shop.server.port}", f"port={copy.port}"
        )
        library.reach = Reach(Targets(connections={"pg_orders_ro": there.model_copy(update={"url": url})}))
        second = await library.play("postgres-replication-lag", {"database": "orders"}, quick)

    assert run.state == second.state == RunState.SUCCEEDED, run.failure or second.failure
    assert run.outputs["behind"] == ["copy"]
    assert "The farthest, copy, waits for" in await library.said()
    assert "is a replica; the last change that it has is" in await library.said()


@contextmanager
def replica(primary: Postgres) -> Iterator[Postgres]:
    """A second server that follows the first."""
    folder = primary.folder.with_name(f"{primary.folder.name}-copy")
    folder.mkdir(mode=0o700)
    shutil.chown(folder, primary.user.get("user"), primary.user.get("group"))
    copy = Postgres(folder, primary.bin, primary.user, primary.options, free_port())
    try:
        where = f"host={primary.folder} port={primary.port} user=postgres application_name=copy"
        primary.run("pg_basebackup", "-D", f"{folder}/data", "-R", "-c", "fast", "-X", "stream", "-d", where)
        copy.start()
        try:
            with psycopg.connect(primary.url("postgres"), autocommit=True) as admin:
                deadline = time.monotonic() + 10
                while not admin.execute("select 1 from pg_stat_replication where state = 'streaming'").fetchone():
                    assert time.monotonic() < deadline, "the replica does not follow"
                    time.sleep(0.05)
            yield copy
        finally:
            copy.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def backups(shop: Shop, tmp_path: Path) -> Path:
    """A folder with a fresh dump of the shop."""
    folder = tmp_path / "backups"
    folder.mkdir()
    subprocess.run(["pg_dump", "--format=custom", "-d", shop.url, "-f", str(folder / "shop.dump")], check=True)
    return folder


def scratch(shop: Shop, folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "least_bytes": 100,
        "server": str(shop.server.folder),
        "port": shop.server.port,
        "user": "restore",
    }


async def test_a_backup_is_restored_and_counted_and_nothing_is_left_of_it(library, shop, backups):
    library.environment = {"RESTORE_PASSWORD": "opensesame77"}

    run = await library.play("backup-verify", scratch(shop, backups))

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"file": str(backups / "shop.dump"), "rows": 1}
    assert "1 tables with 1 rows" in await library.said()
    assert "opensesame77" not in await library.everything()
    with psycopg.connect(shop.server.url("postgres")) as admin:
        assert not admin.execute("select 1 from pg_database where datname like 'tocsin_restore_%'").fetchone()


async def test_a_backup_that_is_cut_short_is_a_failure(library, shop, backups):
    library.environment = {"RESTORE_PASSWORD": "opensesame77"}
    place = backups / "shop.dump"
    place.write_bytes(place.read_bytes()[:-30])

    run = await library.play("backup-verify", scratch(shop, backups))

    assert run.state in (RunState.FAILED, RunState.ROLLED_BACK)
    assert "pg_restore failed" in run.failure["message"]
