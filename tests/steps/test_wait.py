"""The wait step: as long as it says, or until what it looks for is so, counted from the first start."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs.expressions import ExpressionError
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


# Until something is so -----------------------------------------------------------------------------------------------


class Looks:
    """The step that looks: gives its answers one after the other, the last one again and again."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.times: list[float] = []

    async def __call__(self):
        self.times.append(time.monotonic())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return {}
        return answer


def until(expression: str = "status == 200", **more) -> dict:
    return {"until": expression, "every": "100ms", "check": {"http": {"url": "https://x.example.com"}}, **more}


async def test_it_looks_until_it_is_so(run, bench):
    looks = Looks({"status": 503}, {"status": 503}, {"status": 200, "json": {"n": 1}})

    result = await run(step, until(), check=looks)

    assert result.ok
    assert result.summary == "so after 0 s, at look 3: status == 200"
    assert result.values["checks"] == 3
    assert result.values["check"] == {"status": 200, "json": {"n": 1}}
    assert [round(b - a, 1) for a, b in zip(looks.times, looks.times[1:], strict=False)] == [0.1, 0.1]
    assert bench.said == ["look 1: not yet", "look 2: not yet"]


async def test_what_is_so_at_once_is_not_waited_for(run):
    result, took = await timed(run, until(every="1h"), check=Looks({"status": 200}))

    assert result.ok
    assert took < 5


async def test_it_sees_the_values_of_the_run_and_how_often_it_looked(run):
    raw = until("rows == params.want and checks > 1")

    result = await run(step, raw, check=Looks({"rows": 3}), values={"params": {"want": 3}})

    assert result.values["checks"] == 2


@pytest.mark.parametrize("answer", [TemporaryError("web-1 does not answer"), {"json": None}, TimeoutError()])
async def test_a_look_that_fails_for_now_is_no_yes_and_no_end(run, bench, answer):
    result = await run(step, until("json.status == 'ok'"), check=Looks(answer, {"json": {"status": "ok"}}))

    assert result.ok
    assert len(bench.said) == 1


async def test_a_look_that_can_never_work_ends_it(run):
    with pytest.raises(PermanentError, match="not a public address"):
        await run(step, until(), check=Looks(PermanentError("x is not a public address")))


async def test_when_the_time_is_over_it_says_what_it_saw_last(run):
    looks = Looks({"status": 503}, TemporaryError("connection refused"))

    result = await run(step, until(), check=looks, timeout=0.35)

    assert not result.ok
    assert result.summary.startswith("still not so at look")
    assert result.summary.endswith("the last look: connection refused")
    assert result.values["check"] == {"status": 503}
    assert 3 <= len(looks.times) <= 4


async def test_for_says_how_long_at_most_counted_from_the_first_start(run):
    since = NOW - timedelta(minutes=9, seconds=59.8)

    result, took = await timed(run, until(**{"for": "10m"}), check=Looks({"status": 503}), started_at=since, timeout=60)

    assert not result.ok
    assert took < 5
    assert result.values["waited"] > 590


async def test_after_a_long_restart_it_looks_once_more_before_it_gives_up(run):
    late = NOW - timedelta(days=1)

    assert (await run(step, until(**{"for": "10m"}), check=Looks({"status": 200}), started_at=late)).ok
    assert not (await run(step, until(**{"for": "10m"}), check=Looks({"status": 1}), started_at=late)).ok


async def test_a_look_that_hangs_is_given_up_on(run):
    result, took = await timed(run, until(), check=Looks(30.0), timeout=0.3)

    assert not result.ok
    assert "not over in time" in result.summary
    assert took < 5


@pytest.mark.parametrize("answer", [30.0, {"status": 1}])
async def test_cancelling_ends_the_look_and_the_pause(run, answer):
    cancelled = asyncio.Event()
    task = spawn(run(step, until(every="1h"), check=Looks(answer), cancelled=cancelled, timeout=60.0), name="test")
    await asyncio.sleep(0.05)

    cancelled.set()

    with pytest.raises(Cancelled):
        await asyncio.wait_for(task, 5)


async def test_outside_a_run_nothing_can_be_looked_at(run):
    with pytest.raises(PermanentError, match="only be used in a run"):
        await run(step, until())


async def test_what_the_step_that_looks_says_is_not_filled_in_here(run):
    looks = Looks({"status": 200})
    raw = until(check={"http": {"url": "https://{{ params.host }}/"}})

    assert (await run(step, raw, check=looks)).ok


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({}, "say how long with for"),
        ({"until": "x == 1"}, "until and check belong together"),
        ({"for": "1s", "check": {"http": {}}}, "until and check belong together"),
        ({"for": "1s", "every": "1s"}, "it needs until and check"),
        (until(every="50ms"), "100ms or more"),
        (until(every="8d"), "7d"),
    ],
)
async def test_what_does_not_fit_is_refused(run, raw, told):
    with pytest.raises(PermanentError, match=told):
        await run(step, raw, check=Looks({}))


async def test_an_expression_that_cannot_be_read_is_told_at_the_end(run):
    result = await run(step, until("status =="), check=Looks({"status": 200}), timeout=0.2)

    assert not result.ok
    assert issubclass(ExpressionError, PermanentError)


def test_the_preview_says_what_it_would_wait_for():
    params = step.Params.model_validate(until(**{"for": "5m"}))

    assert step.preview(params) == "would look every 0.1 s until status == 200, at most 5 min"
