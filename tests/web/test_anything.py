"""Whatever a sender writes into whatever field, it is stored clean or refused; it is never a fault of ours."""

import gzip
import json
import re

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bot.alerts.model import AlertRow, Episode
from bot.incidents.model import Incident, TimelineEvent
from tests.web.conftest import post, rows

# What must never be kept: NUL and other controls, what turns or hides text, halves of characters.
HIDDEN = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


class Text(str):
    """Text that is not shown whole when a test fails."""

    def __repr__(self):
        return f"Text({self[:8]!r}…{len(self)})"


class Raw(Text):
    """Written into the body as it stands."""


NASTY = [
    "\0", "a\0b", "\u202egpj.exe",
    "\u2066x\u2069", "\ud800", "\udfff\ud800", "\ufeff", "\u200b", "\x1b[31m", "\x7f\x9b",
    "<!channel>", "<@U1>", "*b*", "`", "```", "&lt;", "'; drop table alert; --", "%s%n", "{{7*7}}", "${x}",
    Text("x" * 70_000), Text("\u0600" * 3000), Text("🧨" * 1000), Text("\n" * 500), Text("a\u0301" * 400), " ", "",
]  # fmt: skip
NUMBERS = [
    "1e999999", "-1e999999", "1e-999999", "0." + "1" * 5000, "9" * 4000, "-" + "9" * 4300, "-0", "1E400", "0e0",
    "1.7976931348623157e308", "18446744073709551616", "9" * 300,
]  # fmt: skip
REFUSED = ["NaN", "Infinity", "-Infinity", "9" * 4301, "[" * 2000 + "]" * 2000, "[" * 65 + "]" * 65, "0x10", "01", "+1"]
TIMES = [
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+23:59", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z",
    "2026-03-01T11:59:60Z", "2026-02-30T00:00:00Z", "2026-03-01T11:00:00+99:99", "2026-W09-7", "20260301T110000",
    "2026-03-01T11:00:00", "2026-03-01", "-2026-03-01T00:00:00Z", "٢٠٢٦-٠٣-٠١T00:00:00Z",
    "2026-03-01T11:00:00.1\u202eZ",
]  # fmt: skip
LINKS = [
    "https://x/\u202e",
    "javascript:alert(1)",
    "https://[::1",
    "https://x/" + "\0",
    "http://\ud800",
    "https://a@b:99999999/|>",
]
DEEP = [Raw("[" * 50 + "]" * 50), Raw('{"a":' * 50 + "1" + "}" * 50)]


def among(items):
    """One of *items*, without all of them in every message about a failure."""

    def pick(number):
        return items[number]

    return st.integers(0, len(items) - 1).map(pick)


texts = st.text(st.characters(codec=None), max_size=40) | among(NASTY) | among(LINKS + TIMES)
scalars = (
    texts
    | among([Raw(n) for n in NUMBERS])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars | among(DEEP),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
maps = st.dictionaries(texts | among(["alertname", "severity", "service", "summary"]), values, max_size=6)


def fields(must=None, **real):
    """An object of the sender's real fields, each with what it ought to hold or, less often, with anything."""
    return st.fixed_dictionaries(
        must or {}, optional={name: st.one_of(kind, kind, kind, values) for name, kind in real.items()}
    )


state = among(["firing", "resolved"])
level = among(["critical", "warning", "info"])
alertmanager = fields(
    status=state, labels=maps, annotations=maps, startsAt=among(TIMES), endsAt=among(TIMES),
    generatorURL=among(LINKS), fingerprint=texts,
)  # fmt: skip
generic = fields(
    {"title": texts.map(lambda text: f"T{text}"), "status": state, "dedup_key": texts.map(lambda text: f"k{text}")},
    severity=level, labels=maps, annotations=maps, description=texts, url=among(LINKS),
    runbook_url=among(LINKS), starts_at=among(TIMES), ends_at=among(TIMES),
)  # fmt: skip


def written(value):
    """*value* as JSON; what cannot be told in UTF-8 is escaped."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(item) for item in value) + "]"
    return json.dumps(value)


def strings(value):
    """Every text in a row, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(key)
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


@pytest.mark.parametrize("token", REFUSED, ids=lambda token: token[:12])
@pytest.mark.parametrize("place", ["title", "labels", "starts_at", "unknown"])
async def test_what_is_no_number_or_too_deep_is_refused_wherever_it_stands(door, token, place):
    status, answer, _ = await post(door, written({"title": "x", place: Raw(token)}).encode())

    assert status == 400
    assert len(answer["error"]) < 200


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    am=st.lists(alertmanager, min_size=1, max_size=5),
    cron=st.lists(generic, min_size=1, max_size=5),
    more=values,
    packed=st.booleans(),
)
async def test_anything_in_any_field_is_stored_clean_or_refused(client, database, am, cron, more, packed):
    for kind, alerts in (("am", am), ("cron", cron)):
        body = written({"alerts": alerts, "truncatedAlerts": more, "groupLabels": more}).encode()
        with capture_logs() as logged:
            status, answer, _ = await post(client, gzip.compress(body, mtime=0) if packed else body, f"/alerts/{kind}")
        event(f"{kind} {status}")

        assert status in (202, 400), answer
        assert "\n" not in answer.get("error", "")
        assert not [entry for entry in logged if entry["log_level"] == "error"]
    for model in (AlertRow, Episode, Incident, TimelineEvent):
        for row in await rows(database, model):
            for text in strings(row.model_dump()):
                assert not HIDDEN.search(text), (model.__name__, text)
