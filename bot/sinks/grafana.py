"""Grafana annotations: an incident is a region from its start to its end, and each change of severity a mark in it.

https://grafana.com/docs/grafana/latest/developers/http_api/annotations/. An annotation of ours is found again by its
tags, so sending twice makes one.
"""

from datetime import datetime
from typing import Any

from pydantic import Field, StrictInt

from bot.catalog.sinks import Configured, Secret, SinkSettings, Web
from bot.incidents.sink import Message, Receipt, Sink, Subject
from bot.kit.api import Api
from bot.kit.clock import Clock, utc_now
from bot.kit.errors import TemporaryError
from bot.kit.text import clean, clip, inert, one_line
from bot.runs.redact import Redactor

TOLD = ("incident.opened", "incident.accepted", "incident.resolved", "incident.reopened", "severity.changed")
STARTS = ("incident.opened", "incident.accepted")
TAG = 100  # characters that Grafana keeps of one


class Settings(SinkSettings):
    """Which Grafana, and whether on one dashboard alone."""

    url: Web
    token: Secret
    dashboard_uid: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,40}$")
    panel_id: StrictInt | None = None

    def usual(self) -> tuple[str, ...]:
        """What makes a region or a mark."""
        return TOLD


def make(sink: Configured) -> Sink:
    """The Grafana that *sink* describes."""
    return Annotations(sink)


class Annotations:
    """One organisation of a Grafana, by a service account."""

    def __init__(self, sink: Configured, *, clock: Clock = utc_now) -> None:
        """Nothing is opened before it is needed."""
        settings = sink.settings
        assert isinstance(settings, Settings)  # noqa: S101 - the loader read it as one
        place = {"dashboardUID": settings.dashboard_uid, "panelId": settings.panel_id}
        self._place = {name: value for name, value in place.items() if value is not None}
        self._api = Api(
            sink.name, settings.url, {"Authorization": f"Bearer {sink.secret('token')}"}, Redactor(sink.all()).text,
            hint="does the service account's token hold, and may it write annotations?",
            seconds=settings.seconds, ca=sink.authority, clock=clock,
        )  # fmt: skip

    async def send(self, message: Message) -> Receipt:
        """Look whether it is there, then make it or end it."""
        subject = message.subject
        if message.kind in STARTS:
            id_ = await self._region(subject, None)
            return Receipt("delivered", "the incident is marked from its start on", id_)
        if message.kind == "incident.resolved":
            id_ = await self._region(subject, subject.resolved_at or message.at)
            return Receipt("delivered", "the incident is marked to its end", id_)
        if message.kind in ("severity.changed", "incident.reopened"):
            id_ = await self._mark(message)
            return Receipt("delivered", "the moment is marked", id_)
        return Receipt("skipped", "Grafana is told of start, severity and end alone")

    async def _region(self, subject: Subject, end: datetime | None) -> str:
        own = f"tocsin:{subject.id}"
        found = await self._find(own)
        if found is None:
            more = {} if end is None else {"timeEnd": _milliseconds(end)}
            text = f"{subject.reference} {subject.title}"
            return await self._make(own, subject, subject.opened_at, text, more)
        if end is not None and found.get("timeEnd") != _milliseconds(end):
            await self._api.ask("PATCH", f"/api/annotations/{int(found['id'])}", json={"timeEnd": _milliseconds(end)})
        return str(found["id"])

    async def _mark(self, message: Message) -> str:
        own = f"tocsin:{message.id}"
        found = await self._find(own)
        if found is not None:
            return str(found["id"])
        subject = message.subject
        said = "reopened" if message.kind == "incident.reopened" else f"is {message.data.get('to') or subject.severity}"
        return await self._make(own, subject, message.at, f"{subject.reference} {said}", {})

    async def _make(self, own: str, subject: Subject, at: datetime, text: str, more: dict[str, Any]) -> str:
        tags = ["tocsin", own, subject.reference, subject.severity, *([subject.service] if subject.service else [])]
        content = {
            "time": _milliseconds(at),
            # Grafana shows it as HTML that it cleans; nothing of ours is meant to be any.
            "text": clip(one_line(inert(clean(text))), 500),
            "tags": [clip(tag, TAG) for tag in tags],
            **self._place,
            **more,
        }
        made = await self._api.ask("POST", "/api/annotations", json=content)
        if not isinstance(made.get("id"), int):
            raise TemporaryError("Grafana does not say which annotation it made")
        return str(made["id"])

    async def _find(self, own: str) -> dict[str, Any] | None:
        params = [("tags", "tocsin"), ("tags", own), ("type", "annotation"), ("limit", "10")]
        found = (await self._api.call("GET", "/api/annotations", params=params)).json()
        if not isinstance(found, list):
            raise TemporaryError("Grafana answered with no list; does something stand in between?")
        ours = [one for one in found if isinstance(one, dict) and isinstance(one.get("id"), int)]
        # A search for tags may find more than was asked for where Grafana cuts them.
        return next((one for one in ours if own in (one.get("tags") or ())), None)


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
