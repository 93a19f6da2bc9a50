"""The sql step: what it takes, and all that is the same whatever the database; here on SQLite."""

import asyncio
import sqlite3
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import ValidationError

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.runbook import LintError, load
from bot.runs.step import Cancelled, effect
from bot.steps import sql as step

FOREVER = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "create table orders (id integer primary key, state text, total real);"
            "insert into orders values (1, 'open', 9.5), (2, 'open', 3), (3, 'done', 20);"
            "create table lines (n integer);"
        )
        connection.executemany("insert into lines values (?)", [(n,) for n in range(2000)])
    connection.close()
    return path


def reach(file: Path, **more) -> Reach:
    return Reach(
        Targets(
            connections={
                "shop": Connection(kind="sqlite", url=f"sqlite:///{file}", **more),
                "shop_writer": Connection(kind="sqlite", url=file.name, write=True),
                "web": Connection(kind="http", url="https://example.com"),
            }
        ),
        folder=file.parent,
        environment={"PASSWORD": "opensesame77"},
    )


@pytest.fixture
def put(run, file):
    async def put_(query: str, *, target: Reach | None = None, **raw):
        more = {key: raw.pop(key) for key in ("values", "cancelled", "timeout", "dry_run") if key in raw}
        raw.setdefault("connection", "shop_writer" if raw.get("write") else "shop")
        return await run(step, {"query": query, **raw}, reach=target or reach(file), **more)

    return put_


def rows(file: Path, query: str = "select id, state from orders order by id") -> list[tuple]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


# What it takes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"query": "select 1; drop table orders"}, "more than one statement"),
        ({"query": "select $1"}, "name what is given apart"),
        ({"query": "select ':a"}, "a ' is missing"),
        ({"query": "drop table orders"}, "DROP changes something; that takes write: true"),
        ({"query": "with a as (select 1) delete from orders"}, "DELETE changes something"),
        ({"query": "commit"}, "COMMIT cannot be a step; there is EXPLAIN, SELECT"),
        ({"query": "set transaction read write"}, "SET cannot be a step"),
        ({"query": "copy orders to program 'sh'"}, "COPY cannot be a step"),
        ({"query": "do $$ begin end $$"}, "DO cannot be a step"),
        ({"query": "pragma query_only = off"}, "PRAGMA cannot be a step"),
        ({"query": "attach 'x' as y", "write": True}, "ATTACH cannot be a step"),
        ({"query": "rollback", "write": True}, "ROLLBACK cannot be a step"),
        ({"query": "grant all on orders to x", "write": True}, "GRANT cannot be a step"),
        ({"query": "select :id"}, "the query names :id, and binds has no id"),
        ({"query": "select 1", "binds": {"id": 1}}, "binds has id, and the query has no :id"),
        ({"query": "select :a", "binds": {"a": {"b": 1}}}, "must be a text, a number"),
        ({"query": "select :a", "binds": {"a": [[1]]}}, "must be a text, a number"),
        ({"query": "select 1", "binds": {"a-b": 1}}, "not a name for a bind"),
        ({"query": "select 1", "statement_timeout": "11m"}, "between 10ms and 10m"),
        ({"query": "select 1", "write": "{{ params.w }}"}, "must be written out"),
        ({"query": "select 1", "max_rows": "{{ params.n }}"}, "must be written out"),
        ({"query": "select 1", "max_rows": 1001}, "less than or equal to 1000"),
        ({"query": "select 1", "write": "yes"}, "valid boolean"),
    ],
)
def test_what_is_wrong_is_said_by_the_linter_already(raw, told):
    with pytest.raises(ValidationError, match=told):
        step.Params.model_validate({"connection": "shop", **raw})


def test_a_query_is_never_filled_in():
    book = """\
version: 1
id: demo
name: x
owner: x
params: {table: {}}
steps:
  - sql:
      connection: shop_{{ params.table }}
      query: select * from {{ params.table }}
"""
    with pytest.raises(LintError, match=r"demo\.yaml:9: query is taken as it stands"):
        load(book, "demo.yaml", Shelf("bot.steps", must_have=("Params",)).load())


def test_it_reads_unless_it_says_that_it_writes():
    read = step.Params(connection="shop", query="select :n", binds={"n": 1})
    write = step.Params(connection="shop", query="delete from orders", write=True)

    assert (effect(step, read), effect(step, write), effect(step)) == ("read", "write", "write")
    assert step.preview(read) == "would put to shop: select :n (with n)"
    assert step.needs(read) == [("connection", "shop")]


async def test_reading_and_writing_take_connections_of_their_own(put, file):
    with pytest.raises(PermanentError, match=r"shop is for reading; .* says write: true in targets\.yaml"):
        await put("delete from orders", write=True, connection="shop")
    with pytest.raises(PermanentError, match="shop_writer is for writing"):
        await put("select 1", connection="shop_writer")
    with pytest.raises(PermanentError, match="'web' is of kind http; this step needs postgres or sqlite"):
        await put("select 1", connection="web")
    with pytest.raises(PermanentError, match="a dry run writes nothing"):
        await put("delete from orders", write=True, dry_run=True)
    assert len(rows(file)) == 3


# Reading --------------------------------------------------------------------------------------------------------


async def test_rows_come_back_as_values_and_as_a_table(put):
    result = await put("select id, state, total from orders where state = :state order by id", binds={"state": "open"})

    assert result.ok
    assert result.values == {
        "rows": [{"id": 1, "state": "open", "total": 9.5}, {"id": 2, "state": "open", "total": 3.0}],
        "columns": ["id", "state", "total"],
        "row_count": 2,
        "truncated": False,
    }
    assert result.summary == "2 rows"
    assert result.output.splitlines() == [
        "id  state  total",
        "--  -----  -----",
        " 1  open     9.5",
        " 2  open     3.0",
    ]


async def test_one_short_row_is_told_at_once_and_a_table_can_be_left_out(put):
    result = await put("select count(*) as orders, null as none_left from orders", table=False)

    assert result.summary == "1 row: orders 3, none_left null"
    assert result.output == ""


async def test_what_is_given_is_a_value_and_never_a_part_of_the_statement(put, file):
    evil = "x'; drop table orders; --"

    result = await put(
        "select :v as v, ':v' as text, count(*) as n from orders where state = :v",
        binds={"v": "{{ params.v }}"},
        values={"params": {"v": evil}},
    )

    assert result.values["rows"] == [{"v": evil, "text": ":v", "n": 0}]
    assert len(rows(file)) == 3


async def test_no_more_rows_are_made_than_are_wanted(put):
    result = await put("with recursive n(i) as (select 1 union all select i + 1 from n) select i from n", max_rows=3)

    assert [row["i"] for row in result.values["rows"]] == [1, 2, 3]
    assert result.values["truncated"]
    assert result.summary == "the first 3 rows"
    assert result.output.endswith("… there are more rows")


async def test_what_is_expected_decides(put):
    assert (
        await put("select count(*) as n from orders", expect="rows[0].n == params.n", values={"params": {"n": 3}})
    ).ok
    bad = await put("select count(*) as n from orders", expect="rows[0].n == 0")

    assert not bad.ok
    assert bad.summary == "1 row: n 3, expected rows[0].n == 0"
    assert (await put("select 1 where false", expect="row_count == 0 and not truncated")).ok


async def test_columns_of_the_same_name_are_told_apart(put):
    result = await put("select 1 as a, 2 as a, 3 as a, 4 as a_2")

    assert result.values["rows"] == [{"a": 1, "a_2": 2, "a_3": 3, "a_2_2": 4}]


async def test_secrets_in_rows_are_hidden_wherever_they_stand(put, file):
    target = reach(file, password=Secret(env="PASSWORD"))

    result = await put(
        "select 'hunter22' as password, 'opensesame77' as x, 'a opensesame77' as y", target=target, binds={}
    )

    assert result.values["rows"] == [{"password": MASK, "x": MASK, "y": f"a {MASK}"}]
    assert "hunter22" not in repr(result)
    assert "opensesame77" not in repr(result)


@pytest.mark.parametrize(
    ("value", "plain", "cell"),
    [
        (Decimal(12), 12, "12"),
        (Decimal("12.50"), 12.5, "12.50"),
        (Decimal("NaN"), None, "NaN"),
        (Decimal("1e400"), None, "1E+400"),
        (Decimal("1" + "0" * 29), 10**29, "100000000000000000000000000000"),
        (Decimal("12345678901234567.89"), 12345678901234567.89, "12345678901234567.89"),
        (float("nan"), None, "nan"),
        (float("inf"), None, "inf"),
        (datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC), "2026-03-01T12:00:05+00:00", "2026-03-01 12:00:05+00:00"),
        (date(2026, 3, 1), "2026-03-01", "2026-03-01"),
        (timedelta(minutes=1, milliseconds=500), 60.5, "0:01:00.500000"),
        (b"\x00\xff", "\\x00ff", "\\x00ff"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
        ([1, [Decimal(2)], {"a": b"x"}], [1, [2], {"a": "\\x78"}], '[1, [2], {"a": "\\\\x78"}]'),
        (None, None, "null"),
        (True, True, "true"),
    ],
)
def test_whatever_a_database_gives_becomes_plain_json_and_readable_text(value, plain, cell):
    assert step._plain(value) == plain
    assert step._cell(value) == cell


def test_values_are_bounded_in_length_items_and_depth():
    deep: list = []
    for _ in range(50):
        deep = [deep]

    assert len(step._plain("x" * 10_000)) == step.CELL
    assert len(step._plain(b"x" * 10_000)) <= step.CELL + 3
    assert len(step._plain(list(range(1000)))) == step.ITEMS
    assert step._plain(deep)[0][0][0][0][0][0][0][0] == "…"


async def test_more_text_than_can_be_kept_is_cut_by_rows(put):
    result = await put("select n, printf('%.*c', 3900, 'x') as t from lines", max_rows=1000)

    assert result.values["truncated"]
    assert 200 < len(result.values["rows"]) < 300


# SQLite's own ways of doing harm ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "select load_extension('x')",
        "select readfile('/etc/passwd')",
        "select * from pragma_table_info('orders')",
        "select fts3_tokenizer('simple')",
        "explain query plan select load_extension('x')",
    ],
)
async def test_what_leads_out_of_the_database_is_refused(put, query):
    with pytest.raises(PermanentError, match=r"not allowed to a runbook|no such function"):
        await put(query)


async def test_a_read_cannot_write_even_past_the_check_of_its_words(bench, file):
    params = step.Params(connection="shop", query="select 1")
    context = bench.context(reach=reach(file))
    for text in ("delete from orders", "attach 'x' as y", "pragma query_only = off", "create table x (a)", "commit"):
        sneaked = step.statements.read("select 1").__class__(text, "SELECT", False, (), (text,))
        async with step._sqlite(context, params, context.reach.connection("shop")) as session:
            with pytest.raises(PermanentError, match="not allowed to a runbook"):
                await session.put(sneaked, params)
    assert len(rows(file)) == 3


async def test_two_statements_are_refused_by_the_database_too(bench, file):
    params = step.Params(connection="shop", query="select 1")
    context = bench.context(reach=reach(file))
    text = "select 1; select 2"
    sneaked = step.statements.read("select 1").__class__(text, "SELECT", False, (), (text,))

    async with step._sqlite(context, params, context.reach.connection("shop")) as session:
        with pytest.raises(PermanentError, match="one statement at a time"):
            await session.put(sneaked, params)


async def test_a_large_value_does_not_fill_the_memory(put):
    with pytest.raises(PermanentError, match="too big"):
        await put("select length(zeroblob(100000000))")


async def test_a_statement_that_takes_too_long_is_stopped(put):
    began = time.monotonic()

    with pytest.raises(PermanentError, match="took too long and was stopped; statement_timeout"):
        await put(FOREVER, statement_timeout="200ms")
    assert time.monotonic() - began < 3


async def test_a_step_that_runs_out_of_time_leaves_nothing_running(put):
    with pytest.raises((TemporaryError, PermanentError), match=r"no answer within|took too long"):
        await put(FOREVER, timeout=0.2)


async def test_a_statement_can_be_cancelled_in_the_middle(put):
    stop = asyncio.Event()
    going = spawn(put(FOREVER, cancelled=stop), name="put")
    await asyncio.sleep(0.2)
    stop.set()

    with pytest.raises(Cancelled, match="nothing of it remains"):
        await asyncio.wait_for(going, 3)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("select * from nowhere", "shop: no such table: nowhere"),
        ("select nowhere from orders", "no such column"),
        ("select from", "syntax error"),
        ("select abs('x', 1)", "wrong number of arguments"),
    ],
)
async def test_errors_are_told_as_the_database_tells_them(put, query, told):
    with pytest.raises(PermanentError, match=told):
        await put(query)


@pytest.mark.parametrize("bind", [2**70, "\ud800", [1, 2]])
async def test_a_value_that_the_database_has_no_place_for_is_refused(put, bind):
    with pytest.raises(PermanentError, match=r"too large|surrogates|SQLite has no lists"):
        await put("select :v", binds={"v": bind})


async def test_a_file_that_is_not_there_or_is_none_is_said_and_never_made(put, file):
    missing = file.with_name("missing.sqlite")
    with pytest.raises(PermanentError, match="there is no database at"):
        await put("select 1", target=reach(missing))
    assert not missing.exists()
    missing.write_bytes(b"no database at all" * 100)
    with pytest.raises(PermanentError, match="not a database"):
        await put("select * from sqlite_master", target=reach(missing))


# Writing --------------------------------------------------------------------------------------------------------


async def test_a_write_is_kept_and_counted(put, file):
    result = await put("update orders set state = :s where total < :t", binds={"s": "late", "t": 10}, write=True)

    assert (result.ok, result.values["row_count"], result.summary) == (True, 2, "2 rows")
    assert rows(file) == [(1, "late"), (2, "late"), (3, "done")]


async def test_a_write_whose_outcome_is_not_expected_is_undone(put, file):
    result = await put("delete from orders where state = 'open' returning id", write=True, expect="row_count == 1")

    assert not result.ok
    assert result.summary == "2 rows, expected row_count == 1; nothing was kept"
    assert len(rows(file)) == 3
    with pytest.raises(PermanentError, match="nonsense"):
        await put("delete from orders", write=True, expect="nonsense > 1")
    assert len(rows(file)) == 3


async def test_a_write_gives_back_what_is_wanted_and_changes_all(put, file):
    result = await put("delete from lines returning n", write=True, max_rows=2)

    assert [row["n"] for row in result.values["rows"]] == [0, 1]
    assert (result.values["row_count"], result.values["truncated"]) == (2000, True)
    assert rows(file, "select count(*) from lines") == [(0,)]


@pytest.mark.parametrize("query", ["create table x (a)", "drop table orders", "alter table orders add x"])
async def test_a_write_changes_rows_and_not_the_database(put, file, query):
    with pytest.raises(PermanentError, match="not allowed to a runbook"):
        await put(query, write=True)


async def test_a_database_that_somebody_else_holds_may_be_free_later(put, file):
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("begin immediate")
    try:
        with pytest.raises(TemporaryError, match="somebody else holds the database"):
            await put("delete from orders", write=True)
        assert (await put("select count(*) as n from orders")).ok
    finally:
        other.close()


async def test_a_write_that_is_cancelled_is_undone(put, file):
    stop = asyncio.Event()
    query = f"update orders set total = ({FOREVER})"
    going = spawn(put(query, write=True, cancelled=stop), name="put")
    await asyncio.sleep(0.2)
    stop.set()

    with pytest.raises(Cancelled):
        await asyncio.wait_for(going, 3)
    assert rows(file, "select total from orders") == [(9.5,), (3.0,), (20.0,)]
