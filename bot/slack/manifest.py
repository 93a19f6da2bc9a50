"""The app manifest: what to paste into Slack when the app is made, and what the bot may therefore do."""

from typing import Any

from bot.kit.shelf import Shelf
from bot.slack import ids
from bot.slack.http import PATH

# Why each scope is asked for; docs/configure.md shows this table.
SCOPES = {
    "app_mentions:read": "to answer when somebody writes to the bot",
    "bookmarks:read": "to see whether the link is there already when Slack's answer was lost",
    "bookmarks:write": "to put the alert's link into the incident channel's bar",
    "channels:history": "to find its own message again when Slack's answer was lost",
    "channels:join": "to join the announcement channel",
    "channels:manage": "to open incident channels, set their topic and invite people",
    "channels:read": "to find the announcement channel and its own channels",
    "chat:write": "to post and update the card, announcements and runs",
    "commands": "for /incident, /inc and the shortcuts",
    "files:write": "to share post-mortem drafts",
    "groups:history": "the same as channels:history, in private incident channels",
    "groups:read": "the same as channels:read, for private ones",
    "groups:write": "to open private incident channels",
    "pins:write": "to pin the card",
    "usergroups:read": "to know who belongs to the groups that runbooks name",
    "users:read": "to know who is a guest, a bot or gone",
    "users:read.email": "to invite people who are named by e-mail in tocsin.yaml",
}
EVENTS = ("app_mention", "team_join", "user_change")
COMMANDS = ("/incident", "/inc")
SHORTCUTS = (
    {
        "name": "Declare an incident",
        "type": "global",
        "callback_id": ids.DECLARE_SHORTCUT,
        "description": "Open the form to declare an incident",
    },
    {
        "name": "Add to timeline",
        "type": "message",
        "callback_id": ids.NOTE_SHORTCUT,
        "description": "Put this message on the incident's timeline",
    },
)


def build(commands: Shelf, *, name: str = "Tocsin", url: str | None = None) -> dict[str, Any]:
    """The manifest for Socket Mode, which needs no public address; or for HTTP, with the bot at *url*."""
    hint = "|".join(name.replace("_", "-") for name in commands)
    where = {} if url is None else {"url": url.rstrip("/") + PATH}
    requests = {} if url is None else {"request_url": url.rstrip("/") + PATH}
    # Where Slack asks for the choices of a menu while somebody types.
    choices = {} if url is None else {"message_menu_options_url": url.rstrip("/") + PATH}
    return {
        "_metadata": {"major_version": 2, "minor_version": 1},
        "display_information": {
            "name": name,
            "description": "Declare, run and learn from incidents",
            "background_color": "#7a1f1f",
        },
        "features": {
            "bot_user": {"display_name": name.lower(), "always_online": True},
            "shortcuts": [dict(shortcut) for shortcut in SHORTCUTS],
            "slash_commands": [
                {
                    "command": command,
                    **where,
                    "description": "Declare and manage incidents",
                    "usage_hint": f"[{hint}]",
                    "should_escape": True,
                }
                for command in COMMANDS
            ],
        },
        "oauth_config": {"scopes": {"bot": sorted(SCOPES)}},
        "settings": {
            "event_subscriptions": {**requests, "bot_events": list(EVENTS)},
            "interactivity": {"is_enabled": True, **requests, **choices},
            "org_deploy_enabled": False,
            "socket_mode_enabled": url is None,
            "token_rotation_enabled": False,
        },
    }
