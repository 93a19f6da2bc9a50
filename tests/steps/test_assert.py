"""The assert step."""

import pytest

from bot.runs.expressions import ExpressionError
from bot.steps import assert_ as step

VALUES = {"steps": {"disk": {"used": 97}}, "params": {"max": 95}}


async def test_what_holds_is_ok(run):
    result = await run(step, {"that": ["steps.disk.used > 1", "params.max"], "message": "no"}, values=VALUES)

    assert result.ok
    assert result.values == {"held": True}


async def test_what_does_not_hold_fails_with_the_message(run):
    raw = {"that": "steps.disk.used <= params.max", "message": "Disk is {{ steps.disk.used }} % full"}

    result = await run(step, raw, values=VALUES)

    assert not result.ok
    assert result.summary == "Disk is 97 % full"
    assert result.output == "not true: steps.disk.used <= params.max"


async def test_what_cannot_be_computed_fails_for_good(run):
    with pytest.raises(ExpressionError):
        await run(step, {"that": "steps.none.x", "message": "no"}, values=VALUES)


def test_the_preview_shows_the_conditions():
    assert step.preview(step.Params.model_validate({"that": ["a", "b"], "message": "x"})) == "would check: a and b"
