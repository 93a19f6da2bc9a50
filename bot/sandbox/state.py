"""What the pretended Slack remembers: people, channels, messages, views, files."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox import render

Json = dict[str, Any]


@dataclass
class Limits:
    """Slack's limits of time and number; tests shrink and stretch them."""

    ack_seconds: float = 3.0
    trigger_seconds: float = 3.0
    response_seconds: float = 1800.0
    response_uses: int = 5
    retry_seconds: tuple[float, ...] = (0.0, 60.0, 300.0)
    modal_depth: int = 3
    connections: int = 10
    ticket_seconds: float = 30.0
    ping_seconds: float = 5.0
    warning_seconds: float = 10.0
    # How many times faster than Slack the app may be: 1 is like Slack.
    rate_factor: float = 1.0


@dataclass(frozen=True)
class Violation:
    """Something the app did that Slack or its users would not forgive."""

    kind: str
    detail: str
    at: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True)
class Call:
    """One Web API call, as it came and as it was answered: how, and with which keys."""

    method: str
    args: Json
    started: float
    at: str
    ok: bool
    error: str | None
    token_kind: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delivered:
    """One thing the app was told, and how long it took to acknowledge it: for the traffic inspector and for tests."""

    kind: str
    what: str
    transport: str
    at: str
    ok: bool
    ms: float
    error: str | None = None
    retry: int = 0


@dataclass
class User:
    id: str
    name: str
    real_name: str
    email: str = ""
    title: str = ""
    is_bot: bool = False
    is_restricted: bool = False
    bot_id: str | None = None
    app_id: str | None = None

    def payload(self, team: str) -> Json:
        profile: Json = {
            "real_name": self.real_name,
            "display_name": self.name,
            "real_name_normalized": self.real_name,
            "display_name_normalized": self.name,
            "title": self.title,
            "status_text": "",
            "status_emoji": "",
            "image_48": "",
            "team": team,
        }
        if self.email:
            profile["email"] = self.email
        if self.is_bot:
            profile |= {"api_app_id": self.app_id, "bot_id": self.bot_id}
        return {
            "id": self.id,
            "team_id": team,
            "name": self.name,
            "real_name": self.real_name,
            "deleted": False,
            "tz": "Etc/UTC",
            "tz_label": "Coordinated Universal Time",
            "tz_offset": 0,
            "profile": profile,
            "is_admin": False,
            "is_owner": False,
            "is_primary_owner": False,
            "is_restricted": self.is_restricted,
            "is_ultra_restricted": False,
            "is_bot": self.is_bot,
            "is_app_user": False,
            "updated": 0,
        }


@dataclass
class Group:
    """A user group, such as @oncall."""

    id: str
    handle: str
    name: str
    users: list[str]
    updated: int = 0


@dataclass(frozen=True)
class Section:
    """A part of a canvas that can be found and changed by its id."""

    id: str
    text: str


@dataclass
class Canvas:
    """A document: the tab of a channel, or one that stands alone."""

    id: str
    title: str
    owner: str
    sections: list[Section]
    channel: str | None = None
    access: dict[str, str] = field(default_factory=dict)

    @property
    def markdown(self) -> str:
        return "\n\n".join(section.text for section in self.sections)


@dataclass
class Scheduled:
    """A message that Slack will post later."""

    id: str
    channel: str
    post_at: int
    created: int
    text: str
    timer: asyncio.TimerHandle | None = None


@dataclass
class File:
    id: str
    name: str
    title: str
    length: int
    user: str
    ticket: str
    created: int
    data: bytes | None = None
    shared_in: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return bool(self.title)

    def payload(self, url: str) -> Json:
        suffix = self.name.rpartition(".")[2].lower() if "." in self.name else "text"
        return {
            "id": self.id,
            "created": self.created,
            "timestamp": self.created,
            "name": self.name,
            "title": self.title or self.name,
            "mimetype": MIME.get(suffix, "application/octet-stream"),
            "filetype": suffix,
            "pretty_type": suffix.upper(),
            "user": self.user,
            "mode": "hosted",
            "size": self.length,
            "is_external": False,
            "is_public": bool(self.shared_in),
            "url_private": f"{url}/files/{self.id}",
            "url_private_download": f"{url}/files/{self.id}?download=1",
            "permalink": f"{url}/files/{self.id}",
            "channels": list(self.shared_in),
        }


MIME = {
    "md": "text/markdown",
    "txt": "text/plain",
    "text": "text/plain",
    "html": "text/html",
    "json": "application/json",
    "csv": "text/csv",
    "pdf": "application/pdf",
    "png": "image/png",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}


@dataclass
class Message:
    channel: str
    ts: str
    user: str
    text: str
    blocks: list[Json] = field(default_factory=list)
    attachments: list[Json] = field(default_factory=list)
    subtype: str | None = None
    thread_ts: str | None = None
    metadata: Json | None = None
    bot: Json | None = None
    edited: Json | None = None
    only_for: str | None = None
    client_msg_id: str | None = None
    reactions: dict[str, list[str]] = field(default_factory=dict)
    files: list[Json] = field(default_factory=list)
    extra: Json = field(default_factory=dict)
    revision: int = 0

    @property
    def rendered(self) -> str:
        """All the text a reader finds in it: the fallback text, then every block."""
        parts = [render.plain(self.text), *render.texts(self.blocks)]
        parts += [render.plain(str(a.get("text") or a.get("fallback") or "")) for a in self.attachments]
        return "\n".join(part for part in parts if part)

    def contains(self, wanted: str) -> bool:
        return wanted in self.rendered or wanted in self.text

    def payload(self, team: str, *, with_metadata: bool = True) -> Json:
        found: Json = {"type": "message", "user": self.user, "text": self.text, "ts": self.ts, "team": team}
        if self.subtype:
            found["subtype"] = self.subtype
        if self.client_msg_id:
            found["client_msg_id"] = self.client_msg_id
        if self.bot:
            found |= {"bot_id": self.bot["id"], "app_id": self.bot["app_id"], "bot_profile": self.bot}
        if self.blocks:
            found["blocks"] = self.blocks
        if self.attachments:
            found["attachments"] = self.attachments
        if self.thread_ts:
            found["thread_ts"] = self.thread_ts
        if self.metadata and with_metadata:
            found["metadata"] = self.metadata
        if self.edited:
            found["edited"] = self.edited
        if self.files:
            found["files"] = self.files
        if self.reactions:
            found["reactions"] = [
                {"name": name, "users": users, "count": len(users)} for name, users in self.reactions.items()
            ]
        return found | self.extra


@dataclass
class Pin:
    ts: str
    user: str
    created: int


@dataclass
class Bookmark:
    id: str
    channel: str
    title: str
    link: str
    emoji: str
    type: str
    created: int

    def payload(self, app: str) -> Json:
        return {
            "id": self.id,
            "channel_id": self.channel,
            "title": self.title,
            "link": self.link,
            "emoji": self.emoji,
            "icon_url": None,
            "type": self.type,
            "entity_id": None,
            "date_created": self.created,
            "date_updated": 0,
            "rank": "i",
            "last_updated_by_user_id": "",
            "last_updated_by_team_id": "",
            "shortcut_id": None,
            "app_id": app,
            "app_action_id": None,
        }


@dataclass
class Note:
    """A topic or a purpose: what it says, who set it, when."""

    value: str = ""
    creator: str = ""
    last_set: int = 0

    def payload(self) -> Json:
        return {"value": self.value, "creator": self.creator, "last_set": self.last_set}


@dataclass
class Channel:
    id: str
    name: str
    creator: str
    created: int
    kind: str = "public"
    members: list[str] = field(default_factory=list)
    topic: Note = field(default_factory=Note)
    purpose: Note = field(default_factory=Note)
    archived: bool = False
    general: bool = False
    former_names: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    ephemerals: list[Message] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)
    bookmarks: list[Bookmark] = field(default_factory=list)
    canvas: str | None = None

    @property
    def event_type(self) -> str:
        """What events call it: the ``channel_type`` of a message."""
        return {"public": "channel", "private": "group", "im": "im"}[self.kind]

    def message(self, ts: str) -> Message | None:
        return next((m for m in reversed(self.messages) if m.ts == ts), None)

    def payload(self, team: str, viewer: str, *, count: bool = True) -> Json:
        if self.kind == "im":
            other = next((u for u in self.members if u != viewer), viewer)
            return {
                "id": self.id,
                "created": self.created,
                "is_im": True,
                "is_org_shared": False,
                "is_archived": False,
                "context_team_id": team,
                "user": other,
                "is_open": True,
            }
        found: Json = {
            "id": self.id,
            "name": self.name,
            "name_normalized": self.name,
            "is_channel": self.kind == "public",
            "is_group": self.kind == "private",
            "is_im": False,
            "is_mpim": False,
            "is_private": self.kind == "private",
            "is_archived": self.archived,
            "is_general": self.general,
            "is_member": viewer in self.members,
            "is_shared": False,
            "is_ext_shared": False,
            "is_org_shared": False,
            "created": self.created,
            "creator": self.creator,
            "context_team_id": team,
            "topic": self.topic.payload(),
            "purpose": self.purpose.payload(),
            "previous_names": list(self.former_names),
            "unlinked": 0,
            "shared_team_ids": [team],
            "pending_shared": [],
            "pending_connected_team_ids": [],
        }
        if self.canvas:
            found["properties"] = {"canvas": {"file_id": self.canvas, "is_empty": False}}
        if count:
            found["num_members"] = len(self.members)
        return found


@dataclass
class View:
    id: str
    user: str
    kind: str
    body: Json
    hash: str
    root: str
    previous: str | None = None
    trigger: str | None = None
    values: dict[str, Json] = field(default_factory=dict)
    open: bool = True
    revision: int = 0

    @property
    def blocks(self) -> list[Json]:
        return list(self.body.get("blocks") or [])

    @property
    def callback_id(self) -> str:
        return str(self.body.get("callback_id") or "")

    @property
    def title(self) -> str:
        return str((self.body.get("title") or {}).get("text") or "")

    @property
    def rendered(self) -> str:
        return "\n".join(part for part in (self.title, *render.texts(self.blocks)) if part)

    def contains(self, wanted: str) -> bool:
        return wanted in self.rendered

    def payload(self, team: str, app: str, bot: str) -> Json:
        return {
            "id": self.id,
            "team_id": team,
            "type": self.kind,
            "blocks": self.blocks,
            "private_metadata": self.body.get("private_metadata") or "",
            "callback_id": self.callback_id,
            "external_id": self.body.get("external_id") or "",
            "state": {"values": self.values},
            "hash": self.hash,
            "title": self.body.get("title"),
            "close": self.body.get("close"),
            "submit": self.body.get("submit"),
            "clear_on_close": bool(self.body.get("clear_on_close")),
            "notify_on_close": bool(self.body.get("notify_on_close")),
            "submit_disabled": bool(self.body.get("submit_disabled")),
            "root_view_id": self.root,
            "previous_view_id": self.previous,
            "app_id": app,
            "app_installed_team_id": team,
            "bot_id": bot,
        }


@dataclass
class Trigger:
    """The short-lived right to open one view for one person."""

    id: str
    user: str
    made: float
    view: str | None = None
    used: bool = False


@dataclass
class Answer:
    """A ``response_url``: where it speaks, and what is left of it."""

    id: str
    user: str
    channel: str
    made: float
    origin: Message | None = None
    uses: int = 0


@dataclass(frozen=True)
class Notice:
    """What a person's screen says when something went wrong."""

    user: str
    text: str
    at: str


@dataclass(frozen=True)
class Command:
    name: str
    description: str
    hint: str
    escape: bool


@dataclass(frozen=True)
class Shortcut:
    name: str
    kind: str
    callback_id: str


@dataclass(frozen=True)
class App:
    """The installed app, as its manifest describes it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    commands: dict[str, Command]
    shortcuts: dict[str, Shortcut]
    events: frozenset[str]
    home: bool

    @classmethod
    def read(cls, manifest: Any) -> "App":
        """Take from a Slack app manifest what the sandbox goes by."""
        features = manifest.get("features") or {}
        settings = manifest.get("settings") or {}
        commands = [
            Command(
                c["command"],
                str(c.get("description") or ""),
                str(c.get("usage_hint") or ""),
                bool(c.get("should_escape")),
            )
            for c in features.get("slash_commands") or []
        ]
        shortcuts = [Shortcut(s["name"], s["type"], s["callback_id"]) for s in features.get("shortcuts") or []]
        name = (features.get("bot_user") or {}).get("display_name") or (manifest.get("display_information") or {}).get(
            "name"
        )
        return cls(
            id="A00SANDBOX",
            name=re.sub(r"[^a-z0-9._-]+", "-", str(name or "bot").lower()),
            scopes=tuple(((manifest.get("oauth_config") or {}).get("scopes") or {}).get("bot") or ()),
            commands={c.name: c for c in commands},
            shortcuts={s.callback_id: s for s in shortcuts},
            events=frozenset((settings.get("event_subscriptions") or {}).get("bot_events") or ()),
            home=bool((features.get("app_home") or {}).get("home_tab_enabled")),
        )
