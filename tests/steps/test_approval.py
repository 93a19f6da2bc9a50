"""The approval step: it asks, and only a yes comes back."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.kit.errors import PermanentError
from bot.runs.step import Answer
from bot.steps import approval as step

AT = datetime(2026, 1, 1, tzinfo=UTC)


async def test_it_asks_what_it_is_told_and_gives_the_answer_back(run):
    asked = []

    async def ask(question):
        asked.append(question)
        return Answer(("UBOB", "UCAROL"), "seen it", {"n": 3}, AT)

    raw = {
        "prompt": "Delete {{ params.n }}?",
        "who": ["@team"],
        "count": 2,
        "expires": "5m",
        "inputs": {"n": {"type": "int"}},
    }
    result = await run(step, raw, values={"params": {"n": 7}}, ask=ask)

    [question] = asked
    assert (question.prompt, question.who, question.count) == ("Delete 7?", ("@team",), 2)
    assert question.expires == timedelta(minutes=5)
    assert question.inputs["n"]["type"] == "int"
    assert result.values == {
        "approved": True,
        "by": "UBOB, UCAROL",
        "reason": "seen it",
        "inputs": {"n": 3},
        "at": "2026-01-01T00:00:00+00:00",
    }


async def test_without_a_run_around_it_there_is_nobody_to_ask(run):
    with pytest.raises(PermanentError, match="only be used in a run"):
        await run(step, {"prompt": "x"})


async def test_a_secret_in_the_question_is_masked(run):
    async def ask(question):
        assert "hunter22" not in question.prompt
        return Answer(("UBOB",), "", {}, AT)

    await run(
        step,
        {"prompt": "Use {{ params.x }}?"},
        values={"params": {"x": "hunter22"}},
        secrets={"T": "hunter22"},
        ask=ask,
    )


def test_the_preview_names_who_and_how_long():
    params = step.Params.model_validate({"prompt": "Go on?", "count": 2, "who": ["@team-data"], "expires": "1h"})

    assert step.preview(params) == "would ask 2 of @team-data for up to 1 h: Go on?"
