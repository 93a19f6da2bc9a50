"""What incidents need from a chat service, and the nouns that are shown there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.alerts.model import AlertRow
from bot.incidents.model import Incident, Page, Part, Role, Ticket
from bot.incidents.services import About
from bot.kit.errors import BotError


class NameTaken(BotError):  # noqa: N818 - a fact about a name, not a fault
    """A channel of this name exists, perhaps archived."""


@dataclass(frozen=True)
class Channel:
    """Where an incident is worked on."""

    id: str
    name: str


@dataclass(frozen=True)
class Offer:
    """A runbook, as a button. *fits*: it may help with the incident."""

    runbook: str
    name: str
    risk: str
    description: str = ""
    fits: bool = False


@dataclass(frozen=True)
class Card:
    """Everything the pinned message shows: a view of state, drawn anew at each change."""

    incident: Incident
    roles: Sequence[Role] = ()
    alerts: Sequence[AlertRow] = ()
    firing: int = 0
    silent: int = 0
    total: int = 0
    failed: Sequence[Part] = ()
    pages: Sequence[Page] = ()
    offers: Sequence[Offer] = ()
    todo: int = 0
    tickets: Sequence[Ticket] = ()
    about: About | None = None

    @property
    def commander(self) -> str | None:
        """Who leads, as a chat user id."""
        return next((role.person for role in self.roles if role.name == "commander"), None)


@dataclass(frozen=True)
class Announcement:
    """The message in the announcement channel, edited in place; in triage it asks whether this is an incident."""

    card: Card


@dataclass(frozen=True)
class Notice:
    """One line that something happened; *mark* is an emoji of ours before it."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Cleared:
    """No alert fires any more, and the question whether the incident is over. Of *silent* of them no end was heard.

    *said*: it is asked for another reason.
    """

    incident: Incident
    silent: int = 0
    said: str = ""


@dataclass(frozen=True)
class Closing:
    """The incident is resolved; what it took."""

    incident: Incident
    note: str


@dataclass(frozen=True)
class Todo:
    """A task or follow-up that somebody took on; *tracker* is where it can be exported to."""

    text: str
    task: str
    tracker: str | None = None


@dataclass(frozen=True)
class Drafted:
    """A revision of the post-mortem was shared, and can be had in other formats as well."""

    incident: Incident
    revision: int
    formats: Sequence[str]


@dataclass(frozen=True)
class HandedIn:
    """The post-mortem waits for somebody to read it."""

    incident: Incident
    text: str


@dataclass(frozen=True)
class Unfurnished:
    """An incident that could not get a channel, told to whoever declared it."""

    card: Card


@dataclass(frozen=True)
class Remark:
    """What a runbook says, in the chat's own markup; what was filled in has been made harmless before."""

    text: str


# Any noun that the chat's views know how to draw.
Message = Any


@dataclass(frozen=True)
class Upload:
    """A file for a channel, or for the thread below one of its messages."""

    name: str
    content: bytes
    title: str
    comment: str = ""
    thread: str | None = None


class Chat(Protocol):
    """A chat service. All raise TemporaryError when the service is away (what was asked may or may not have
    happened) and PermanentError, with a reason for people, when it refuses.
    """

    async def create_channel(self, name: str, *, private: bool) -> Channel:
        """Make a channel; NameTaken if there is one."""
        ...

    async def find_channel(self, names: Sequence[str], *, private: bool, since: datetime) -> Channel | None:
        """A channel of ours by one of *names*, made at or after *since*: what an earlier attempt left behind."""
        ...

    async def has_topic(self, channel: str, topic: str) -> bool:
        """Whether that is the topic."""
        ...

    async def set_topic(self, channel: str, topic: str) -> None:
        """Replace the topic."""
        ...

    async def invite(self, channel: str, people: Sequence[str]) -> dict[str, str]:
        """Bring people (user ids or e-mail addresses) in; those who could not be invited, with the reason."""
        ...

    async def bookmark(self, channel: str, title: str, url: str) -> None:
        """Add a link to the channel's bar."""
        ...

    async def has_bookmark(self, channel: str, url: str) -> bool:
        """Whether the channel's bar has that link."""
        ...

    async def pin(self, channel: str, message: str) -> None:
        """Pin a message; nothing happens if it is pinned."""
        ...

    async def post(
        self, channel: str, message: Message, *, key: str, thread: str | None = None, broadcast: bool = False
    ) -> str:
        """Say something in a channel or to a person; returns the message's id. *key* is kept with it, invisible, for
        `find_post`. With *thread*, the id of a message, below that one; *broadcast* shows it in the channel as well.
        """
        ...

    async def find_post(self, channel: str, key: str, *, since: datetime, thread: str | None = None) -> str | None:
        """The id of the message that was posted under *key*, if it exists: in the channel, or below *thread*."""
        ...

    async def permalink(self, channel: str, message_id: str) -> str:
        """An address that leads to a message."""
        ...

    async def place(self, name: str) -> str:
        """The id of the channel called *name*, joined if need be; PermanentError if there is none for the bot."""
        ...

    async def edit(self, channel: str, message_id: str, message: Message) -> None:
        """Draw a message anew."""
        ...

    def looks(self, message: Message) -> str:
        """A short word for how a message would look: the same for two that cannot be told apart."""
        ...

    async def upload(self, channel: str, upload: Upload) -> str:
        """Share a file; returns its id."""
        ...

    async def find_upload(self, channel: str, name: str, *, since: datetime, thread: str | None = None) -> str | None:
        """The id of a file of that name shared there by us, in the channel itself or below the message *thread*."""
        ...

    async def announcement_channel(self) -> str:
        """The id of the channel where incidents are announced."""
        ...


@dataclass(frozen=True)
class Look:
    """How an incident appears in the chat: set by the operator."""

    prefix: str = "inc"
    announce: bool = True
    invite: Sequence[str] = field(default_factory=tuple)
