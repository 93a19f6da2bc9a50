"""Several bots as processes of their own: on PostgreSQL they share the work, and nothing happens twice or is lost."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.sandbox.state import Channel
from tests.conftest import KINDS
from tests.postgres import Postgres
from tests.torture.oracle import judge
from tests.torture.players import Players, alert
from tests.torture.process import TEMPO
from tests.torture.rounds import rest
from tests.torture.world import Replica, World, world


@pytest.fixture(params=[kind for kind in KINDS if kind == "postgres"])
async def pair(tmp_path: Path, postgres_server: Postgres) -> AsyncIterator[World]:
    """Two bots on one PostgreSQL."""
    async with world(
        tmp_path / "world", tmp_path / "points", server=postgres_server, replicas=2, way="socket", die=False, deep=0
    ) as made:
        await made.sandbox.connected(4)
        yield made


@pytest.fixture(params=KINDS)
async def single(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """One bot as a process, on either database; over HTTP on the one, over sockets on the other."""
    server = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    way = "http" if request.param == "postgres" else "socket"
    folder = tmp_path / "world"
    async with world(folder, tmp_path / "points", server=server, replicas=1, way=way, die=False, deep=0) as made:
        yield made


def wrong(made: World, players: Players) -> dict[str, list[str]]:
    """What the oracle has to say, if anything."""
    return {name: found for name, found in judge(made, players.ledger).wrong.items() if found}


def owner(made: World, workflow: str) -> Replica | None:
    """The bot that carries out a workflow right now."""
    pending = made.rows(f"select executor_id from workflow_status where status = 'PENDING' and name = '{workflow}'")
    pids = {int(executor.rsplit("-", 2)[1]) for (executor,) in pending}
    return next((bot for bot in made.replicas if bot.process and bot.process.pid in pids), None)


async def opened(made: World, service: str) -> Channel:
    """An incident's channel, furnished."""
    await made.post(alert(service, 0))
    channel = await made.sandbox.expect_channel(f"inc-*-{service}-*", within=20)
    await made.sandbox.wait(lambda: channel.pins, 20, "pinned card")
    return channel


async def test_two_bots_play_the_story_and_nothing_happens_twice(pair: World):
    players = Players(pair, random.Random(7))
    await players.play(3)
    await rest(pair)

    assert wrong(pair, players) == {}
    owners = pair.rows("select distinct executor_id from workflow_status")
    assert len(owners) == 2, "both must have had a share"


@pytest.mark.slow
async def test_work_of_a_bot_that_dies_or_freezes_is_taken_over_and_a_thawed_one_does_no_harm(pair: World):
    players = Players(pair, random.Random(8))
    for number, end in enumerate((signal.SIGKILL, signal.SIGSTOP)):
        # Slack is slow to make the channel, so there is a moment in which somebody is at it.
        pair.sandbox.faults.add("conversations.create", "slow", seconds=1.5)
        await pair.post(alert(f"service-{number}", 0))
        victim = await pair.sandbox.wait(lambda: owner(pair, "open"), 10, "somebody at work")
        victim.wanted = False
        pid = victim.process.pid
        os.kill(pid, end)
        other = next(bot for bot in pair.replicas if bot is not victim)
        assert other.process.returncode is None
        channel = await pair.sandbox.expect_channel(f"inc-*-service-{number}-*", within=20 + TEMPO.lease_seconds)
        await pair.sandbox.wait(lambda channel=channel: channel.pins, 20, "pinned card")
        if end == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(1)
            victim.process.kill()
        await victim.keeper
        victim.wanted = True
        victim.start()
        await pair.ready()
    await rest(pair)

    made = [c for c in pair.sandbox.workspace.channels.values() if c.name.startswith("inc-")]
    assert len(made) == 2
    for channel in made:
        cards = [m for m in channel.messages if m.blocks and m.blocks[0].get("type") == "header"]
        assert len(cards) == 1
    verdict = judge(pair, players.ledger)
    for name in ("channels doubled", "messages doubled", "timeline doubled", "work stuck"):
        assert verdict.wrong[name] == []


@pytest.mark.slow
async def test_a_bot_that_is_told_to_stop_loses_nothing_that_it_acknowledged(single: World):
    channel = await opened(single, "service-0")
    alice = single.sandbox.actor("alice")
    await alice.join(channel)
    (bot,) = single.replicas
    for turn in range(3):
        acked: list[str] = []

        async def note(text: str, acked: list[str] = acked) -> None:
            reply = await alice.slash(f"/inc note {text}", channel)
            if reply.ok and "nothing was done" not in reply.text:
                acked.append(text)

        notes = [asyncio.ensure_future(note(f"word {turn}.{n}")) for n in range(15)]
        await asyncio.sleep(0.03 * turn)
        before = bot.process
        before.terminate()
        await asyncio.gather(*notes)
        assert await asyncio.wait_for(before.wait(), 20) == 0
        await single.sandbox.wait(lambda before=before: bot.process is not before, 20, "the next process")
        await single.ready()
        await rest(single)
        said = [text for (text,) in single.rows("select text from timeline where kind = 'note.added'")]
        assert len(said) == len(set(said))
        assert set(acked) <= set(said), "an acknowledged note is missing"


async def test_a_second_bot_on_one_sqlite_file_is_refused_and_the_first_goes_on(tmp_path: Path):
    folder = tmp_path / "world"
    async with world(folder, tmp_path / "points", server=None, replicas=1, way="socket", die=False, deep=0) as made:
        (first,) = made.replicas
        second = Replica({**first.environment, "TOCSIN_PORT": "0"}, 0, tmp_path / "second.log", wanted=True)
        second.start()
        await made.sandbox.wait(lambda: second.starts and second.process.returncode is not None, 20, "the refusal")
        second.wanted = False
        await second.stop()

        told = (tmp_path / "second.log").read_text()
        assert "Another tocsin is running on" in told
        assert "or use Postgres: TOCSIN_DATABASE_URL=postgresql://" in told
        await opened(made, "service-0")
