"""Where pagers tell what people do there: `POST /pagers/{name}`, signed, kept, then answered."""

import asyncio
from collections.abc import Mapping

import sqlalchemy as sa
import structlog
from aiohttp import web

from bot.alerts.source import decode
from bot.incidents.hearing import Hearing
from bot.incidents.pager import Hears, Pager
from bot.kit.db import unavailable
from bot.kit.errors import PermanentError, UserError
from bot.kit.text import clip, one_line
from bot.web.body import TooLarge, read

log = structlog.get_logger()

# PagerDuty's events have 256 kB at most, and it waits 5 s: https://developer.pagerduty.com/docs/webhooks-behavior
LIMIT, SECONDS = 1024 * 1024, 4.0


def routes(pagers: Mapping[str, Pager], hearing: Hearing) -> list[web.RouteDef]:
    """The route, for the pagers among *pagers* that tell anything."""
    hears = {name: pager for name, pager in pagers.items() if isinstance(pager, Hears)}

    async def receive(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        pager = hears.get(name)
        if pager is None:
            return _no(404, "there is no such pager")
        try:
            body = await read(request, limit=LIMIT, seconds=SECONDS)
        except TimeoutError:
            return _no(408, "the body did not arrive in time")
        except TooLarge as error:
            return _no(413, str(error))
        if not pager.genuine(request.headers, body):
            hearing.engine.metrics.told(name, "forged")
            log.warning("pager.forged", pager=name, remote=request.remote)
            return _no(401, "no signature fits; is it signed with a secret of webhook_secrets?")
        try:
            word = pager.name_of(decode(body))
        except (UserError, PermanentError) as error:
            reason = clip(one_line(str(error)), 300)
            log.warning("pager.not_understood", pager=name, reason=reason)
            return _no(400, reason)
        try:
            async with asyncio.timeout(SECONDS):
                word_id, new = await hearing.store(name, word, body)
        except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            if not isinstance(error, TimeoutError) and not unavailable(error):
                raise
            log.warning("pager.not_stored", pager=name, reason=type(error).__name__)
            return web.json_response(
                {"error": "the database does not answer"}, status=503, headers={"Retry-After": "5"}
            )
        return web.json_response({"id": word_id, "outcome": "stored" if new else "repeat"}, status=202)

    return [web.post("/pagers/{name}", receive)]


def _no(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)
