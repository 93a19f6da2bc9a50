"""The message of a run: its steps as a tree, what may be pressed in each state, within Slack's limits however long."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bot.incidents.model import Incident
from bot.runs.model import ENDED, Run, RunState, RunStep, StepState
from bot.runs.overview import Listed
from bot.runs.run import Shown
from bot.runs.runbook import Runbook
from bot.sandbox.blocks import text_length, validate_blocks
from bot.slack import ids
from bot.slack.views import run as views

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
# Slack refuses a message somewhere above 12,000 characters, and does not say where.
BUDGET = 10_500
HOSTILE = "<!channel> <@U1> &&& *bold* ``` \u202e\0 <https://evil|here> @here é☃"


def book(steps: int = 3, **more: Any) -> Runbook:
    made = [{"key": str(i), "type": "wait", "action": {"for": "0s"}, "name": f"Step {i}"} for i in range(steps)]
    about = {"sha256": "0" * 64, "version": 1, "id": "book", "name": "Restart checkout", "owner": "team"}
    return Runbook.model_validate({**about, "steps": made, **more})


def row(path: str, state: str = StepState.SUCCEEDED, **more: Any) -> RunStep:
    phase = "rollback" if ".rollback." in path else path.partition(".")[0] if path[0] in "oa" else "steps"
    about = {"run_id": "r", "step": "s", "type": "exec", "effect": "write", "name": path, "attempt": 1, "position": 0}
    ended = None if state in (StepState.RUNNING, StepState.UNKNOWN) else NOW + timedelta(seconds=3)
    times = {"started_at": NOW, "ended_at": ended}
    return RunStep(**{"id": path, "path": path, "phase": phase, "state": state, **times, **about, **more})


def shown(
    *rows: RunStep, runbook: Runbook | None = None, revertible: bool = False, tail=(), people=(), **run: Any
) -> Shown:
    about = {
        "id": "r", "incident_id": "i", "number": 1, "runbook": "book", "sha256": "0" * 64, "definition": {"name": "x"},
        "requested_by": "U0ALICE", "concurrency_key": "k", "state": RunState.RUNNING, "requested_at": NOW,
    }  # fmt: skip
    incident = Incident(
        id="i", number=1, title="t", severity="SEV2", status="fixing", channel="C1", detected_at=NOW, opened_at=NOW
    )
    return Shown(Run(**{**about, **run}), incident, runbook or book(), list(rows), tail, revertible, people=people)


def drawn(noun: Shown) -> list[str]:
    """Every line of text in the message."""
    _, blocks = views.run(noun)
    assert validate_blocks(blocks) == []
    told = [block["text"]["text"] for block in blocks if block["type"] == "section"]
    told += [part["text"] for block in blocks if block["type"] == "context" for part in block["elements"]]
    return [line for text in told for line in text.split("\n")]


def pressable(noun: Shown) -> dict[str, str]:
    _, blocks = views.run(noun)
    return {
        element["action_id"]: element["text"]["text"]
        for block in blocks
        if block["type"] == "actions"
        for element in block["elements"]
    }


def test_every_step_has_a_line_with_its_attempts_and_seconds_whether_begun_or_not():
    lines = drawn(shown(row("steps.0", name="Look", attempt=2, summary="fine"), row("steps.1", StepState.RUNNING)))

    assert ":white_check_mark: Look · attempt 2 · 3 s" in lines
    assert any(line.endswith("↳ fine") for line in lines)
    assert ":hourglass_flowing_sand: steps.1" in lines
    assert ":white_small_square: Step 2" in lines


def test_of_a_foreach_it_is_told_how_far_it_is_and_only_the_items_that_are_news_are_shown():
    each = row("steps.1", StepState.RUNNING, name="Restart all", result={"items": 7})
    items = [row(f"steps.1[{i}]", name=f"web-{i}") for i in range(3)]
    lines = drawn(shown(row("steps.0"), each, *items, row("steps.1[3]", StepState.RUNNING, name="web-3")))

    assert ":hourglass_flowing_sand: Restart all · 3 of 7" in lines
    assert [line.strip() for line in lines if "web-" in line] == [":hourglass_flowing_sand: web-3"]
    assert next(line for line in lines if "web-3" in line)[0] == "\u2003"


def test_a_foreach_that_has_ended_tells_how_many_there_were():
    each = row("steps.0", StepState.FAILED, name="All", result={"values": {"count": 4}})
    lines = drawn(shown(each, row("steps.0[0]"), row("steps.0[1]", StepState.FAILED, name="web-1")))

    assert ":x: All · 2 of 4 · 3 s" in lines
    assert any("web-1" in line for line in lines)


def test_the_steps_of_a_runbook_that_was_called_stand_below_the_step_that_called_it():
    rows = [
        row("steps.0", StepState.RUNNING, name="Call", type="runbook"),
        row("steps.0/steps.0", name="Inner"),
        row("steps.0/steps.1", StepState.RUNNING, name="Loop", result={"items": 2}),
        row("steps.0/steps.1[0]", StepState.RUNNING, name="item"),
    ]
    found = [line for line in drawn(shown(*rows)) if any(name in line for name in ("Call", "Inner", "Loop", "item"))]

    assert [len(line) - len(line.lstrip("\u2003")) for line in found] == [0, 2, 2, 4]
    assert "Loop · 0 of 2" in found[2]


def test_what_follows_the_steps_appears_once_it_exists_in_sections_of_its_own():
    assert "*Rollback*" not in str(drawn(shown(row("steps.0"))))
    rows = [
        row("steps.0", name="Drain"),
        row("steps.1", StepState.FAILED, name="Restart"),
        row("steps.1.on_failure.0", name="Tell"),
        row("steps.1.rollback.0", name="Old release back"),
        row("steps.0.rollback.0", StepState.RUNNING, name="Into rotation"),
    ]
    lines = drawn(shown(*rows, phase="rollback", failure={"state": "failed", "step": "Restart", "message": "exit 1"}))

    assert any("takes back what it did" in line for line in lines)
    order = [next(i for i, line in enumerate(lines) if name in line) for name in
             ("Restart", "Tell", "*Rollback*", "Old release back", "Into rotation", "exit 1")]  # fmt: skip
    assert order == sorted(order)
    assert "*After the failure*" not in str(lines)
    rows += [row("on_failure.0", name="Say so"), row("always.0", name="Unlock")]
    assert "*After the failure*" in str(drawn(shown(*rows, phase="always")))
    assert "*Always at the end*" in str(drawn(shown(*rows, phase="always")))


@pytest.mark.parametrize("state", list(RunState))
def test_what_can_be_pressed_depends_on_how_the_run_stands(state):
    noun = shown(row("steps.0", StepState.UNKNOWN), state=state, revertible=True)
    found = set(pressable(noun))

    if state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING):
        assert found == {ids.CANCEL_RUN}
        assert not pressable(shown(state=state, cancelled_by="U0BOB"))
        assert not pressable(shown(state=state, phase="rollback"))
    elif state == RunState.ASKING:
        assert found == {ids.REPEAT_STEP, ids.ACCEPT_STEP, ids.ABANDON_RUN}
    elif state == RunState.CANCELLED:
        assert found == {ids.ROLL_BACK_RUN}
        assert not pressable(shown(state=state))
    else:
        assert found == set()


def test_giving_up_is_called_rolling_back_only_where_something_can_be_rolled_back():
    asking = {"state": RunState.ASKING}
    assert pressable(shown(revertible=True, **asking))[ids.ABANDON_RUN] == "Roll back"
    assert pressable(shown(**asking))[ids.ABANDON_RUN] == "Give up"


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ({"state": "queued", "held": True}, "waits its turn"),
        ({"state": "running", "cancelled_by": "U0BOB"}, "is being cancelled"),
        ({"state": "waiting_approval"}, "waits for approval"),
        ({"state": "rolled_back", "ended_at": NOW}, "failed and was rolled back"),
        ({"state": "rollback_failed", "ended_at": NOW}, "failed, and so did its rollback"),
        ({"state": "rejected", "ended_at": NOW}, "was rejected"),
        ({"state": "expired", "ended_at": NOW}, "was not approved in time"),
        ({"trigger": "auto", "requested_by": "bot"}, "Started by itself"),
        ({"break_glass": "prod is down"}, "without approvals: prod is down"),
    ],
)
def test_how_a_run_stands_is_said_in_words(run, told):
    assert told in str(drawn(shown(**run)))


def test_people_who_had_a_part_in_a_run_are_mentioned_and_nobody_else():
    failure = {"step": "Ask", "message": "<@U0BOB> said no: ask <@U0EVE> and U0ALICE"}
    told = str(drawn(shown(row("steps.0", summary="approved by U0BOB"), failure=failure, people=["U0BOB"])))

    assert "<@U0BOB> said no" in told
    assert "approved by <@U0BOB>" in told
    assert "and <@U0ALICE>" in told
    assert "<@U0EVE>" not in told


paths = st.recursive(
    st.integers(0, 99).map(lambda n: f"steps.{n}"),
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(0, 199)).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
        st.tuples(inner, st.integers(0, 20)).map(lambda pair: f"{pair[0]}/steps.{pair[1]}"),
        st.tuples(inner, st.integers(0, 3)).map(lambda pair: f"{pair[0]}.rollback.{pair[1]}"),
        st.tuples(inner, st.integers(0, 3)).map(lambda pair: f"{pair[0]}.on_failure.{pair[1]}"),
    ),
    max_leaves=3,
)
later = st.sampled_from(["on_failure.0", "on_failure.1", "always.0"])


@settings(max_examples=120, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.one_of(paths, later), st.sampled_from(list(StepState))), max_size=400, unique_by=lambda x: x[0]
    ),
    st.integers(1, 100),
    st.sampled_from(list(RunState)),
    st.sampled_from(["Step", HOSTILE * 9, "&" * 150, "x" * 150]),
)
def test_whatever_was_begun_the_message_keeps_the_limits_of_slack(begun, steps, state, name):
    rows = [row(path, each, name=name, summary=name * 3, output=HOSTILE * 300, attempt=20) for path, each in begun]
    failure = {"step": name, "message": HOSTILE * 50}
    given_ = {f"p{n}": HOSTILE for n in range(50)}
    noun = shown(
        *rows, runbook=book(steps, name=(name * 2)[:75]), tail=[HOSTILE * 10] * 8, revertible=True, state=state,
        failure=failure, params=given_, outputs=given_, break_glass=HOSTILE, cancelled_by="U0BOB",
        ended_at=NOW if state in ENDED else None,
    )  # fmt: skip
    text, blocks = views.run(noun)

    assert [str(problem) for problem in validate_blocks(blocks)] == []
    assert text_length(blocks) <= BUDGET
    assert len(text) < 4000
    assert not re.search(r"<!channel|<@U1>|<https", str(blocks) + text)


def test_of_a_run_too_long_to_be_shown_the_news_stay():
    rows = [row(f"steps.{n}", name="An ordinary step with a long name " * 4, summary="s" * 300) for n in range(60)]
    rows.append(row("steps.60", StepState.RUNNING, name="Here it is"))
    rows[30] = row("steps.30", StepState.FAILED_IGNORED, name="This one failed")
    told = "\n".join(drawn(shown(*rows, runbook=book(100))))

    assert "Here it is" in told
    assert "This one failed" in told
    assert re.search(r"_\d+ more_", told)


def test_the_list_of_runs_says_how_each_stands_who_started_it_and_where_it_is():
    one = shown(state="rolled_back", number=4, definition={"name": HOSTILE}).run
    text, blocks = views.listing(
        shown().incident, [Listed(one, "1.2"), Listed(shown().run)], lambda c, ts: f"https://x.example/{c}/{ts}"
    )

    assert validate_blocks(blocks) == []
    assert text == "Runs of INC-1"
    assert "*Run 4*" in str(blocks)
    assert "failed and was rolled back · Started by <@U0ALICE>" in str(blocks)
    assert "<https://x.example/C1/1.2|show>" in str(blocks)
    assert "<!channel>" not in str(blocks)
    assert "No runbook was run" in views.listing(shown().incident, [], lambda c, ts: "")[0]
