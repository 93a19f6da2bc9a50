"""Runbooks by the clock: times that were missed, clocks that jump, several bots, and one that is killed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.runs.model import Clockwork
from tests.conftest import KINDS
from tests.postgres import Postgres
from tests.scenarios.automation import DRIFT, TEMPO, Hands, Service, configured, runs
from tests.scenarios.conftest import app_of_the_bot, staged
from tests.torture.world import World, world


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_times_that_were_missed_are_made_up_for_once_or_not_at_all_as_the_runbook_says(
    database_url, tmp_path, service
):
    hands = Hands(datetime(2026, 11, 26, 12, 0, tzinfo=UTC))
    skipping = DRIFT.replace("id: drift\nname", "id: skipping\nname", 1).replace("{cron", "{catch_up: skip, cron")
    folder = configured(tmp_path, service, drift=DRIFT, skipping=skipping)
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO, clock=hands) as stage:
        await asyncio.sleep(0.6)
        await stage.bot.stop()
        hands.forward(days=3)
        await stage.restart()
        made_up = "Look for drift: 3 times were missed while the bot was away, the last one at Sun 29 Nov 02:30 CET; "
        await stage.sandbox.expect_message("#incidents", made_up + "one run makes up for it", within=10)
        await stage.sandbox.expect_message("#incidents", made_up + "nothing is made up for")
        await stage.quiet()

        (run,) = await runs(stage)
        assert (run.runbook, run.because) == ("drift", "it was Sun 29 Nov 02:30 CET, 10 h 30 min ago")
        assert service.plans == 1


@pytest.mark.slow
async def test_a_clock_that_jumps_starts_nothing_twice(database_url, tmp_path, service):
    hands = Hands(datetime(2026, 11, 26, 0, 30, tzinfo=UTC))
    folder = configured(tmp_path, service, drift=DRIFT.replace("30 2 * * *", "0 * * * *"))
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO, clock=hands) as stage:

        async def at(hour: int, minute: int, plans: int) -> None:
            hands.put(datetime(2026, 11, 26, hour, minute, tzinfo=UTC))
            await stage.sandbox.wait(lambda: service.plans >= plans, 10, f"run number {plans}")
            await asyncio.sleep(0.6)
            await stage.quiet()
            assert service.plans == plans

        await asyncio.sleep(0.6)
        await at(1, 1, 1)
        await at(6, 1, 2)  # forward by five hours: the newest time, once
        await at(1, 1, 2)  # and back
        await at(2, 1, 3)  # what was skipped comes at its time
        await at(6, 1, 3)  # what has run does not


# -- processes of their own ------------------------------------------------------------------------------------------

NIGHTLY = """version: 1
id: nightly
name: Nightly work
owner: team
schedule: 'MINUTE HOUR * * *'
steps:
  - id: first
    name: First line
    exec: {argv: [sh, -c, 'echo "$1 first" >> "$2"', x, '{{ run.id }}', LEDGER]}
    effect: write
  - id: long
    name: A long look
    exec: {argv: [sleep, '3']}
    effect: read
  - id: second
    name: Second line
    exec: {argv: [sh, -c, 'echo "$1 second" >> "$2"', x, '{{ run.id }}', LEDGER]}
    effect: write
"""


def nightly() -> dict[str, str]:
    """The runbook, with a time that came an hour ago."""
    at = utc_now() - timedelta(hours=1)
    return {"runbooks/nightly.yaml": NIGHTLY.replace("MINUTE", str(at.minute)).replace("HOUR", str(at.hour))}


async def away(database: Database) -> None:
    """As if the bot had been away since two hours ago."""
    at = utc_now() - timedelta(hours=1)
    row = Clockwork(runbook="nightly", spec=f"{at.minute} {at.hour} * * * UTC", handled_at=at - timedelta(hours=1))
    async with database.write() as session:
        session.add(row)


async def ended(made: World) -> list[tuple[str, str]]:
    return [tuple(row) for row in made.rows("select state, trigger from run where ended_at is not null")]


@pytest.fixture(params=[kind for kind in KINDS if kind == "postgres"])
async def pair(tmp_path: Path, postgres_server: Postgres) -> AsyncIterator[World]:
    options = {"server": postgres_server, "replicas": 2, "way": "socket", "die": False, "deep": 0}
    async with world(tmp_path / "world", tmp_path / "points", files=nightly(), prepare=away, **options) as made:
        yield made


@pytest.fixture(params=KINDS)
async def single(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    server = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    options = {"server": server, "replicas": 1, "way": "socket", "die": False, "deep": 0}
    async with world(tmp_path / "world", tmp_path / "points", files=nightly(), prepare=away, **options) as made:
        yield made


async def test_two_bots_run_one_time_of_a_schedule_once(pair: World):
    await pair.sandbox.wait(lambda: pair.rows("select 1 from run where ended_at is not null"), 30, "the run")
    await asyncio.sleep(2)

    assert await ended(pair) == [("succeeded", "schedule")]
    assert len(pair.ledger.read_text().splitlines()) == 2
    executors = {line for bot in pair.replicas for line in bot.log.read_text().splitlines() if "bot.started" in line}
    assert len(executors) == 2
    shown = [m for c in pair.sandbox.workspace.channels.values() for m in c.messages if "Run 1: " in m.rendered]
    assert len(shown) == 1


@pytest.mark.slow
async def test_a_bot_that_is_killed_in_a_run_by_the_clock_goes_on_with_it(single: World):
    await single.sandbox.wait(lambda: "first" in single.ledger.read_text(), 30, "the first line")
    await single.sandbox.wait(lambda: single.rows("select 1 from run_step where step = 'long'"), 10, "the long look")
    single.replicas[0].kill()
    await single.sandbox.wait(lambda: single.rows("select 1 from run where ended_at is not null"), 60, "the end")

    assert await ended(single) == [("succeeded", "schedule")]
    lines = [line.split()[1] for line in single.ledger.read_text().splitlines()]
    assert lines == ["first", "second"]
    assert single.replicas[0].deaths == 1
    assert single.rows("select count(*) from timeline where kind = 'run.started'") == [(1,)]
