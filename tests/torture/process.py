"""The bot as a process of its own that can be told to die at its fault points: `python -m tests.torture.process`."""

import asyncio
import os
import signal
from pathlib import Path

from bot import app
from bot.kit import log
from bot.settings import Settings, environment
from bot.slack.socket import Patience
from tests.torture.points import Points

TEMPO = app.Tempo(
    lease_seconds=3,
    poll_seconds=0.5,
    listen_seconds=0.1,
    drain_seconds=3,
    messages_per_second=50,
    retry_seconds=0.05,
    schedule_seconds=0.5,
    expire_seconds=1,
    edit_seconds=0.2,
    patience=Patience(hello=3, ping=1, pong=3, silence=8, first=0.05, most=0.5, settled=0.2),
)


async def serve(bot: app.Bot) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await bot.start()
    await stopped.wait()
    await bot.stop()


def main() -> None:
    log.configure(json=True)
    given = environment()
    points = Points(
        Path(given["TORTURE_POINTS"]),
        deep=int(given.get("TORTURE_DEEP", "1")),
        die=given.get("TORTURE_DIE") == "1",
        chance=float(given.get("TORTURE_CHANCE", "1")),
    )
    points.commits()
    points.acknowledgements()
    bot = app.build(Settings(), given, tempo=TEMPO, traces=[points.trace()])
    points.port(bot.pager, "page", f"{type(bot.pager).__module__}.page")
    points.ports(bot.shelves.steps, "run")
    asyncio.run(serve(bot))
    os._exit(0)


if __name__ == "__main__":
    main()
