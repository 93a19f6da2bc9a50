"""The values of a run: typed, checked, and never trusted."""

import contextlib
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.runs.params import Param, ParamErrors, check, pattern_error, prefill


@dataclass
class Asks:
    params: dict[str, Param] = field(default_factory=dict)


def asks(**params) -> Asks:
    return Asks({name: Param.model_validate(param) for name, param in params.items()})


@pytest.mark.parametrize(
    ("param", "given", "expected"),
    [
        ({}, "web-1.example.com:9100", "web-1.example.com:9100"),
        ({"pattern": "[a-z ]+"}, "two words", "two words"),
        ({"type": "int", "min": 1}, "14", 14),
        ({"type": "int"}, 14.0, 14),
        ({"type": "number", "max": 1}, "0.5", 0.5),
        ({"type": "bool"}, "false", False),
        ({"type": "bool"}, True, True),
        ({"type": "choice", "choices": ["a", "b"]}, "b", "b"),
        ({"type": "duration", "min": 1, "max": 60}, "30s", "30s"),
        ({"type": "user"}, "U012AB3CD", "U012AB3CD"),
        ({"type": "secret", "choices": ["A_KEY"]}, "A_KEY", "A_KEY"),
        ({"type": "list"}, "a, b", ["a", "b"]),
        ({"type": "list"}, ["a", "b"], ["a", "b"]),
        ({"required": False}, "", None),
        ({"default": "x"}, "", "x"),
    ],
)
def test_a_good_value_is_typed(param, given, expected):
    found = check(asks(value=param), {"value": given})["value"]

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("param", "given", "told"),
    [
        ({}, "", "is missing"),
        ({}, "two words", "does not fit"),
        ({}, "-rf", "does not fit"),
        ({}, "abc\n", "does not fit"),
        ({}, "a;b", "does not fit"),
        ({}, "x" * 200, "does not fit"),
        ({"pattern": ".*"}, "x" * 257, "longer than 256"),
        ({"pattern": "^[a-z]+$"}, "abc\n", "does not fit"),
        ({}, ["a"], "must be text"),
        ({"type": "int"}, "1.5", "whole number"),
        ({"type": "int"}, True, "whole number"),
        ({"type": "int", "min": 3}, "2", "at least 3"),
        ({"type": "number"}, "nan", "a number"),
        ({"type": "number"}, "1e999", "a number"),
        ({"type": "number", "max": 1}, "2", "at most 1"),
        ({"type": "bool"}, "maybe", "true or false"),
        ({"type": "choice", "choices": ["a", "b"]}, "c", "one of a, b"),
        ({"type": "duration"}, "soon", "not a duration"),
        ({"type": "duration"}, "999999999d999999999d", "too long"),
        ({"type": "duration", "max": 60}, "2m", "at most 60 s"),
        ({"type": "user"}, "bob", "a person"),
        ({"type": "secret", "choices": ["A_KEY"]}, "B", "must be the name of a secret, one of A_KEY"),
        ({"type": "list", "max_items": 1}, "a,b", "at most 1"),
        ({"type": "list"}, "a,-b", "does not fit"),
        ({"type": "list"}, 5, "must be a list"),
    ],
)
def test_a_bad_value_is_refused_with_a_reason(param, given, told):
    with pytest.raises(ParamErrors) as caught:
        check(asks(value=param), {"value": given})

    assert told in caught.value.errors["value"]


def test_every_error_is_told_at_once_and_by_name():
    with pytest.raises(ParamErrors) as caught:
        check(asks(service={}, days={"type": "int"}), {"servce": "a", "days": "x"})

    assert set(caught.value.errors) == {"servce", "service", "days"}
    assert "did you mean service?" in caught.value.errors["servce"]


def test_a_refused_secret_is_not_repeated():
    with pytest.raises(ParamErrors) as caught:
        check(asks(key={"type": "secret", "choices": ["A_KEY"]}), {"key": "hunter22"})

    assert "hunter22" not in str(caught.value)


def test_the_form_is_filled_from_the_alert_then_from_the_default_and_never_with_what_does_not_fit():
    runbook = asks(
        service={"source": "alert.labels.service"},
        host={"source": "alert.labels.instance | host"},
        severity={"source": "incident.severity"},
        evil={"source": "alert.labels.evil"},
        saved={"source": "alert.labels.evil", "default": "safe"},
        missing={"source": "alert.labels.no_such.thing"},
        plain={"default": 3, "type": "int"},
    )
    labels = {"service": "checkout", "instance": "web-1.example.com:9100", "evil": "$(reboot) {{ 7 * 7 }}"}

    found = prefill(runbook, {"labels": labels}, {"severity": "SEV2"})

    assert found == {
        "service": "checkout",
        "host": "web-1.example.com",
        "severity": "SEV2",
        "saved": "safe",
        "plain": 3,
    }


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|a)*b", "(a*)*", "[a", "(a", "*"])
def test_a_pattern_that_is_broken_or_could_run_for_ever_is_refused(pattern):
    assert pattern_error(pattern)


@pytest.mark.parametrize("pattern", ["[a-z0-9][a-z0-9.-]{1,62}", "v[0-9]+\\.[0-9]+", '"[a-z]+"'])
def test_a_plain_pattern_is_fine(pattern):
    assert pattern_error(pattern) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["string", "int", "number", "bool", "choice", "duration", "user", "secret", "list"]),
    given=JSON,
)
def test_any_value_is_taken_or_refused(kind, given):
    with contextlib.suppress(ParamErrors):
        check(asks(value={"type": kind, "choices": ["a"]}), {"value": given})
