"""What every tracker must have, whoever adds one."""

import importlib.util
import inspect
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bot.incidents.tracker import Tracker
from bot.kit.errors import PermanentError
from tests.trackers.conftest import SECRET, SHELF, access

FILES = sorted(
    file.stem
    for file in Path(importlib.util.find_spec("bot.trackers").origin).parent.glob("*.py")
    if file.stem != "__init__"
)
OPTIONS = {"jira": {"project": "OPS"}, "github": {"repository": "example/ops"}, "gitlab": {"project": "example/ops"}}
KEYS = ("issue", "id", "iid", "number", "user", "sender", "repository", "full_name", "project", "object_kind",
        "object_attributes", "sys_id", "webhookEvent")  # fmt: skip
METHODS = [name for name, _ in inspect.getmembers(Tracker, inspect.isfunction) if not name.startswith("_")]


@pytest.fixture(params=FILES)
def name(request) -> str:
    return request.param


def test_the_shelf_holds_every_file_by_its_name():
    assert list(SHELF) == FILES


def test_it_says_what_it_is_in_one_sentence(name):
    first = (SHELF[name].__doc__ or "").splitlines()[0]

    assert first.endswith(".")
    assert len(first) < 120


def test_its_options_are_strict_and_every_one_is_explained(name):
    options = SHELF[name].Options

    assert options.model_config["extra"] == "forbid"
    assert all(field.description for field in options.model_fields.values())


def test_it_can_do_all_that_a_tracker_must(name):
    made = SHELF[name].make(access(name, "https://t.example.com", "t" * 20, **OPTIONS.get(name, {})))

    for method in METHODS:
        assert inspect.iscoroutinefunction(getattr(made, method)), method
        wanted = list(inspect.signature(getattr(Tracker, method)).parameters)
        assert list(inspect.signature(getattr(type(made), method)).parameters) == wanted


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"X-Hub-Signature": "sha256="}, {"X-Gitlab-Token": ""}])
def test_what_is_not_signed_is_forged(name, headers):
    assert not SHELF[name].genuine(SECRET, headers, b"{}")


@pytest.mark.parametrize("payload", [None, 7, "x", [], [{}]])
def test_a_body_that_is_no_object_is_refused_and_not_a_fault(name, payload):
    with pytest.raises(PermanentError):
        SHELF[name].heard({}, payload)


@pytest.mark.parametrize("payload", [{"issue": []}, {"issue": {"id": []}}, {"user": 7}, {"object_attributes": 7}])
def test_an_odd_body_is_refused_or_about_nothing(name, payload):
    try:
        assert SHELF[name].heard({"X-GitHub-Event": "issues", "X-Gitlab-Event": "Issue Hook"}, payload) is None
    except PermanentError:
        return


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(payload=JSON, event=st.sampled_from(["issues", "issue_comment", "push", ""]))
@example(payload={"issue": {"id": ""}}, event="issues")
@example(payload={"sys_id": ""}, event="")
def test_no_body_is_a_fault_whatever_stands_in_it(name, payload, event):
    try:
        told = SHELF[name].heard({"X-GitHub-Event": event, "X-Gitlab-Event": event}, payload)
    except PermanentError:
        return
    assert told is None or (told.id and isinstance(told.by, str))


def test_it_has_a_twin_test(name):
    assert (Path(__file__).parent / f"test_{name}.py").exists()
