"""The note step."""

from bot.runs.redact import MASK
from bot.steps import note as step


async def test_a_note_is_handed_over_filled_in(run):
    result = await run(step, {"text": "On {{ params.h }}\n", "kind": "finding"}, values={"params": {"h": "web-1"}})

    assert result.ok
    assert result.values == {"text": "On web-1", "kind": "finding", "pin": False}


async def test_a_note_may_quote_the_alert_whose_text_is_not_read_as_a_template(run):
    values = {"alert": {"labels": {"x": "{{ 7 * 7 }} \u202eevil"}}}

    assert (await run(step, {"text": "Saw {{ alert.labels.x }}"}, values=values)).output == "Saw {{ 7 * 7 }} evil"


async def test_a_secret_in_a_note_is_masked(run):
    values = {"alert": {"labels": {"x": "hunter22"}}}

    assert (await run(step, {"text": "{{ alert.labels.x }}"}, values=values, secrets={"T": "hunter22"})).output == MASK


def test_the_preview_is_the_note():
    assert step.preview(step.Params.model_validate({"text": "a\nb"})) == "would note (note): a b"
