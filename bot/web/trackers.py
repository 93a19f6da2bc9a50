"""Where issue trackers say that somebody did something: `POST /trackers/{name}`, answered once it is stored.

A webhook is only a knock at the door: what counts is how the ticket stands when the tracker is asked about it. So an
old one, or one that comes before its time, does no harm.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import cast

import structlog
from aiohttp import web

from bot.catalog.tracking import Tracking
from bot.engine import Engine
from bot.incidents import tickets
from bot.incidents.tracker import Module
from bot.kit.clock import Clock
from bot.kit.db import unavailable
from bot.kit.errors import BotError, PermanentError
from bot.kit.shelf import Shelf
from bot.kit.text import clip, one_line
from bot.web.body import TooLarge, read

log = structlog.get_logger()

# Jira sends whole issues; GitHub ends at 25 MB, which no issue comes near.
LIMIT = 2 * 1024 * 1024
READ_SECONDS = 10.0


def routes(tracking: Tracking, shelf: Shelf, engine: Engine, clock: Clock) -> list[web.RouteDef]:
    """The route, for the trackers that have a webhook."""

    async def receive(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        access = tracking.accesses.get(name)
        if access is None or not access.entry.webhook:
            return _refused(404, "there is no such tracker, or it has no webhook in trackers.yaml")
        module = cast(Module, shelf[access.entry.kind])
        try:
            body = await read(request, limit=LIMIT, seconds=READ_SECONDS)
        except TimeoutError:
            return _refused(408, f"the body did not arrive within {READ_SECONDS:g} seconds")
        except TooLarge:
            return _refused(413, f"the body is larger than {LIMIT // 1024 // 1024} MiB")
        try:
            signs = await access.signs()
        except BotError as error:
            log.error("tracker.no_secret", tracker=name, reason=str(error))
            return _refused(503, "Tocsin lacks the secret of this webhook; its log says why", {"Retry-After": "60"})
        try:
            if not _genuine(signs, module, request.headers, body):
                log.warning("tracker.forged", tracker=name, remote=request.remote)
                return _refused(401, "this is not signed with a secret of this tracker")
            heard = module.heard(request.headers, _decoded(body))
        except PermanentError as error:
            reason = clip(one_line(str(error)), 300)
            log.warning("tracker.not_understood", tracker=name, reason=reason)
            return _refused(400, reason)
        if heard is None:
            return _taken("ignored")
        try:
            async with engine.transaction() as tx:
                outcome = await tickets.keep(tx, name, heard, hashlib.sha256(body).hexdigest(), now=clock())
        except Exception as error:
            # The edge: the sender must hear that it should try again, and a person must hear why.
            if not unavailable(error):
                log.exception("tracker.failed", tracker=name)
                return _refused(500, "Tocsin could not store this; its log says why")
            log.warning("tracker.not_stored", tracker=name, reason=type(error).__name__)
            return _refused(503, "the database does not answer", {"Retry-After": "5"})
        log.info("tracker.heard", tracker=name, what=heard.what, outcome=outcome or "unknown")
        return _taken(outcome or "unknown")

    return [web.post("/trackers/{name}", receive)]


def _genuine(signs: Sequence[str], module: Module, headers: Mapping[str, str], body: bytes) -> bool:
    """Whether it is signed with one of the secrets; every one is tried."""
    # Not any(): the time must not tell which one fitted.
    return sum([module.genuine(secret, headers, body) for secret in signs]) > 0


def _decoded(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PermanentError("the body is not JSON; choose application/json where the webhook is made") from None


def _taken(outcome: str) -> web.Response:
    return web.json_response({"outcome": outcome}, status=202)


def _refused(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": reason}, status=status, headers=dict(headers or {}))
