"""How long from the commit of an alert to the first request to Slack, and how busy an idle bot is, on both databases.

    .venv/bin/python bench/first_request.py [alerts] [idle seconds]

Bot and Slack stand-in share one process and one event loop here, so the stand-in's work is in the figures.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from sqlalchemy import event

sys.path.insert(0, str(Path(__file__).parent.parent))

from bot.app import Tempo, build
from bot.kit.db import Database
from bot.kit.log import configure
from bot.kit.shelf import Shelf
from bot.migrations import migrate
from bot.sandbox.demo import FILES
from bot.sandbox.server import Sandbox
from bot.sandbox.state import Limits
from bot.settings import Settings
from bot.slack import manifest
from tests.postgres import postgres
from tests.scenarios.conftest import alertmanager

TOKEN = "bench-token-0123456789"


def body(n: int) -> dict:
    return alertmanager(f"Bench{n}", service=f"service-{n}")


async def measure(url: str, alerts: int, idle: float) -> None:
    db = Database(url)
    await asyncio.to_thread(migrate, db)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            if name != "routes.yaml":
                Path(folder, name).write_text(text)
        made = manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())
        limits = Limits(rate_factor=1000)  # the bot is measured, not its patience
        async with (
            Sandbox(json.loads(json.dumps(made)), limits=limits) as sandbox,
            aiohttp.ClientSession() as http,
        ):
            settings = Settings(
                database_url=url,
                config=folder,
                slack_api_url=sandbox.api_url,
                slack_bot_token=sandbox.bot_token,
                slack_app_token=sandbox.app_token,
                port=0,
            )
            # No pacing: forty announcements at one a second would otherwise be sent while the idle bot is measured.
            bot = build(settings, {"DEMO_ALERT_TOKEN": TOKEN}, tempo=Tempo(messages_per_second=1000))
            await bot.start()
            await sandbox.connected()
            waits, furnished = [], []
            commits: list[float] = []
            event.listen(bot.db.engine.sync_engine, "commit", lambda _: commits.append(time.monotonic()))
            for n in range(alerts):
                commits.clear()
                before = len(sandbox.calls)
                await http.post(
                    f"http://127.0.0.1:{bot.port}/alerts/prometheus",
                    json=body(n),
                    headers={"Authorization": f"Bearer {TOKEN}"},
                )
                committed = commits[0]
                while not any(c.method == "conversations.create" for c in sandbox.calls[before:]):
                    await asyncio.sleep(0.0005)
                first = next(c for c in sandbox.calls[before:] if c.method == "conversations.create")
                waits.append((first.started - committed) * 1000)
                while not any(c.method == "pins.add" for c in sandbox.calls[before:]):
                    await asyncio.sleep(0.001)
                furnished.append((time.monotonic() - committed) * 1000)
                await asyncio.sleep(0.2)
            await asyncio.sleep(5)
            used, start = time.process_time(), time.monotonic()
            await asyncio.sleep(idle)
            busy = (time.process_time() - used) / (time.monotonic() - start)
            await bot.stop()
    waits.sort()
    furnished.sort()
    print(
        f"{'SQLite' if db.sqlite else 'Postgres':9} alert committed -> first Slack request: "
        f"median {statistics.median(waits):5.1f} ms  p95 {waits[int(len(waits) * 0.95)]:5.1f} ms  "
        f"(n={alerts})   -> card pinned: median {statistics.median(furnished):5.1f} ms   "
        f"idle {busy * 100:.1f} % of a core"
    )


def main() -> None:
    alerts = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    idle = float(sys.argv[2]) if len(sys.argv) > 2 else 15
    configure(json=True, level=50)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(f"sqlite:///{folder}/bench.db", alerts, idle))
    with postgres() as server:
        asyncio.run(measure(server.database(), alerts, idle))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
