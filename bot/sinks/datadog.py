"""Datadog events (API v1): what happens in an incident, grouped under one key.

https://docs.datadoghq.com/api/latest/events/#post-an-event. Version 1, since it takes free text of every kind; version
2 takes only changes and alerts. Datadog has no look-up by our key, so what is sent again after a lost answer stands in
the stream twice.
"""

from typing import Any

from pydantic import Field

from bot.catalog.sinks import Configured, Secret, SinkSettings, Web
from bot.incidents.sink import Message, Receipt, Sink
from bot.kit.api import Api
from bot.kit.clock import Clock, utc_now
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

TITLE, TEXT, KEY, TAG = 100, 4000, 100, 200
OLDEST = 17 * 3600  # Datadog refuses what is older than 18 hours
ALERT = {"SEV1": "error", "SEV2": "error", "SEV3": "warning"}


class Settings(SinkSettings):
    """Which site of Datadog."""

    site: str = Field(default="datadoghq.com", pattern=r"^[a-z0-9]+([.-][a-z0-9]+)+$")
    api_key: Secret
    api_url: Web | None = None

    def usual(self) -> tuple[str, ...]:
        """How it goes."""
        return ("incident.*", "severity.changed", "status.changed")


def make(sink: Configured) -> Sink:
    """The account that *sink* describes."""
    return Events(sink)


class Events:
    """One organisation of Datadog."""

    def __init__(self, sink: Configured, *, clock: Clock = utc_now) -> None:
        """Nothing is opened before it is needed."""
        settings = sink.settings
        assert isinstance(settings, Settings)  # noqa: S101 - the loader read it as one
        self._clock = clock
        self._api = Api(
            sink.name, settings.api_url or f"https://api.{settings.site}", {"DD-API-KEY": sink.secret("api_key")},
            Redactor(sink.all()).text, hint="is api_key a key of this site?",
            seconds=settings.seconds, ca=sink.authority, clock=clock,
        )  # fmt: skip

    async def send(self, message: Message) -> Receipt:
        """Post it."""
        made = await self._api.ask("POST", "/api/v1/events", json=self._content(message))
        found = made.get("event")
        id_ = found.get("id_str") or found.get("id") if isinstance(found, dict) else None
        return Receipt("delivered", "Datadog took the event", None if id_ is None else str(id_))

    def _content(self, message: Message) -> dict[str, Any]:
        subject = message.subject
        happened = int(message.at.timestamp())
        late = self._clock().timestamp() - happened > OLDEST
        tags = [
            "source:tocsin",
            f"incident:{subject.reference.lower()}",
            f"severity:{subject.severity.lower()}",
            f"event:{message.kind}",
            *([f"service:{subject.service.lower()}"] if subject.service else []),
        ]
        lines = [
            one_line(clean(message.text)) or message.kind,
            *([f"It happened at {message.at:%Y-%m-%d %H:%M} UTC."] if late else []),
        ]
        over = message.kind == "incident.resolved"
        return {
            "title": clip(one_line(clean(f"{subject.reference} {subject.title}")), TITLE),
            "text": clip("\n".join(lines), TEXT),
            "aggregation_key": clip(f"tocsin-{subject.id}", KEY),
            "alert_type": "success" if over else ALERT.get(subject.severity, "info"),
            "tags": [clip(tag, TAG) for tag in tags],
            **({} if late else {"date_happened": happened}),
        }
