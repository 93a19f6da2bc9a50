import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.alerts.identity import fingerprint
from bot.alerts.model import AlertStatus, Severity
from bot.kit.errors import PermanentError
from bot.sources import alertmanager

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYLOADS = Path(__file__).parents[1] / "payloads" / "alertmanager"


def parse(name):
    return alertmanager.parse(json.loads((PAYLOADS / f"{name}.json").read_text()), received_at=NOW)


def test_a_firing_alert_is_read_whole():
    (alert,) = parse("firing")

    assert alert.status is AlertStatus.FIRING
    assert alert.title == "Checkout answers with errors"
    assert alert.severity is Severity.CRITICAL
    assert alert.fingerprint == alert.dedup_key == "a1b2c3d4e5f60718"
    assert alert.starts_at == datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert alert.ends_at is None
    assert alert.url == "http://prometheus.example.com:9090/graph?g0.expr=rate"
    assert alert.runbook_url == "https://wiki.example.com/checkout"
    assert alert.description == "5% of requests fail"


def test_what_a_real_alertmanager_sent_is_read_whole_and_its_fingerprint_is_the_one_computed_here():
    now = datetime(2026, 11, 25, 4, tzinfo=UTC)
    firing, resolved = (
        alertmanager.parse(json.loads((PAYLOADS / f"real_{name}.json").read_text()), received_at=now)[0]
        for name in ("firing", "resolved")
    )

    assert (firing.status, resolved.status) == (AlertStatus.FIRING, AlertStatus.RESOLVED)
    assert firing.title == "Work of plain-sqlite fails"
    assert firing.fingerprint == resolved.fingerprint == fingerprint(firing.labels)
    assert firing.starts_at == resolved.starts_at
    assert firing.ends_at is None
    assert resolved.ends_at > resolved.starts_at


def test_each_alert_has_its_own_status_whatever_the_group_says():
    assert [alert.status for alert in parse("mixed")] == ["firing", "resolved"]
    assert [alert.status for alert in parse("group_says_resolved")] == ["firing"]
    assert parse("mixed")[1].ends_at == datetime(2026, 3, 1, 10, 20, tzinfo=UTC)


def test_a_missing_fingerprint_is_computed_and_a_short_one_kept():
    (old,) = parse("version3")

    assert old.fingerprint == fingerprint(old.labels)
    assert parse("short_fingerprint")[0].fingerprint == "1b2c3d4e5f60718"


def test_a_truncated_group_says_so():
    assert parse("truncated")[0].annotations["truncated_alerts"] == "37 more alerts of this group were not sent"


def test_hostile_text_arrives_harmless():
    (alert,) = parse("hostile")

    assert alert.title == "RTL gpj.exe *bold*"
    assert alert.labels["nul"] == "ab"
    assert alert.labels["n"] == "7"
    assert "nested" not in alert.labels
    assert alert.description == "one\ntwo\t"
    assert alert.url is None
    assert alert.starts_at is None


def test_an_unknown_severity_is_medium():
    assert parse("no_severity_word")[0].severity is Severity.MEDIUM


def test_a_title_is_found_even_when_nothing_names_the_alert():
    (alert,) = alertmanager.parse({"alerts": [{}]}, received_at=NOW)

    assert alert.title == "Alert without a name"
    assert alert.status is AlertStatus.FIRING


def test_an_empty_group_is_no_alert():
    assert alertmanager.parse({"alerts": []}, received_at=NOW) == []


@pytest.mark.parametrize("payload", [None, 3, "x", [], {}, {"alerts": None}, {"alerts": {}}, {"alerts": [1, "x"]}])
def test_anything_else_is_refused_with_a_reason(payload):
    with pytest.raises(PermanentError, match="not an Alertmanager notification"):
        alertmanager.parse(payload, received_at=NOW)
