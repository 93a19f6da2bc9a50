"""A chat in memory: keeps what it is told, and fails as a test plans it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bot.incidents.chat import Channel, Message, NameTaken, Upload
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id


@dataclass
class Posted:
    """A message, and every noun it has shown, newest last."""

    key: str
    drawn: list[Message]
    thread: str | None = None
    broadcast: bool = False

    @property
    def message(self) -> Message:
        return self.drawn[-1]


@dataclass
class FakeChat:
    """Implements `bot.incidents.chat.Chat`. *faults* holds, by method, the errors of the next calls; None is none.

    With *lost*, the next post happens and then fails with that error, as when the answer was lost on the way.
    """

    channels: dict[str, Channel] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    invited: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    bookmarks: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    pins: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[str, dict[str, Posted]] = field(default_factory=lambda: defaultdict(dict))
    uploads: dict[str, list[Upload]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[Exception | None]] = field(default_factory=lambda: defaultdict(list))
    calls: list[str] = field(default_factory=list)
    lost: Exception | None = None

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self.faults[method] and (fault := self.faults[method].pop(0)) is not None:
            raise fault

    def posted(self, channel: str | None = None) -> list[Posted]:
        """The messages of a channel, or of all."""
        places = self.messages.values() if channel is None else [self.messages[channel]]
        return [message for place in places for message in place.values()]

    async def create_channel(self, name: str, *, private: bool) -> Channel:
        self._called("create_channel")
        if any(channel.name == name for channel in self.channels.values()):
            raise NameTaken(name)
        made = Channel(f"C{len(self.channels) + 1}", name)
        self.channels[made.id] = made
        return made

    async def find_channel(self, names: Sequence[str], *, private: bool, since: datetime) -> Channel | None:
        self._called("find_channel")
        return next((channel for channel in self.channels.values() if channel.name in names), None)

    async def has_topic(self, channel: str, topic: str) -> bool:
        self._called("has_topic")
        return self.topics.get(channel) == topic

    async def set_topic(self, channel: str, topic: str) -> None:
        self._called("set_topic")
        self.topics[channel] = topic

    async def invite(self, channel: str, people: Sequence[str]) -> dict[str, str]:
        self._called("invite")
        self.invited[channel] += people
        return {}

    async def bookmark(self, channel: str, title: str, url: str) -> None:
        self._called("bookmark")
        self.bookmarks[channel].append(url)

    async def has_bookmark(self, channel: str, url: str) -> bool:
        self._called("has_bookmark")
        return url in self.bookmarks[channel]

    async def pin(self, channel: str, message: str) -> None:
        self._called("pin")
        self.pins[channel].append(message)

    async def post(
        self, channel: str, message: Message, *, key: str, thread: str | None = None, broadcast: bool = False
    ) -> str:
        self._called("post")
        ts = f"{len(self.calls)}.0"
        self.messages[channel][ts] = Posted(key, [message], thread, broadcast)
        if (lost := self.lost) is not None:
            self.lost = None
            raise lost
        return ts

    async def find_post(self, channel: str, key: str, *, since: datetime, thread: str | None = None) -> str | None:
        self._called("find_post")
        found = ((ts, posted) for ts, posted in self.messages[channel].items() if posted.key == key)
        # As in Slack, what stands below a message is not found in the channel, and the other way round.
        return next((ts for ts, posted in found if posted.thread == thread or posted.broadcast), None)

    async def permalink(self, channel: str, message_id: str) -> str:
        self._called("permalink")
        return f"https://chat.example.com/{channel}/{message_id}"

    async def place(self, name: str) -> str:
        self._called("place")
        for channel in self.channels.values():
            if name.lstrip("#") in (channel.id, channel.name):
                return channel.id
        raise PermanentError(f"there is no channel #{name.lstrip('#')} that the bot may see")

    async def edit(self, channel: str, message_id: str, message: Any) -> None:
        self._called("edit")
        if message_id not in self.messages[channel]:
            raise PermanentError("there is no such message (any more)")
        self.messages[channel][message_id].drawn.append(message)

    def looks(self, message: Message) -> str:
        return derived_id("look", message)

    async def upload(self, channel: str, upload: Upload) -> str:
        self._called("upload")
        self.uploads[channel].append(upload)
        return f"F{len(self.uploads[channel])}"

    async def find_upload(self, channel: str, name: str, *, since: datetime, thread: str | None = None) -> str | None:
        self._called("find_upload")
        made = enumerate(self.uploads[channel], 1)
        return next((f"F{n}" for n, upload in made if (upload.name, upload.thread) == (name, thread)), None)

    async def announcement_channel(self) -> str:
        self._called("announcement_channel")
        return "C0"
