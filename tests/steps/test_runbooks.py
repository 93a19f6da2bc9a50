"""The runbooks that come along really work on the machine at hand: no services, no root, nothing changed."""

from pathlib import Path

import pytest

from bot.kit.shelf import Shelf
from bot.runs import params
from bot.runs.expressions import evaluate, render
from bot.runs.runbook import Runbook, load
from bot.runs.step import effect, prepare

FOLDER = Path(__file__).parents[2] / "runbooks"
LABELS = {
    "alertname": "CheckoutErrorRate",
    "service": "checkout",
    "severity": "critical",
    "instance": "web-1.example.com",
}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()


async def through(runbook: Runbook, given: dict, shelf: Shelf, bench) -> dict:
    """Run every step in order, as plainly as can be, and give what the steps gave."""
    alert = {"labels": LABELS}
    filled = {**params.prefill(runbook, alert, {}), **given}
    values = {"params": params.check(runbook, filled), "steps": {}, "alert": alert, "runbook": {"id": runbook.id}}
    for step in runbook.steps:
        module = shelf[step.type]
        context = bench.context(values=values, step_key=step.key, timeout=60.0)
        ready = prepare(module, step.action, context)
        assert (step.effect or effect(module, ready)) == "read"
        assert render(step.title, values)
        result = await module.run(context, ready)
        assert result.ok, result.summary
        given_back = dict(result.values)
        outputs = {name: evaluate(text, {**values, **given_back}) for name, text in step.outputs.items()}
        values["steps"][step.key] = {**given_back, **outputs}
    return values["steps"] | {"outputs": {name: evaluate(text, values) for name, text in runbook.outputs.items()}}


async def test_high_error_rate_looks_twice_and_notes_what_it_found(shelf, bench):
    runbook = load((FOLDER / "high-error-rate.yaml").read_text(), "high-error-rate.yaml", shelf)

    found = await through(runbook, {"observe": "1s", "max_disk_percent": 100}, shelf, bench)

    assert found["pause"] == {"waited": 1.0}
    assert isinstance(found["outputs"]["load_before"], float)
    assert 0 <= found["outputs"]["disk_percent"] <= 100
    assert "while checkout fails" in found["steps-6"]["text"]


async def test_disk_full_names_what_is_large(shelf, bench):
    runbook = load((FOLDER / "disk-full.yaml").read_text(), "disk-full.yaml", shelf)

    found = await through(runbook, {"path": "/opt", "depth": 1}, shelf, bench)

    assert 0 <= found["outputs"]["used_percent"] <= 100
    assert "% full" in found["steps-3"]["text"]
