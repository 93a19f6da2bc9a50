"""Statuspage.io: what people publish with `/inc statuspage`, and with `auto` also start, status and end.

https://developer.statuspage.io/: the page's incident carries ours in its metadata, and is found by that; an update
that stands there already is not written again.
"""

from typing import Any

from pydantic import Field, StrictBool

from bot.catalog.sinks import Configured, Secret, SinkSettings, Web
from bot.incidents.sink import Message, Receipt, Sink, Subject
from bot.incidents.statuspage import REQUESTED, STEPS, Page, Publication, tell
from bot.kit.api import Api
from bot.kit.clock import Clock, utc_now
from bot.kit.errors import TemporaryError
from bot.runs.redact import Redactor

LOOKED_AT = 100  # incidents of the page; ours is among the newest


class Settings(SinkSettings):
    """Which page, and which of its components show which service."""

    page_id: str = Field(pattern=r"^[a-z0-9]{8,20}$")
    api_key: Secret
    components: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    auto: StrictBool = False
    api_url: Web = "https://api.statuspage.io/v1"

    def usual(self) -> tuple[str, ...]:
        """Nothing, unless it speaks by itself."""
        return STEPS if self.auto else ()

    def always(self) -> tuple[str, ...]:
        """What people publish."""
        return (REQUESTED,)


def make(sink: Configured) -> Sink:
    """The page that *sink* describes."""
    return StatuspageIo(sink)


def page(sink: Configured) -> Page:
    """The same, as people are offered it."""
    settings = sink.settings
    assert isinstance(settings, Settings)  # noqa: S101 - the loader read it as one
    return Page(sink.name, settings.components, settings.auto)


class StatuspageIo:
    """One page of an account."""

    def __init__(self, sink: Configured, *, clock: Clock = utc_now) -> None:
        """Nothing is opened before it is needed."""
        settings = sink.settings
        assert isinstance(settings, Settings)  # noqa: S101 - the loader read it as one
        self._about, self._path = page(sink), f"/pages/{settings.page_id}/incidents"
        self._api = Api(
            sink.name, settings.api_url, {"Authorization": f"OAuth {sink.secret('api_key')}"},
            Redactor(sink.all()).text, hint="does api_key hold, and does it manage this page's incidents?",
            seconds=settings.seconds, ca=sink.authority, clock=clock,
        )  # fmt: skip

    async def send(self, message: Message) -> Receipt:
        """Publish what of it is for the public."""
        return await tell(self, message, self._about)

    async def publish(self, subject: Subject, publication: Publication) -> tuple[str, str | None]:
        """Open the page's incident, or add an update to it; neither twice for one key."""
        found = await self._find(subject)
        if found is not None and publication.key in _ours(found).get("updates", ()):
            return str(found["id"]), found.get("shortlink")
        keys = [*(_ours(found).get("updates", ()) if found else ()), publication.key]
        incident: dict[str, Any] = {
            "status": publication.status,
            "body": publication.text,
            "deliver_notifications": publication.notify,
            "metadata": {"tocsin": {"incident": subject.id, "updates": keys[-50:]}},
        }
        if publication.components:
            incident |= {
                "components": dict(publication.components),
                "component_ids": list(publication.components),
            }
        if found is None:
            incident["name"] = publication.title
            made = await self._api.ask("POST", self._path, json={"incident": incident})
        else:
            made = await self._api.ask("PATCH", f"{self._path}/{found['id']}", json={"incident": incident})
        if not made.get("id"):
            raise TemporaryError("Statuspage does not say which incident it made")
        url = made.get("shortlink")
        return str(made["id"]), str(url) if url else None

    async def _find(self, subject: Subject) -> dict[str, Any] | None:
        answer = (await self._api.call("GET", self._path, params=[("limit", str(LOOKED_AT))])).json()
        if not isinstance(answer, list):
            raise TemporaryError("Statuspage answered with no list; does something stand in between?")
        incidents = [one for one in answer if isinstance(one, dict) and one.get("id")]
        return next((one for one in incidents if _ours(one).get("incident") == subject.id), None)


def _ours(incident: dict[str, Any]) -> dict[str, Any]:
    metadata = incident.get("metadata")
    found = metadata.get("tocsin") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}
