"""Anything that can post JSON: a cron job, a script, a tool with a template of its own.

One alert, a list of alerts, or an object with a list under "alerts"::

    {"title": "Queue is full", "status": "firing", "severity": "high", "dedup_key": "queue:orders",
     "labels": {"service": "orders"}, "annotations": {}, "description": "…", "url": "https://…",
     "starts_at": "2026-05-01T12:00:00Z", "ends_at": null}

Only `title` is needed to fire, only `dedup_key` to resolve.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.alerts import identity
from bot.alerts.model import Alert, AlertStatus
from bot.alerts.source import ANNOTATION_LIMIT, labels, link, text, title, when
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id
from bot.kit.text import clip


def parse(payload: Any, *, received_at: datetime) -> list[Alert]:
    """The alerts of one request; all of them or, when one is wrong, none and a word about which."""
    if isinstance(payload, dict) and "alerts" in payload:
        payload = payload["alerts"]
    if isinstance(payload, dict):
        return [_alert(payload, "the alert", received_at)]
    if not isinstance(payload, list):
        raise PermanentError("the body must be an alert (a JSON object) or a list of alerts")
    return [_alert(entry, f"alerts[{i}]", received_at) for i, entry in enumerate(payload)]


def _alert(entry: Any, place: str, received_at: datetime) -> Alert:
    if not isinstance(entry, dict):
        raise PermanentError(f"{place} is not a JSON object")
    status = _status(entry, place)
    key = text(entry.get("dedup_key"), 4096).strip()
    found = labels(entry.get("labels"))
    name = title(entry.get("title"))
    if status is AlertStatus.RESOLVED and not key:
        raise PermanentError(f'{place} has no "dedup_key": it says which alert is resolved')
    if not name and status is AlertStatus.FIRING:
        raise PermanentError(f'{place} has no "title": it is what people are shown')
    key = key or derived_id("generic", name, *(part for pair in sorted(found.items()) for part in pair))
    notes = labels(entry.get("annotations"), ANNOTATION_LIMIT)
    return Alert(
        status=status,
        title=name or title(key),
        fingerprint=identity.short(key),
        dedup_key=identity.short(key),
        severity=identity.severity(text(entry.get("severity"), 40) or found.get("severity")),
        labels=found,
        annotations=notes,
        starts_at=when(entry.get("starts_at"), received_at),
        ends_at=when(entry.get("ends_at"), received_at) if status is AlertStatus.RESOLVED else None,
        url=link(entry.get("url")),
        runbook_url=link(entry.get("runbook_url") or notes.get("runbook_url")),
        description=text(entry.get("description"), ANNOTATION_LIMIT),
    )


def _status(entry: Mapping[str, Any], place: str) -> AlertStatus:
    said = entry.get("status", "firing")
    try:
        return AlertStatus(said.strip().lower() if isinstance(said, str) else "")
    except ValueError:
        shown = clip(text(said, 40), 40) or "something else"
        raise PermanentError(f'{place}: "status" is firing or resolved, not {shown!r}') from None
