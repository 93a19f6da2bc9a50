"""Slack's side of the house, joined: where requests arrive, Bolt behind it, and the one place where errors end."""

import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_bolt.error import BoltUnhandledRequestError
from slack_bolt.request.async_request import AsyncBoltRequest
from slack_bolt.response import BoltResponse
from slack_sdk.web.async_client import AsyncWebClient

from bot.incidents.chat import (
    Announcement,
    Card,
    Cleared,
    Closing,
    Drafted,
    HandedIn,
    Message,
    Notice,
    Remark,
    Todo,
    Unfurnished,
)
from bot.incidents.shifts import Handover
from bot.kit.errors import PermanentError
from bot.runs.approval import Asked
from bot.runs.run import Shown
from bot.slack.client import SlackChat, person
from bot.slack.inbox import Inbox
from bot.slack.socket import Envelope
from bot.slack.views import approval as approval_views
from bot.slack.views import forms
from bot.slack.views import incident as incident_views
from bot.slack.views import oncall as oncall_views
from bot.slack.views import postmortem as postmortem_views
from bot.slack.views import run as run_views
from bot.slack.views import task as task_views
from bot.slack.views.blocks import Block

log = structlog.get_logger()

# Told of each acknowledgement: kind, transport, seconds since the request was read, whether it was one.
Acked = Callable[[str, str, float, bool], None]
KINDS = {
    "block_actions": "button",
    "block_suggestion": "options",
    "view_submission": "form",
    "view_closed": "form",
    "shortcut": "shortcut",
    "message_action": "shortcut",
    "event_callback": "event",
}

# In the answer to a request that broke, with what to look for in the log.
REFERENCE = "x-tocsin-reference"

ANY = re.compile(r"[\s\S]*")
VIEWS: dict[type, Any] = {
    Card: incident_views.card,
    Announcement: incident_views.announcement,
    Notice: incident_views.notice,
    Remark: incident_views.remark,
    Todo: task_views.todo,
    Drafted: postmortem_views.drafted,
    Cleared: incident_views.cleared,
    Closing: incident_views.closing,
    Shown: run_views.run,
    Asked: approval_views.approval,
    HandedIn: postmortem_views.handed_in,
    Unfurnished: incident_views.failing,
    Handover: oncall_views.handover,
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


def bolt(web: AsyncWebClient, chat: SlackChat, inbox: Inbox) -> AsyncApp:
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
        logger=speaker,
        # The answer is ready when the listener is; without this Bolt looks for it every 10 ms, and loses an
        # acknowledgement whose listener fails right after it.
        process_before_response=True,
        request_verification_enabled=False,  # `bot.slack.http` did it, over the raw bytes; a socket needs none
        raise_error_for_unhandled_request=True,  # so that these end in `failed`, acknowledged, like everything else
    )

    @app.error
    async def failed(error: Exception, body: Mapping[str, Any]) -> BoltResponse:
        what = body.get("command") or body.get("type")
        if isinstance(error, BoltUnhandledRequestError):
            log.warning("slack.unknown", type=what)
            reference, text = "", "This bot has no use for that."
        else:
            reference = secrets.token_hex(4)
            log.error("slack.broken", reference=reference, type=what, exc_info=error)
            text = f":warning: Something went wrong in the bot. The log has it under `{reference}`."
        # Bolt has not answered yet: what the listener acknowledged before it broke is replaced by this.
        mark: dict[str, str | Sequence[str]] = {REFERENCE: reference} if reference else {}
        if body.get("type") == "event_callback" and mark:
            return BoltResponse(status=500, body="", headers=mark)  # nobody is told of an event; Slack tries again
        if body.get("type") == "view_submission":
            answer = {"response_action": "update", "view": forms.trouble("Sorry", text)}
            return BoltResponse(status=200, body=answer, headers=mark)
        if "command" in body:
            return BoltResponse(status=200, body=text, headers=mark)
        inbox.excuse(body, text)
        return BoltResponse(status=200, body="", headers=mark)

    async def user_changed(ack: AsyncAck, event: Mapping[str, Any]) -> None:
        inbox.people.learn(person(event["user"], chat.identity.get("team_id")))
        await ack()

    app.command(ANY)(inbox.command)
    app.action(ANY)(inbox.action)
    app.view(ANY)(inbox.submission)
    app.options(ANY)(inbox.options)
    app.shortcut(ANY)(inbox.shortcut)
    app.event("user_change")(user_changed)
    app.event("team_join")(user_changed)
    app.event(ANY)(inbox.event)
    return app


@dataclass(frozen=True)
class Edge:
    """Where Slack's requests arrive, whichever way they come; each is acknowledged with what Bolt makes of it."""

    app: AsyncApp
    acked: Acked = lambda kind, transport, seconds, ok: None
    knocked: Callable[[], None] = lambda: None  # told of each request before anything is made of it

    async def envelope(self, envelope: Envelope) -> Mapping[str, Any] | None:
        """A request that came down a socket: the payload of its acknowledgement."""
        headers: dict[str, str | Sequence[str]] = {}
        if envelope.retry:
            headers = {"x-slack-retry-num": str(envelope.retry), "x-slack-retry-reason": envelope.reason}
        request = AsyncBoltRequest(mode="socket_mode", body=dict(envelope.payload), headers=headers)
        answer = await self._dispatch(request, "socket")
        if answer.status != 200:
            raise PermanentError(f"{envelope.type} could not be taken ({answer.status}), so it is not acknowledged")
        if not answer.body:
            return None
        if answer.headers.get("content-type", [""])[0].startswith("application/json"):
            payload: Mapping[str, Any] = json.loads(answer.body)
            return payload
        return {"text": answer.body}

    async def post(self, body: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], str]:
        """A request that came over HTTP: status, headers and body of the answer."""
        answer = await self._dispatch(AsyncBoltRequest(body=body, headers=dict(headers)), "http")
        return answer.status, answer.first_headers_without_set_cookie(), answer.body

    async def _dispatch(self, request: AsyncBoltRequest, transport: str) -> BoltResponse:
        began, good = time.perf_counter(), False
        try:
            self.knocked()
            answer = await self.app.async_dispatch(request)
            good = answer.status == 200 and REFERENCE not in answer.headers
        finally:
            self.acked(_kind(request.body), transport, time.perf_counter() - began, good)
        return answer


def _kind(body: Mapping[str, Any]) -> str:
    """What sort of request it is, in a word from a short list."""
    if "command" in body:
        return "command"
    return KINDS.get(str(body.get("type")), "other")
