"""What must not run at the same time does not: it is refused, waits its turn, or ends what is at work."""

import asyncio

import pytest

from bot.kit.errors import UserError
from bot.runs import run as runs
from bot.runs.model import RunState
from tests.runs.test_interpreter_crash import forever
from tests.runs.test_rollback import parts, seen

__all__ = ["parts"]


def book(on_conflict: str, limit: int = 1) -> str:
    key = "'{{ runbook.id }}:{{ params.host }}'"
    alone = f"concurrency: {{key: {key}, on_conflict: {on_conflict}, limit: {limit}}}\n"
    return "params: {host: {default: web-1}}\n" + alone + "steps:\n  - change: {text: go}\n"


async def test_a_second_run_on_the_same_thing_is_refused_with_who_is_at_it(bench, parts):
    await bench.start(book("reject"))

    with pytest.raises(UserError, match="Book is at work on this already: run 1, started by <@UALICE>, is queued"):
        await bench.start(book("reject"))
    await bench.start(book("reject"), {"host": "web-2"})


async def test_as_many_run_at_once_as_the_limit_says(bench, parts):
    await bench.start(book("reject", 2))
    await bench.start(book("reject", 2))

    with pytest.raises(UserError, match="at work on this already"):
        await bench.start(book("reject", 2))


async def test_a_run_that_waits_its_turn_begins_when_the_one_before_has_ended(bench, parts):
    first, second, third = [await bench.start(book("queue")) for _ in range(3)]
    assert (await bench.run(second)).held
    await bench.carry_out(second)  # a promise played too early does nothing
    assert seen(parts["change"]) == []

    await bench.carry_out(first)

    assert not (await bench.run(second)).held
    assert (await bench.run(third)).held
    await bench.carry_out(second)
    assert (await bench.carry_out(third)).state == RunState.SUCCEEDED
    assert [event.data["run"] for event in await bench.events("run.started")] == [first, second, third]


async def test_a_run_that_waits_its_turn_can_be_cancelled_and_keeps_nobody_waiting(bench, parts):
    first, second, third = [await bench.start(book("queue")) for _ in range(3)]

    await bench.cancel(second)
    assert (await bench.run(second)).state == RunState.CANCELLED
    assert (await bench.run(third)).held
    await bench.carry_out(first)

    assert (await bench.carry_out(third)).state == RunState.SUCCEEDED


async def test_a_run_that_ends_what_is_at_work_begins_after_it(bench, parts):
    parts["change"].answers = [forever]
    first = await bench.start(book("cancel_running"))
    task = bench.under_way(first)
    await parts["change"].started.wait()

    second = await bench.start(book("cancel_running"))

    assert (await bench.run(second)).held
    assert (await bench.run(first)).cancelled_by
    await bench.crash(task)
    await bench.carry_out(first)
    assert (await bench.run(first)).state == RunState.CANCELLED
    assert (await bench.carry_out(second)).state == RunState.SUCCEEDED


async def test_of_many_that_are_started_and_ended_at_once_none_is_forgotten(bench, parts):
    ids = await asyncio.gather(*(bench.start(book("queue")) for _ in range(6)))
    for _ in range(6):
        for run_id in ids:
            await bench.carry_out(run_id)

    assert {(await bench.run(run_id)).state for run_id in ids} == {RunState.SUCCEEDED}
    assert len(seen(parts["change"])) == 6


async def test_a_run_cannot_be_rolled_back_while_another_is_at_work_on_the_same_thing(bench, parts):
    parts["change"].answers = [forever]
    text = book("reject") + "    rollback: [{change: {text: undo}}]\n"
    first = await bench.start(text)
    task = bench.under_way(first)
    await parts["change"].started.wait()
    await bench.cancel(first)
    await bench.crash(task)
    await bench.carry_out(first)
    await bench.start(text)

    async with bench.engine.transaction() as tx:
        with pytest.raises(UserError, match="Run 2 is at work on the same thing"):
            await runs.roll_back(tx, bench.react, first, by="UBOB", now=bench.clock())
