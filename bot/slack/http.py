"""Slack's requests over HTTP, for those who give the bot a public address: signed, fresh, and answered in the same way.

One address takes everything: commands, buttons, forms, shortcuts and events.
https://docs.slack.dev/authentication/verifying-requests-from-slack/
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from slack_sdk.signature import SignatureVerifier

log = structlog.get_logger()

PATH = "/slack/events"
# Slack's own bound on a view is 250 kB; with what it repeats around it no request comes near this.
LIMIT = 2 * 1024 * 1024
SECONDS = 3.0

# Takes the body and the headers; gives status, headers and body.
Dispatch = Callable[[str, Mapping[str, str]], Awaitable[tuple[int, Mapping[str, str], str]]]


def routes(dispatch: Dispatch, signing_secret: str) -> list[web.RouteDef]:
    """The one route. What is not signed with *signing_secret*, or is older than five minutes, is refused unread."""
    verifier = SignatureVerifier(signing_secret)

    async def receive(request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(SECONDS):
                body = await _body(request)
        except TimeoutError:
            return web.Response(status=408, text="the body did not arrive in time")
        except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
            return web.Response(status=400, text="the body ended too early")
        if body is None:
            return web.Response(status=413, text="the body is too large")
        if why := _refusal(verifier, body, request.headers):
            # Somebody tries doors, or the secret is the wrong one: an operator must be able to see which.
            log.warning("slack.unsigned", reason=why, remote=request.remote)
            return web.Response(status=401, text="this request is not signed by Slack, or not lately")
        status, headers, answer = await dispatch(body.decode(), request.headers)
        kind = headers.get("content-type", "text/plain").partition(";")[0]
        return web.Response(status=status, text=answer, content_type=kind)

    return [web.post(PATH, receive)]


def _refusal(verifier: SignatureVerifier, body: bytes, headers: Mapping[str, str]) -> str | None:
    """Why a request cannot be trusted; over the raw bytes, since that is what was signed."""
    stamp, signature = headers.get("X-Slack-Request-Timestamp", ""), headers.get("X-Slack-Signature", "")
    if not re.fullmatch(r"[0-9]{1,12}", stamp) or not signature or not signature.isascii():
        return "no signature"
    if abs(verifier.clock.now() - int(stamp)) > 60 * 5:
        return "too old or from the future: check this machine's clock"
    try:
        good = verifier.is_valid(body, stamp, signature)
    except UnicodeDecodeError:
        return "not UTF-8, so not Slack's"
    return None if good else "wrong signature: check TOCSIN_SLACK_SIGNING_SECRET"


async def _body(request: web.Request) -> bytes | None:
    """The body, bounded while it is read; None when it is too large."""
    if (request.content_length or 0) > LIMIT:
        return None
    found = bytearray()
    async for piece in request.content.iter_any():
        found += piece
        if len(found) > LIMIT:
            return None
    return bytes(found)
