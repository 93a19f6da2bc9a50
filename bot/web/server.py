"""The web server around all routes: how long a connection may be silent, and who unpacks what it sends."""

from aiohttp import web

IDLE_SECONDS = 75.0  # without a whole request head, from the first byte or since the last answer
LINGER_SECONDS = 5.0  # for the rest of a body that was refused before its end, so that the sender reads the answer
STOP_SECONDS = 5.0  # for requests under way when the bot stops


def runner(
    app: web.Application,
    *,
    idle_seconds: float = IDLE_SECONDS,
    linger_seconds: float = LINGER_SECONDS,
    stop_seconds: float = STOP_SECONDS,
) -> web.AppRunner:
    """A server of *app*, not listening yet.

    A connection that sends nothing, dribbles the head of a request or idles between two is closed after
    *idle_seconds*. Bodies come as they were sent, since whoever reads them bounds what they unpack to.
    """
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        keepalive_timeout=idle_seconds,
        lingering_time=linger_seconds,
        shutdown_timeout=stop_seconds,
    )
