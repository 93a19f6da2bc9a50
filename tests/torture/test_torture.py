"""What judges the bot is held to something itself: the oracle sees each kind of harm, every call is a fault point."""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.kit.shelf import Shelf
from bot.sandbox.server import Sandbox
from bot.slack import manifest
from tests.torture.oracle import INVARIANTS, judge
from tests.torture.players import Ledger
from tests.torture.world import World

CALLER = """
import asyncio, sys
from pathlib import Path
import aiohttp, sqlalchemy as sa
from tests.torture.points import Points

async def main(url, database, covered):
    points = Points(Path(covered), deep=1, die=True)
    points.commits()
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(sa.text("select 1"))
    with engine.begin() as connection:
        connection.execute(sa.text("insert into things values (1)"))
    async with aiohttp.ClientSession(trace_configs=[points.trace()]) as http:
        async with http.post(url + "/something.new") as answer:
            await answer.read()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_call_that_nobody_listed_is_died_at_before_and_after_and_so_is_every_commit(tmp_path: Path):
    calls = 0

    async def new(_: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        return web.Response()

    app = web.Application()
    app.router.add_post("/something.new", new)
    server = TestServer(app)
    await server.start_server()
    database, covered = tmp_path / "x.db", tmp_path / "points"
    with sqlite3.connect(database) as db:
        db.execute("create table things (x)")
    ends, rows, seen = [], [], []
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CALLER, str(server.make_url("")).rstrip("/"), str(database), str(covered)
        )
        ends.append(await process.wait())
        with sqlite3.connect(database) as db:
            rows.append(db.execute("select count(*) from things").fetchone()[0])
        seen.append(calls)
    await server.close()

    assert ends == [-9, -9, -9, -9, 0]
    assert covered.read_text().splitlines() == [
        "- before commit things #1",
        "- after commit things #1",
        "- before /something.new #1",
        "- after /something.new #1",
    ]
    assert rows == [0, 1, 2, 3, 4], "killed before the commit nothing is kept, after it everything"
    assert seen == [0, 0, 0, 1, 2]


@pytest.fixture
async def world(tmp_path: Path, sqlite_template: Path):
    """A round that went well: one incident, from its alert to its document, as the bot would have left it."""
    app = json.loads(json.dumps(manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())))
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with Sandbox(app) as sandbox:
        workspace = sandbox.workspace
        me = workspace.bot.id
        channel = workspace.create("inc-1-things", me)
        card = workspace.post(channel, me, "INC-1", blocks=[{"type": "header", "text": {"text": "INC-1 resolved"}}])
        workspace.pin(channel, card, me)
        workspace.post(channel, me, "INC-1 is resolved")
        workspace.post(channel, me, "alice: said it")
        workspace.post(channel, me, "the draft", files=[{"name": "inc-1.md"}])
        ledger = tmp_path / "ledger"
        ledger.write_text("r1 first\nr1 second\n")
        with sqlite3.connect(path) as db:
            db.execute("pragma foreign_keys = off")
            db.execute(
                "insert into incident (id, number, title, summary, severity, status, is_open, kind, private, "
                "group_key, runbooks, channel, detected_at, opened_at, revision) values ('i1', 1, 't', '', 'SEV1', "
                "'documenting', 0, 'standard', 0, 'g', '[]', ?, '2026-01-01', '2026-01-01', 1)",
                (channel.id,),
            )
            for number, (kind, text) in enumerate(
                [
                    ("incident.opened", "opened"),
                    ("channel.opened", "channel"),
                    ("page.nobody", "nobody"),
                    ("role.assigned", "commander"),
                    ("note.added", "said it"),
                    ("incident.resolved", "over"),
                ]
            ):
                _event(db, str(number), kind, text)
        yield World(tmp_path, sandbox, f"sqlite:///{path}", None, [], None, "socket", ledger)


def _event(db: sqlite3.Connection, number: str, kind: str, text: str) -> None:
    db.execute(
        "insert into timeline (id, incident_id, kind, text, at, recorded_at, data) "
        "values (?, 'i1', ?, ?, '2026-01-01', '2026-01-01', '{}')",
        (number, kind, text),
    )


def ledger(world: World) -> Ledger:
    channel = next(c.id for c in world.sandbox.workspace.channels.values() if c.name.startswith("inc-1"))
    return Ledger(
        promised={channel: {"said it"}},
        tried={channel: {"said it"}},
        commands={channel},
        ended={channel},
        runs=Counter(),
    )


def harm(world: World, statement: str = "", *, said: str = "", ledger_line: str = "") -> None:
    workspace = world.sandbox.workspace
    if statement:
        with sqlite3.connect(world.database_url.removeprefix("sqlite:///")) as db:
            db.execute("pragma foreign_keys = off")
            db.execute(statement)
    if said:
        workspace.post(workspace.channel("inc-1-things"), workspace.bot.id, said)
    if ledger_line:
        with world.ledger.open("a") as file:
            file.write(ledger_line + "\n")


async def test_a_good_round_is_called_good(world: World):
    assert judge(world, ledger(world)).wrong == {name: [] for name in INVARIANTS}


@pytest.mark.parametrize(
    ("invariant", "done"),
    [
        ("timeline doubled", {"statement": "insert into timeline select 'x', incident_id, kind, text, at, recorded_at, "
                                           "actor, data, corrects from timeline where kind = 'note.added'"}),
        ("timeline doubled", {"statement": "insert into timeline select 'x', incident_id, kind, text, at, recorded_at, "
                                           "actor, data, corrects from timeline where kind = 'channel.opened'"}),
        ("messages doubled", {"said": "alice: said it"}),
        ("messages missing", {"statement": "update incident set channel = 'C999'"}),
        ("steps repeated", {"ledger_line": "r1 first"}),
        ("work stuck", {"statement": "insert into request (id, key, kind, name, person, payload, deadline, recorded, "
                                     "received_at, state) values ('q', 'q', 'command', 'note', 'U', '{}', 1, 1, "
                                     "'2026-01-01', 'waiting')"}),
    ],
)  # fmt: skip
async def test_each_kind_of_harm_is_seen(world: World, invariant: str, done: dict[str, str]):
    harm(world, **done)

    assert judge(world, ledger(world)).wrong[invariant] != []


async def test_what_was_acknowledged_and_is_not_on_the_timeline_is_seen(world: World):
    promised = ledger(world)
    next(iter(promised.promised.values())).add("said too")
    harm(world, "update incident set channel = null")

    assert judge(world, promised).wrong["timeline missing"] == ["'said too' was acknowledged"]


async def test_a_second_channel_and_a_lost_alert_are_seen(world: World):
    promised = ledger(world)
    promised.alerts.add("an alert nobody stored")
    world.sandbox.workspace.create("inc-1-things-2", world.sandbox.workspace.bot.id)
    verdict = judge(world, promised)

    assert len(verdict.wrong["channels doubled"]) == 2
    assert verdict.wrong["alerts lost"] == ["an alert nobody stored was accepted and is not stored"]
