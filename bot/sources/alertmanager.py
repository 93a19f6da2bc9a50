"""Prometheus Alertmanager's webhook, every version of it: one alert for each entry of `alerts`."""

# https://prometheus.io/docs/alerting/latest/configuration/#webhook_config

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.alerts import identity
from bot.alerts.model import Alert, AlertStatus
from bot.alerts.source import ANNOTATION_LIMIT, labels, link, text, title, when
from bot.kit.errors import PermanentError


def parse(payload: Any, *, received_at: datetime) -> list[Alert]:
    """The alerts of one notification, each by its own status: the group's says nothing about a single alert."""
    if not isinstance(payload, dict) or not isinstance(payload.get("alerts"), list):
        raise PermanentError('this is not an Alertmanager notification: it has no list "alerts"')
    entries = [entry for entry in payload["alerts"] if isinstance(entry, dict)]
    if payload["alerts"] and not entries:
        raise PermanentError('this is not an Alertmanager notification: nothing in "alerts" is an object')
    left_out = payload.get("truncatedAlerts")
    more = left_out if isinstance(left_out, int) and 0 < left_out < 1_000_000 else 0
    return [_alert(entry, more, received_at) for entry in entries]


def _alert(entry: Mapping[str, Any], left_out: int, received_at: datetime) -> Alert:
    found = labels(entry.get("labels"))
    notes = labels(entry.get("annotations"), ANNOTATION_LIMIT)
    if left_out:
        notes["truncated_alerts"] = f"{left_out} more alerts of this group were not sent"
    resolved = text(entry.get("status"), 20).strip().lower() == "resolved"
    name = title(notes.get("summary"), found.get("alertname"), notes.get("description")) or "Alert without a name"
    key = _identity(entry, found, name)
    return Alert(
        status=AlertStatus.RESOLVED if resolved else AlertStatus.FIRING,
        title=name,
        fingerprint=key,
        dedup_key=key,
        severity=identity.severity(found.get("severity")),
        labels=found,
        annotations=notes,
        starts_at=when(entry.get("startsAt"), received_at),
        # A firing alert carries the time at which it would be given up, not one at which it ended.
        ends_at=when(entry.get("endsAt"), received_at) if resolved else None,
        url=link(entry.get("generatorURL")),
        runbook_url=link(notes.get("runbook_url")),
        description=notes.get("description") or notes.get("message") or "",
    )


def _identity(entry: Mapping[str, Any], found: Mapping[str, str], name: str) -> str:
    """The sender's fingerprint (old versions have none, some lose a leading zero), else the same one computed."""
    given = entry.get("fingerprint")
    if isinstance(given, str | int) and not isinstance(given, bool) and (key := text(given, 4096).strip()):
        return identity.short(key)
    raw = entry.get("labels")
    whole = {k: v for k, v in raw.items() if isinstance(v, str)} if isinstance(raw, dict) else {}
    return identity.fingerprint(whole or found or {"alertname": name})
