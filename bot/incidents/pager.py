"""What every pager must offer: a way to wake somebody, and an honest answer whether it did.

`Pager` is all that is needed. What one can do beyond that are protocols of their own: `Acts`, `Follows`, `Looks`,
`Hears`, `Probes`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from bot.kit.errors import PermanentError

Kind = Literal[
    "page", "ack", "resolve", "escalate", "note", "add_responder", "change_event", "severity", "status_update"
]
# What a pager may tell by itself about a page.
Said = Literal[
    "triggered",
    "acknowledged",
    "unacknowledged",
    "resolved",
    "reopened",
    "escalated",
    "reassigned",
    "delegated",
    "responder_asked",
    "responder_answered",
    "noted",
    "priority",
    "status_update",
    "other",
]
STATES = ("triggered", "acknowledged", "unacknowledged", "resolved", "reopened")

# Who says how something is, where two can; a change of the other side is told, and undoes nothing.
OWNERS: Mapping[str, Literal["slack", "pager", "first"]] = {
    "acknowledgement": "first",
    "resolution": "slack",
    "severity": "slack",
    "title": "slack",
    "assignee": "pager",
    "responders": "pager",
}


@dataclass(frozen=True)
class PageRequest:
    """What the woken person needs to know. The same `dedup_key` never wakes anybody twice for one incident.

    *external_id* is the pager's own name for what it has made of the page already.
    """

    reference: str
    title: str
    severity: str
    service: str | None
    dedup_key: str
    url: str | None = None
    external_id: str | None = None


@dataclass(frozen=True)
class PageResult:
    """What the pager said: `sent` with its proof, `failed`, or `nobody` was to be woken; `detail` is for people.

    *seen* is what the page looks like there, where that can be seen.
    """

    outcome: Literal["sent", "failed", "nobody"]
    detail: str
    proof: str | None = None
    seen: "Seen | None" = None

    def __post_init__(self) -> None:
        """A page is sent only with proof from the pager."""
        if self.outcome == "sent" and not self.proof:
            raise PermanentError("a pager reported a page as sent and gave no proof of it")


@dataclass(frozen=True)
class Action:
    """Something to do about *page*, which says whom it is about and need not have been sent yet.

    *key* tells this act from every other: asked for again under it, what can be looked up is not done twice. With
    *named*, somebody named the service, so nobody else's on-call may be woken in its place.
    """

    kind: Kind
    page: PageRequest
    key: str
    message: str = ""
    user: str | None = None
    named: bool = False


@dataclass(frozen=True)
class ActResult:
    """What came of an act: `done` with the pager's proof, or `nobody` was to be woken. *status* and *incident_id* are
    the pager's own words for the page, where it tells them; *seen* is how the page stands now.
    """

    outcome: Literal["done", "nobody"]
    detail: str
    status: str | None = None
    incident_id: str | None = None
    proof: str | None = None
    seen: "Seen | None" = None

    def __post_init__(self) -> None:
        """Nothing is done without proof from the pager."""
        if self.outcome == "done" and not self.proof:
            raise PermanentError("a pager reported something as done and gave no proof of it")


class Pager(Protocol):
    """What ``make(config)`` of a file in ``bot/pagers`` gives; its name is the file's."""

    async def page(self, request: PageRequest) -> PageResult:
        """Wake whoever is on call. Asking again with the same `dedup_key` wakes nobody again."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


@runtime_checkable
class Acts(Protocol):
    """A pager that can do more than wake somebody."""

    async def act(self, action: Action) -> ActResult:
        """Do it. TemporaryError where asking again may help, PermanentError with a word for people where not."""
        ...


@runtime_checkable
class Follows(Protocol):
    """One of those that `Acts`, which also wants to know how the incident goes on: `severity`, `status_update`."""

    @property
    def follows(self) -> frozenset[Kind]:
        """What of that it takes."""
        ...


@dataclass(frozen=True)
class Seen:
    """How a page stands in the pager: *status* is triggered, acknowledged or resolved."""

    status: str
    external_id: str | None = None
    url: str | None = None
    assigned: str | None = None
    by: str | None = None


@runtime_checkable
class Looks(Protocol):
    """A pager that can be asked how a page stands."""

    @property
    def sees(self) -> bool:
        """Whether anything of what people do there comes to be known: by looking, or because it is told."""
        ...

    async def look(self, page: PageRequest) -> Seen | None:
        """How it stands now; None if it is not known there, or nobody may look."""
        ...


@runtime_checkable
class Probes(Protocol):
    """A pager that can be asked whether it is well, with nobody woken for it."""

    async def probe(self) -> None:
        """TemporaryError if it cannot be reached, PermanentError if it would not let us in."""
        ...


@dataclass(frozen=True)
class Word:
    """What a pager told: *said* happened *at* its own time to the page under *dedup_key*, or known as *external_id*.

    *by* is who did it in the pager's words, *address* their e-mail address. *ours*: it is the echo of something that
    this bot did.
    """

    id: str
    said: Said
    at: datetime
    dedup_key: str | None = None
    external_id: str | None = None
    url: str | None = None
    by: str | None = None
    address: str | None = None
    assigned: str | None = None
    text: str = ""
    ours: bool = False


@runtime_checkable
class Hears(Protocol):
    """A pager that tells by itself what people do there, by requests that it signs."""

    def genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether *body* is from the pager. Looked at before anything in it is."""
        ...

    def name_of(self, payload: Any) -> str:
        """What tells this word from every other, and is the same when it is sent again; PermanentError if nothing."""
        ...

    async def word(self, payload: Any) -> Word | None:
        """What it says; None if it is about nothing that concerns us. PermanentError if it cannot be understood."""
        ...


def dedup_key(incident_id: str, service: str | None = None, number: int | None = None) -> str:
    """Under what a pager knows the page of an incident, its page of another *service* than its own, or its page
    *number*, which shall wake people although there was one before.
    """
    return f"tocsin-{incident_id}" + (f":{service}" if service else "") + (f"#{number}" if number else "")


def incident_of(key: str | None) -> str | None:
    """The incident that a `dedup_key` of ours is about; None if it is none of ours."""
    found = re.match(r"tocsin-([0-9a-z]{32})(?=[:#]|$)", key or "")
    return found[1] if found else None
