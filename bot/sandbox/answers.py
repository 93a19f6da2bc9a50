"""The ``response_url``: five answers in half an hour, wherever a command or a click came from.

https://docs.slack.dev/interactivity/handling-user-interaction/#message_responses
"""

import time
from typing import Any

from aiohttp import web

from bot.sandbox import blocks as kit
from bot.sandbox import review
from bot.sandbox.state import Answer, Json
from bot.sandbox.workspace import Workspace

KNOWN = {
    *("text", "blocks", "attachments", "response_type", "replace_original", "delete_original"),
    *("thread_ts", "unfurl_links", "unfurl_media", "metadata", "markdown_text", "mrkdwn"),
}


class Answers:
    """Answers ``/respond/<id>``."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    async def handle(self, http: web.Request) -> web.StreamResponse:
        answer = self.workspace.answers.get(http.match_info["number"])
        limits = self.workspace.limits
        if answer is None:
            return self._no("a response_url nobody gave out", "invalid_url")
        if time.monotonic() - answer.made > limits.response_seconds:
            return self._no("a response_url that has expired", "expired_url")
        if answer.uses >= limits.response_uses:
            return self._no(f"a response_url for more than {limits.response_uses} answers", "used_url")
        try:
            body: Any = await http.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            return self._no("a response_url without a JSON body", "invalid_payload")
        answer.uses += 1
        if error := self._speak(answer, body):
            return web.json_response({"ok": False, "error": error}, status=400)
        return web.Response(text="ok")

    def _no(self, what: str, error: str) -> web.Response:
        self.workspace.violation("response_url", f"used {what}")
        return web.json_response({"ok": False, "error": error}, status=404)

    def _speak(self, answer: Answer, body: Json) -> str | None:
        channel = self.workspace.channels[answer.channel]
        for name in body:
            if name not in KNOWN:
                self.workspace.violation("unknown_argument", f"response_url takes no {str(name)[:40]!r}")
        origin = answer.origin
        there = origin is not None and origin in (*channel.messages, *channel.ephemerals)
        if body.get("delete_original") in (True, "true"):
            if origin is not None and there:
                self.workspace.delete(channel, origin)
            return None
        text, blocks = str(body.get("text") or ""), body.get("blocks") or []
        if not isinstance(blocks, list):
            self.workspace.violation("invalid_blocks_format", "response_url: blocks must be a list")
            return "invalid_blocks_format"
        if not text and not blocks:
            self.workspace.violation("no_text", "response_url: a message needs text or blocks")
            return "no_text"
        if review.message(self.workspace, "response_url", text, blocks):
            return "invalid_blocks"
        if kit.text_length(blocks) > 4 * kit.CUMULATIVE:
            return "msg_too_long"
        if body.get("replace_original") in (True, "true") and origin is not None and there:
            self.workspace.edit(channel, origin, self.workspace.bot.id, text=text, blocks=blocks)
        elif body.get("response_type") == "in_channel":
            thread = body.get("thread_ts")
            self.workspace.post(channel, self.workspace.bot.id, text, blocks=blocks, thread_ts=thread)
        else:
            self.workspace.whisper(channel, answer.user, text, blocks=blocks)
        return None
