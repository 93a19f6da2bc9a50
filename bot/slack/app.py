"""Slack's side of the house, joined: Bolt, the socket, and the one place where their errors end."""

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from bot.incidents.chat import Announcement, Card, Cleared, Closing, Message, Notice, Unfurnished
from bot.kit.errors import PermanentError
from bot.runs.run import Shown
from bot.slack.client import SlackChat, person
from bot.slack.inbox import Inbox
from bot.slack.views import forms
from bot.slack.views import incident as incident_views
from bot.slack.views import run as run_views
from bot.slack.views.blocks import Block

log = structlog.get_logger()

ANY = re.compile(r"[\s\S]*")
VIEWS: dict[type, Any] = {
    Card: incident_views.card,
    Announcement: incident_views.announcement,
    Notice: incident_views.notice,
    Cleared: incident_views.cleared,
    Closing: incident_views.closing,
    Shown: run_views.run,
    Unfurnished: incident_views.failing,
}


def draw(message: Message) -> tuple[str, list[Block]]:
    """Any noun that has a view, as text and blocks."""
    view = VIEWS.get(type(message))
    if view is None:
        raise PermanentError(f"nobody has drawn a {type(message).__name__} yet")
    text, blocks = view(message)
    return text, blocks


def brief(record: logging.LogRecord) -> bool:
    """One line for each fault of the connection: the SDK adds a page of traceback to every try while Slack is away."""
    record.exc_info = record.exc_text = None
    return True


def bolt(web: AsyncWebClient, chat: SlackChat, inbox: Inbox, *, signing_secret: str | None) -> AsyncApp:
    """Bolt with one listener of each kind; what was meant is looked up in our own tables."""

    async def authorize(**_: Any) -> AuthorizeResult:
        me = chat.identity
        return AuthorizeResult(
            enterprise_id=None,
            team_id=me.get("team_id"),
            bot_token=web.token,
            bot_id=me.get("bot_id"),
            bot_user_id=me.get("user_id"),
        )

    speaker = logging.getLogger("bolt")
    speaker.addFilter(brief)
    app = AsyncApp(
        client=AsyncWebClient(base_url=web.base_url, session=web.session, retry_handlers=[]),
        authorize=authorize,
        signing_secret=signing_secret,
        logger=speaker,
        raise_error_for_unhandled_request=True,  # so that these end in `failed`, acknowledged, like everything else
    )

    @app.error
    async def failed(error: Exception, body: Mapping[str, Any], response: BoltResponse | None) -> BoltResponse | None:
        what = body.get("command") or body.get("type")
        if isinstance(error, BoltUnhandledRequestError):
            log.warning("slack.unknown", type=what)
            text = "This bot has no use for that."
        else:
            reference = secrets.token_hex(4)
            log.error("slack.broken", reference=reference, type=what, exc_info=error)
            text = f":warning: Something went wrong in the bot. The log has it under `{reference}`."
        if response is None:
            return None  # acknowledged before it broke
        if body.get("type") == "view_submission":
            answer = {"response_action": "update", "view": forms.trouble("Sorry", text)}
            return BoltResponse(status=200, body=answer)
        if "command" in body:
            return BoltResponse(status=200, body=text)
        inbox.excuse(body, text)
        return BoltResponse(status=200, body="")

    async def user_changed(ack: AsyncAck, event: Mapping[str, Any]) -> None:
        inbox.people.learn(person(event["user"], chat.identity.get("team_id")))
        await ack()

    app.command(ANY)(inbox.command)
    app.action(ANY)(inbox.action)
    app.view(ANY)(inbox.submission)
    app.shortcut(ANY)(inbox.shortcut)
    app.event("user_change")(user_changed)
    app.event("team_join")(user_changed)
    app.event(ANY)(inbox.event)
    return app


class Socket:
    """The Socket Mode connection: people reach the bot without it having a public address."""

    def __init__(self, app: AsyncApp, app_token: str, web: AsyncWebClient) -> None:
        """Join *app* to Slack with *app_token*."""
        self._handler = AsyncSocketModeHandler(app, app_token, web_client=web, ping_interval=3)

    async def start(self) -> None:
        """Connect; returns when connected."""
        await self._handler.connect_async()  # type: ignore[no-untyped-call]

    async def stop(self) -> None:
        """Close, so that Slack sends to other connections at once."""
        await self._handler.close_async()  # type: ignore[no-untyped-call]

    @property
    def connected(self) -> bool:
        """Whether requests can come in now."""
        session = getattr(self._handler.client, "current_session", None)
        return session is not None and not session.closed


async def answering(url: str, session: aiohttp.ClientSession) -> bool:
    """Whether something answers at Slack's address."""
    try:
        async with asyncio.timeout(3), session.post(url + "api.test") as answer:
            return answer.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False
