"""What every pager must offer: a way to wake somebody, and an honest answer whether it did."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from bot.kit.errors import PermanentError

Kind = Literal["page", "ack", "resolve", "escalate", "note", "add_responder", "change_event"]


@dataclass(frozen=True)
class PageRequest:
    """What the woken person needs to know. The same `dedup_key` never wakes anybody twice for one incident."""

    reference: str
    title: str
    severity: str
    service: str | None
    dedup_key: str
    url: str | None = None


@dataclass(frozen=True)
class PageResult:
    """What the pager said: `sent` with its proof, `failed`, or `nobody` was to be woken; `detail` is for people."""

    outcome: Literal["sent", "failed", "nobody"]
    detail: str
    proof: str | None = None

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
    the pager's own words for the page, where it tells them.
    """

    outcome: Literal["done", "nobody"]
    detail: str
    status: str | None = None
    incident_id: str | None = None
    proof: str | None = None

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


def dedup_key(incident_id: str, service: str | None = None) -> str:
    """Under what a pager knows the page of an incident, or its page of another *service* than its own."""
    return f"tocsin-{incident_id}" + (f":{service}" if service else "")
