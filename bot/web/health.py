"""GET /healthz: the process lives. GET /readyz: it can do its work, or what is missing."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
from aiohttp import web

# Each answers None when all is well, else what is wrong, in words without secrets.
Check = Callable[[], Awaitable[str | None]]

PATIENCE = 2.0


def routes(checks: Mapping[str, Check], notes: Mapping[str, Check] | None = None) -> list[web.RouteDef]:
    """The two pages. *checks* are asked side by side, each for at most `PATIENCE` seconds.

    So are *notes*: what they say is worth knowing, and no reason to send this process nothing any more.
    """
    asides = notes or {}

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def ready(_: web.Request) -> web.Response:
        asked = {**checks, **asides}
        answers = dict(zip(asked, await asyncio.gather(*(_ask(check) for check in asked.values())), strict=True))
        told = {name: answer or "ok" for name, answer in answers.items()}
        fine = not any(answers[name] for name in checks)
        return web.json_response({"ready": fine, "checks": told}, status=200 if fine else 503)

    return [web.get("/healthz", alive), web.get("/readyz", ready)]


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        return f"no answer within {PATIENCE:g} s"
    except (sa.exc.SQLAlchemyError, OSError) as error:
        return f"not known ({type(error).__name__})"
