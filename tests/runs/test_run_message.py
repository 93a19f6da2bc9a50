"""The message of a run: one, drawn anew as the run goes on, whatever Slack does, and always within its limits."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.incidents.model import Incident
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs import run as runs
from bot.runs.model import RunState, RunStep, StepState
from bot.runs.run import Shown
from bot.runs.show import Show
from bot.runs.step import StepResult
from bot.sandbox.blocks import CUMULATIVE, text_length, validate_blocks
from bot.slack.views import run as views
from tests.conftest import new_database
from tests.fakes.chat import FakeChat
from tests.runs.conftest import nothing_follows


@pytest.fixture(scope="module", params=["sqlite"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """These rules do not depend on the database; SQLite is the quicker one."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


@pytest.fixture
async def chat(bench):
    async with bench.engine.transaction() as tx:
        await tx.session.execute(
            sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(channel=bench.book)
        )
    return FakeChat()


@pytest.fixture
def show(bench, chat):
    return Show(bench.engine, nothing_follows, chat, utc_now, bench.interpreter(), every_seconds=0.05)


async def test_several_changes_make_one_message_and_one_edit(bench, chat, show):
    bench.plugin("look")
    run_id = await bench.start("steps:\n  - look: {}\n  - look: {}\n")
    await show.show(run_id)
    await bench.carry_out(run_id)

    for _ in range(6):  # one after the other: they share a partition of the queue
        await show.show(run_id)

    (message,) = chat.posted()
    assert [noun.run.state for noun in message.drawn] == ["queued", "succeeded"]
    assert chat.calls == ["post", "edit"]


async def test_a_post_whose_answer_was_lost_is_found_and_not_made_twice(bench, chat, show):
    run_id = await bench.start("steps:\n  - wait: {for: 0s}\n")
    chat.lost = TemporaryError("no answer")
    with pytest.raises(TemporaryError):
        await show.show(run_id)

    await show.show(run_id)

    assert len(chat.posted()) == 1


async def test_a_message_that_was_refused_at_first_appears_later(bench, chat, show):
    run_id = await bench.start("steps:\n  - wait: {for: 0s}\n")
    chat.faults["post"] = [PermanentError("is_archived")]
    await show.show(run_id)
    await bench.carry_out(run_id)

    await show.show(run_id)

    assert chat.posted()[0].message.run.state == RunState.SUCCEEDED


async def test_a_message_that_somebody_deleted_comes_back_with_its_buttons(bench, chat, show):
    run_id = await bench.start("steps:\n  - wait: {for: 0s}\n")
    await show.show(run_id)
    chat.messages.clear()
    await bench.carry_out(run_id)

    await show.show(run_id)

    assert [posted.message.run.state for posted in chat.posted()] == [RunState.SUCCEEDED]


async def test_an_edit_that_slack_refuses_makes_no_second_message(bench, chat, show):
    run_id = await bench.start("steps:\n  - wait: {for: 0s}\n")
    await show.show(run_id)
    await bench.carry_out(run_id)
    chat.faults["edit"] = [PermanentError("cant_update_message")]

    await show.show(run_id)

    assert len(chat.posted()) == 1


async def test_a_channel_that_is_gone_is_no_error(bench, chat, show):
    run_id = await bench.start("steps:\n  - wait: {for: 0s}\n")
    await show.show(run_id)
    await bench.carry_out(run_id)
    chat.faults["edit"] = chat.faults["find_post"] = [PermanentError("channel_not_found")] * 2

    await show.show(run_id)


async def test_while_a_step_talks_its_last_lines_are_shown_and_no_edit_says_nothing_new(bench, chat, show):
    quiet = asyncio.Event()

    async def talk(context):
        for number in range(30):
            context.say(f"line {number}")
            await asyncio.sleep(0.005)
        await quiet.wait()
        return StepResult(ok=True, summary="talked")

    bench.plugin("look", talk)
    run_id = await bench.start("steps:\n  - look: {}\n")
    await show.show(run_id)
    working = asyncio.ensure_future(show.interpreter.run(run_id, 1))
    await bench.until(lambda: chat.posted()[0].message.tail[-1:] == ["line 29"])
    edits = chat.calls.count("edit")
    show.heard(run_id)
    await asyncio.sleep(0.2)

    assert chat.posted()[0].message.tail == [f"line {number}" for number in range(22, 30)]
    assert edits <= 6
    assert chat.calls.count("edit") == edits
    quiet.set()
    await working


async def test_a_run_goes_on_while_slack_is_away(bench, chat, show):
    async def talk(context):
        context.say("hello")
        await asyncio.sleep(0.1)
        return StepResult(ok=True, summary="talked")

    bench.plugin("look", talk)
    run_id = await bench.start("steps:\n  - look: {}\n")
    await show.show(run_id)
    chat.faults["edit"] = [TemporaryError("away")]

    await show.interpreter.run(run_id, 1)

    assert (await bench.run(run_id)).state == RunState.SUCCEEDED


# -- how it looks -------------------------------------------------------------------------------------------------


def noun(bench, run, steps=(), **more) -> Shown:
    return Shown(run=run, incident=bench.incident, runbook=runs.definition(run), steps=steps, **more)


def step(position: int, state: StepState, **more) -> RunStep:
    now = utc_now()
    about = {"run_id": "r", "step": "s", "type": "exec", "effect": "write", "name": f"Step {position}", "attempt": 1}
    return RunStep(
        id=str(position),
        position=position,
        path=f"steps.{position}",
        state=state,
        started_at=now,
        ended_at=now + timedelta(seconds=3),
        **{**about, **more},
    )


HOSTILE = "<!channel> <@U1> &&& *bold* _x_ ~y~ `z` ``` \u202e\0 <https://evil|here> é☃"


async def test_the_longest_and_most_hostile_run_stays_within_the_limits_of_slack(bench):
    run_id = await bench.start("timeout: 1h\nsteps:\n" + "  - wait: {for: 0s}\n" * 100)
    run = await bench.run(run_id)
    steps = [step(n, StepState.FAILED_IGNORED, name=HOSTILE * 9, summary=HOSTILE * 20, attempt=2) for n in range(99)]
    steps.append(step(99, StepState.FAILED, name=HOSTILE, output=HOSTILE * 500))
    run.failure = {"step": HOSTILE * 9, "message": HOSTILE * 50}
    run.params = run.outputs = {f"p{n}": HOSTILE for n in range(50)}
    for state in RunState:
        run.state = state
        asked = [*steps[:-1], step(99, StepState.UNKNOWN, name=HOSTILE * 9)]
        text, blocks = views.run(noun(bench, run, asked, tail=[HOSTILE * 10] * 8))

        assert validate_blocks(blocks) == []
        assert text_length(blocks) <= CUMULATIVE
        assert "<!channel>" not in str(blocks) + text
        assert "<@U1>" not in str(blocks)


async def test_a_run_tells_its_steps_seconds_and_last_lines(bench):
    run = await bench.run(await bench.start("steps:\n  - wait: {for: 0s}\n  - name: Next\n    wait: {for: 0s}\n"))
    run.state = RunState.RUNNING
    text, blocks = views.run(noun(bench, run, [step(0, StepState.SUCCEEDED, summary="fine")], tail=["a", "b"]))

    shown = str(blocks)
    assert text == "Run 1: Book is running"
    assert ":white_check_mark: Step 0 · 3 s" in shown
    assert ":white_small_square: Next" in shown
    assert "```a\\nb```" in shown
    assert "Cancel run" in shown


async def test_of_an_output_the_end_is_shown(bench):
    run = await bench.run(await bench.start("steps:\n  - wait: {for: 0s}\n"))
    run.state, run.failure = RunState.FAILED, {"step": "x", "message": "exit code 1"}
    output = "the beginning\n" + "<&>" * 5000 + "\nthe end"

    _, blocks = views.run(noun(bench, run, [step(0, StepState.FAILED, output=output)]))

    assert "the end```" in str(blocks)
    assert "the beginning" not in str(blocks)


async def test_only_a_run_that_asks_shows_the_question(bench):
    run = await bench.run(await bench.start("steps:\n  - wait: {for: 0s}\n"))
    unknown = noun(bench, run, [step(0, StepState.UNKNOWN)])
    for state in RunState:
        run.state = state

        assert ("Treat as done" in str(views.run(replace(unknown, run=run))[1])) == (state == RunState.ASKING)


async def test_an_edit_stands_for_a_while_before_the_next_one(bench, chat):
    bench.plugin("look")
    show = Show(bench.engine, nothing_follows, chat, utc_now, bench.interpreter(), every_seconds=1.0)
    run_id = await bench.start("steps:\n  - look: {}\n")
    begun = asyncio.get_running_loop().time()
    await show.show(run_id)
    await bench.carry_out(run_id)

    await show.show(run_id)

    assert chat.posted()[0].message.run.state == RunState.SUCCEEDED
    assert asyncio.get_running_loop().time() - begun >= 1.0


async def test_a_step_shows_what_its_runbook_wants_below_it(bench):
    book = "".join(f"  - wait: {{for: 0s}}\n    show: {show}\n" for show in ("auto", "output", "quiet", "quiet"))
    run = await bench.run(await bench.start("steps:\n" + book))
    about = {"summary": "ended with exit code 0", "output": "one\ntwo\nthree\nfour\n"}
    rows = [step(i, StepState.SUCCEEDED, **about) for i in range(3)]
    rows.append(step(3, StepState.FAILED, summary="no such host"))

    shown = str(views.run(noun(bench, run, rows))[1])

    assert shown.count("ended with exit code 0") == 1
    assert "two / three / four" in shown
    assert "no such host" in shown
