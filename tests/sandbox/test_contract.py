"""Against the published method reference: arguments, scopes, and errors this sandbox may give."""

import json
import os
import re
from pathlib import Path

import pytest

from bot.sandbox import methods
from bot.sandbox.methods.table import METHODS

REFERENCE = json.loads(Path(os.environ["TOCSIN_SLACK_METHODS"]).read_text("utf-8"))["methods"]
# What every method may answer; the reference lists these unevenly.
COMMON = {
    *("invalid_arguments", "missing_scope", "not_authed", "invalid_auth", "not_allowed_token_type"),
    *("ratelimited", "internal_error", "invalid_cursor"),
}


@pytest.mark.parametrize("name", METHODS)
def test_arguments_and_scopes_are_those_of_the_reference(name):
    method, published = METHODS[name], REFERENCE[name]

    if name != "api.test":
        assert {*method.needs, *method.takes} - {"team_id"} <= set(published["args"])
    required = {k for k, v in published["args"].items() if v["required"]} - {"token", "topic", "purpose"}
    assert required <= set(method.needs)
    scopes = [method.scopes] if isinstance(method.scopes, str) else list(method.scopes.values())
    assert {s for s in scopes if s} <= set(published["scope"].get("bot") or [])


@pytest.mark.parametrize("family", ["basics", "chat", "conversations", "files", "marks", "people", "views"])
def test_errors_are_those_of_the_reference(family):
    """Every error code a family of methods can give is documented for one of its methods."""
    source = Path(str(methods.__file__)).with_name(f"{family}.py").read_text("utf-8")
    module = __import__(f"bot.sandbox.methods.{family}", fromlist=["METHODS"])
    documented = {e for name in module.METHODS for e in REFERENCE[name].get("errors") or []}

    given = set(re.findall(r'RefusedError\(\s*"([a-z_]+)"', source)) | set(re.findall(r'refuse\("([a-z_]+)"', source))
    assert given - COMMON <= documented
