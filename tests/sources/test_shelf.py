"""What every source on the shelf promises."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.alerts import source
from bot.kit.errors import PermanentError, UserError
from bot.kit.shelf import Shelf

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TESTS = Path(__file__).parents[1]
SOURCES = Shelf(source.SHELF, must_have=source.MUST_HAVE).load()
SAMPLES = [(name, path) for name in SOURCES for path in sorted((TESTS / "payloads" / name).glob("*.json"))]

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40)
WORDS = st.sampled_from(
    [
        "alerts",
        "status",
        "labels",
        "annotations",
        "fingerprint",
        "startsAt",
        "endsAt",
        "generatorURL",
        "summary",
        "truncatedAlerts",
        "resolved",
        "title",
        "dedup_key",
        "severity",
        "url",
        "starts_at",
        "ends_at",
        "description",
    ]
)
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


@pytest.mark.parametrize("name", list(SOURCES))
def test_a_source_says_what_it_reads_and_has_a_test_and_samples(name):
    assert (SOURCES[name].__doc__ or "").strip()
    assert (TESTS / "sources" / f"test_{name}.py").exists()
    assert [path for of, path in SAMPLES if of == name]


@pytest.mark.parametrize(("name", "path"), SAMPLES, ids=lambda value: getattr(value, "stem", value))
def test_parsing_twice_gives_the_same(name, path):
    payload = json.loads(path.read_text())

    assert SOURCES[name].parse(payload, received_at=NOW) == SOURCES[name].parse(payload, received_at=NOW)


@pytest.mark.parametrize(("name", "path"), SAMPLES, ids=lambda value: getattr(value, "stem", value))
def test_another_sources_body_is_read_or_refused(name, path):
    for other in SOURCES:
        accepted(other, json.loads(path.read_text()))


@settings(max_examples=100, deadline=None)
@given(payload=VALUES)
def test_no_body_makes_a_source_fail_in_any_other_way(payload):
    for name in SOURCES:
        for body in (payload, {"alerts": payload}, {"alerts": [payload]}, [payload]):
            accepted(name, body)


def accepted(name, payload):
    """Parse, and hold what comes out to the bounds that everything behind relies on."""
    try:
        alerts = SOURCES[name].parse(payload, received_at=NOW)
        reason = ""
    except (PermanentError, UserError) as refused:
        alerts, reason = [], str(refused) or "\n"
    assert "\n" not in reason
    for alert in alerts:
        assert 0 < len(alert.title) <= source.TITLE_LIMIT
        assert 0 < len(alert.fingerprint) <= 255
        assert alert.dedup_key
        assert len(alert.labels) <= source.LABELS_LIMIT
        assert all(isinstance(value, str) and len(value) <= source.LABEL_LIMIT for value in alert.labels.values())
        assert "\0" not in json.dumps(source.plain(alert), ensure_ascii=False)
        json.dumps(source.plain(alert)).encode()
