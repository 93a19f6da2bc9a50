"""One round: players at work, things going wrong, quiet, and the verdict."""

import asyncio
import contextlib
import random
import shutil
import sqlite3
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.postgres import Postgres
from tests.torture.oracle import Verdict, judge
from tests.torture.players import Players
from tests.torture.world import World, world


@dataclass
class Row:
    """What became of one round."""

    name: str
    seed: int
    kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0
    failure: str | None = None

    @property
    def good(self) -> bool:
        return self.failure is None and self.verdict.good


async def point_round(
    folder: Path,
    points: Path,
    *,
    server: Postgres | None,
    way: str,
    seed: int,
    deep: int,
    most: int,
    incidents: int,
    chance: float = 1.0,
) -> Row:
    """Each process dies at the first point nobody has died at; after *most* deaths the last one may live."""
    row = Row("points", seed)
    began = time.monotonic()
    async with world(folder, points, server=server, replicas=1, way=way, die=True, deep=deep, chance=chance) as made:
        (bot,) = made.replicas

        async def spare() -> None:
            while bot.deaths < most:
                await asyncio.sleep(0.05)
            bot.die = False
            if bot.process is not None and bot.process.returncode is None:
                bot.kill()  # it was started to die
                row.faults["spared"] += 1

        guard = asyncio.ensure_future(spare())
        await _played(made, row, seed, incidents, patience=60 + 8.0 * most)
        bot.die = False
        guard.cancel()
        row.kills = bot.deaths - row.faults.pop("spared", 0)
    row.seconds = time.monotonic() - began
    return row


async def random_round(
    folder: Path, *, server: Postgres | None, way: str, replicas: int, seed: int, seconds: float, incidents: int
) -> Row:
    """Whatever goes wrong, at times that chance picks."""
    row = Row("random" if replicas == 1 else f"random, {replicas} replicas", seed)
    began = time.monotonic()
    async with world(folder, folder / "points", server=server, replicas=replicas, way=way, die=False, deep=0) as made:
        chaos = asyncio.ensure_future(_chaos(made, row, random.Random(seed), seconds))
        await _played(made, row, seed, incidents, patience=90 + seconds, before_rest=chaos)
        row.kills = sum(bot.deaths for bot in made.replicas)
    row.seconds = time.monotonic() - began
    return row


async def flood_round(
    folder: Path, *, server: Postgres | None, way: str, seed: int, seconds: float, incidents: int
) -> Row:
    """Slack answers everything with 429 for a while, a kill in the middle of it."""
    row = Row("429 to everything", seed)
    began = time.monotonic()
    async with world(folder, folder / "points", server=server, replicas=1, way=way, die=False, deep=0) as made:

        async def flood() -> None:
            await asyncio.sleep(0.5)
            fault = made.sandbox.faults.add("*", "429", 10**9, retry_after=5)
            row.faults["limited"] += 1
            await asyncio.sleep(seconds / 2)
            made.replicas[0].kill()
            await asyncio.sleep(seconds / 2)
            made.sandbox.faults.planned.remove(fault)
            row.faults["answers of 429"] += sum(call.error == "ratelimited" for call in made.sandbox.calls)

        flooding = asyncio.ensure_future(flood())
        await _played(made, row, seed, incidents, patience=90 + 2 * seconds, before_rest=flooding)
        row.kills = made.replicas[0].deaths
    row.seconds = time.monotonic() - began
    return row


async def _chaos(made: World, row: Row, chance: random.Random, seconds: float) -> None:
    faults = made.sandbox.faults
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(chance.uniform(0.2, 1.5))
        what = chance.choice(
            [
                "kill",
                "kill",
                "lost",
                "limited",
                "broken",
                "slow",
                "cut",
                "refresh",
                "twice",
                "reorder",
                "deaf",
                "refuse",
            ]
            + (["database"] if made.server else ["locked"])
        )
        row.faults[what] += 1
        if what == "kill":
            chance.choice(made.replicas).kill()
        elif what == "lost":
            faults.add("*", "lost", chance.randint(1, 3))
        elif what == "limited":
            faults.add(chance.choice(["*", "chat.*", "conversations.*"]), "429", chance.randint(1, 8), retry_after=1)
        elif what == "broken":
            faults.add("*", "500", chance.randint(1, 3))
        elif what == "slow":
            faults.add("*", "slow", chance.randint(1, 3), seconds=chance.uniform(0.2, 2.5))
        elif what == "cut":
            faults.kill_sockets()
        elif what == "refresh" and faults.send_disconnect:
            await faults.send_disconnect(chance.choice(["warning", "refresh_requested"]))
        elif what == "twice":
            faults.duplicate(chance.randint(1, 3), same_envelope=chance.random() < 0.5)
        elif what == "reorder":
            faults.reorder(chance.randint(1, 2))
        elif what == "deaf":
            made.sandbox.sockets.deafen(pongs=chance.random() < 0.5)
        elif what == "refuse":
            made.sandbox.sockets.refuse(chance.randint(1, 4))
        elif what == "database" and made.server:
            await asyncio.to_thread(made.server.stop)
            await asyncio.sleep(chance.uniform(0, 1.5))
            await asyncio.to_thread(made.server.start)
        elif what == "locked":
            await asyncio.to_thread(_lock, made.database_url.removeprefix("sqlite:///"), chance.uniform(0.2, 2.5))


def _lock(path: str, seconds: float) -> None:
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("begin immediate")
        time.sleep(seconds)
        other.execute("rollback")


async def _played(
    made: World, row: Row, seed: int, incidents: int, *, patience: float, before_rest: asyncio.Future | None = None
) -> None:
    players = Players(made, random.Random(seed), patience)
    try:
        await players.play(incidents)
        if before_rest is not None:
            await before_rest
        made.sandbox.faults.clear()
        for bot in made.replicas:
            bot.die = False
        await made.ready()
        await rest(made)
    except (AssertionError, TimeoutError) as error:
        row.failure = str(error)[:300]
        if before_rest is not None:
            before_rest.cancel()
    row.verdict = await asyncio.to_thread(judge, made, players.ledger)
    if not row.good:
        (made.folder / "transcript.txt").write_text(_transcript(made))


async def rest(made: World, within: float = 90.0) -> None:
    """Wait until nothing is left to do, and nothing has been done for a while."""
    end, calm, seen = time.monotonic() + within, 0, -1
    while calm < 10:
        await asyncio.sleep(0.1)
        waiting = made.rows("select count(*) from workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')")
        asked = made.rows("select count(*) from request where state = 'waiting'")
        calls = len(made.sandbox.workspace.calls)
        calm = calm + 1 if not waiting[0][0] and not asked[0][0] and calls == seen else 0
        seen = calls
        if time.monotonic() > end:
            return  # the oracle says what is stuck


def _transcript(made: World) -> str:
    """What people see at the end, and how each of their deeds was acknowledged."""
    workspace = made.sandbox.workspace
    lines = []
    for channel in workspace.channels.values():
        lines.append(f"#{channel.name} {channel.id}")
        seen = sorted([*channel.messages, *channel.ephemerals], key=lambda m: m.ts)
        lines += [f"  {m.ts} {m.user} {m.only_for or ''}: {m.rendered!r}"[:600] for m in seen]
    lines += [str(delivery) for delivery in workspace.deliveries]
    lines += [f"{call.at} {call.method} {call.ok} {call.error} {str(call.args)[:200]}" for call in workspace.calls]
    return "\n".join(lines) + "\n"


def forget(folder: Path) -> None:
    """What a good round leaves behind is of no use."""
    shutil.rmtree(folder, ignore_errors=True)
