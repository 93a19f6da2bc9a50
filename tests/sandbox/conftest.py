"""A sandbox for each test, and a small Bolt app that is connected to it."""

import contextlib
import logging
from collections.abc import AsyncIterator

import pytest
from slack_bolt.adapter.socket_mode.async_handler import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.server import Sandbox
from bot.sandbox.state import Limits
from tests.sandbox import reference

SCOPES = [
    *("commands", "chat:write", "chat:write.public", "channels:read", "channels:manage", "channels:join"),
    *("channels:history", "groups:read", "groups:write", "groups:history", "im:read", "im:write", "im:history"),
    *("pins:read", "pins:write", "bookmarks:read", "bookmarks:write", "reactions:read", "reactions:write"),
    *(
        "users:read",
        "users:read.email",
        "usergroups:read",
        "usergroups:write",
        "files:read",
        "files:write",
        "team:read",
    ),
    *("canvases:read", "canvases:write"),
]
EVENTS = [
    *("message.channels", "message.groups", "message.im", "app_mention", "member_joined_channel"),
    *("reaction_added", "pin_added", "file_shared", "app_home_opened", "channel_archive", "channel_rename"),
    "subteam_members_changed",
]
MANIFEST = {
    "display_information": {"name": "Tocsin"},
    "features": {
        "bot_user": {"display_name": "tocsin"},
        "app_home": {"home_tab_enabled": True},
        "slash_commands": [
            {"command": "/inc", "description": "Incidents", "usage_hint": "[help]", "should_escape": True},
            {"command": "/raw", "description": "Unescaped"},
        ],
        "shortcuts": [
            {"name": "Declare", "type": "global", "callback_id": "declare"},
            {"name": "Keep", "type": "message", "callback_id": "keep"},
        ],
    },
    "oauth_config": {"scopes": {"bot": SCOPES}},
    "settings": {"event_subscriptions": {"bot_events": EVENTS}},
}

# What is compared with Slack's published table needs that table, which is not ours to keep here.
collect_ignore = [] if reference.THERE else ["test_reference.py"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A running sandbox with short time limits, for an app in a hurry. Nothing in it is faked but Slack itself."""
    limits = Limits(ack_seconds=0.4, trigger_seconds=0.4, retry_seconds=(0.0, 0.05, 0.05), rate_factor=50)
    async with Sandbox(MANIFEST, limits=limits) as made:
        yield made
    if reference.THERE:
        assert reference.bad_answers(made.calls) == []


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncWebClient:
    """The real Slack SDK, pointed at the sandbox; it retries nothing."""
    return AsyncWebClient(sandbox.bot_token, base_url=sandbox.api_url, retry_handlers=[])


@pytest.fixture
async def app(sandbox: Sandbox, client: AsyncWebClient) -> AsyncIterator[AsyncApp]:
    """A real Bolt app, connected over Socket Mode; a test gives it listeners."""
    logger = logging.getLogger("bolt.under.test")
    logger.setLevel(logging.CRITICAL)
    bolt = AsyncApp(client=client, logger=logger)
    async with connected(bolt, sandbox):
        yield bolt


@contextlib.asynccontextmanager
async def connected(bolt: AsyncApp, sandbox: Sandbox) -> AsyncIterator[AsyncSocketModeHandler]:
    logger = logging.getLogger("socket.under.test")
    logger.setLevel(logging.CRITICAL)
    handler = AsyncSocketModeHandler(bolt, sandbox.app_token, logger=logger, ping_interval=0.2)
    await handler.connect_async()
    await sandbox.connected()
    try:
        yield handler
    finally:
        await handler.close_async()
