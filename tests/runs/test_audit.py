"""The audit tells everything that was done in runs, and shows whether somebody changed it afterwards."""

import asyncio
import contextlib
import json

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from bot.engine import Engine
from bot.kit.clock import utc_now
from bot.runs import audit
from bot.runs.audit import Line

BOOK = "params: {host: {default: web-1}}\nsteps:\n  - change: {}\n  - note: done\n"


@pytest.fixture
async def engine(database_url):
    from bot.kit.db import Database  # noqa: PLC0415 - a database of its own: the chain is one for all of it

    made = Engine(Database(database_url))
    yield made
    await made.close()
    await made.db.close()


async def write(engine: Engine, *actions: str) -> None:
    async with engine.transaction() as tx:
        for action in actions:
            audit.note(tx, Line(utc_now(), "UALICE", action, "r1", data={"seconds": 0.25, "text": "a\0b", "n": 2**70}))


async def verdict(engine: Engine, expected=None) -> audit.Verdict:
    async with engine.db.read() as session:
        return await audit.verify(session, expected)


async def by_hand(engine: Engine, *statements: str) -> None:
    """Change the table as somebody would who owns the database."""
    async with engine.transaction() as tx:
        connection = await tx.session.connection()
        if connection.dialect.name == "sqlite":
            names = await connection.execute(sa.text("select name from sqlite_master where type = 'trigger'"))
            for (name,) in names.all():
                await connection.execute(sa.text(f"drop trigger {name}"))
        else:
            await connection.execute(sa.text("alter table audit disable trigger user"))
        for statement in statements:
            await connection.execute(sa.text(statement))


async def test_a_run_leaves_a_line_for_each_thing_that_happened(bench):
    bench.plugin("change", effect="write")

    run = await bench.carry_out(await bench.start(BOOK))

    async with bench.engine.db.read() as session:
        rows = [row async for row in audit.lines(session) if row.run_id == run.id]
    assert [row.action for row in rows] == [
        "run.started",
        "run.step_started",
        "run.step_succeeded",
        "run.step_started",
        "run.step_succeeded",
        "run.ended",
    ]
    started = rows[0]
    assert (started.actor, started.data["runbook"], started.data["params"]) == ("UALICE", bench.book, {"host": "web-1"})
    assert started.data["sha256"] == run.sha256
    assert len(rows[4].data["output_sha256"]) == 64


async def test_a_chain_that_nobody_touched_holds(engine):
    await write(engine, "a", "b")
    await write(engine, "c")

    found = await verdict(engine)

    assert (found.lines, found.problem) == (3, None)
    async with engine.db.read() as session:
        assert await audit.head(session) == (3, found.head)
    assert (await verdict(engine, (2, "0" * 64))).problem.startswith("line 2 is not the one that was noted")


async def test_an_empty_audit_holds(engine):
    assert await verdict(engine) == audit.Verdict(0, audit.START)


async def test_what_was_not_committed_is_not_in_the_chain(engine):
    await write(engine, "a")
    with contextlib.suppress(RuntimeError):
        async with engine.transaction() as tx:
            audit.note(tx, Line(utc_now(), "UALICE", "b"))
            raise RuntimeError
    await write(engine, "c")

    assert (await verdict(engine)).lines == 2


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["update audit set actor = 'UMALLORY' where number = 2"], "line 2 was changed (b by UMALLORY)"),
        (["update audit set data = '{}' where number = 3"], "line 3 was changed (c by UALICE)"),
        (["delete from audit where number = 2"], "line 2 missing: line 1 is followed by line 3"),
        (["delete from audit where number in (1, 2)"], "lines 1 to 2 missing: line 0 is followed by line 3"),
        (
            ["delete from audit where number = 2", "update audit set number = number - 1 where number > 2"],
            "line 2 does not follow line 1: one of them was changed, added or moved",
        ),
        (
            [
                "update audit set number = 9 where number = 2",
                "update audit set number = 2 where number = 3",
                "update audit set number = 3 where number = 9",
            ],
            "line 2 does not follow line 1: one of them was changed, added or moved",
        ),
        (
            ["insert into audit select 5, at, actor, 'x', run_id, data, hash, hash from audit where number = 4"],
            "line 5 was changed (x by UALICE)",
        ),
    ],
)
async def test_each_way_of_tampering_is_found_at_the_line(engine, statements, told):
    await write(engine, "a", "b", "c", "d")
    await by_hand(engine, *statements)

    assert (await verdict(engine)).problem == told


async def test_an_end_that_was_cut_off_is_found_by_whoever_noted_it(engine):
    await write(engine, "a", "b", "c")
    noted = (3, (await verdict(engine)).head)
    await by_hand(engine, "delete from audit where number = 3")

    assert (await verdict(engine)).problem is None
    assert (await verdict(engine, noted)).problem == (
        "the chain ends at line 2; line 3 was noted, so the end was cut off"
    )


async def test_the_database_itself_refuses_changes(engine):
    await write(engine, "a")
    for statement in ("update audit set actor = 'x'", "delete from audit"):
        with pytest.raises(sa.exc.DatabaseError, match="append-only"):
            async with engine.transaction() as tx:
                await tx.session.execute(sa.text(statement))


async def test_many_at_once_make_one_chain(engine):
    await asyncio.gather(*(write(engine, f"a{i}", f"b{i}") for i in range(60)))

    found = await verdict(engine)

    assert (found.lines, found.problem) == (120, None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_kept_survives_a_way_through_json_unchanged(value):
    kept = audit.plain(value)

    assert json.loads(json.dumps(kept)) == kept
