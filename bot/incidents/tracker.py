"""What every issue tracker must offer: tickets that are opened once, followed, moved and spoken to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from bot.catalog.tracking import Access
from bot.kit.errors import PermanentError

Purpose = Literal["incident", "followup", "finding", "change"]
ChangeType = Literal["normal", "standard", "emergency"]


class Gone(PermanentError):  # noqa: N818 - a fact about a ticket, not a fault
    """The ticket does not exist any more, or not for us."""


@dataclass(frozen=True)
class Wish:
    """A ticket that there should be. Whatever is opened under the same *key* is opened once, and found again.

    *body* is plain text: nothing in it may become markup, a mention or a command.
    """

    key: str
    title: str
    body: str
    severity: str
    purpose: Purpose = "incident"
    service: str | None = None
    url: str | None = None
    due: str | None = None


@dataclass(frozen=True)
class Issue:
    """A ticket as the tracker has it. *id* is what the tracker itself calls it, and never changes; *reference* is what
    people call it. *done*: nothing is left to do there.
    """

    id: str
    reference: str
    url: str
    status: str
    done: bool
    title: str = ""


@dataclass(frozen=True)
class Move:
    """Where a ticket should go: to *status* if it is named, else to any that is *done*, or is not."""

    done: bool
    status: str | None = None
    note: str = ""
    dropped: bool = False


@dataclass(frozen=True)
class Heard:
    """What a webhook says: something was done to the ticket *id*. *delivery* tells a repeat from news."""

    id: str
    delivery: str | None = None
    what: str = ""
    by: str = ""


class Tracker(Protocol):
    """What ``make(access)`` of a file in ``bot/trackers`` gives. All raise TemporaryError where asking again may help
    (what was asked may have been done), PermanentError with a word for people where not, Gone for a ticket that is not
    there.
    """

    async def create(self, wish: Wish) -> Issue:
        """The ticket under the wish's key: the one that is there, or a new one."""
        ...

    async def find(self, text: str) -> Issue:
        """The ticket that people call *text*: its reference or its address."""
        ...

    async def read(self, id_: str) -> Issue:
        """How it stands."""
        ...

    async def move(self, id_: str, move: Move) -> Issue:
        """Bring it there. Nothing is done where it is there already."""
        ...

    async def rank(self, id_: str, severity: str) -> None:
        """Say how bad it is, where the tracker has a field for that."""
        ...

    async def comment(self, id_: str, text: str, key: str) -> None:
        """Say something below it, once under *key*."""
        ...

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        """Hang a file on it, once under its name."""
        ...


@runtime_checkable
class Changes(Protocol):
    """A tracker that has change requests besides."""

    async def propose(self, wish: Wish, kind: ChangeType) -> Issue:
        """The change under the wish's key, opened if need be, with its approval asked for."""
        ...

    async def verdict(self, id_: str) -> bool | None:
        """Whether it was approved, or None while nobody has said so."""
        ...

    async def begin(self, id_: str) -> None:
        """The work begins now."""
        ...

    async def conclude(self, id_: str, key: str, *, ok: bool, note: str) -> Issue:
        """The work has ended. A change that was never approved is left as it is, with a note made once under *key*."""
        ...


class Module(Protocol):
    """A file of ``bot/trackers``: besides ``make`` it has ``Options``, the shape of `options` in trackers.yaml."""

    Options: Any

    def make(self, access: Access) -> Tracker:
        """The tracker that *access* opens."""
        ...

    def genuine(self, secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a webhook comes from somebody who knows *secret*."""
        ...

    def heard(self, headers: Mapping[str, str], payload: Any) -> Heard | None:
        """What a webhook says; None where it is about nothing of ours. PermanentError if it cannot be read."""
        ...
