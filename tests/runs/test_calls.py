"""A runbook that calls another: a part of the same run, with parameters of its own, taken back with the rest."""

import pytest

from bot.kit.errors import PermanentError, UserError
from bot.runs import run as runs
from bot.runs.model import RunState
from bot.runs.runbook import load, load_folder
from bot.runs.step import StepResult
from tests.runs.test_interpreter_crash import DyingEngine, Killed
from tests.runs.test_rollback import parts, seen

__all__ = ["parts"]

INNER = """version: 1
id: inner
name: Inner
owner: team
params: {host: {default: web-9}, n: {type: int, min: 1}}
steps:
  - id: a
    change: {text: 'inner {{ params.host }} {{ params.n }}'}
    rollback: [{change: {text: 'undo inner {{ params.host }}'}}]
on_failure: [{tell: {text: 'inner failed'}}]
always: [{tell: {text: 'inner always'}}]
outputs: {seen: steps.a.seen}
"""
OUTER = """
params: {host: {default: web-1}}
steps:
  - change: {text: outer}
    rollback: [{change: {text: undo outer}}]
  - id: call
    runbook: {use: inner, params: {host: '{{ params.host }}', n: 2}}
  - look: {text: '{{ steps.call.seen }}'}
"""


@pytest.fixture
def start(bench, parts):
    async def started(book: str = OUTER, inner: str = INNER, **more) -> str:
        return await bench.start(book, uses={"inner": load(inner, "inner.yaml", bench.steps)}, **more)

    return started


async def test_its_steps_are_rows_of_the_run_and_its_outputs_the_values_of_the_step(bench, parts, start):
    parts["change"].answers = [StepResult(ok=True, summary=""), StepResult(ok=True, summary="", values={"seen": "v2"})]

    run = await bench.carry_out(await start())

    assert run.state == RunState.SUCCEEDED
    assert seen(parts["change"]) == ["outer", "inner web-1 2"]
    assert seen(parts["look"]) == ["v2"]
    assert [row.path for row in await bench.rows(run.id)] == [
        "steps.0",
        "steps.1",
        "steps.1/steps.0",
        "steps.1/always.0",
        "steps.2",
    ]


async def test_a_failure_within_is_told_and_everything_is_taken_back(bench, parts, start):
    parts["change"].answers = [StepResult(ok=True, summary=""), PermanentError("no")]

    run = await bench.carry_out(await start())

    assert run.state == RunState.ROLLED_BACK
    assert seen(parts["change"]) == ["outer", "inner web-1 2", "undo inner web-1", "undo outer"]
    assert seen(parts["tell"]) == ["inner failed", "inner always"]
    assert run.failure == {"step": "call", "message": "a: no"}


async def test_what_was_called_and_went_well_is_taken_back_when_a_later_step_fails(bench, parts, start):
    parts["look"].answers = [PermanentError("no")]

    run = await bench.carry_out(await start(OUTER.replace("'{{ steps.call.seen }}'", "x")))

    assert run.state == RunState.ROLLED_BACK
    assert seen(parts["change"]) == ["outer", "inner web-1 2", "undo inner web-1", "undo outer"]


async def test_parameters_that_do_not_fit_fail_the_step(bench, parts, start):
    run = await bench.carry_out(await start(OUTER.replace("n: 2", "n: 0")))

    assert run.failure == {"step": "call", "message": "inner cannot be called: n must be at least 1"}


async def test_whoever_may_not_run_what_is_called_may_not_run_what_calls_it(bench, parts, start):
    with pytest.raises(UserError, match=r"Book calls Inner, which may be run by @team-data only\."):
        await start(inner=INNER + "access: {run: ['@team-data']}\n")


@pytest.mark.slow
async def test_a_kill_between_any_two_commits_takes_back_what_was_called(bench, database, parts, start):
    dies_at, killed, ended = 0, 0, None
    while ended is None or killed:
        for plugin in parts.values():
            plugin.given.clear()
        parts["look"].answers = [PermanentError("no")] * 5
        run_id = await start(OUTER.replace("'{{ steps.call.seen }}'", "x"))
        bench.engine = engine = DyingEngine(database)
        engine.dies_at, killed = dies_at, 0
        for _ in range(8):
            try:
                await bench.carry_out(run_id)
            except Killed:
                killed += 1
            run = await bench.run(run_id)
            if run.state == RunState.ASKING:
                await bench.answer(run_id, runs.REPEAT)
            elif run.ended_at:
                break
        ended = run
        assert run.state == RunState.ROLLED_BACK, dies_at
        told = seen(parts["change"])
        assert [text for i, text in enumerate(told) if i == 0 or told[i - 1] != text] == [
            "outer",
            "inner web-1 2",
            "undo inner web-1",
            "undo outer",
        ], dies_at
        dies_at += 1
    assert dies_at > 10


def test_calls_in_a_circle_too_deep_or_to_nothing_are_problems_of_the_file(bench, tmp_path):
    def book(name: str, *uses: str) -> None:
        steps = "".join(f"  - runbook: {{use: {one}}}\n" for one in uses) or "  - note: x\n"
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\nid: {name}\nname: {name}\nowner: t\nsteps:\n{steps}")

    book("good", "leaf")
    book("leaf")
    book("round", "about")
    book("about", "round")
    book("lost", "laef")
    book("deep-1", "deep-2")
    book("deep-2", "deep-3")
    book("deep-3", "deep-4")
    book("deep-4")

    good, problems = load_folder(tmp_path, bench.steps)

    told = "\n".join(map(str, problems))
    assert "about.yaml:6: runbooks call each other in a circle: about → round → about" in told
    assert "lost.yaml:6: calls the runbook 'laef', which is not there or not fit to run; did you mean 'leaf'?" in told
    assert "more than 3 deep: deep-1 → deep-2 → deep-3 → deep-4" in told
    assert sorted(one.id for one in good) == ["deep-2", "deep-3", "deep-4", "good", "leaf"]


FINDS = INNER.replace(
    "outputs:", "raises: [{id: old, when: steps.a.seen != 'v1', key: '{{ params.host }}', title: old}]\noutputs:"
)
RAISED = """
steps:
  - runbook: {use: inner, params: {host: web-1, n: 2}}
  - runbook: {use: inner, params: {host: web-2, n: 2}}
  - look: {}
"""


def versions(*seen: str) -> list[StepResult]:
    return [StepResult(ok=True, summary="", values={"seen": one}) for one in seen]


def raised(run) -> list[tuple[str, str, str, int]]:
    return [(one["runbook"], one["rule"], one["key"], len(one["firing"])) for one in run.raised or ()]


async def test_what_a_called_runbook_finds_is_raised_as_its_own(bench, parts, start):
    parts["change"].answers = versions("v1", "v2")

    run = await bench.carry_out(await start(RAISED, FINDS))

    assert raised(run) == [("inner", "old", "web-1", 0), ("inner", "old", "web-2", 1)]


async def test_what_two_calls_find_under_one_key_is_one_finding(bench, parts, start):
    parts["change"].answers = versions("v1", "v2")

    run = await bench.carry_out(await start(RAISED.replace("web-2", "web-1"), FINDS))

    assert raised(run) == [("inner", "old", "web-1", 1)]


async def test_a_called_runbook_that_fails_may_raise_that(bench, parts, start):
    parts["change"].answers = [PermanentError("no route to host")]
    inner = INNER.replace("outputs:", "raises: [{id: down, when: failed, title: '{{ failure.message }}'}]\noutputs:")

    run = await bench.carry_out(await start(inner=inner, book=RAISED))

    assert raised(run) == [("inner", "down", "", 1)]
    assert run.raised[0]["firing"][0]["title"] == "no route to host"


async def test_what_was_found_before_a_kill_is_still_raised_after_it(bench, database, parts, start):
    for dies_at in range(2, 14):
        bench.engine = engine = DyingEngine(database)
        parts["change"].answers = versions("v2", "v2", "v2")
        run_id = await start(RAISED, FINDS)
        engine.commits, engine.dies_at = 0, dies_at
        try:
            await bench.interpreter().run(run_id, 1)
        except Killed:
            await bench.carry_out(run_id)
        run = await bench.run(run_id)
        if run.state == RunState.ASKING:
            await bench.answer(run_id, runs.REPEAT)
            run = await bench.carry_out(run_id)

        assert run.state == RunState.SUCCEEDED, dies_at
        assert raised(run) == [("inner", "old", "web-1", 1), ("inner", "old", "web-2", 1)], dies_at


async def test_a_dry_run_raises_nothing_of_what_it_calls(bench, parts, start):
    run = await bench.carry_out(await start(RAISED, FINDS, dry_run=True))

    assert raised(run) == []
