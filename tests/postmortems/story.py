"""An incident written by hand, event by event, for the tests of what is made of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bot.incidents.model import Incident, Role, TimelineEvent
from bot.kit.ids import derived_id

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """So many minutes after the alert began to fire."""
    return START + timedelta(minutes=minutes)


class Story:
    """An incident with its events and roles. Ids are derived, so the same story is the same bytes."""

    def __init__(self, **fields: Any) -> None:
        values: dict[str, Any] = {
            "id": "a" * 32,
            "number": 42,
            "title": "Checkout error rate above 5 %",
            "severity": "SEV2",
            "status": "investigating",
            "service": "checkout",
            "detected_at": START,
            "opened_at": at(2),
        }
        self.incident = Incident(**{**values, **fields})
        self.events: list[TimelineEvent] = []
        self.roles: list[Role] = []

    def say(
        self,
        minutes: float,
        kind: str,
        text: str = "",
        /,
        *,
        actor: str | None = "bot",
        corrects: TimelineEvent | None = None,
        recorded: float | None = None,
        **data: Any,
    ) -> TimelineEvent:
        """One event. Data keys that Python reserves carry an underscore at the end (`from_`)."""
        event = TimelineEvent(
            id=derived_id("story", len(self.events)),
            incident_id=self.incident.id,
            kind=kind,
            text=text,
            at=at(minutes),
            recorded_at=at(minutes if recorded is None else recorded),
            actor=actor,
            data={key.rstrip("_"): value for key, value in data.items()},
            corrects=corrects.id if corrects else None,
        )
        self.events.append(event)
        return event

    def open(self, minutes: float = 2, **data: Any) -> TimelineEvent:
        """Opened by an alert."""
        alert = {
            "title": "CheckoutErrorsHigh",
            "labels": {"service": "checkout", "region": "eu-1"},
            "url": "https://prometheus.example.org/graph?g0.expr=rate(errors[5m])",
            "connection": "checkout-am",
        }
        told = {**alert, "severity": "SEV2", "service": "checkout", "source": "alert", "alert": "the id of its row"}
        return self.say(minutes, "incident.opened", "Opened from CheckoutErrorsHigh", **{**told, **data})

    def assign(self, minutes: float, role: str, person: str, previous: str | None = None) -> TimelineEvent:
        """Give a role, as a row and as an event."""
        for row in self.roles:
            if row.name == role and row.ended_at is None and role != "responder":
                row.ended_at = at(minutes)
        self.roles.append(
            Role(
                id=derived_id("role", len(self.roles)),
                incident_id=self.incident.id,
                name=role,
                person=person,
                assigned_by=person,
                assigned_at=at(minutes),
            )
        )
        text = f"<@{person}> is {role}"
        return self.say(minutes, "role.assigned", text, actor=person, role=role, person=person, previous=previous)

    def status(self, minutes: float, before: str, after: str) -> TimelineEvent:
        """Change the status."""
        self.incident.status = after
        text = f"Status {before} → {after}"
        return self.say(minutes, "status.changed", text, actor="U0COMMAND", from_=before, to=after)

    def resolve(self, minutes: float, note: str = "") -> TimelineEvent:
        """End it."""
        self.incident.is_open, self.incident.status, self.incident.resolved_at = False, "documenting", at(minutes)
        text = f"Resolved: {note}" if note else "Resolved"
        return self.say(minutes, "incident.resolved", text, actor="U0COMMAND", note=note)

    def reopen(self, minutes: float, reason: str = "") -> TimelineEvent:
        """Go on."""
        self.incident.is_open, self.incident.status, self.incident.resolved_at = True, "investigating", None
        return self.say(minutes, "incident.reopened", "Reopened", actor="U0COMMAND", reason=reason)


def checkout() -> Story:
    """A whole incident: alert, page, roles, two runs, notes, a gap, mitigation and resolution."""
    story = Story()
    story.open()
    story.say(2.1, "channel.opened", "Channel #inc-42-checkout opened", channel="C0INC42", name="inc-42-checkout")
    story.say(2.2, "page.sent", "Paged checkout", pager="pagerduty", number=1, detail="accepted by the pager")
    story.assign(6, "commander", "U0COMMAND")
    story.assign(7, "responder", "U0HELPER1")
    story.say(
        8,
        "note.added",
        "Errors began with deploy <https://ci.example.org/77|#77>, says <@U0HELPER1>",
        actor="U0COMMAND",
        kind="finding",
    )
    story.say(
        9,
        "severity.changed",
        "Severity SEV2 → SEV1: card payments fail",
        actor="U0COMMAND",
        from_="SEV2",
        to="SEV1",
        reason="card payments fail",
    )
    run = {"run": "r1", "runbook": "checkout-rollback", "name": "Roll back checkout"}
    story.say(
        10,
        "run.started",
        "Runbook started",
        actor="U0HELPER1",
        number=1,
        params={"version": "76"},
        dry_run=False,
        sha256="ab" * 32,
        **run,
    )
    story.say(
        10.1,
        "run.step_started",
        "Step started",
        step="check",
        name="Is 76 still there?",
        type="http",
        attempt=1,
        run="r1",
    )
    story.say(
        10.2,
        "run.step_succeeded",
        "Step succeeded",
        step="check",
        name="Is 76 still there?",
        type="http",
        attempt=1,
        seconds=0.8,
        summary="200 OK",
        run="r1",
    )
    story.say(
        12,
        "run.step_failed",
        "Step failed",
        step="roll",
        name="Roll back",
        type="shell",
        attempt=1,
        seconds=95.0,
        summary="exit 1: lock held by pipeline 991",
        run="r1",
    )
    story.say(
        12,
        "run.ended",
        "Run 1 failed",
        run="r1",
        state="failed",
        seconds=121.0,
        failure={"step": "roll", "reason": "exit 1"},
    )
    story.say(
        13,
        "note.added",
        "Waiting for pipeline 991 to end, then again\nKeep the canary off",
        actor="U0COMMAND",
        kind="decision",
    )
    story.say(
        34,
        "run.started",
        "Runbook started",
        actor="U0HELPER1",
        number=2,
        params={"version": "76"},
        dry_run=False,
        sha256="ab" * 32,
        **{**run, "run": "r2"},
    )
    story.say(
        36,
        "run.step_succeeded",
        "Step succeeded",
        step="roll",
        name="Roll back",
        type="shell",
        attempt=1,
        seconds=110.0,
        summary="rolled back",
        run="r2",
    )
    story.say(36, "run.ended", "Run 2 succeeded", run="r2", state="succeeded", seconds=118.0)
    story.status(38, "investigating", "monitoring")
    story.say(
        41,
        "alert.resolved",
        "CheckoutErrorsHigh resolved",
        title="CheckoutErrorsHigh",
        connection="checkout-am",
        labels={"service": "checkout", "region": "eu-1"},
        url="",
    )
    story.say(45, "note.added", "Ask for a lock time-out in the pipeline", actor="U0HELPER1", kind="action")
    story.resolve(52, "Rolled back to 76; error rate is at 0.1 %")
    return story


def governed() -> Story:
    """A run that waited its turn, asked people, failed in a loop and was taken back."""
    story = Story()
    story.open()
    run = {"run": "r1", "runbook": "clean", "number": 1}
    story.say(1, "run.held", "Waits", actor="U0HELPER1", name="Free disk space", params={"host": "web-1"}, **run)
    story.say(2, "run.started", "Its turn", actor="bot", **run)
    story.say(3, "run.file_made", "A list", file="f", name="list.txt", **run)
    asked = {"approval": "a", **run}
    story.say(4, "approval.asked", "Asks", prompt="Delete *300 files*?", plan=["Delete: rm"], **asked)
    story.say(5, "approval.given", "Yes", actor="U0HELPER2", yes=True, reason="it is only a cache", **asked)
    why = "approved by <@U0HELPER2> and <@U0HELPER3>: agreed"
    story.say(6, "approval.closed", "Yes", actor="U0HELPER3", state="approved", why=why, **asked)
    loop = {"type": "exec", "attempt": 1, "seconds": 1.0, **run}
    story.say(7, "run.step_succeeded", "One", name="web-1", path="steps.2[0]", **loop)
    story.say(7, "run.step_failed", "Two", name="web-2", path="steps.2[1]", summary="exit code 1", **loop)
    story.say(8, "run.step_failed", "All", name="Delete", path="steps.2", summary="1 of 2 went well", **loop)
    story.say(9, "run.step_succeeded", "Back", name="Put back", path="steps.1.rollback.0", **loop)
    story.say(9.1, "run.step_succeeded", "Told", name="Say so", path="on_failure.0", **loop)
    story.say(9.2, "run.step_succeeded", "Done", name="Unlock", path="always.0", **loop)
    story.say(10, "run.ended", "Over", state="rolled_back", seconds=70.0, **run)
    return story
