"""Everything that can happen in the pretended Slack, whoever makes it happen."""

import asyncio
import copy
import secrets
import string
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from bot.kit.clock import utc_now
from bot.sandbox.rates import Rates
from bot.sandbox.state import (
    Answer,
    App,
    Bookmark,
    Call,
    Canvas,
    Channel,
    Delivered,
    File,
    Group,
    Json,
    Limits,
    Message,
    Note,
    Notice,
    Pin,
    Scheduled,
    Trigger,
    User,
    View,
    Violation,
)

TEAM = "T00SANDBOX"
DOMAIN = "sandbox"
BOT_ID = "B00BOT"
Emit = Callable[[Json, Channel | None], None]


class Workspace:
    """People and channels, and the events that follow from what happens to them.

    The checks a Slack client or the Web API would make are the callers'; here things simply happen.
    """

    def __init__(self, app: App, limits: Limits, *, strict: bool = True) -> None:
        self.app = app
        self.limits = limits
        self.strict = strict
        self.url = ""
        self.emit: Emit = lambda event, channel: None
        self.listeners: set[Callable[[str], None]] = set()
        self.bell = asyncio.Event()
        self.bot = User("U00BOT", app.name, app.name, is_bot=True, bot_id=BOT_ID, app_id=app.id)
        self.users: dict[str, User] = {}
        self.groups: dict[str, Group] = {}
        self.channels: dict[str, Channel] = {}
        self.views: dict[str, View] = {}
        self.stacks: dict[str, list[View]] = {}
        self.homes: dict[str, View] = {}
        self.files: dict[str, File] = {}
        self.canvases: dict[str, Canvas] = {}
        self.scheduled: dict[str, Scheduled] = {}
        self.triggers: dict[str, Trigger] = {}
        self.answers: dict[str, Answer] = {}
        self.violations: list[Violation] = []
        self.notices: deque[Notice] = deque(maxlen=200)
        self.calls: deque[Call] = deque(maxlen=5000)
        self.deliveries: deque[Delivered] = deque(maxlen=2000)
        self.rates = Rates(limits)
        self._last_ts = 0
        self._settle()

    def _settle(self) -> None:
        for user in (
            User("U01ALICE", "alice", "Alice (on call)", "alice@example.com", "Payments, on call"),
            User("U02BOB", "bob", "Bob (payments lead)", "bob@example.com", "Payments lead"),
            User("U03CAROL", "carol", "Carol (support)", "carol@example.com", "Customer support"),
            User("U04GUEST", "guest", "Guest (contractor)", "guest@example.com", is_restricted=True),
            self.bot,
        ):
            self.users[user.id] = user
        people = [u.id for u in self.users.values() if not u.is_bot]
        self.groups["S01ONCALL"] = Group("S01ONCALL", "oncall", "On call", ["U01ALICE", "U02BOB"])
        now = int(time.time())
        general = Channel("C01GENERAL", "general", "U02BOB", now, members=people, general=True)
        general.purpose = Note("Talk for the whole company", "U02BOB", now)
        incidents = Channel("C02INCIDENTS", "incidents", "U02BOB", now, members=[*people[:3], self.bot.id])
        incidents.purpose = Note("Every incident is announced here", "U02BOB", now)
        self.channels |= {general.id: general, incidents.id: incidents}

    @property
    def limited(self) -> Counter[str]:
        """How many calls of each method were told to slow down. No violation: it can happen to anybody."""
        return self.rates.limited

    # A waiting test and an open page both learn from here that something changed.
    def touch(self, what: str) -> None:
        bell, self.bell = self.bell, asyncio.Event()
        bell.set()
        for listener in list(self.listeners):
            listener(what)

    async def wait(self, found: Callable[[], Any], within: float, what: str) -> Any:
        """The first true answer of *found*, asked again at every change; AssertionError when time is up."""
        deadline = time.monotonic() + within
        while True:
            bell = self.bell
            if answer := found():
                return answer
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {what} within {within:g} s")
            try:
                await asyncio.wait_for(bell.wait(), min(left, 0.25))
            except TimeoutError:
                continue

    def violation(self, kind: str, detail: str) -> None:
        if self.strict:
            self.violations.append(Violation(kind, detail, utc_now().isoformat()))
            self.touch("violations")

    def notice(self, user: str, text: str) -> None:
        """Say something on a person's screen, as Slack does when an app fails."""
        self.notices.append(Notice(user, text, utc_now().isoformat()))
        self.touch("notices")

    def next_ts(self) -> str:
        """The next message timestamp; never the same twice."""
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def new_id(self, prefix: str) -> str:
        """Random, so that a bot that outlives this sandbox never meets an old id again."""
        return prefix + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(10))

    def bot_profile(self) -> Json:
        return {
            "id": BOT_ID,
            "app_id": self.app.id,
            "user_id": self.bot.id,
            "name": self.app.name,
            "icons": {},
            "deleted": False,
            "updated": 0,
            "team_id": TEAM,
        }

    def person(self, name: str) -> User | None:
        return self.users.get(name) or next((u for u in self.users.values() if u.name == name), None)

    def channel(self, name: str) -> Channel | None:
        """By id, or by name with or without ``#``."""
        if name in self.channels:
            return self.channels[name]
        name = name.removeprefix("#")
        return next((c for c in self.channels.values() if c.name == name and c.kind != "im"), None)

    def sees(self, channel: Channel, user: str) -> bool:
        return channel.kind == "public" or user in channel.members

    def new_trigger(self, user: str, view: str | None = None) -> Trigger:
        trigger = Trigger(f"{self._last_ts}.{secrets.token_hex(8)}", user, time.monotonic(), view)
        self.triggers[trigger.id] = trigger
        while len(self.triggers) > 2000:
            del self.triggers[next(iter(self.triggers))]
        return trigger

    def new_answer(self, user: str, channel: str, origin: Message | None = None) -> Answer:
        answer = Answer(secrets.token_urlsafe(18), user, channel, time.monotonic(), origin)
        self.answers[answer.id] = answer
        while len(self.answers) > 2000:
            del self.answers[next(iter(self.answers))]
        return answer

    def post(
        self,
        channel: Channel,
        user: str,
        text: str,
        *,
        blocks: Iterable[Json] = (),
        attachments: Iterable[Json] = (),
        subtype: str | None = None,
        thread_ts: str | None = None,
        metadata: Json | None = None,
        files: Iterable[Json] = (),
        extra: Json | None = None,
    ) -> Message:
        """Put a message into a channel and tell the app."""
        is_bot = user == self.bot.id and subtype is None
        message = Message(
            channel=channel.id,
            ts=self.next_ts(),
            user=user,
            text=text,
            blocks=backfill(blocks),
            attachments=list(attachments),
            subtype=subtype,
            thread_ts=thread_ts,
            metadata=metadata,
            bot=self.bot_profile() if is_bot else None,
            client_msg_id=None if is_bot or subtype else secrets.token_hex(16),
            files=list(files),
            extra=extra or {},
        )
        channel.messages.append(message)
        self.touch(f"channel {channel.id}")
        self.emit(self._message_event(channel, message.payload(TEAM), message.ts), channel)
        if f"<@{self.bot.id}>" in text and not is_bot:
            mention = message.payload(TEAM) | {"type": "app_mention", "channel": channel.id}
            self.emit(mention | {"event_ts": message.ts}, channel)
        return message

    def _message_event(self, channel: Channel, body: Json, event_ts: str, **more: Any) -> Json:
        place = {"channel": channel.id, "event_ts": event_ts, "channel_type": channel.event_type}
        return {"type": "message", **body, **more, **place}

    def whisper(
        self,
        channel: Channel,
        user: str,
        text: str,
        *,
        blocks: Iterable[Json] = (),
        attachments: Iterable[Json] = (),
        thread_ts: str | None = None,
    ) -> Message:
        """An ephemeral message: one person sees it, nobody keeps it, no event tells of it."""
        message = Message(
            channel=channel.id,
            ts=self.next_ts(),
            user=self.bot.id,
            text=text,
            blocks=backfill(blocks),
            attachments=list(attachments),
            thread_ts=thread_ts,
            bot=self.bot_profile(),
            only_for=user,
        )
        channel.ephemerals.append(message)
        self.touch(f"channel {channel.id}")
        return message

    def edit(self, channel: Channel, message: Message, by: str, **changed: Any) -> None:
        """Change parts of a message (``text``, ``blocks``, …); only what is given changes."""
        before = copy.deepcopy(message.payload(TEAM))
        if "blocks" in changed:
            changed["blocks"] = backfill(changed["blocks"])
        for name, value in changed.items():
            setattr(message, name, value)
        message.revision += 1
        ts = self.next_ts()
        if message.only_for is None:
            message.edited = {"user": by, "ts": ts}
            self.emit(
                self._message_event(
                    channel,
                    {"subtype": "message_changed", "message": message.payload(TEAM)},
                    ts,
                    previous_message=before,
                    ts=ts,
                    hidden=True,
                ),
                channel,
            )
        self.touch(f"channel {channel.id}")

    def delete(self, channel: Channel, message: Message) -> None:
        if message.only_for is not None:
            channel.ephemerals.remove(message)
        else:
            channel.messages.remove(message)
            channel.pins = [p for p in channel.pins if p.ts != message.ts]
            ts = self.next_ts()
            body: Json = {"subtype": "message_deleted", "deleted_ts": message.ts, "ts": ts, "hidden": True}
            self.emit(self._message_event(channel, body, ts, previous_message=message.payload(TEAM)), channel)
        self.touch(f"channel {channel.id}")

    def react(self, channel: Channel, message: Message, user: str, name: str, *, add: bool = True) -> None:
        users = message.reactions.setdefault(name, [])
        if add:
            users.append(user)
        else:
            users.remove(user)
            if not users:
                del message.reactions[name]
        self.touch(f"channel {channel.id}")
        self.emit(
            {
                "type": "reaction_added" if add else "reaction_removed",
                "user": user,
                "reaction": name,
                "item": {"type": "message", "channel": channel.id, "ts": message.ts},
                "item_user": message.user,
                "event_ts": self.next_ts(),
            },
            channel,
        )

    def pin(self, channel: Channel, message: Message, user: str, *, add: bool = True) -> None:
        if add:
            channel.pins.append(Pin(message.ts, user, int(time.time())))
        else:
            channel.pins = [p for p in channel.pins if p.ts != message.ts]
        self.touch(f"channel {channel.id}")
        self.emit(
            {
                "type": "pin_added" if add else "pin_removed",
                "user": user,
                "channel_id": channel.id,
                "item": {
                    "type": "message",
                    "created": int(time.time()),
                    "created_by": user,
                    "channel": channel.id,
                    "message": message.payload(TEAM),
                },
                "item_user": message.user,
                "pin_count": len(channel.pins),
                "has_pins": bool(channel.pins),
                "event_ts": self.next_ts(),
            },
            channel,
        )

    def bookmark(self, channel: Channel, title: str, link: str, emoji: str, kind: str) -> Bookmark:
        made = Bookmark(self.new_id("Bk"), channel.id, title, link, emoji, kind, int(time.time()))
        channel.bookmarks.append(made)
        self.touch(f"channel {channel.id}")
        return made

    def create(self, name: str, creator: str, *, private: bool = False) -> Channel:
        channel = Channel(
            self.new_id("C"),
            name,
            creator,
            int(time.time()),
            kind="private" if private else "public",
            members=[creator],
        )
        self.channels[channel.id] = channel
        self.touch("channels")
        if not private:
            about = {"id": channel.id, "name": name, "created": channel.created, "creator": creator}
            self.emit({"type": "channel_created", "channel": about, "event_ts": self.next_ts()}, None)
        return channel

    def direct(self, user: str) -> Channel:
        """The conversation between the app and one person, made when first needed."""
        for channel in self.channels.values():
            if channel.kind == "im" and user in channel.members:
                return channel
        channel = Channel(
            self.new_id("D"),
            f"dm-{user.lower()}",
            user,
            int(time.time()),
            kind="im",
            members=[user, self.bot.id],
        )
        self.channels[channel.id] = channel
        self.touch("channels")
        return channel

    def join(self, channel: Channel, user: str, inviter: str | None = None) -> None:
        if user in channel.members:
            return
        channel.members.append(user)
        self.touch("channels")
        more: Json = {"inviter": inviter} if inviter else {}
        self.post(channel, user, f"<@{user}> has joined the channel", subtype="channel_join", extra=more)
        self.emit(
            {
                "type": "member_joined_channel",
                "user": user,
                "channel": channel.id,
                "channel_type": "C" if channel.kind == "public" else "G",
                "team": TEAM,
                "event_ts": self.next_ts(),
                **more,
            },
            channel,
        )

    def leave(self, channel: Channel, user: str) -> None:
        if user not in channel.members:
            return
        self.post(channel, user, f"<@{user}> has left the channel", subtype="channel_leave")
        self.emit(
            {
                "type": "member_left_channel",
                "user": user,
                "channel": channel.id,
                "channel_type": "C" if channel.kind == "public" else "G",
                "team": TEAM,
                "event_ts": self.next_ts(),
            },
            channel,
        )
        channel.members.remove(user)
        self.touch("channels")

    def regroup(self, group: Group, users: list[str]) -> None:
        """Put other people into a user group."""
        before, group.users = group.users, list(dict.fromkeys(users))
        added = [user for user in group.users if user not in before]
        removed = [user for user in before if user not in group.users]
        was, group.updated = group.updated, int(time.time())
        self.touch("groups")
        self.emit(
            {
                "type": "subteam_members_changed",
                "subteam_id": group.id,
                "team_id": TEAM,
                "date_previous_update": was,
                "date_update": group.updated,
                "added_users": added,
                "added_users_count": str(len(added)),
                "removed_users": removed,
                "removed_users_count": str(len(removed)),
                "event_ts": self.next_ts(),
            },
            None,
        )

    def schedule(self, channel: Channel, at: int, text: str, **more: Any) -> Scheduled:
        """Post a message later, as the app."""
        made = Scheduled(self.new_id("Q"), channel.id, at, int(time.time()), text)

        def post() -> None:
            del self.scheduled[made.id]
            if not channel.archived and self.bot.id in channel.members:
                self.post(channel, self.bot.id, text, **more)

        made.timer = asyncio.get_running_loop().call_later(max(0.0, at - time.time()), post)
        self.scheduled[made.id] = made
        return made

    def unschedule(self, message: Scheduled) -> None:
        if message.timer is not None:
            message.timer.cancel()
        del self.scheduled[message.id]

    def close(self) -> None:
        """Forget what was to happen later."""
        for message in list(self.scheduled.values()):
            self.unschedule(message)

    def describe(self, channel: Channel, user: str, what: str, value: str) -> None:
        """Set the ``topic`` or the ``purpose``; Slack says so in the channel every time."""
        setattr(channel, what, Note(value, user, int(time.time())))
        said = f"set the channel {what}: {value}" if value else f"cleared channel {what}"
        self.post(channel, user, f"<@{user}> {said}", subtype=f"channel_{what}", extra={what: value})

    def rename(self, channel: Channel, user: str, name: str) -> None:
        old, channel.name = channel.name, name
        channel.former_names.insert(0, old)
        self.touch("channels")
        said = f'<@{user}> has renamed the channel from "{old}" to "{name}"'
        self.post(channel, user, said, subtype="channel_name", extra={"old_name": old, "name": name})
        about = {"id": channel.id, "name": name, "created": channel.created}
        kind = "channel_rename" if channel.kind == "public" else "group_rename"
        self.emit({"type": kind, "channel": about, "event_ts": self.next_ts()}, channel)

    def archive(self, channel: Channel, user: str, *, archived: bool = True) -> None:
        verb = "archive" if archived else "unarchive"
        said = "archived the channel" if archived else "un-archived the channel"
        self.post(channel, user, f"<@{user}> {said}", subtype=f"channel_{verb}")
        channel.archived = archived
        self.touch("channels")
        kind = f"{'channel' if channel.kind == 'public' else 'group'}_{verb}"
        self.emit(
            {
                "type": kind,
                "channel": channel.id,
                "user": user,
                "is_moved": 0,
                "event_ts": self.next_ts(),
            },
            channel,
        )

    def view_body(self, view: Json) -> Json:
        return copy.deepcopy(view) | {"blocks": backfill(view.get("blocks") or [])}

    def show(self, user: str, body: Json, *, above: View | None = None, trigger: str | None = None) -> View:
        """Open a modal: alone, or on top of the one it was opened from."""
        number = self.new_id("V")
        view = View(number, user, "modal", self.view_body(body), self._hash(), number, trigger=trigger)
        if above is not None:
            view.root, view.previous = above.root, above.id
        else:
            for old in self.stacks.get(user, []):
                old.open = False
            self.stacks[user] = []
        self.stacks.setdefault(user, []).append(view)
        self.views[view.id] = view
        self.touch(f"views {user}")
        return view

    def reshow(self, view: View, body: Json) -> None:
        """Replace what a view shows; what was typed into fields that stay is kept."""
        view.body = self.view_body(body)
        kept = {(b.get("block_id"), e.get("action_id")) for b, e in fields(view.blocks)}
        view.values = {
            block: {action: value for action, value in found.items() if (block, action) in kept}
            for block, found in view.values.items()
        }
        view.hash = self._hash()
        view.revision += 1
        self.touch(f"views {view.user}")

    def publish(self, user: str, body: Json) -> View:
        view = self.homes.get(user)
        if view is None:
            number = self.new_id("V")
            view = View(number, user, "home", self.view_body(body), self._hash(), number)
            self.homes[user] = self.views[number] = view
            self.touch(f"views {user}")
        else:
            self.reshow(view, body)
        return view

    def hide(self, view: View, *, all_of_them: bool = False) -> None:
        """Take a view off the screen, or every view below it too."""
        stack = self.stacks.get(view.user, [])
        gone = list(stack) if all_of_them else [view]
        for item in gone:
            item.open = False
        self.stacks[view.user] = [v for v in stack if v.open]
        self.touch(f"views {view.user}")

    def top(self, user: str) -> View | None:
        stack = self.stacks.get(user)
        return stack[-1] if stack else None

    def _hash(self) -> str:
        return f"{int(time.time())}.{secrets.token_hex(4)}"

    def share(self, channel: Channel, files: list[File], comment: str, **more: Any) -> Message:
        for file in files:
            if channel.id not in file.shared_in:
                file.shared_in.append(channel.id)
        shown = [f.payload(self.url) for f in files]
        message = self.post(channel, self.bot.id, comment, files=shown, **more)
        for file in files:
            self.emit(
                {
                    "type": "file_shared",
                    "file_id": file.id,
                    "user_id": self.bot.id,
                    "file": {"id": file.id},
                    "channel_id": channel.id,
                    "event_ts": self.next_ts(),
                },
                channel,
            )
        return message


def backfill(blocks: Iterable[Json]) -> list[Json]:
    """A copy in which every block and every interactive element has an id, as Slack gives them."""
    made = copy.deepcopy(list(blocks))
    for block in made:
        block.setdefault("block_id", secrets.token_urlsafe(4))
    for _, element in fields(made):
        element.setdefault("action_id", secrets.token_urlsafe(4))
    return made


def fields(blocks: Iterable[Json]) -> list[tuple[Json, Json]]:
    """Every element a person can use, with the block it stands in."""
    found: list[tuple[Json, Json]] = []
    for block in blocks:
        kind = block.get("type")
        if kind == "section":
            parts = [block.get("accessory")]
        elif kind in ("actions", "context_actions"):
            parts = block.get("elements") or []
        elif kind == "input":
            parts = [block.get("element")]
        else:
            continue
        found += [(block, part) for part in parts if isinstance(part, dict) and part.get("type") != "image"]
    return found
