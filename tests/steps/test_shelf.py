"""What every step type must have, whoever adds one."""

import importlib.util
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bot.kit.errors import PermanentError
from bot.kit.shelf import Shelf
from bot.runs.runbook import LintError, load
from bot.runs.step import StepContext, effect, marks, prepare

FILES = sorted(
    file.stem
    for file in Path(importlib.util.find_spec("bot.steps").origin).parent.glob("*.py")
    if file.stem != "__init__"
)
NAMES = [stem.rstrip("_") for stem in FILES]
GOOD = {
    "ansible": {"playbook": "site.yml", "limit": "web-1"},
    "approval": {"prompt": "Go on?"},
    "assert": {"that": "1 == 1", "message": "no"},
    "exec": {"argv": ["true"]},
    "http": {"url": "https://example.com"},
    "kestra": {"namespace": "ops", "flow": "restart"},
    "kubectl": {"args": ["get", "pods"]},
    "note": {"text": "x"},
    "pagerduty": {"action": "page"},
    "slack": {"text": "x"},
    "prometheus": {"query": "up"},
    "runbook": {"use": "other"},
    "script": {"file": "check.py"},
    "sql": {"connection": "orders", "query": "select 1"},
    "terraform": {"dir": "infra"},
    "wait": {"for": "1s"},
}


@pytest.fixture(scope="module")
def shelf() -> Shelf:
    return Shelf("bot.steps", must_have=("Params", "run", "EFFECT", "RESULT", "preview")).load()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_shelf_holds_every_file_by_its_name(shelf):
    assert list(shelf) == NAMES


def test_it_says_what_it_does_in_one_sentence(name, shelf):
    first = (shelf[name].__doc__ or "").splitlines()[0]

    assert first.endswith(".")
    assert len(first) < 120


def test_its_parameters_are_strict_and_every_one_is_explained(name, shelf):
    params = shelf[name].Params

    assert issubclass(params, BaseModel)
    assert params.model_config["extra"] == "forbid"
    assert params.model_config["frozen"]
    assert all(field.description for field in params.model_fields.values())


def test_it_says_whether_it_changes_anything_and_what_it_gives_back(name, shelf):
    module = shelf[name]

    assert module.EFFECT in ("read", "write")
    assert effect(module, module.Params.model_validate(GOOD[name])) in ("read", "write", "destructive")
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", result) for result in module.RESULT)


def test_it_has_a_twin_test(name):
    assert (Path(__file__).parent / f"test_{name}.py").exists()


def test_its_preview_is_one_sentence_about_what_would_happen(name, shelf):
    module = shelf[name]

    assert module.preview(module.Params.model_validate(GOOD[name])).startswith("would ")


@pytest.mark.parametrize("raw", [{}, {"nonsense": 1}, {"argv": 1, "url": 2, "for": 3, "text": [], "that": {}}])
def test_bad_parameters_are_refused_before_anything_runs(name, shelf, raw):
    module = shelf[name]

    with pytest.raises(ValidationError):
        module.Params.model_validate(raw)
    with pytest.raises(PermanentError):
        prepare(module, raw, StepContext("run1", "step"))
    with pytest.raises(LintError) as caught:
        load(f"version: 1\nid: demo\nname: x\nowner: x\nsteps:\n  - {name}: {raw}\n", "demo.yaml", shelf)
    assert all(line.startswith("demo.yaml:6: ") for line in str(caught.value).splitlines())


def test_secrets_reach_only_the_fields_that_are_made_for_them(name, shelf):
    module = shelf[name]
    context = StepContext("run1", "step", secrets={"TOKEN": "hunter22"})

    for field, info in module.Params.model_fields.items():
        key = info.alias or field
        if key in marks(module.Params):
            continue
        with pytest.raises(PermanentError):
            prepare(module, {**GOOD[name], key: "{{ secrets.TOKEN }}"}, context)
