"""The bot as `tocsin run` runs it, but for its pacing towards Slack: `python -m bench.bot MESSAGES_PER_SECOND`.

Slack grants one message a second and channel, and the bot keeps to that; fifty announcements would take a minute
in which nothing else is learned. With the environment's BENCH_PROFILE set, a profile is left in that file.
"""

import asyncio
import cProfile
import signal
import sys

from bot import app, cli
from bot.kit import log
from bot.settings import Settings, environment


async def serve(bot: app.Bot) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await bot.start()
    cli.settle()
    await stopped.wait()
    await bot.stop()


def main() -> None:
    given = environment()
    log.configure(json=True)
    sys.setswitchinterval(0.0005)
    bot = app.build(Settings(), given, tempo=app.Tempo(messages_per_second=float(sys.argv[1])))
    if where := given.get("BENCH_PROFILE"):
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, serve(bot))
        profile.dump_stats(where)
    else:
        asyncio.run(serve(bot))


if __name__ == "__main__":
    main()
