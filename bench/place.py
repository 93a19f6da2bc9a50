"""Where a measurement happens: a database, a Slack stand-in in this process, and the processes that are measured."""

import asyncio
import contextlib
import json
import os
import socket
import sqlite3
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from bench.bodies import TOKEN
from bench.floors import SECRET
from bot.kit.db import Database
from bot.kit.shelf import Shelf
from bot.migrations import migrate
from bot.sandbox.server import Sandbox
from bot.sandbox.state import Limits
from bot.slack import manifest
from tests.postgres import Postgres

ROOT = Path(__file__).parent.parent
FILES = {
    "tocsin.yaml": "version: 1\nannouncement_channel: incidents\npager: log\n",
    "connections.yaml": "version: 1\nconnections:\n  am: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n",
    "routes.yaml": (
        "version: 1\nroutes:\n  - name: all\n    match: ['service=~\".+\"']\n    open: always\n"
        "    group_by: [service]\n"
    ),
}
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu(pid: int) -> float:
    """CPU seconds that a process has used, with the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def rss(pid: int) -> float:
    """Memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


@dataclass
class Process:
    """One process that is measured. It is ended by whoever started it."""

    process: asyncio.subprocess.Process
    port: int
    began: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def cpu(self) -> float:
        return cpu(self.pid)

    async def stop(self) -> None:
        """Ask it to end; insist after a while."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), 20)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


@dataclass
class Place:
    """A database of one kind and everything around it."""

    folder: Path
    server: Postgres | None
    sandbox: Sandbox
    http: aiohttp.ClientSession
    url: str = ""
    started: list[Process] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "SQLite" if self.server is None else "Postgres"

    async def fresh(self) -> str:
        """A new, migrated database, which is the one in use from now on; its URL."""
        name = f"tocsin-{time.monotonic_ns()}.db"
        self.url = f"sqlite:///{self.folder / name}" if self.server is None else self.server.database()
        await asyncio.to_thread(migrate, Database(self.url))
        return self.url

    def spare(self) -> str:
        """An empty database for a floor."""
        if self.server is None:
            return f"sqlite:///{self.folder / f'floor-{time.monotonic_ns()}.db'}"
        return self.server.database()

    async def bot(self, *, mode: str = "http", pace: float | None = None, profile: Path | None = None) -> Process:
        """A bot on the database in use, ready: `tocsin run`, or with another *pace* towards Slack than its own."""
        port = free_port()
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("TOCSIN_")},
            "TOCSIN_DATABASE_URL": self.url,
            "TOCSIN_CONFIG": str(self.folder / "config"),
            "TOCSIN_SLACK_API_URL": self.sandbox.api_url,
            "TOCSIN_SLACK_BOT_TOKEN": self.sandbox.bot_token,
            "TOCSIN_SLACK_APP_TOKEN": self.sandbox.app_token,
            "TOCSIN_SLACK_SIGNING_SECRET": SECRET,
            "TOCSIN_SLACK_MODE": mode,
            "TOCSIN_PORT": str(port),
            "TOCSIN_LOG": "json",
            "ALERTS_TOKEN": TOKEN,
            **({"BENCH_PROFILE": str(profile)} if profile else {}),
        }
        command = ["-m", "bot", "run"] if pace is None else ["-m", "bench.bot", str(pace)]
        made = await self.start(command, port, environment)
        await self.answers(made, "/readyz")
        self.sandbox.request_url = f"http://127.0.0.1:{port}/slack/events" if mode == "http" else None
        await self.sandbox.connected()
        return made

    async def floor(self, mode: str, url: str = "-") -> Process:
        """A floor, answering."""
        port = free_port()
        made = await self.start(["-m", "bench.floors", mode, str(port), url], port, dict(os.environ))
        await self.answers(made, "/")
        return made

    async def start(self, command: list[str], port: int, environment: Mapping[str, str]) -> Process:
        began = time.monotonic()
        with (self.folder / "log").open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, env=environment, cwd=ROOT, stdout=out, stderr=out
            )
        made = Process(process, port, began)
        self.started.append(made)
        return made

    async def answers(self, process: Process, path: str, within: float = 60.0) -> None:
        """Wait until *process* answers: at /readyz with 200, elsewhere with anything."""
        until = time.monotonic() + within
        while time.monotonic() < until and process.process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with self.http.get(f"http://127.0.0.1:{process.port}{path}") as answer:
                    if path != "/readyz" or answer.status == 200:
                        return
            await asyncio.sleep(0.01)
        tail = (self.folder / "log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"it does not answer: {tail}")

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What stands in the database in use, asked without any code of the bot."""
        if self.server is None:
            with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30)) as db:
                return list(db.execute(statement))
        with psycopg.connect(self.url, options="-c search_path=public,dbos") as db:
            return list(db.execute(statement))  # type: ignore[call-overload]

    async def quiet(self, within: float) -> float:
        """Wait until the bot has nothing left to do; the seconds that took."""
        statement = "select count(*) from workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')"
        began = time.monotonic()
        calm = 0
        while calm < 3:
            if time.monotonic() > began + within:
                return float("nan")
            left = (await asyncio.to_thread(self.rows, statement))[0][0]
            calm = 0 if left else calm + 1
            await asyncio.sleep(0.1)
        return time.monotonic() - began - 0.3

    def database_cpu(self) -> float:
        """CPU seconds of the database server's processes; SQLite's are the bot's own."""
        if self.server is None:
            return 0.0
        main = int(Path(self.server.folder, "data", "postmaster.pid").read_text().split()[0])
        total = 0.0
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                if entry.name.isdigit():
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[1]) == main:
                        total += sum(map(int, fields[11:13])) / TICK
        return total + cpu(main)


@contextlib.asynccontextmanager
async def place(folder: Path, server: Postgres | None) -> AsyncIterator[Place]:
    """A place, and the end of everything that was started in it."""
    (folder / "config").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / "config" / name).write_text(text)
    app = json.loads(json.dumps(manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())))
    # The bot is measured and not Slack's patience with it: a thousand times as many calls are granted.
    async with (
        Sandbox(app, limits=Limits(rate_factor=1000), signing_secret=SECRET) as sandbox,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
    ):
        sandbox.workspace.calls = deque()  # all of them, not the newest 5,000
        made = Place(folder, server, sandbox, http)
        try:
            yield made
        finally:
            for process in reversed(made.started):
                await process.stop()
