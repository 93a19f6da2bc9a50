"""What every sink must offer: another system that is told what happens, and an honest answer whether it was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from bot.incidents.model import Incident, TimelineEvent

A_PRIVATE_INCIDENT = "a private incident"


@dataclass(frozen=True)
class Subject:
    """The incident as it stands when something is told about it. Of a private one there is no more than that it is."""

    id: str
    reference: str
    title: str
    severity: str
    status: str
    kind: str
    service: str | None
    private: bool
    opened_at: datetime
    resolved_at: datetime | None = None
    url: str | None = None


@dataclass(frozen=True)
class Message:
    """One event of a timeline, on its way out. Its *id* is the same however often it is sent."""

    id: str
    kind: str
    text: str
    at: datetime
    recorded_at: datetime
    actor: str | None
    data: Mapping[str, Any]
    subject: Subject
    corrects: str | None = None


@dataclass(frozen=True)
class Said:
    """An event that follows from a delivery."""

    kind: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Receipt:
    """What came of it: `delivered`, with the name that the other side has for it, or `skipped` with the reason."""

    outcome: Literal["delivered", "skipped"]
    detail: str
    reference: str | None = None
    said: Said | None = None


class Sink(Protocol):
    """What ``make(sink)`` of a file in ``bot/sinks`` gives."""

    async def send(self, message: Message) -> Receipt:
        """Tell it. The same message may come again: look first, or send what the receiver knows the repeat by.

        TemporaryError where trying again may help, PermanentError with a word for people where not.
        """
        ...


def message(event: TimelineEvent, incident: Incident, url: str | None) -> Message:
    """*event* on its way out. What a private incident is about does not leave for another system."""
    private = incident.private
    return Message(
        id=event.id,
        kind=event.kind,
        text="" if private else event.text,
        at=event.at,
        recorded_at=event.recorded_at,
        actor=None if private else event.actor,
        data={} if private else event.data,
        subject=Subject(
            id=incident.id,
            reference=incident.reference,
            title=A_PRIVATE_INCIDENT if private else incident.title,
            severity=incident.severity,
            status=incident.status,
            kind=incident.kind,
            service=None if private else incident.service,
            private=private,
            opened_at=incident.opened_at,
            resolved_at=incident.resolved_at,
            url=url,
        ),
        corrects=event.corrects,
    )
