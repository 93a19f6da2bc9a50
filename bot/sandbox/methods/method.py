"""What a Web API method is: its arguments, its scopes, and the function that does it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.checks import Problem
from bot.sandbox.socket import Sockets
from bot.sandbox.state import Channel, Json, Message
from bot.sandbox.workspace import Workspace


class RefusedError(Exception):
    """The method says no, with Slack's error code and whatever else stands in the answer."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.error, self.more = error, more


@dataclass(frozen=True)
class Method:
    """One method as documented: https://docs.slack.dev/reference/methods. Tier 0 is no limit."""

    run: Callable[["Request"], Json]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    scopes: Mapping[str, str] | str = ""
    caller: str = "bot"
    tier: int = 0

    def scope(self, kind: str) -> str:
        """The scope for a conversation of that kind (public, private, im), or for everything."""
        return self.scopes if isinstance(self.scopes, str) else self.scopes.get(kind, "")


READ = {"public": "channels:read", "private": "groups:read", "im": "im:read"}
HISTORY = {"public": "channels:history", "private": "groups:history", "im": "im:history"}
MANAGE = {"public": "channels:manage", "private": "groups:write", "im": "im:write"}


@dataclass(frozen=True)
class Request:
    """One call: the arguments as they came, and what they are about."""

    name: str
    method: Method
    args: Json
    workspace: Workspace
    sockets: Sockets
    warnings: list[str] = field(default_factory=list)

    @property
    def me(self) -> str:
        return self.workspace.bot.id

    def text(self, key: str) -> str:
        value = self.args.get(key)
        return "" if value is None else str(value)

    def flag(self, key: str) -> bool:
        return self.args.get(key) in (True, 1, "1", "true", "True")

    def number(self, key: str, default: int) -> int:
        try:
            return int(self.args.get(key) or default)
        except (TypeError, ValueError):
            return default

    def ids(self, key: str) -> list[str]:
        """A list, or a string of values with commas between them."""
        value = self.args.get(key)
        if isinstance(value, list):
            return [str(v) for v in value]
        return [v.strip() for v in str(value or "").split(",") if v.strip()]

    def json(self, key: str, wrong: str = "invalid_arguments") -> Any:
        """An object or a list, as JSON or as text that holds JSON."""
        value = self.args.get(key)
        if isinstance(value, str) and value:
            try:
                return json.loads(value)
            except ValueError:
                raise RefusedError(wrong) from None
        return value if value != "" else None

    def allow(self, kind: str) -> None:
        """Go on only with the scope for that kind of conversation."""
        needed, granted = self.method.scope(kind), self.workspace.app.scopes
        if needed and needed not in granted:
            raise RefusedError("missing_scope", needed=needed, provided=",".join(granted))

    def channel(self, key: str = "channel", *, member: bool = False, active: bool = False) -> Channel:
        """The conversation it is about; the app must see it, and hold the scope for its kind."""
        channel = self.workspace.channels.get(self.text(key))
        if channel is None or not self.workspace.sees(channel, self.me):
            raise RefusedError("channel_not_found")
        self.allow(channel.kind)
        if member and self.me not in channel.members:
            raise RefusedError("not_in_channel")
        if active and channel.archived:
            raise RefusedError("is_archived")
        return channel

    def message(self, channel: Channel, key: str = "ts") -> Message:
        found = channel.message(self.text(key))
        if found is None:
            raise RefusedError("message_not_found")
        return found

    def page(self, items: list[Any], default: int = 100, most: int = 1000) -> tuple[list[Any], Json]:
        """One page of *items*, and the metadata that leads to the next."""
        limit = min(max(1, self.number("limit", default)), most)
        cursor = self.text("cursor")
        if cursor and not cursor.isdigit():
            raise RefusedError("invalid_cursor")
        start = int(cursor or 0)
        following = str(start + limit) if start + limit < len(items) else ""
        return items[start : start + limit], {"next_cursor": following}


def refuse(error: str, problems: list[Problem], root: str = "") -> None:
    """Refuse with the messages Slack gives: one for each problem, with its JSON pointer."""
    if problems:
        said = [str(Problem(root + p.pointer, p.message, p.code)) for p in problems]
        raise RefusedError(error, errors=said, response_metadata={"messages": [f"[ERROR] {text}" for text in said]})
