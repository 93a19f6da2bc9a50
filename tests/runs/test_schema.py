"""The schema that editors use is made from the code, and takes what the linter takes."""

import json
import re
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.app import shelves
from bot.kit import yaml
from bot.kit.clock import parse_duration, plain_duration
from bot.runs.runbook import LintError, load
from bot.runs.schema import schema

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs/reference/runbook.schema.json"
STEPS = shelves().steps
SCHEMA = schema(STEPS)
HEAD = "version: 1\nid: demo\nname: Demo\nowner: team-platform\n"
NOTE = "steps: [{note: x}]\n"
WRITTEN = [
    *((file.name, file.read_text()) for file in sorted((ROOT / "runbooks").glob("*.yaml"))),
    *(
        (match[1], match[0].removeprefix("```yaml\n").removesuffix("```"))
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for match in re.finditer(r"```yaml\n# (\S+\.yaml)\nversion: 1\nid:.*?```", page.read_text(), re.DOTALL)
    ),
]


def faults(text: str) -> list[str]:
    data = yaml.load(text, "demo.yaml").data
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(data)]


def test_it_is_published_as_the_code_says():
    made = json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"

    assert PUBLISHED.read_text(encoding="utf-8") == made, f"tocsin runbooks schema > {PUBLISHED.relative_to(ROOT)}"


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("name", "text"), WRITTEN, ids=[name for name, _ in WRITTEN])
def test_what_is_written_here_is_valid(name, text):
    assert load(text, name, STEPS).id
    assert faults(text) == []


def test_there_is_something_written_in_both_places():
    assert {"disk-full.yaml", "restart-worker.yaml"} <= {name for name, _ in WRITTEN}


@pytest.mark.parametrize("name", list(STEPS))
def test_every_step_type_is_in_it_with_its_keys_and_a_word_on_each(name):
    part = SCHEMA["$defs"][name]
    keys = {info.alias or field for field, info in STEPS[name].Params.model_fields.items()}

    assert set(part["properties"]) == keys
    assert name in SCHEMA["$defs"]["Step"]["properties"]
    assert all(one.get("description") for one in part["properties"].values())


@pytest.mark.parametrize("name", ["Step", "Parameter", "Retry", "Access", "Concurrency", "Offer", "Schedule", "Trial"])
def test_the_keys_of_the_file_have_a_word_each(name):
    part = SCHEMA["$defs"][name]["properties"]

    assert [key for key, one in part.items() if not (one.get("description") or "$ref" in one)] == []
    assert [key for key, one in SCHEMA["properties"].items() if not one.get("description")] == []


@pytest.mark.parametrize(
    "step",
    [
        "{exec: {argv: [du, -d, 2, '{{ params.a }}'], ok_codes: '{{ vars.codes }}', parse: '{{ params.a }}'}}",
        "{wait: {for: '{{ params.a }}'}}",
        "{note: x, retry: 3, timeout: 1h30m}",
        "{note: {text: x, kind: finding}, retry: {attempts: 2, delay: 500ms}}",
        "{http: {url: 'https://example.com/{{ params.a }}', headers: {A: '{{ params.a }}'}, json: '{{ vars.codes }}'}}",
        "{exec: {argv: [touch, x]}, dry_run: {note: y}}",
        "{exec: {argv: [touch, x]}, dry_run: skip, rollback: [{exec: {argv: [rm, x]}}], on_failure: [{note: y}]}",
        "{foreach: vars.codes, parallel: 2, stop_on_error: false, exec: {argv: [echo, '{{ item }}']}, effect: read}",
        "{approval: 'Go on?'}",
        "{approval: {prompt: 'Go on?', count: 2, inputs: {n: {type: int, max: 3}}}}",
    ],
)
def test_what_the_linter_takes_is_valid(step):
    text = HEAD + f"params: {{a: {{}}}}\nvars: {{codes: [0]}}\nsteps:\n  - {step}\n"

    assert load(text, "demo.yaml", STEPS)
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "schedule: '0 3 * * *'\n" + NOTE,
        HEAD + "schedule: {cron: '0 3 * * *', timezone: Europe/Berlin, catch_up: skip}\n" + NOTE,
        HEAD + "params: {a: {type: choice, choices_from: {exec: {argv: [ls]}, effect: read, value: stdout}}}\n" + NOTE,
        HEAD + NOTE + "tests: [{name: x, alert: {labels: {a: b}}, mock: {}, expect: {state: succeeded}}]\n",
        HEAD + "timeout: 1h\nconcurrency: {limit: 2, on_conflict: queue}\n" + NOTE + "always: [{note: y}]\n",
    ],
)
def test_what_the_linter_takes_of_a_file_is_valid(text):
    assert load(text, "demo.yaml", STEPS)
    assert faults(text) == []


@pytest.mark.parametrize(
    "text",
    [
        HEAD,
        HEAD + "steps: []\n",
        HEAD + "steps: [{name: x}]\n",
        HEAD + "steps: [{note: x, exec: {argv: [df]}}]\n",
        HEAD + "steps: [{exec: {argv: df -h}}]\n",
        HEAD + "steps: [{exec: {agrv: [df]}}]\n",
        HEAD + "steps: [{note: x, whne: y}]\n",
        HEAD + "steps: [{note: x, key: y}]\n",
        HEAD + "steps: [{note: x, retry: 50}]\n",
        HEAD + "steps: [{wait: {for: soon}}]\n",
        HEAD + "risk: extreme\n" + NOTE,
        HEAD + "timeout: soon\n" + NOTE,
        HEAD + "params: {Host: {}}\n" + NOTE,
        HEAD + "sha256: abc\n" + NOTE,
        HEAD + NOTE + "tests: [{name: x, expect: {state: running}}]\n",
    ],
)
def test_what_an_editor_should_underline_is_not_valid(text):
    with pytest.raises(LintError):
        load(text, "demo.yaml", STEPS)
    assert faults(text)


@given(st.integers(0, 7 * 86400 * 1000))
def test_a_duration_is_written_as_it_is_read(milliseconds):
    length = timedelta(milliseconds=milliseconds)

    assert parse_duration(plain_duration(length)) == length
