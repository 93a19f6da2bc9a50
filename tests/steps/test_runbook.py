"""The runbook step: it hands a runbook and its parameters to the run."""

import pytest

from bot.kit.errors import PermanentError
from bot.steps import runbook as step


async def test_it_calls_with_its_parameters_filled_in_and_gives_the_outputs_back(run):
    async def call(name, params):
        assert (name, params) == ("other", {"host": "web-1", "n": 2})
        return {"seen": "v2"}

    raw = {"use": "other", "params": {"host": "{{ params.host }}", "n": 2}}
    result = await run(step, raw, values={"params": {"host": "web-1"}}, call=call)

    assert result.values == {"seen": "v2"}
    assert result.summary == "other is done: seen=v2"


async def test_without_a_run_around_it_nothing_can_be_called(run):
    with pytest.raises(PermanentError, match="only be used in a run"):
        await run(step, {"use": "other"})


def test_the_preview_names_the_runbook():
    assert step.preview(step.Params.model_validate({"use": "other"})) == "would carry out other"
