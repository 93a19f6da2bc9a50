"""The app manifest asks for what the code uses, and for nothing else."""

import re
from pathlib import Path

import pytest

import bot.slack.client
from bot.kit.shelf import Shelf
from bot.slack import ids, manifest

# Which scopes each method needs, by Slack's reference; () is none: https://docs.slack.dev/reference/methods
NEEDS = {
    "apps_connections_open": (),
    "auth_test": (),
    "bookmarks_add": ("bookmarks:write",),
    "bookmarks_list": ("bookmarks:read",),
    "chat_getPermalink": (),
    "chat_postEphemeral": ("chat:write",),
    "chat_postMessage": ("chat:write",),
    "chat_update": ("chat:write",),
    "conversations_create": ("channels:manage", "groups:write"),
    "conversations_history": ("channels:history", "groups:history"),
    "conversations_info": ("channels:read", "groups:read"),
    "conversations_invite": ("channels:manage", "groups:write"),
    "conversations_join": ("channels:join",),
    "conversations_list": ("channels:read", "groups:read"),
    "conversations_replies": ("channels:history", "groups:history"),
    "conversations_setTopic": ("channels:manage", "groups:write"),
    "files_completeUploadExternal": ("files:write",),
    "files_getUploadURLExternal": ("files:write",),
    "pins_add": ("pins:write",),
    "users_conversations": ("channels:read", "groups:read"),
    "users_info": ("users:read",),
    "users_list": ("users:read",),
    "usergroups_list": ("usergroups:read",),
    "users_lookupByEmail": ("users:read.email",),
    "views_open": (),
    "views_push": (),
    "views_update": (),
}
EVENTS = {"app_mention": ("app_mentions:read",), "team_join": ("users:read",), "user_change": ("users:read",)}


@pytest.fixture
def made():
    return manifest.build(Shelf("bot.slack.commands", must_have=("USAGE", "run")).load())


def source(name: str) -> str:
    return (Path(bot.slack.client.__file__).parent / name).read_text()


def test_every_scope_is_needed_by_a_call_and_every_call_has_its_scopes(made):
    used = set(re.findall(r"self\._web\.(\w+)", source("client.py")))
    wanted = {scope for method in used for scope in NEEDS[method]}
    wanted |= {scope for event in manifest.EVENTS for scope in EVENTS[event]} | {"commands"}

    assert used == set(NEEDS)
    assert set(made["oauth_config"]["scopes"]["bot"]) == wanted
    assert set(manifest.SCOPES) == wanted


def test_every_event_and_shortcut_that_is_asked_for_is_listened_to_and_the_other_way_round(made):
    listeners = source("app.py") + source("inbox.py")
    heard = set(re.findall(r'app\.event\("(\w+)"\)', listeners)) | set(
        re.findall(r'event\["type"\] == "(\w+)"', listeners)
    )
    handled = {ids.DECLARE_SHORTCUT}
    actions = Shelf("bot.slack.actions", must_have=("BUTTONS",)).load()
    for name in actions:
        handled |= set(getattr(actions[name], "SHORTCUTS", {}))

    assert set(made["settings"]["event_subscriptions"]["bot_events"]) == heard
    assert {shortcut["callback_id"] for shortcut in made["features"]["shortcuts"]} == handled


def test_every_button_that_a_view_shows_has_somebody_behind_it():
    actions = Shelf("bot.slack.actions", must_have=("BUTTONS",)).load()
    handled = {ids.OPEN_LINK}
    forms = set()
    for name in actions:
        handled |= set(actions[name].BUTTONS) | set(getattr(actions[name], "OPENS", {}))
        handled |= set(getattr(actions[name], "SENDS", {}))
        forms |= set(getattr(actions[name], "FORMS", {}))
    named = {value for key, value in vars(ids).items() if key.isupper() and "." in str(value)}

    assert named == handled | forms


def test_the_manifest_is_within_slacks_limits(made):
    information, features = made["display_information"], made["features"]

    assert 1 <= len(information["name"]) <= 35
    assert len(information["description"]) <= 140
    assert re.fullmatch(r"#[0-9a-f]{6}", information["background_color"])
    assert re.fullmatch(r"[a-z0-9._-]{1,80}", features["bot_user"]["display_name"])
    assert len(features["shortcuts"]) <= 10
    for shortcut in features["shortcuts"]:
        assert len(shortcut["name"]) <= 24
        assert len(shortcut["description"]) <= 150
        assert len(shortcut["callback_id"]) <= 255
    for command in features["slash_commands"]:
        assert re.fullmatch(r"/[a-z][a-z0-9_-]{0,30}", command["command"])
        assert len(command["description"]) <= 2000
        assert len(command["usage_hint"]) <= 1000
        assert command["should_escape"] is True
    assert made["settings"]["socket_mode_enabled"]
    assert made["settings"]["interactivity"]["is_enabled"]
