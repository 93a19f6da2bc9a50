"""Incidents that PagerDuty has by itself, as its webhooks (V3) tell of them.

One event a body. `incident.triggered` and whatever else is told of an open incident fires, `incident.resolved`
resolves. What this bot paged is no alert: it is known by the key that it was paged under.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.alerts import identity
from bot.alerts.model import Alert, AlertStatus, Severity
from bot.alerts.source import link, text, title, when
from bot.incidents.pager import incident_of
from bot.kit.errors import PermanentError

FIRES = ("incident.triggered", "incident.reopened", "incident.acknowledged", "incident.unacknowledged")
URGENCY = {"high": Severity.HIGH, "low": Severity.LOW}


def parse(payload: Any, *, received_at: datetime) -> list[Alert]:
    """The incident of one event; none for events that say nothing of whether it fires."""
    event = payload.get("event") if isinstance(payload, dict) else None
    if not isinstance(event, dict) or not isinstance(event.get("event_type"), str):
        raise PermanentError('the body is no event of PagerDuty\'s webhooks (V3): it has no "event.event_type"')
    kind, incident = event["event_type"], event.get("data")
    if kind not in (*FIRES, "incident.resolved"):
        return []
    if not isinstance(incident, dict) or not text(incident.get("id"), 60):
        raise PermanentError('the event tells of no incident: "event.data.id" is missing')
    key = text(incident.get("incident_key"), 255) or text(incident["id"], 60)
    if incident_of(key) is not None:
        return []
    at = when(event.get("occurred_at"), received_at)
    began = when(incident.get("reopened_at") if kind == "incident.reopened" else None, received_at)
    over = kind == "incident.resolved"
    return [
        Alert(
            status=AlertStatus.RESOLVED if over else AlertStatus.FIRING,
            title=title(incident.get("title"), incident.get("summary"), key),
            fingerprint=identity.short(text(incident["id"], 60)),
            dedup_key=identity.short(key),
            severity=_severity(incident),
            labels=_labels(incident),
            starts_at=began or (at if kind == "incident.reopened" else when(incident.get("created_at"), received_at)),
            ends_at=at if over else None,
            url=link(incident.get("html_url")),
        )
    ]


def _severity(incident: Mapping[str, Any]) -> Severity:
    """By the priority, else by the urgency."""
    name = _name(incident.get("priority"))
    if name:
        return identity.severity(name)
    return URGENCY.get(text(incident.get("urgency"), 20), Severity.MEDIUM)


def _labels(incident: Mapping[str, Any]) -> dict[str, str]:
    found = {
        "pagerduty_incident": text(incident.get("id"), 60),
        "number": text(incident.get("number"), 20),
        "service": _name(incident.get("service")),
        "urgency": text(incident.get("urgency"), 20),
        "priority": _name(incident.get("priority")),
    }
    return {name: value for name, value in found.items() if value}


def _name(found: Any) -> str:
    return text(found.get("summary"), 200) if isinstance(found, dict) else ""
