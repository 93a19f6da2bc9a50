"""Where a round is played: a Slack, one or two bots as processes, their database, and the ways to hurt each."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from bot.kit.db import Database
from bot.kit.shelf import Shelf
from bot.migrations import migrate
from bot.sandbox.server import Sandbox
from bot.sandbox.state import Limits
from bot.slack import manifest
from tests.postgres import Postgres

TOKEN = "a-token-of-the-tests-0123456789"
FILES = {
    "tocsin.yaml": "version: 1\nannouncement_channel: incidents\npager: log\nschedules: true\n",
    "connections.yaml": "version: 1\nconnections:\n  am: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n",
    "routes.yaml": (
        "version: 1\nroutes:\n  - name: all\n    match: ['service=~\".+\"']\n    open: always\n"
        "    group_by: [service]\n    runbooks: [ledger]\n"
    ),
    "runbooks/ledger.yaml": """\
version: 1
id: ledger
name: Write into the ledger
description: Appends a line, waits, looks, asks, appends another. For every other service it fails and takes both back.
owner: team-platform
risk: low
params:
  service: {type: string, source: alert.labels.service, default: none}
concurrency: {key: 'ledger:{{ params.service }}'}
timeout: 5m
steps:
  - id: first
    name: First line
    exec: {argv: [sh, -c, 'echo "$1 first" >> "$2"', x, '{{ run.id }}', LEDGER]}
    effect: write
    timeout: 20s
    rollback:
      - exec: {argv: [sh, -c, 'echo "$1 not first" >> "$2"', x, '{{ run.id }}', LEDGER]}
        timeout: 20s
  - id: pause
    name: A pause
    wait: {for: 300ms}
  - id: look
    name: A look
    exec: {argv: [wc, -l, LEDGER]}
    effect: read
    timeout: 20s
  - id: ask
    name: A question
    approval: {prompt: 'Write the second line of {{ run.id }}?', not_requester: false, expires: 10m}
  - id: second
    name: Second line
    exec: {argv: [sh, -c, 'echo "$1 second" >> "$2"', x, '{{ run.id }}', LEDGER]}
    effect: write
    timeout: 20s
    rollback:
      - exec: {argv: [sh, -c, 'echo "$1 not second" >> "$2"', x, '{{ run.id }}', LEDGER]}
        timeout: 20s
  - name: Is it one that goes well?
    assert: {that: 'params.service != "service-1" and params.service != "service-3"', message: It is not.}
always:
  - exec: {argv: [sh, -c, 'echo "$1 always" >> "$2"', x, '{{ run.id }}', LEDGER]}
    timeout: 20s
""",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Replica:
    """One bot. It is started again whenever it ends, until it is told to stay down."""

    environment: dict[str, str]
    port: int
    log: Path
    process: asyncio.subprocess.Process | None = None
    keeper: asyncio.Task[None] | None = None
    starts: int = 0
    deaths: int = 0
    die: bool = False
    wanted: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.keeper = asyncio.ensure_future(self._keep())

    async def _keep(self) -> None:
        while self.wanted:
            with self.log.open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.torture.process",
                    env={**self.environment, "TORTURE_DIE": "1" if self.die else "0"}, stdout=log, stderr=log,
                )  # fmt: skip
            self.starts += 1
            code = await self.process.wait()
            self.deaths += code == -9
            if code not in (0, -9):
                await asyncio.sleep(0.3)  # it refused to start, its database being away, say

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def stop(self) -> None:
        self.wanted = False
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
        if self.keeper is not None:
            try:
                await asyncio.wait_for(self.keeper, 20)
            except TimeoutError:
                self.kill()


@dataclass
class World:
    """Everything of one round."""

    folder: Path
    sandbox: Sandbox
    database_url: str
    server: Postgres | None
    replicas: list[Replica]
    http: aiohttp.ClientSession
    way: str
    ledger: Path
    faults: list[str] = field(default_factory=list)

    async def ready(self, within: float = 90.0) -> None:
        """Wait until every replica can do its work."""
        end = time.monotonic() + within
        for replica in self.replicas:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with self.http.get(f"{replica.url}/readyz") as answer:
                        if answer.status == 200:
                            break
                assert time.monotonic() < end, f"a bot does not come up; see {replica.log}"
                await asyncio.sleep(0.1)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """What stands in the database, asked without any code of the bot."""
        if self.server is None:
            with contextlib.closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"), timeout=30)) as db:
                return list(db.execute(statement))
        with psycopg.connect(self.database_url, options="-c search_path=public,dbos") as db:
            return list(db.execute(statement))  # type: ignore[call-overload]

    async def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send an alert as Alertmanager does: until somebody takes it."""
        text, tries = json.dumps(body), 0
        while True:
            replica = self.replicas[tries % len(self.replicas)]
            tries += 1
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
                async with self.http.post(f"{replica.url}/alerts/am", data=text, headers=headers) as answer:
                    if answer.status == 202:
                        told: dict[str, Any] = await answer.json()
                        return told
            assert tries < 600, "no bot takes alerts"
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    points: Path,
    *,
    server: Postgres | None,
    replicas: int,
    way: str,
    die: bool,
    deep: int,
    chance: float = 1.0,
    files: Mapping[str, str] | None = None,
    prepare: Callable[[Database], Awaitable[None]] | None = None,
):
    """A round's world, running. *files* are more of its configuration; *prepare* is given its database before it is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    ledger = folder / "ledger.txt"
    ledger.touch()
    for name, text in {**FILES, **(files or {})}.items():
        path = folder / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("LEDGER", str(ledger)))
    url = f"sqlite:///{folder / 'tocsin.db'}" if server is None else server.database()
    await asyncio.to_thread(migrate, Database(url))
    if prepare is not None:
        database = Database(url)
        await prepare(database)
        await database.close()
    app = json.loads(json.dumps(manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())))
    async with (
        Sandbox(app, limits=Limits(rate_factor=1000)) as sandbox,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=25)) as http,
    ):
        bots = []
        for number in range(replicas):
            port = free_port()
            environment = {
                **{k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_")},
                "TOCSIN_DATABASE_URL": url,
                "TOCSIN_CONFIG": str(folder / "config"),
                "TOCSIN_SLACK_API_URL": sandbox.api_url,
                "TOCSIN_SLACK_BOT_TOKEN": sandbox.bot_token,
                "TOCSIN_SLACK_APP_TOKEN": sandbox.app_token,
                "TOCSIN_SLACK_SIGNING_SECRET": sandbox.signing_secret,
                "TOCSIN_SLACK_MODE": way,
                "TOCSIN_PORT": str(port),
                "ALERTS_TOKEN": TOKEN,
                "TORTURE_POINTS": str(points),
                "TORTURE_DEEP": str(deep),
                "TORTURE_CHANCE": str(chance),
            }
            bots.append(Replica(environment, port, folder / f"bot-{number}.log", die=die))
        made = World(folder, sandbox, url, server, bots, http, way, ledger)
        try:
            for replica in bots:
                replica.start()
            if way == "http":
                sandbox.request_url = f"{bots[0].url}/slack/events"
            if not die:
                await made.ready()
            yield made
        finally:
            for replica in bots:
                await replica.stop()
