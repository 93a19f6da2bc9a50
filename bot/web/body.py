"""A body as it was sent, since it is signed as it was sent; no more of it than is allowed, and in time."""

import asyncio

from aiohttp import web

from bot.kit.errors import PermanentError


class TooLarge(PermanentError):  # noqa: N818 - it reads as what happened
    """More than anything that such a sender sends."""


async def read(request: web.Request, *, limit: int, seconds: float) -> bytes:
    """The whole body. TooLarge, or TimeoutError if it does not arrive."""
    if (request.content_length or 0) > limit:
        raise TooLarge("the body is too large")
    found = bytearray()
    async with asyncio.timeout(seconds):
        async for piece in request.content.iter_any():
            found += piece
            if len(found) > limit:
                raise TooLarge("the body is too large")
    return bytes(found)
