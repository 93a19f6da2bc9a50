"""What is known of a run after a crash, wherever it hit: nothing is repeated that must not be, nothing is forgotten."""

import asyncio
import subprocess
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from bot.engine import Engine, Superseded
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs import run as runs
from bot.runs.journal import Journal
from bot.runs.model import RunState, StepState
from bot.runs.step import StepResult
from tests.runs.conftest import processes


class Killed(BaseException):
    """The end of the process, as far as a test can have it in one."""


class DyingEngine(Engine):
    """An engine whose process is killed in the middle of its work: at the commit before number *dies_at*."""

    dies_at = -1
    commits = 0

    @asynccontextmanager
    async def transaction(self):
        if self.commits == self.dies_at:
            self.dies_at = -1
            raise Killed
        self.commits += 1
        async with super().transaction() as tx:
            yield tx


class AwayEngine(Engine):
    """An engine whose database does not answer for the next *away* transactions."""

    away = 0

    @asynccontextmanager
    async def transaction(self):
        async with super().transaction() as tx:
            yield tx
            if self.away:
                self.away -= 1
                raise sa.exc.OperationalError("insert", {}, ConnectionError("gone"))


async def forever(context):
    await asyncio.Event().wait()


@pytest.fixture
def crash(bench):
    """Start a run, and crash while its first step is at work."""

    async def crashed(plugin, book: str, **start) -> str:
        run_id = await bench.start(book, **start)
        task = bench.under_way(run_id)
        await asyncio.wait_for(plugin.started.wait(), 5)
        await bench.crash(task)
        return run_id

    return crashed


async def test_a_wait_waits_only_what_remains(bench):
    run_id = await bench.start("steps:\n  - wait: {for: 10m}\n")
    task = bench.under_way(run_id)
    await bench.until(lambda: bench.states(run_id))
    await bench.crash(task)
    bench.clock = lambda: utc_now() + timedelta(seconds=599.8)

    run = await asyncio.wait_for(bench.carry_out(run_id), 2)

    assert run.state == RunState.SUCCEEDED
    assert len(await bench.rows(run_id)) == 1
    assert len(await bench.events("run.step_started")) == 1


async def test_a_read_is_done_again_and_stands_on_the_timeline_once(bench, crash):
    look, before = bench.plugin("look", forever), bench.plugin("before")
    run_id = await crash(look, "steps:\n  - before: {}\n  - look: {}\n")

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert (before.calls, look.calls) == (1, 2)
    assert await bench.states(run_id) == ["succeeded", "succeeded"]
    assert len(await bench.events("run.step_started")) == 2
    assert len(await bench.events("run.step_succeeded")) == 2


async def test_a_write_is_asked_about_and_not_repeated(bench, crash):
    write = bench.plugin("change", forever, effect="write")
    run_id = await crash(write, "steps:\n  - name: Restart\n    change: {}\n")

    run = await bench.carry_out(run_id)
    again = await bench.carry_out(run_id)

    assert run.state == again.state == RunState.ASKING
    assert write.calls == 1
    (event,) = await bench.events("run.step_unknown")
    assert event.text == "Run 1: “Restart” was interrupted, and nobody knows whether it ended"


async def test_what_is_left_of_a_write_that_nobody_watches_is_ended_before_anybody_is_asked(bench, crash):
    write = bench.plugin("change", forever, effect="write")
    run_id = await crash(write, "steps:\n  - change: {}\n")
    mark = f"{run_id}/steps.0"
    left = subprocess.Popen(["/bin/sleep", "60"], env={"RUNBOOK_RUN": mark}, start_new_session=True)
    async with asyncio.timeout(10):
        while not processes(mark):  # a busy machine shows a new process's environment late
            await asyncio.sleep(0.01)

    await bench.carry_out(run_id)

    assert left.wait(5) < 0
    assert processes(mark) == []


async def test_run_again_repeats_the_step_once_even_if_it_fails_for_now(bench, crash):
    write = bench.plugin("change", forever, TemporaryError("away"), effect="write")
    run_id = await crash(write, "steps:\n  - change: {}\n")
    await bench.carry_out(run_id)
    await bench.answer(run_id, runs.REPEAT)

    run = await bench.carry_out(run_id)

    assert write.calls == 2
    assert run.state == RunState.FAILED
    assert [(row.attempt, row.state) for row in await bench.rows(run_id)] == [(1, "failed"), (2, "failed")]


async def test_run_again_has_as_many_tries_as_the_step_asks_for(bench, crash):
    write = bench.plugin("change", forever, TemporaryError("away"), TemporaryError("away"), effect="write")
    run_id = await crash(write, "steps:\n  - change: {}\n    retry: {attempts: 3, delay: 10ms}\n")
    await bench.carry_out(run_id)
    await bench.answer(run_id, runs.REPEAT)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert write.calls == 4


async def test_treated_as_done_goes_on_with_the_next_step(bench, crash):
    write, after = bench.plugin("change", forever, effect="write"), bench.plugin("after")
    run_id = await crash(write, "steps:\n  - id: change\n    change: {}\n  - when: steps.change.ok\n    after: {}\n")
    await bench.carry_out(run_id)
    await bench.answer(run_id, runs.ACCEPT)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert (write.calls, after.calls) == (1, 1)
    assert (await bench.rows(run_id))[0].summary == "treated as done"


async def test_a_run_that_was_cancelled_before_the_crash_does_not_ask(bench, crash):
    write = bench.plugin("change", forever, effect="write")
    run_id = await crash(write, "steps:\n  - change: {}\n")
    await bench.cancel(run_id)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.CANCELLED
    assert "nobody knows whether it ended" in run.failure["message"]
    assert await bench.states(run_id) == [StepState.UNKNOWN]


async def test_a_read_of_a_run_that_was_cancelled_before_the_crash_is_not_done_again(bench, crash):
    look = bench.plugin("look", forever)
    run_id = await crash(look, "steps:\n  - look: {}\n")
    await bench.cancel(run_id)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.CANCELLED
    assert look.calls == 1
    assert await bench.states(run_id) == [StepState.CANCELLED]


BOOK = """
steps:
  - id: look
    look: {}
  - change: {}
  - when: not steps.look.ok
    change: {}
  - wait: {for: 10ms}
  - note: {text: 'Changed it'}
"""


@pytest.mark.slow
async def test_a_kill_between_any_two_commits_repeats_no_write_and_loses_no_note(bench, database):
    for dies_at in range(1, 14):
        engine = DyingEngine(database)
        bench.engine = engine
        look, write = bench.plugin("look"), bench.plugin("change", effect="write")
        run_id = await bench.start(BOOK)
        notes = len(await bench.events("note."))
        engine.commits, engine.dies_at = 0, dies_at
        try:
            await bench.interpreter().run(run_id, 1)
        except Killed:
            await bench.carry_out(run_id)
        run = await bench.run(run_id)

        assert write.calls <= 1, dies_at
        if run.state == RunState.ASKING:
            assert write.calls == 1, "only a write that was started is asked about"
            await bench.answer(run_id, runs.ACCEPT)
            run = await bench.carry_out(run_id)
        assert run.state == RunState.SUCCEEDED, dies_at
        assert (write.calls, look.calls) in ((1, 1), (1, 2))
        assert len(await bench.events("note.")) == notes + 1
        states = ["succeeded", "succeeded", "skipped", "succeeded", "succeeded"]
        assert await bench.states(run_id) == states


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (PermanentError("no such host"), RunState.FAILED),
        (StepResult(ok=False, summary="no such host"), RunState.FAILED),
        (TemporaryError("no such host"), RunState.FAILED),
    ],
    ids=["lasting", "unexpected", "the last of three"],
)
async def test_a_kill_between_the_last_attempt_and_the_end_of_the_run_repeats_nothing(bench, database, failure, state):
    bench.engine = engine = DyingEngine(database)
    look = bench.plugin("look", *[failure] * 9)
    run_id = await bench.start("steps:\n  - look: {}\n")
    tries = 3 if isinstance(failure, TemporaryError) else 1
    engine.commits, engine.dies_at = 0, 1 + 2 * tries
    with pytest.raises(Killed):
        await bench.interpreter().run(run_id, 1)
    assert (await bench.run(run_id)).state == RunState.RUNNING
    assert look.calls == tries

    run = await bench.carry_out(run_id)

    assert look.calls == tries
    assert run.state == state
    assert run.failure == {"step": "look", "message": "no such host"}


async def test_a_cancelled_step_stays_cancelled_when_the_end_of_its_run_was_not_written(bench, database):
    bench.engine = engine = DyingEngine(database)
    run_id = await bench.start("steps:\n  - wait: {for: 1h}\n")
    task = bench.under_way(run_id)
    await bench.until(lambda: bench.states(run_id))
    await bench.cancel(run_id)
    engine.dies_at = engine.commits + 1
    with pytest.raises(Killed):
        await task

    run = await bench.carry_out(run_id)

    assert run.state == RunState.CANCELLED
    assert run.failure is None
    assert await bench.states(run_id) == ["cancelled"]


async def test_how_a_write_ended_is_kept_until_the_database_takes_it(bench, database):
    bench.engine = engine = AwayEngine(database)

    async def lose_the_database(context):
        engine.away = 2
        return StepResult(ok=True, summary="restarted")

    write = bench.plugin("change", lose_the_database, effect="write")
    run_id = await bench.start("steps:\n  - change: {}\n")

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert write.calls == 1
    assert (await bench.rows(run_id))[0].summary == "restarted"
    assert len(await bench.events("run.step_succeeded")) == 1


async def test_who_was_taken_for_dead_writes_nothing_over_what_others_wrote(bench):
    go_on = asyncio.Event()

    async def slow(context):
        await go_on.wait()
        return StepResult(ok=True, summary="late")

    write, after = bench.plugin("change", slow, effect="write"), bench.plugin("after")
    run_id = await bench.start("steps:\n  - change: {}\n  - after: {}\n")
    task = bench.under_way(run_id)
    await asyncio.wait_for(write.started.wait(), 5)
    await bench.carry_out(run_id)  # another process, which finds a write that was started
    await bench.answer(run_id, runs.ABANDON)
    go_on.set()
    await asyncio.wait_for(task, 5)

    assert (await bench.rows(run_id))[0].summary == "interrupted, and nobody knows whether it ended"
    assert (await bench.carry_out(run_id)).state == RunState.FAILED
    assert after.calls == 0


async def test_a_promise_that_was_overtaken_does_nothing(bench, crash):
    write = bench.plugin("change", forever, effect="write")
    run_id = await crash(write, "steps:\n  - change: {}\n")
    await bench.carry_out(run_id)
    await bench.answer(run_id, runs.REPEAT)

    await bench.interpreter().run(run_id, 1)

    assert write.calls == 1
    assert (await bench.run(run_id)).state == RunState.QUEUED
    assert len(await bench.rows(run_id)) == 1


class Taken(Engine):
    """The engine of a process that was taken for dead while it slept."""

    async def still_mine(self) -> None:
        raise Superseded("another process does this now")


async def test_a_process_that_wakes_up_after_a_person_has_decided_does_not_do_the_step_again(bench):
    plugin = bench.plugin(
        "odd", StepResult(ok=True, summary="done"), StepResult(ok=True, summary="twice"), effect="write"
    )
    run_id = await bench.start("steps:\n  - id: a\n    name: A\n    odd: {text: x}\n")
    asleep, wake = asyncio.Event(), asyncio.Event()
    sleeper = bench.interpreter()
    sleeper.journal = Journal(Taken(bench.engine.db), sleeper.react, sleeper.clock)
    started = sleeper.journal.started

    async def fall_asleep(*args):
        row = await started(*args)
        asleep.set()
        await wake.wait()
        return row

    sleeper.journal.started = fall_asleep
    task = spawn(sleeper.run(run_id, 1), name="test.sleeper")
    await asleep.wait()
    await bench.carry_out(run_id)  # another process takes over, and asks
    await bench.answer(run_id, runs.REPEAT)
    await bench.interpreter().run(run_id, 2)
    wake.set()
    await asyncio.wait({task}, timeout=5)

    assert isinstance(task.exception(), Superseded)
    assert plugin.calls == 1


async def test_an_attempt_that_another_process_has_begun_is_left_to_it(bench):
    go = asyncio.Event()

    async def slow(_context):
        await go.wait()
        return StepResult(ok=True, summary="fine")

    bench.plugin("odd", TemporaryError("not yet"), slow, effect="read")
    run_id = await bench.start(
        "steps:\n  - id: a\n    name: A\n    odd: {text: x}\n    retry: {attempts: 5, delay: 500ms}\n"
    )
    sleeper = bench.under_way(run_id)

    async def failed_once() -> bool:
        return [row.state for row in await bench.rows(run_id)] == ["failed"]

    await bench.until(failed_once)
    other = bench.under_way(run_id)  # took the run over while the first one waited
    await asyncio.wait({sleeper}, timeout=5)
    go.set()
    await asyncio.wait({other}, timeout=5)

    assert sleeper.exception() is None
    assert other.exception() is None
    assert (await bench.run(run_id)).state == "succeeded"
