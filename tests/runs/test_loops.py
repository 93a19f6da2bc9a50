"""A step for each item of a list: bounded, side by side, stopped by the first failure or not."""

import asyncio

import pytest

from bot.kit.errors import PermanentError
from bot.runs import run as runs
from bot.runs.model import RunState
from bot.runs.step import StepResult
from tests.runs.test_interpreter_crash import DyingEngine, Killed
from tests.runs.test_rollback import parts, seen

__all__ = ["parts"]

BOOK = """
params: {hosts: {type: list, default: [a, b, c]}}
steps:
  - id: each
    foreach: params.hosts
    change: {text: '{{ item }}{{ index }}'}
    rollback: [{change: {text: 'undo {{ item }}'}}]
  - look: {text: '{{ steps.each.count }} {{ steps.each.failed }}'}
"""


async def test_each_item_is_a_row_of_its_own_and_the_results_are_a_list(bench, parts):
    parts["change"].answers = [StepResult(ok=True, summary="", values={"seen": n}) for n in (1, 2, 3)]
    book = BOOK + "outputs: {all: 'steps.each.items | map(attribute=\"seen\") | list'}\n"

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["change"]) == ["a0", "b1", "c2"]
    assert seen(parts["look"]) == ["3 0"]
    assert run.outputs == {"all": [1, 2, 3]}
    assert [row.path for row in await bench.rows(run.id)] == [
        "steps.0",
        "steps.0[0]",
        "steps.0[1]",
        "steps.0[2]",
        "steps.1",
    ]


async def test_the_first_failure_stops_the_others_and_all_that_was_begun_is_taken_back(bench, parts):
    parts["change"].answers = [StepResult(ok=True, summary=""), PermanentError("no"), *[None] * 0]

    run = await bench.carry_out(await bench.start(BOOK))

    assert run.state == RunState.ROLLED_BACK
    assert seen(parts["change"]) == ["a0", "b1", "undo b", "undo a"]
    assert run.failure["message"] == "1 of 3 went well; each: no"


async def test_a_loop_of_which_no_item_is_needed_is_skipped_and_others_are_counted(bench, parts):
    book = """
params: {hosts: {type: list, default: [a, b]}}
steps:
  - {id: none, foreach: params.hosts, when: item == 'c', change: {text: 'none {{ item }}'}}
  - {id: one, foreach: params.hosts, when: item == 'b', change: {text: 'one {{ item }}'}}
  - look: {text: '{{ steps.none.state }} {{ steps.one.state }}'}
"""

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["change"]) == ["one b"]
    assert seen(parts["look"]) == ["skipped succeeded"]
    summaries = {row.path: row.summary for row in await bench.rows(run.id)}
    assert summaries["steps.0"] == "0 of 2 went well, 2 not needed"
    assert summaries["steps.1"] == "1 of 2 went well, 1 not needed"


async def test_without_stop_on_error_every_item_is_tried(bench, parts):
    parts["change"].answers = [PermanentError("no")]
    book = BOOK.replace("    rollback", "    stop_on_error: false\n    continue_on_error: true\n    rollback")

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["change"]) == ["a0", "b1", "c2"]
    assert seen(parts["look"]) == ["3 1"]


async def test_so_many_run_side_by_side_as_it_says_and_no_more(bench, parts):
    at_once, most, two = 0, 0, asyncio.Event()

    async def slow(context):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 2:
            two.set()
        async with asyncio.timeout(30):
            await two.wait()
        await asyncio.sleep(0.05)  # time for one too many to begin
        at_once -= 1
        return StepResult(ok=True, summary="")

    parts["change"].answers = [slow] * 3
    book = BOOK.replace("    rollback", "    parallel: 2\n    rollback")

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.SUCCEEDED
    assert most == 2


@pytest.mark.parametrize(
    ("expression", "told"),
    [("params.n", "gives no list"), ("[1] * 0 + params.many", "gives 201 items"), ("params.none.x", "foreach: ")],
)
async def test_what_is_no_list_or_too_long_a_one_fails_with_a_word(bench, parts, expression, told):
    book = f"vars: {{many: {list(range(201))}}}\nparams: {{n: {{type: int, default: 3}}, none: {{required: false}}}}\n"
    expression = expression.replace("[1] * 0 + params.many", "vars.many")

    run = await bench.carry_out(await bench.start(f"{book}steps:\n  - foreach: {expression}\n    change: {{}}\n"))

    assert run.state == RunState.FAILED
    assert told in run.failure["message"]


@pytest.mark.slow
async def test_a_kill_between_any_two_commits_does_no_item_twice_unasked(bench, database, parts):
    dies_at, killed, ended = 0, 0, None
    while ended is None or killed:
        parts["change"].given.clear()
        parts["look"].given.clear()
        run_id = await bench.start(BOOK.replace("    rollback", "    parallel: 2\n    rollback"))
        bench.engine = engine = DyingEngine(database)
        engine.dies_at, killed = dies_at, 0
        asked = 0
        for _ in range(8):
            try:
                await bench.carry_out(run_id)
            except Killed:
                killed += 1
            run = await bench.run(run_id)
            while run.state == RunState.ASKING:
                asked += 1
                run = await bench.answer(run_id, runs.ACCEPT)
            if run.ended_at:
                break
        ended = run
        assert run.state == RunState.SUCCEEDED, dies_at
        assert sorted(seen(parts["change"])) == sorted({*seen(parts["change"])}), dies_at
        assert len(seen(parts["change"])) + asked >= 3
        dies_at += 1
    assert dies_at > 8
