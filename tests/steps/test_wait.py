"""The wait step: as long as it says, counted from the first start."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from bot.kit.tasks import spawn
from bot.runs.step import Cancelled
from bot.steps import wait as step

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def timed(run, raw, **more):
    before = time.monotonic()
    result = await run(step, raw, clock=lambda: NOW, **more)
    return result, time.monotonic() - before


async def test_it_waits_as_long_as_it_says(run):
    result, took = await timed(run, {"for": "{{ params.p }}"}, values={"params": {"p": "200ms"}}, started_at=NOW)

    assert result.values == {"waited": 0.2}
    assert took > 0.15


async def test_after_a_restart_it_waits_only_what_is_left(run):
    result, took = await timed(run, {"for": "10m"}, started_at=NOW - timedelta(minutes=9, seconds=59.8))

    assert result.ok
    assert took < 300  # of ten minutes


async def test_a_wait_that_ended_meanwhile_is_over(run):
    assert (await timed(run, {"for": "10m"}, started_at=NOW - timedelta(days=2)))[1] < 300


async def test_a_clock_that_was_set_back_does_not_make_it_longer(run):
    assert (await timed(run, {"for": "100ms"}, started_at=NOW + timedelta(days=2)))[1] < 300


async def test_cancelling_ends_it(run):
    cancelled = asyncio.Event()
    task = spawn(run(step, {"for": "1h"}, cancelled=cancelled), name="test")
    await asyncio.sleep(0.01)

    cancelled.set()

    with pytest.raises(Cancelled):
        await task


def test_the_preview_says_how_long():
    assert step.preview(step.Params.model_validate({"for": "90s"})) == "would wait 1 min 30 s"
