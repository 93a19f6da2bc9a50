"""sinks.yaml: what it may say, and what is wrong with it as file:line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.app import shelves
from bot.catalog import sinks
from bot.catalog.config import ConfigError

SHELF = shelves().sinks
KINDS = {name: SHELF[name].Settings for name in SHELF}
SECRET = "s" * 40
HOOK = "    kind: webhook\n    url: https://hooks.example.com/x\n    secret: {env: SECRET}\n"


def load(folder, text):
    (folder / "sinks.yaml").write_text(f"version: 1\nsinks:\n{text}")
    return sinks.load(folder, {"SECRET": SECRET}, KINDS)


def test_without_the_file_there_are_no_sinks(tmp_path):
    assert sinks.load(tmp_path, {}, KINDS) == {}


def test_a_sink_has_its_settings_and_its_secrets_apart(tmp_path):
    made = load(tmp_path, f"  archive:\n{HOOK}    events: ['run.*', note.added]\n    services: [checkout]\n")["archive"]

    assert made.secret("secret") == SECRET
    assert SECRET not in repr(made)
    assert made.takes("run.ended", "SEV3", "checkout")
    assert not made.takes("run.ended", "SEV3", "search")
    assert not made.wants("incident.opened")


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("  a: {kind: webhok}\n", 3, "did you mean 'webhook'"),
        ("  a: {}\n", 3, "'kind' is missing"),
        (f"  a:\n{HOOK}    evnets: ['*']\n", 7, "unknown key 'evnets'; did you mean 'events'?"),
        (f"  a:\n{HOOK}    events: ['no dots allowed']\n", 7, "match pattern"),
        (f"  a:\n{HOOK}    severity: [SEV9]\n", 7, "must be"),
        (f"  a:\n{HOOK.replace('https', 'http')}", 5, "plain_http: true"),
        (f"  a:\n{HOOK.replace('https://', 'https://user:pw@')}", 5, "write https://"),
        (f"  a:\n{HOOK.replace('SECRET', 'GONE')}", 6, "GONE is not set"),
        (f"  a:\n{HOOK.replace('{env: SECRET}', 'sesame')}", 6, "never written here"),
        (f"  A b:\n{HOOK}", 3, "cannot be a name here"),
        (f"  a:\n{HOOK}    ca: nowhere.pem\n", 7, "there is no file"),
        ("  a: {kind: grafana, url: 'https://example.com'}\n", 3, "'token' is missing"),
    ],
    ids=["kind", "none", "key", "glob", "severity", "http", "password", "unset", "written", "name", "ca", "missing"],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, line, wrong):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert wrong in str(caught.value)
    assert str(caught.value).startswith(f"sinks.yaml:{line}: ")


def test_every_problem_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "  a: {kind: x}\n  b: {kind: y}\n")
    assert len(caught.value.problems) == 2


def test_http_is_allowed_where_it_is_said_to_be_meant(tmp_path):
    assert load(tmp_path, f"  a:\n{HOOK.replace('https', 'http')}    plain_http: true\n")["a"].settings.plain_http


@given(st.from_regex(r"delivery\.[a-z_]+", fullmatch=True))
def test_no_sink_is_told_of_what_sinks_do(kind):
    assert not sinks._wanted(("*", "delivery.*", kind), kind)
