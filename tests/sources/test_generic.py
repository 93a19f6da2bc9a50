import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.alerts.model import AlertStatus, Severity
from bot.kit.errors import PermanentError
from bot.sources import generic

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYLOADS = Path(__file__).parents[1] / "payloads" / "generic"


def parse(name):
    return generic.parse(json.loads((PAYLOADS / f"{name}.json").read_text()), received_at=NOW)


def test_a_firing_alert_is_read_whole():
    (alert,) = parse("firing")

    assert (alert.status, alert.title, alert.severity) == (AlertStatus.FIRING, "Queue is full", Severity.HIGH)
    assert alert.fingerprint == alert.dedup_key == "queue:orders"
    assert alert.labels == {"service": "orders"}
    assert alert.url == "https://queues.example.com/orders"
    assert alert.runbook_url == "https://wiki.example.com/queue"
    assert alert.starts_at == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_a_dedup_key_is_enough_to_resolve():
    (alert,) = parse("resolved")

    assert (alert.status, alert.fingerprint, alert.title) == (AlertStatus.RESOLVED, "queue:orders", "queue:orders")
    assert alert.ends_at == datetime(2026, 3, 1, 10, 30, tzinfo=UTC)


def test_a_title_is_enough_to_fire_and_its_labels_tell_it_apart():
    (alert,) = parse("title_only")
    (same,) = generic.parse({"title": "Backup failed"}, received_at=NOW)
    (other,) = generic.parse({"title": "Backup failed", "labels": {"host": "a"}}, received_at=NOW)

    assert alert.status is AlertStatus.FIRING
    assert alert.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize("name", ["list", "wrapped"])
def test_several_alerts_may_come_at_once(name):
    assert [alert.dedup_key for alert in parse(name)] == ["1", "2"]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (3, "must be an alert"),
        ("x", "must be an alert"),
        (None, "must be an alert"),
        ({}, 'the alert has no "title"'),
        ({"title": ""}, 'no "title"'),
        ({"title": {"a": 1}}, 'no "title"'),
        ({"dedup_key": "x"}, 'no "title"'),
        ({"title": "A", "status": "resolved"}, 'no "dedup_key"'),
        ({"title": "A", "status": "on fire"}, "not 'on fire'"),
        ({"title": "A", "status": 3}, "not '3'"),
        ([{"title": "A"}, 7], r"alerts\[1\] is not a JSON object"),
        ({"alerts": [{"title": "A"}, {"status": "resolved"}]}, r"alerts\[1\] has no \"dedup_key\""),
    ],
)
def test_what_is_wrong_is_said_and_where(payload, reason):
    with pytest.raises(PermanentError, match=reason):
        generic.parse(payload, received_at=NOW)


def test_a_key_too_long_for_a_column_is_hashed():
    (alert,) = generic.parse({"title": "A", "dedup_key": "x" * 3000}, received_at=NOW)

    assert len(alert.fingerprint) == 32
