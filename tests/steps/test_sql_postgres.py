"""The sql step on a real PostgreSQL: every way around a read-only transaction that is known, tried and refused."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.statement import Statement
from bot.kit.tasks import spawn
from bot.runs.expressions import evaluate
from bot.runs.step import Cancelled, StepResult
from bot.steps import sql as step
from tests.postgres import Postgres, postgres
from tests.steps.conftest import Bench

PASSWORD = "opensesame77"
SETUP = """
create table orders (id serial primary key, state text, total numeric(10, 2));
insert into orders (state, total) values ('open', 9.50), ('open', 3), ('done', 20);
create table big (n int); insert into big select generate_series(1, 200000);
create table parent (id int primary key);
create table child (id int references parent deferrable initially deferred);
create function add_order() returns int language plpgsql as
  $$ begin insert into orders (state) values ('sneaked'); return 1; end $$;
create function add_order_as_owner() returns int language plpgsql security definer as
  $$ begin insert into orders (state) values ('sneaked'); return 1; end $$;
create function add_order_writable() returns int language plpgsql as
  $$ begin set local transaction_read_only = off; insert into orders (state) values ('sneaked'); return 1; end $$;
create procedure add_order_at_once() language plpgsql as
  $$ begin insert into orders (state) values ('sneaked'); commit; end $$;
create function slow_commit() returns trigger language plpgsql as
  $$ begin perform pg_sleep(30); return null; end $$;
create table slowly (n int);
create constraint trigger slow after insert on slowly deferrable initially deferred
  for each row execute function slow_commit();
grant select on all tables in schema public to reader, program, member;
grant insert, update, delete on all tables in schema public to reader, operator;
grant select on all tables in schema public to operator;
grant create on schema public to reader;
grant usage on all sequences in schema public to reader, operator;
"""
ROLES = """
create role reader login in role pg_monitor;
create role operator login in role pg_monitor, pg_signal_backend;
create role program login in role pg_execute_server_program;
create role member login noinherit in role postgres;
create role locked login password 'opensesame77';
"""


@dataclass
class Shop:
    """A database, and the connections of targets.yaml to it."""

    server: Postgres
    url: str
    reach: Reach

    async def put(self, query: str, **raw) -> StepResult:
        more = {key: raw.pop(key) for key in ("values", "cancelled", "timeout", "reach", "allow_private") if key in raw}
        raw.setdefault("connection", "shop_operator" if raw.get("write") else "shop")
        return await Bench().run(step, {"query": query, **raw}, **{"reach": self.reach, **more})

    def see(self, query: str) -> list[tuple]:
        """As the superuser, from outside."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def do(self, *statements: str) -> None:
        """The same, where nothing comes back."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def states(self) -> list[str]:
        return [state for (state,) in self.see("select state from orders order by id")]

    def running(self, text: str) -> list[int]:
        query = "select pid from pg_stat_activity where query like %s and pid <> pg_backend_pid() and state = 'active'"
        with psycopg.connect(self.url, autocommit=True) as connection:
            return [pid for (pid,) in connection.execute(query, [f"%{text}%"])]

    async def until_running(self, text: str, *, wanted: bool = True) -> None:
        deadline = time.monotonic() + 10
        while bool(self.running(text)) is not wanted:
            assert time.monotonic() < deadline, f"{text!r} is {'not' if wanted else 'still'} running"
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of its own, with roles, TLS and passwords."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with postgres(port=port) as made:
        with psycopg.connect(made.url("postgres"), autocommit=True) as connection:
            connection.execute(ROLES)
        yield made


def connection(server: Postgres, database: str, role: str, **more) -> Connection:
    url = f"postgresql://{role}@/{database}?host={server.folder}&port={server.port}"
    return Connection(**{"kind": "postgres", "url": url, "private": True, **more})


@pytest.fixture(scope="module")
def stocked(server: Postgres) -> str:
    """A database to copy."""
    url = server.database()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(SETUP)
    return url.split("/")[3].split("?")[0]


@pytest.fixture
def shop(server: Postgres, stocked: str) -> Shop:
    url = server.database(stocked)
    name = url.split("/")[3].split("?")[0]
    connections = {
        "shop": connection(server, name, "reader"),
        "shop_operator": connection(server, name, "operator", write=True),
        "shop_operator_ro": connection(server, name, "operator"),
        "shop_root": connection(server, name, "postgres"),
        "shop_root_writer": connection(server, name, "postgres", write=True),
        "shop_program": connection(server, name, "program"),
        "shop_program_writer": connection(server, name, "program", write=True),
        "shop_member": connection(server, name, "member"),
    }
    return Shop(server, url, Reach(Targets(connections=connections), environment={"PASSWORD": PASSWORD}))


# Reading --------------------------------------------------------------------------------------------------------


async def test_rows_come_back_with_their_types(shop):
    result = await shop.put("""
        select 1 as i, 2::bigint as b, 1.50::numeric as n, 0.5::float8 as f, 'nan'::float8 as nan, null as nothing,
               'a%:b' as t, true as yes, '\\x00ff'::bytea as bytes, '{"a": [1, 2]}'::jsonb as j, array[1, 2] as a,
               '2026-03-01 12:00+02'::timestamptz as at, 'infinity'::timestamptz as never, '2026-03-01'::date as d,
               interval '1 min 30 s' as took, 'infinity'::date as no_day, '4713-01-01 BC'::timestamp as ancient,
               '00000000-0000-0000-0000-000000000001'::uuid as id, '10.0.0.0/8'::inet as net,
               int4range(1, 5) as r, 'x'::name as name, '(1,2)'::point as p, 12345678901234567890::numeric as large
    """)

    assert result.values["rows"] == [
        {
            "i": 1,
            "b": 2,
            "n": 1.5,
            "f": 0.5,
            "nan": None,
            "nothing": None,
            "t": "a%:b",
            "yes": True,
            "bytes": "\\x00ff",
            "j": {"a": [1, 2]},
            "a": [1, 2],
            "at": "2026-03-01T10:00:00+00:00",
            "never": "infinity",
            "d": "2026-03-01",
            "took": 90.0,
            "no_day": "infinity",
            "ancient": "4713-01-01 00:00:00 BC",
            "id": "00000000-0000-0000-0000-000000000001",
            "net": "10.0.0.0/8",
            "r": "[1, 5)",
            "name": "x",
            "p": "(1,2)",
            "large": 12345678901234567890,
        }
    ]


async def test_values_are_given_apart_with_their_types(shop):
    result = await shop.put(
        "select :i::int + 1 as i, :t as t, make_interval(secs => :i) as s, :n::text is null as none_, :f::float8 as f,"
        " 2 = any(:list::int[]) as found, 'open' = any(:words) as word, ':t' as literal, :yes::bool as yes"
        " from orders where state = :state limit 1 -- :nothing",
        binds={
            "i": "{{ params.seconds | seconds }}",
            "t": "'; drop table orders; --%s {{",
            "n": None,
            "f": 0.25,
            "list": [1, 2],
            "words": ["open", "x"],
            "yes": True,
            "state": "open",
        }
        | {"t": "{{ params.t }}"},
        values={"params": {"seconds": "1m30s", "t": "'; drop table orders; --%s"}},
    )

    assert result.values["rows"] == [
        {
            "i": 91,
            "t": "'; drop table orders; --%s",
            "s": 90.0,
            "none_": True,
            "f": 0.25,
            "found": True,
            "word": True,
            "literal": ":t",
            "yes": True,
        }
    ]


@pytest.mark.parametrize(
    ("bind", "told"),
    [
        ("a\x00b", "NUL"),
        ("\ud800", "surrogates"),
        ([1, "x"], "cannot dump lists of mixed types"),
        ("x", "invalid input syntax for type integer"),
        (2**80, "out of range|invalid input syntax|cannot cast|numeric"),
    ],
)
async def test_a_value_that_has_no_place_there_is_refused(shop, bind, told):
    with pytest.raises(PermanentError, match=told):
        await shop.put("select id from orders where id = :id::int", binds={"id": bind})


@pytest.mark.parametrize("depth", [900, 5000])
async def test_json_that_is_nested_without_end_breaks_nothing(shop, depth):
    query = f"select (repeat('[', {depth}) || repeat(']', {depth}))::json as j"
    try:
        told = str((await shop.put(query)).values["rows"])
    except PermanentError as error:
        told = str(error)

    assert "…" in told or "nested too deeply" in told


@pytest.mark.parametrize(
    "query",
    [
        "with a as (select 1 as x) select x from a",
        "(select 1 as x) union all select 1 limit 1",
        "values (1)",
        "table (select 1) limit 1",
        "show server_version",
        "explain select 1",
        "select 1 as x; -- over",
    ],
)
async def test_whatever_only_looks_can_be_put(shop, query):
    if query.startswith("table"):
        query = "table parent"
    result = await shop.put(query)

    assert result.ok
    assert result.values["row_count"] == (0 if query.startswith("table") else 1)


async def test_of_200_000_rows_no_more_are_made_than_are_wanted(shop):
    began = time.monotonic()
    result = await shop.put("select n, pg_sleep(0.001) from big", max_rows=3)

    assert time.monotonic() - began < 5
    assert [row["n"] for row in result.values["rows"]] == [1, 2, 3]
    assert result.values["truncated"]
    assert result.summary == "the first 3 rows"
    assert not (await shop.put("select 1 from big limit 3", max_rows=3)).values["truncated"]


async def test_long_values_are_cut_and_rows_beyond_what_can_be_kept_are_left_out(shop):
    result = await shop.put("select n, repeat('x', 100000) as t from big limit 1000", max_rows=1000)

    assert result.values["truncated"]
    assert 20 < len(result.values["rows"]) < 300
    assert len(result.values["rows"][0]["t"]) == step.CELL


# Ways around reading only ------------------------------------------------------------------------------------------


def sneaked(text: str) -> Statement:
    """A statement that got past the look at its words, to see that the database holds on its own."""
    return Statement(text, "SELECT", False, (), (text,))


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("insert into orders (state) values ('sneaked')", "INSERT changes something; that takes write: true"),
        ("set transaction read write", "SET cannot be a step"),
        ("begin; set transaction read write; insert into orders (state) values ('sneaked')", "more than one statement"),
        ("select 1; insert into orders (state) values ('sneaked')", "more than one statement"),
        ("copy orders to program 'touch /tmp/x'", "COPY cannot be a step"),
        ("commit", "COMMIT cannot be a step"),
        ("call add_order_at_once()", "CALL changes something"),
        ("do $$ begin insert into orders (state) values ('sneaked'); end $$", "DO cannot be a step"),
        ("lock table orders", "LOCK cannot be a step"),
        ("vacuum", "VACUUM cannot be a step"),
        ("create table x (a int)", "CREATE changes something"),
        ("with a as (insert into orders (state) values ('sneaked') returning 1) select * from a", "data-modifying"),
        ("with a as (select 1) delete from orders", "DELETE changes something"),
        ("select * into sneaked from orders", "INTO is not allowed here"),
        ("select * from orders for update", "changes something, and a step without write: true may not"),
        ("select nextval('orders_id_seq')", "changes something, and a step without write"),
        ("select add_order()", "changes something, and a step without write"),
        ("select add_order_as_owner()", "changes something, and a step without write"),
        ("select add_order_writable()", "cannot set transaction read-write mode|must be set before any query"),
        ("select set_config('transaction_read_only', 'off', true)", "must be set before any query"),
        ("select set_config('transaction_read_only', 'off', false), add_order()", "must be set before any query"),
        ("explain analyze insert into orders (state) values ('sneaked')", "changes something, and a step without"),
        ("explain analyze select add_order()", "changes something, and a step without write"),
        ("explain analyze create table sneaked as select 1", "a step that reads explains only DELETE, INSERT"),
        ("explain (analyze) refresh materialized view x", "a step that reads explains only"),
        ("explain (analyze) execute x", "a step that reads explains only"),
        ("select lo_export(1, '/tmp/x')", "permission denied|not allowed"),
        ("select pg_read_file('/etc/passwd')", "permission denied"),
        ("select * from dblink('', '')", "does not exist"),
    ],
)
async def test_what_changes_something_is_refused(shop, query, told):
    with pytest.raises(PermanentError, match=told):
        await shop.put(query)
    assert shop.states() == ["open", "open", "done"]
    assert shop.see("select to_regclass('sneaked')") == [(None,)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("select 1; insert into orders (state) values ('sneaked')", "cannot insert multiple commands"),
        ("select 1; commit; insert into orders (state) values ('sneaked')", "cannot insert multiple commands"),
        ("insert into orders (state) values ('sneaked')", "syntax error"),
        ("set transaction read write", "syntax error"),
        ("copy orders to program 'true'", "syntax error"),
    ],
)
async def test_the_database_refuses_what_got_past_the_look_at_the_words(shop, text, told):
    params = step.Params(connection="shop", query="select 1")
    context = Bench().context(reach=shop.reach)
    async with step._postgres(context, params, context.reach.connection("shop"), "") as session:
        with pytest.raises(PermanentError, match=told):
            await session.put(sneaked(text), params)
    # SHOW and EXPLAIN go another way, which takes no more than one statement either, and no change.
    async with step._postgres(context, params, context.reach.connection("shop"), "") as session:
        with pytest.raises(
            PermanentError, match=r"multiple commands|must be set before|without write|must be superuser"
        ):
            await session.put(Statement(text, "SHOW", False, (), (text,)), params)
    assert shop.states() == ["open", "open", "done"]


@pytest.mark.parametrize(
    ("text", "verb", "left"),
    [
        ("explain analyze create table sneaked as select 1", "EXPLAIN", "select to_regclass('sneaked') is not null"),
        ("select lo_create(4242)", "SELECT", "select exists (select from pg_largeobject_metadata)"),
    ],
)
async def test_what_a_read_only_transaction_lets_through_is_undone(shop, text, verb, left):
    """PostgreSQL 15 carries these out; later ones do not. Either way nothing of it is left."""
    params = step.Params(connection="shop", query="select 1")
    context = Bench().context(reach=shop.reach)
    async with step._postgres(context, params, context.reach.connection("shop"), "") as session:
        with contextlib.suppress(PermanentError):
            await session.put(Statement(text, verb, False, (), (text,)), params)

    assert shop.see(left) == [(False,)]


async def test_a_transaction_that_was_made_writable_is_not_what_a_step_gets(shop):
    """As the first statement of all it works; that is why ours come first."""
    with psycopg.connect(shop.url.replace("postgres@", "reader@"), autocommit=True) as other:
        other.execute("begin read only")
        other.execute("set transaction read write")
        other.execute("insert into orders (state) values ('measured')")
        other.execute("rollback")
    params = step.Params(connection="shop", query="select 1")
    context = Bench().context(reach=shop.reach)

    async with step._postgres(context, params, context.reach.connection("shop"), "") as session:
        with pytest.raises(psycopg.errors.ActiveSqlTransaction, match="must be set before any query"):
            await session.connection.execute("set transaction read write")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("shop_root", "is or can become postgres"),
        ("shop_root_writer", "is or can become postgres"),
        ("shop_member", "is or can become postgres"),
        ("shop_program", "pg_execute_server_program"),
        ("shop_program_writer", "pg_execute_server_program"),
        ("shop_operator_ro", "pg_signal_backend"),
    ],
)
async def test_a_role_that_may_do_too_much_is_refused(shop, name, told, tmp_path):
    made = tmp_path / "made"
    write = name.endswith("_writer")

    with pytest.raises(PermanentError, match=f"the role of {name} may do too much for a runbook: .*{told}"):
        await shop.put("select 1", connection=name, write=write)
    assert not made.exists()


@pytest.mark.parametrize(
    "query",
    [
        "select pg_sleep(30)",
        "select set_config('statement_timeout', '0', false), pg_sleep(30)",
        "select set_config('statement_timeout', '0', true) from big, pg_sleep(30)",
        "explain analyze select pg_sleep(30)",
        "select count(*) from big a, big b, big c",
    ],
)
async def test_nothing_runs_longer_than_it_may(shop, query):
    began = time.monotonic()

    with pytest.raises(PermanentError, match="took too long and was stopped; statement_timeout is the limit"):
        await shop.put(query, statement_timeout="300ms")
    assert time.monotonic() - began < 5
    await shop.until_running("pg_sleep(30)", wanted=False)


async def test_locks_and_settings_of_a_step_end_with_it(shop):
    result = await shop.put(
        "select pg_advisory_lock(42), set_config('search_path', 'nowhere', false), pg_try_advisory_lock(43)"
    )

    assert result.ok
    assert shop.see("select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]
    assert (await shop.put("show search_path")).values["rows"] == [{"search_path": '"$user", public'}]


async def test_a_lock_that_somebody_else_holds_is_not_waited_for_long(shop):
    with psycopg.connect(shop.url) as other:
        other.execute("lock table orders in access exclusive mode")
        began = time.monotonic()

        with pytest.raises(TemporaryError, match="somebody else holds what the statement needs"):
            await shop.put("select * from orders")
        with pytest.raises(TemporaryError, match="somebody else holds"):
            await shop.put("delete from orders", write=True)
        assert time.monotonic() - began < 10


# Writing --------------------------------------------------------------------------------------------------------


async def test_a_write_is_kept_and_counted(shop):
    result = await shop.put("update orders set state = :s where total < :t", binds={"s": "late", "t": 10}, write=True)

    assert (result.ok, result.values["row_count"], result.summary) == (True, 2, "2 rows")
    assert sorted(shop.states()) == ["done", "late", "late"]


@pytest.mark.parametrize(
    ("query", "count", "kept"),
    [
        ("insert into orders (state) values ('new') returning state", 1, 1),
        ("with a as (delete from orders where state = 'open' returning id) select count(*) as n from a", 1, 1),
        ("with a as (select 1) insert into orders (state) select 'new'", 1, 0),
        ("with a as (delete from orders returning *) insert into big select 1 from a returning n", 3, 3),
        ("select add_order()", 1, 1),
        ("create table made (a int)", 0, 0),
        ("notify somebody, 'x'", 0, 0),
    ],
)
async def test_whatever_writes_can_be_put_and_gives_back_what_it_returns(shop, query, count, kept):
    if query.startswith("create"):
        shop.do("grant create on schema public to operator")

    result = await shop.put(query, write=True)

    assert result.ok
    assert (result.values["row_count"], len(result.values["rows"])) == (count, kept)


async def test_a_write_whose_outcome_is_not_expected_is_undone(shop):
    result = await shop.put("delete from orders returning id", write=True, expect="row_count <= 1")

    assert not result.ok
    assert result.summary == "3 rows, expected row_count <= 1; nothing was kept"
    assert len(shop.states()) == 3


async def test_a_write_changes_all_it_should_and_keeps_only_some_of_what_it_returns(shop):
    result = await shop.put("delete from big returning n", write=True, max_rows=5)

    assert (len(result.values["rows"]), result.values["row_count"]) == (5, 200_000)
    assert result.values["truncated"]
    assert shop.see("select count(*) from big") == [(0,)]


async def test_what_only_the_commit_finds_out_is_an_error_and_nothing_is_kept(shop):
    with pytest.raises(PermanentError, match="violates foreign key constraint"):
        await shop.put("insert into child values (7)", write=True)
    assert shop.see("select count(*) from child") == [(0,)]


async def test_a_procedure_cannot_commit_behind_our_back(shop):
    with pytest.raises(PermanentError, match="invalid transaction termination"):
        await shop.put("call add_order_at_once()", write=True)
    assert shop.states() == ["open", "open", "done"]


async def test_two_writes_in_one_are_refused_by_the_database_too(shop):
    params = step.Params(connection="shop_operator", query="delete from orders", write=True)
    context = Bench().context(reach=shop.reach)
    for text, returning in (("delete from orders; delete from big", False), ("delete from orders; select 1", True)):
        async with step._postgres(context, params, context.reach.connection("shop_operator"), "") as session:
            with pytest.raises(PermanentError, match="cannot insert multiple commands"):
                await session.put(Statement(text, "DELETE", returning, (), (text,)), params)
    assert len(shop.states()) == 3


async def test_a_connection_that_is_lost_while_it_commits_leaves_a_question(shop):
    going = spawn(shop.put("insert into slowly values (1)", write=True), name="put")
    await shop.until_running("commit")
    shop.see("select pg_terminate_backend(pid) from pg_stat_activity where query = 'commit'")

    with pytest.raises(PermanentError, match="lost while it committed; look whether the change was made"):
        await asyncio.wait_for(going, 5)


async def test_a_commit_that_is_under_way_is_not_given_up_half_way(shop):
    shop.do(
        "create or replace function slow_commit() returns trigger language plpgsql as"
        " $$ begin perform pg_sleep(1); return null; end $$"
    )
    stop = asyncio.Event()
    going = spawn(shop.put("insert into slowly values (1)", write=True, cancelled=stop), name="put")
    await shop.until_running("commit")
    stop.set()

    assert (await asyncio.wait_for(going, 5)).ok
    assert shop.see("select count(*) from slowly") == [(1,)]


# Ends before its time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [False, True])
async def test_cancelling_ends_the_statement_on_the_server(shop, write):
    stop = asyncio.Event()
    query = "update orders set state = pg_sleep(30)::text" if write else "select pg_sleep(30)"
    going = spawn(shop.put(query, write=write, cancelled=stop), name="put")
    await shop.until_running("pg_sleep(30)" if write else "fetch")
    stop.set()

    with pytest.raises(Cancelled, match="nothing of it remains"):
        await asyncio.wait_for(going, 5)
    await shop.until_running("pg_sleep(30)" if write else "fetch", wanted=False)
    assert shop.states() == ["open", "open", "done"]


async def test_a_step_that_runs_out_of_time_ends_the_statement_on_the_server(shop):
    with pytest.raises((TemporaryError, PermanentError), match=r"no answer within 0\.5 s|took too long"):
        await shop.put("select pg_sleep(30)", timeout=0.5)
    await shop.until_running("fetch", wanted=False)


async def test_a_connection_that_is_lost_may_be_had_again(shop):
    going = spawn(shop.put("select pg_sleep(30)"), name="put")
    await shop.until_running("fetch")
    shop.see("select pg_terminate_backend(pid) from pg_stat_activity where query like 'fetch%'")

    with pytest.raises(TemporaryError, match=r"terminating connection|was lost"):
        await asyncio.wait_for(going, 5)


# Getting in ------------------------------------------------------------------------------------------------------


@contextmanager
def rules(server: Postgres, *lines: str) -> Iterator[None]:
    """Other rules for who gets in how."""
    file = server.folder / "data" / "pg_hba.conf"
    before = file.read_text()

    def told() -> None:
        with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
            admin.execute("select pg_reload_conf()")
        time.sleep(0.3)

    file.write_text("\n".join([*lines, before]))
    told()
    try:
        yield
    finally:
        file.write_text(before)
        told()


def only(target: Connection, environment: dict[str, str] | None = None, folder: Path = Path()) -> Reach:
    return Reach(Targets(connections={"shop": target}), folder, environment or {})


async def test_a_password_opens_the_connection_and_is_never_shown(shop, server, monkeypatch):
    name = shop.url.split("/")[3].split("?")[0]
    with rules(server, "local all locked scram-sha-256"):
        good = connection(server, name, "locked", password=Secret(env="PASSWORD"))
        found = await shop.put("select 'opensesame77' as x", reach=only(good, {"PASSWORD": PASSWORD}))
        assert found.ok
        assert PASSWORD not in repr(found)

        with pytest.raises(PermanentError, match=r"lets nobody in: .*password authentication failed") as caught:
            await shop.put("select 1", reach=only(good, {"PASSWORD": "wrong" + PASSWORD}))
        assert PASSWORD not in str(caught.value)

        # The bot's own password, of its own database, is not tried on others.
        monkeypatch.setenv("PGPASSWORD", PASSWORD)
        with pytest.raises(PermanentError, match="no password supplied"):
            await shop.put("select 1", reach=only(connection(server, name, "locked")))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://reader@{at}/nowhere", 'database "nowhere" does not exist'),
        ("postgresql://nobody_here@{at}/postgres", 'role "nobody_here" does not exist'),
        ("postgresql://reader@{at}/postgres?sslmode=require", "does not support SSL"),
    ],
)
async def test_who_does_not_get_in_is_told_why(shop, server, url, told):
    target = Connection(kind="postgres", url=url.format(at=f"localhost:{server.port}"), private=True)

    with pytest.raises(PermanentError, match=f"lets nobody in: .*{told}"):
        await shop.put("select 1", reach=only(target))


async def test_a_server_that_is_away_may_come_back(shop, unused_tcp_port):
    target = Connection(kind="postgres", url=f"postgresql://reader@localhost:{unused_tcp_port}/x", private=True)

    with pytest.raises(TemporaryError, match=r"lets nobody in: .*refused"):
        await shop.put("select 1", reach=only(target))


async def test_a_server_that_never_answers_is_left_in_time(shop):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    done = asyncio.Event()
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    target = Connection(kind="postgres", url=f"postgresql://reader@localhost:{port}/x", private=True)
    try:
        with pytest.raises(TemporaryError, match=r"no answer within 1 s|timeout expired"):
            await shop.put("select 1", reach=only(target), timeout=1)
    finally:
        done.set()
        listening.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://reader:secret@db.example.com/x", "must not hold password"),
        ("postgresql://reader@db.example.com/x?hostaddr=127.0.0.1", "must not hold hostaddr"),
        ("postgresql://reader@db.example.com/x?service=a", "must not hold service"),
        ("postgresql://reader@db.example.com/x?options=-c%20a%3Db", "must not hold options"),
        ("postgresql:///x", "must name a host"),
        ("postgresql://reader@localhost/x?host=a,b&port=1,2,3", "must name a host, and a port"),
        ("mysql://x", "cannot be read; write postgresql://host:5432/database"),
        ("postgresql://reader@169.254.169.254/x", "metadata"),
        ("postgresql://reader@127.0.0.1/x", "not a public address"),
        ("postgresql://reader@localhost,169.254.169.254/x", "not a public address"),
        ("postgresql://reader@/x?host=/tmp", "say private: true in targets.yaml"),
    ],
)
async def test_an_address_that_may_not_be_called_is_refused(shop, url, told):
    with pytest.raises(PermanentError, match=told) as caught:
        await shop.put("select 1", reach=only(Connection(kind="postgres", url=url)))
    assert "secret@" not in str(caught.value)


async def test_metadata_addresses_are_refused_on_private_connections_too(shop):
    target = Connection(kind="postgres", url="postgresql://reader@169.254.169.254/x", private=True)

    with pytest.raises(PermanentError, match="metadata"):
        await shop.put("select 1", reach=only(target))


async def test_a_server_without_tls_is_not_spoken_to_outside_of_private_networks(shop, server):
    url, local = f"postgresql://reader@localhost:{server.port}/postgres", ("127.0.0.0/8", "::1/128")

    with pytest.raises(PermanentError, match="does not support SSL"):
        await shop.put("select 1", reach=only(Connection(kind="postgres", url=url)), allow_private=local)


@pytest.fixture(scope="module")
def authority(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The server shows a certificate for localhost, which only those trust who are given this file."""
    folder = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", "server.key", "-out", "server.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    for name in ("server.key", "server.crt"):
        shown = server.folder / "data" / name
        shown.write_bytes((folder / name).read_bytes())
        shown.chmod(0o600)
        if server.user:
            shutil.chown(shown, server.user["user"], server.user["group"])
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute("alter system set ssl = on")
        with rules(server, "# the same"):
            yield folder / "server.crt"
        admin.execute("alter system reset ssl")
        admin.execute("select pg_reload_conf()")


async def test_a_certificate_is_checked_unless_the_network_is_private(shop, server, authority):
    url, local = f"postgresql://reader@localhost:{server.port}/postgres", ("127.0.0.0/8", "::1/128")
    encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"

    trusted = only(Connection(kind="postgres", url=url, ca=Path("server.crt")), folder=authority.parent)
    assert (await shop.put(encrypted, reach=trusted, allow_private=local, expect="rows[0].ssl")).ok
    for target in (
        only(Connection(kind="postgres", url=url)),
        only(Connection(kind="postgres", url=url.replace("localhost", "127.0.0.1"), ca=authority)),
    ):
        with pytest.raises(PermanentError, match=r"lets nobody in: .*(certificate|SSL error)"):
            await shop.put(encrypted, reach=target, allow_private=local)
    private = only(Connection(kind="postgres", url=url, private=True))
    assert (await shop.put(encrypted, reach=private, expect="rows[0].ssl")).ok


# A runbook for locks ------------------------------------------------------------------------------------------------

CONNECTIONS = """
select count(*) filter (where state = 'active') as active,
       count(*) filter (where state like 'idle in transaction%') as idle_in_tx,
       count(*) as total, current_setting('max_connections')::int as max_connections
from pg_stat_activity where backend_type = 'client backend'
"""
BLOCKERS = """
with blocked as (
  select pid, unnest(pg_blocking_pids(pid)) as blocker
  from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0)
select b.pid as blocked_pid, b.blocker as blocking_pid,
       extract(epoch from clock_timestamp() - w.query_start)::int as waiting_s,
       left(w.query, 120) as blocked_query,
       k.state as blocker_state, k.usename as blocker_user, k.application_name as blocker_app,
       extract(epoch from clock_timestamp() - k.xact_start)::int as blocker_xact_s,
       left(k.query, 120) as blocker_query
from blocked b
join pg_stat_activity w on w.pid = b.pid
join pg_stat_activity k on k.pid = b.blocker
order by waiting_s desc nulls last
"""
SLOW = """
select pid, usename, application_name, state, wait_event_type, wait_event,
       extract(epoch from clock_timestamp() - query_start)::int as running_s, left(query, 200) as query
from pg_stat_activity
where backend_type = 'client backend' and pid <> pg_backend_pid() and state <> 'idle'
  and clock_timestamp() - query_start > make_interval(secs => :seconds)
order by query_start
"""
STATEMENTS = """
select round(total_exec_time::numeric / 1000, 1) as total_s, calls,
       round(mean_exec_time::numeric, 1) as mean_ms, left(query, 160) as query
from pg_stat_statements order by total_exec_time desc
"""
AGAIN = "select count(*) as blocked from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0"
ROOT = (
    "(rows | rejectattr('blocking_pid', 'in', rows | map(attribute='blocked_pid') | list) | first).blocking_pid"
    " if rows else none"
)


async def test_the_one_who_blocks_others_is_found_and_stopped(shop):
    url = shop.url.replace("postgres@", "reader@") + "&application_name=checkout"
    blocker = await psycopg.AsyncConnection.connect(url)
    waiting = await psycopg.AsyncConnection.connect(url)
    try:
        await blocker.execute("select * from orders where id = 1 for update")
        holding = spawn(blocker.execute("select pg_sleep(60)"), name="blocker")
        stuck = spawn(waiting.execute("update orders set state = 'x' where id = 1"), name="waiting")
        await shop.until_running("update orders set state")
        await asyncio.sleep(1.1)

        connections = await shop.put(CONNECTIONS, expect="rows[0].total >= 3 and rows[0].max_connections > 0")
        blockers = await shop.put(BLOCKERS, max_rows=20)
        slow = await shop.put(SLOW, binds={"seconds": "{{ params.slow | seconds }}"}, values={"params": {"slow": "1s"}})
        assert (connections.ok, blockers.ok, slow.ok) == (True, True, True)
        row = blockers.values["rows"][0]
        assert (row["blocked_pid"], row["blocking_pid"]) == (waiting.info.backend_pid, blocker.info.backend_pid)
        assert (row["blocker_user"], row["blocker_app"], row["blocker_state"]) == ("reader", "checkout", "active")
        assert row["blocker_query"] == "select pg_sleep(60)"
        assert {one["pid"] for one in slow.values["rows"]} >= {row["blocked_pid"], row["blocking_pid"]}
        assert "blocked_pid" in blockers.output
        root = evaluate(ROOT, dict(blockers.values))
        assert root == blocker.info.backend_pid

        with pytest.raises(PermanentError, match="for reading"):
            await shop.put(
                "select pg_cancel_backend(:pid) as cancelled", binds={"pid": root}, write=True, connection="shop"
            )
        cancelled = await shop.put(
            "select pg_cancel_backend(:pid) as cancelled",
            binds={"pid": "{{ steps.blockers.root }}"},
            values={"steps": {"blockers": {"root": root}}},
            write=True,
            expect="rows[0].cancelled",
        )
        assert cancelled.ok
        assert cancelled.summary == "1 row: cancelled true"
        with pytest.raises(psycopg.errors.QueryCanceled):
            await holding
        await blocker.rollback()
        await stuck
        assert (await shop.put(AGAIN, expect="rows[0].blocked == 0")).ok
    finally:
        await blocker.close()
        await waiting.close()


async def test_what_a_server_does_not_have_is_said(shop):
    with pytest.raises(PermanentError, match='shop: relation "pg_stat_statements" does not exist'):
        await shop.put(STATEMENTS, max_rows=5)
