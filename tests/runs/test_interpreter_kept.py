"""What is kept of what steps give: bounded, without secrets, and in a form that both databases take."""

import asyncio
import sys

import pytest
import structlog.testing

from bot.kit.errors import PermanentError, TemporaryError
from bot.runs.model import RunState, StepState
from bot.runs.step import StepResult

FLOOD = "\"print('y' * 500000); print('fin')\""


@pytest.mark.parametrize(
    "answer",
    [ValueError("xoxb-12345678-secret"), ConnectionError("refused"), TimeoutError(), None, "text"],
    ids=lambda answer: type(answer).__name__,
)
async def test_a_plugin_that_breaks_ends_the_run_with_a_word_and_at_once(bench, answer):
    async def broken(context):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    plugin = bench.plugin("look", broken)

    with structlog.testing.capture_logs() as logs:
        run = await asyncio.wait_for(bench.carry_out(await bench.start("steps:\n  - look: {}\n")), 5)

    assert run.state == RunState.FAILED
    assert plugin.calls == 1
    assert run.failure["message"].startswith(("the step type look broke", "took longer than"))
    assert "12345678" not in str(logs) + await bench.everything()


async def test_what_a_plugin_gives_is_made_fit_to_be_kept(bench):
    nan = StepResult(ok=True, summary="a\0b", output="\ud800\0", values={"x": float("nan"), "y": ["\0", {"k\0": "v"}]})
    bench.plugin("look", nan, StepResult(ok=True, summary="", values={"x": object()}))
    run_id = await bench.start("steps:\n  - look: {}\n  - look: {}\n")

    run = await bench.carry_out(run_id)

    rows = await bench.rows(run_id)
    assert rows[0].result["values"] == {"x": None, "y": ["", {"k": "v"}]}
    assert (rows[0].summary, rows[0].output) == ("ab", "")
    assert run.failure["message"] == "the step type look broke (TypeError); see the log"


@pytest.mark.slow
async def test_everything_that_is_kept_of_an_output_is_bounded(bench):
    huge = "x" * 1_500_000
    bench.plugin(
        "look",
        StepResult(ok=True, summary=huge, output=huge + "the end"),
        StepResult(ok=True, summary="", values={"x": ["y" * 1000] * 4500}),
    )
    run_id = await bench.start(
        "steps:\n  - look: {}\n  - " + f"exec: {{argv: [{sys.executable}, -c, {FLOOD}]}}\n" + "  - look: {}\n"
    )

    run = await bench.carry_out(run_id)

    first, second, third = await bench.rows(run_id)
    assert len(first.summary) <= 500
    assert len(first.output) < 70_000
    assert first.output.endswith("the end")
    assert second.state == StepState.SUCCEEDED
    assert second.output.rstrip().endswith("fin")
    assert len(str(second.result)) < 70_000
    assert third.state == StepState.FAILED
    assert "broke (ValueError)" in run.failure["message"]
    assert len(str([event.model_dump() for event in await bench.events()])) < 20_000


async def test_secrets_are_in_no_row_and_no_event_wherever_a_plugin_puts_them(bench):
    bench.environment = {"LB_TOKEN": "s3cr3t-value", "OTHER": "x"}
    leak = StepResult(ok=False, summary="it is s3cr3t-value", output="s3cr3t-value", values={"a": ["s3cr3t-value"]})
    bench.plugin("look", leak, TemporaryError("s3cr3t-value"), PermanentError("s3cr3t-value"))
    book = """
secrets: [LB_TOKEN]
steps:
  - look: {}
    continue_on_error: true
  - exec: {argv: [env], env: {TOKEN: '{{ secrets.LB_TOKEN }}'}}
  - look: {}
"""
    with structlog.testing.capture_logs() as logs:
        run_id = await bench.start(book)
        run = await bench.carry_out(run_id)

    assert run.failure == {"step": "look", "message": "[redacted]"}
    rows = await bench.rows(run_id)
    assert "TOKEN=[redacted]" in rows[1].output
    assert "OTHER" not in rows[1].output
    assert "s3cr3t-value" not in await bench.everything() + str(logs)
