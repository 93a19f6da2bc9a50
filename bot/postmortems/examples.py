"""Made-up incidents that templates are tried with: one that has everything, and one that has next to nothing."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bot.incidents.model import Incident, Role, RoleName, Status, TimelineEvent
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.postmortems.facts import Facts, gather
from bot.postmortems.render import render
from bot.postmortems.sections import sections

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
LEADS, HELPS = "U0EXAMPLE1", "U0EXAMPLE2"
_ALERT = {
    "title": "CheckoutErrorsHigh",
    "connection": "example",
    "labels": {"service": "checkout"},
    "url": "https://prometheus.example.com/graph",
}
_RUN = {"run": "example", "runbook": "restart-service", "name": "Restart a service", "number": 1}
_TASK = {"task": "t1", "number": 1, "text": "Alert on p99", "owner": HELPS, "due": "2026-04-01", "type": "detect"}
_STORY: tuple[tuple[float, str, str, str, dict[str, Any]], ...] = (
    (2, "incident.opened", "INC-1 opened", "bot", {**_ALERT, "severity": "SEV2", "source": "alert"}),
    (3, "page.sent", "Paged", "bot", {"pager": "log", "number": 1, "detail": "accepted"}),
    (5, "page.acknowledged", "Acknowledged", LEADS, {"pages": [1], "by": LEADS, "via": "slack"}),
    (6, "role.assigned", "commander", LEADS, {"role": "commander", "person": LEADS, "previous": None}),
    (7, "severity.changed", "SEV2 → SEV1", LEADS, {"from": "SEV2", "to": "SEV1", "reason": "payments fail"}),
    (8, "note.added", "Errors began with *deploy* 77 | <b>", LEADS, {"kind": "finding"}),
    (9, "note.added", "Roll back", LEADS, {"kind": "decision"}),
    (10, "run.started", "Started", HELPS, {**_RUN, "params": {"host": "web-1"}, "sha256": "ab" * 32}),
    (11, "run.step_succeeded", "Restarted", "bot", {**_RUN, "step": "restart", "type": "exec", "seconds": 3.0}),
    (12, "run.ended", "Ended", "bot", {**_RUN, "state": "succeeded", "seconds": 120.0}),
    (
        13,
        "runbook.withheld",
        "Held",
        "bot",
        {"runbook": "disk-cleanup", "name": "Clean", "why": "off", "reason": "off"},
    ),
    (14, "task.added", "T2", LEADS, {**_TASK, "number": 2, "task": "t2", "type": None}),
    (35, "status.changed", "monitoring", LEADS, {"from": "investigating", "to": "monitoring"}),
    (40, "note.added", "Add a lock time-out", HELPS, {"kind": "action"}),
    (41, "note.added", "The graph is flat", HELPS, {"kind": "note"}),
    (42, "followup.added", "T1", HELPS, _TASK),
    (50, "incident.resolved", "Resolved", LEADS, {"note": "Rolled back to 76"}),
)


def whole() -> Facts:
    """An incident in which everything happened that a template can tell of."""
    incident = _incident(Status.DOCUMENTING, summary="Card payments fail", service="checkout", team="shop")
    incident.is_open, incident.resolved_at = False, _at(50)
    leads = Role(
        id="r", incident_id=incident.id, name=RoleName.COMMANDER, person=LEADS, assigned_by=LEADS, assigned_at=_at(6)
    )
    return gather(incident, [_event(*told) for told in _STORY], [leads])


def bare() -> Facts:
    """An incident of which nothing is known but that it is there; a private drill."""
    return gather(_incident(Status.INVESTIGATING, private=True, kind="drill"), [], [])


def problems(name: str, folder: Path | None) -> list[str]:
    """What is wrong with a template; nothing if it can be used."""
    found = []
    for facts, what in ((whole(), "an incident that has everything"), (bare(), "an incident that has nothing")):
        try:
            text = render(facts, name, folder)
        except UserError as error:
            found.append(f"with {what}: {error}")
            continue
        names = [section.name for section in sections(text)]
        if not names:
            found.append("no section is marked; write <!-- section: summary --> before each heading")
        if not text.startswith("---\n"):
            found.append("it does not begin with front matter: ---, {{ front | yaml }}, ---")
    return list(dict.fromkeys(found))


def _at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def _incident(status: Status, **more: Any) -> Incident:
    told = {"id": "e" * 32, "number": 1, "title": "Checkout error rate above 5 %", "severity": "SEV2"}
    return Incident(**{**told, "status": status, "detected_at": START, "opened_at": _at(2), **more})


def _event(minutes: float, kind: str, text: str, actor: str, data: dict[str, Any]) -> TimelineEvent:
    at = _at(minutes)
    return TimelineEvent(
        id=derived_id("example", minutes), incident_id="e" * 32, kind=kind, text=text,
        at=at, recorded_at=at, actor=actor, data=data,
    )  # fmt: skip
