"""Incidents that PagerDuty has by itself are alerts; what this bot paged is none."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.alerts.model import AlertStatus, Severity
from bot.kit.errors import PermanentError
from bot.sources import pagerduty

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYLOADS = Path(__file__).parents[1] / "payloads/pagerduty"


def parse(name: str):
    return pagerduty.parse(json.loads((PAYLOADS / f"{name}.json").read_text()), received_at=NOW)


def test_a_triggered_incident_fires_with_what_is_known_of_it():
    (alert,) = parse("triggered")

    assert (alert.status, alert.title, alert.severity) == (
        AlertStatus.FIRING,
        "Queue of orders is full",
        Severity.HIGH,
    )
    assert (alert.fingerprint, alert.dedup_key) == ("PINCIDENT1", "queue-of-orders")
    assert alert.labels == {
        "pagerduty_incident": "PINCIDENT1",
        "number": "17",
        "service": "orders",
        "urgency": "high",
        "priority": "P2",
    }
    assert alert.starts_at == datetime(2026, 2, 28, 23, 10, 9, tzinfo=UTC)
    assert alert.url == "https://example.pagerduty.com/incidents/PINCIDENT1"


def test_a_resolved_incident_resolves_the_same_alert():
    (fired,), (over,) = parse("triggered"), parse("resolved")

    assert over.status is AlertStatus.RESOLVED
    assert (over.fingerprint, over.ends_at) == (fired.fingerprint, datetime(2026, 2, 28, 23, 40, tzinfo=UTC))


def test_a_reopened_incident_begins_when_it_was_reopened_and_without_priority_urgency_says_how_bad():
    (alert,) = parse("reopened")

    assert alert.starts_at == datetime(2026, 2, 28, 23, 49, 59, tzinfo=UTC)
    assert alert.severity is Severity.HIGH


@pytest.mark.parametrize("name", ["ours", "noted"])
def test_what_this_bot_paged_and_what_says_nothing_of_its_state_is_no_alert(name):
    assert parse(name) == []


def test_hostile_text_arrives_harmless():
    (alert,) = parse("hostile")

    assert alert.title == "<!channel> abc"
    assert (alert.url, alert.starts_at, alert.dedup_key) == (None, None, "PINCIDENT1")
    assert "service" not in alert.labels


@pytest.mark.parametrize(
    "payload", [None, [], {}, {"event": 1}, {"event": {}}, {"event": {"event_type": "incident.triggered", "data": {}}}]
)
def test_anything_else_is_refused_with_a_reason(payload):
    with pytest.raises(PermanentError, match="event"):
        pagerduty.parse(payload, received_at=NOW)
