"""Any system that takes CloudEvents: each event is one signed request, and a 2xx is the proof.

CloudEvents 1.0 in structured mode, signed as https://www.standardwebhooks.com says. The receiver knows by the id of
the event, which is also `webhook-id`, what it has had already.
"""

import json
from typing import Annotated, Any

from bot.catalog.sinks import Configured, Exact, Named, SinkSettings
from bot.incidents.sink import Message, Receipt, Sink
from bot.kit import signature
from bot.kit.api import Api
from bot.kit.clock import Clock, utc_now
from bot.runs.redact import Redactor


class Settings(SinkSettings):
    """Where to, and what signs."""

    url: Exact
    secret: Annotated[Any, Named(most=2, least=32)]


def make(sink: Configured) -> Sink:
    """The receiver that *sink* describes."""
    return Receiver(sink)


class Receiver:
    """One address."""

    def __init__(self, sink: Configured, *, clock: Clock = utc_now) -> None:
        """Nothing is opened before it is needed."""
        settings = sink.settings
        assert isinstance(settings, Settings)  # noqa: S101 - the loader read it as one
        self._secrets, self._clock = sink.all(), clock
        self._api = Api(
            sink.name, settings.url, hide=Redactor(self._secrets).text, hint="does it know the secret?",
            seconds=settings.seconds, ca=sink.authority, clock=clock,
        )  # fmt: skip

    async def send(self, message: Message) -> Receipt:
        """One event, the same bytes and the same id however often; the time and so the signature are of now."""
        body = json.dumps(event(message), ensure_ascii=False, separators=(",", ":")).encode()
        signed = signature.headers(self._secrets, message.id, int(self._clock().timestamp()), body)
        content = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        answer = await self._api.call("POST", "", body=body, headers={**content, **signed})
        return Receipt("delivered", f"HTTP {answer.status}")


def event(message: Message) -> dict[str, Any]:
    """The CloudEvent; docs/reference/outgoing-event.schema.json is its shape."""
    subject = message.subject
    return {
        "specversion": "1.0",
        "id": message.id,
        "source": subject.url or "tocsin",
        "type": f"tocsin.{message.kind}",
        "subject": subject.reference,
        "time": message.at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "incident": {
                "id": subject.id,
                "reference": subject.reference,
                "title": subject.title,
                "severity": subject.severity,
                "status": subject.status,
                "kind": subject.kind,
                "service": subject.service,
                "private": subject.private,
                "opened_at": subject.opened_at.isoformat(),
                "resolved_at": subject.resolved_at.isoformat() if subject.resolved_at else None,
            },
            "kind": message.kind,
            "text": message.text,
            "actor": message.actor,
            "recorded_at": message.recorded_at.isoformat(),
            "corrects": message.corrects,
            "details": dict(message.data),
        },
    }
