"""A whole bot in this process, against the sandbox, over real HTTP and WebSockets, on a real database.

Nothing is faked but Slack itself, and that is a server which checks what it is sent.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import sqlalchemy as sa

from bot.app import Bot, Tempo, build
from bot.incidents.model import Incident, TimelineEvent
from bot.kit.clock import Clock, utc_now
from bot.kit.shelf import Shelf
from bot.sandbox.server import Sandbox
from bot.sandbox.state import Channel, Limits
from bot.settings import Settings
from bot.slack import manifest
from tests.sandbox import reference

TOKEN = "a-token-of-the-tests-0123456789"
QUICK = Tempo(
    lease_seconds=3,
    poll_seconds=0.5,
    listen_seconds=0.1,
    drain_seconds=2,
    messages_per_second=50,
    retry_seconds=0.05,
    expire_seconds=0.5,
    edit_seconds=0.2,
    change_seconds=0.1,
    fresh_seconds=0,
)

CONFIG = {
    "tocsin.yaml": "version: 1\nannouncement_channel: incidents\npager: log\n",
    "connections.yaml": (
        "version: 1\nconnections:\n"
        "  prometheus: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n"
        "  anything: {source: generic, token: {env: ALERTS_TOKEN}}\n"
    ),
}


# Every story is played over both ways to Slack and on both databases, at the price of two: one way on each database.
# With TOCSIN_TEST_SWAP set it is the other way on each; CI plays both.
WAYS = {"sqlite": "socket", "postgresql": "http"}
if os.environ.get("TOCSIN_TEST_SWAP"):
    WAYS = {"sqlite": "http", "postgresql": "socket"}


@dataclass
class Stage:
    """What a story is played on."""

    sandbox: Sandbox
    bot: Bot
    http: aiohttp.ClientSession
    settings: Settings
    environment: dict[str, str]
    tempo: Tempo = QUICK
    clock: Clock = utc_now

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.bot.port}"

    async def alert(self, body: Any, connection: str = "prometheus", **options: Any) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {TOKEN}", **options.pop("headers", {})}
        return await self.http.post(f"{self.url}/alerts/{connection}", json=body, headers=headers, **options)

    async def timeline(self) -> list[TimelineEvent]:
        async with self.bot.db.read() as session:
            order = sa.text("at, recorded_at, id")
            return list(await session.scalars(sa.select(TimelineEvent).order_by(order)))

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.timeline()]

    async def incident(self, number: int = 1) -> Incident | None:
        async with self.bot.db.read() as session:
            return await session.scalar(sa.select(Incident).where(Incident.number == number))

    async def latest(self) -> Incident:
        """The newest incident."""
        async with self.bot.db.read() as session:
            found = await session.scalar(sa.select(Incident).order_by(sa.desc(sa.column("number"))).limit(1))
        assert found is not None
        return found

    async def declare(self, who: str = "alice", title: str = "Checkout is slow") -> tuple[Incident, Channel]:
        """An incident with its channel, furnished, and *who* in it."""
        reply = await self.sandbox.actor(who).slash(f"/inc new {title}", "#general")
        assert reply.ok, reply
        await self.quiet()
        incident = await self.latest()
        assert incident.channel, "it has no channel"
        return incident, self.sandbox.workspace.channels[incident.channel]

    async def quiet(self, still: float = 0.25, within: float = 15.0) -> None:
        """Wait until the bot has had nothing to do and nothing to say for *still* seconds."""
        # Looks are counted, not seconds: on a busy machine a quarter of a second may pass between two of them.
        deadline, calm, seen = time.monotonic() + within, 0, -1
        while calm < still / 0.02:
            assert time.monotonic() < deadline, "the bot does not come to rest"
            calls = len(self.sandbox.workspace.calls)
            resting = calls == seen and await self.idle()
            calm, seen = calm + 1 if resting else 0, calls
            await asyncio.sleep(0.02)

    async def idle(self) -> bool:
        statement = "select count(*) from {} where status in ('ENQUEUED', 'PENDING')"
        table = "workflow_status" if self.bot.db.sqlite else "dbos.workflow_status"
        async with self.bot.db.read() as session:
            return not await session.scalar(sa.text(statement.format(table)))

    async def restart(self) -> None:
        """Stop the bot and start another on the same database."""
        await self.bot.stop()
        self.bot = build(self.settings, self.environment, tempo=self.tempo, clock=self.clock)
        await self.bot.start()
        await self.reach()

    async def reach(self) -> None:
        """Wait until Slack reaches the bot, by socket or at its address."""
        if self.settings.slack_mode == "http":
            self.sandbox.request_url = f"{self.url}/slack/events"
        await self.sandbox.connected()


def alertmanager(
    name: str = "CheckoutErrorRate",
    *,
    status: str = "firing",
    service: str = "checkout",
    severity: str = "critical",
    instance: str = "web-1.example.com",
    fingerprint: str | None = None,
    starts_at: str = "2026-11-20T03:10:00Z",
    ends_at: str = "0001-01-01T00:00:00Z",
    summary: str = "5xx of checkout above 5 %",
) -> dict[str, Any]:
    labels = {"alertname": name, "service": service, "severity": severity, "instance": instance}
    item = {
        "status": status,
        "labels": labels,
        "annotations": {"summary": summary, "runbook_url": "https://runbooks.example.com/errors"},
        "startsAt": starts_at,
        "endsAt": ends_at,
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=errors",
    }
    if fingerprint:
        item["fingerprint"] = fingerprint
    return {
        "version": "4",
        "groupKey": '{}:{alertname="CheckoutErrorRate"}',
        "status": status,
        "receiver": "tocsin",
        "groupLabels": {"alertname": name},
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example.com",
        "alerts": [item],
    }


def app_of_the_bot() -> dict[str, Any]:
    return json.loads(json.dumps(manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())))


@contextlib.asynccontextmanager
async def staged(
    database_url: str,
    folder: Path,
    app: dict[str, Any],
    *,
    port: int = 0,
    tempo: Tempo = QUICK,
    way: str | None = None,
    clock: Clock = utc_now,
) -> AsyncIterator[Stage]:
    """A running bot with its Slack; at the end nothing was wrong in Slack's eyes."""
    # Stories are told faster than people live: more calls a minute than Slack would grant.
    async with Sandbox(app, limits=Limits(rate_factor=50)) as sandbox, aiohttp.ClientSession() as http:
        settings = Settings(
            database_url=database_url,
            config=folder,
            slack_api_url=sandbox.api_url,
            slack_bot_token=sandbox.bot_token,
            slack_app_token=sandbox.app_token,
            slack_signing_secret=sandbox.signing_secret,
            slack_mode=way or WAYS[database_url.partition(":")[0]],
            port=port,
        )
        environment = {"ALERTS_TOKEN": TOKEN}
        bot = build(settings, environment, tempo=tempo, clock=clock)
        await bot.start()
        made = Stage(sandbox, bot, http, settings, environment, tempo, clock)
        await made.reach()
        try:
            yield made
        finally:
            await made.bot.stop()
        sandbox.assert_no_violations()
        if reference.THERE:
            assert reference.bad_calls(sandbox.calls) == []
            assert reference.bad_answers(sandbox.calls) == []


def write_config(folder: Path, **more: str) -> Path:
    """The usual configuration, with other or further files: ``tocsin=…`` is ``tocsin.yaml``."""
    folder.mkdir(exist_ok=True)
    for name, text in {**CONFIG, **{f"{name}.yaml": text for name, text in more.items()}}.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config")


@pytest.fixture
def app_manifest() -> dict[str, Any]:
    return app_of_the_bot()


@pytest.fixture
async def stage(database_url: str, config_folder: Path, app_manifest: dict[str, Any]) -> AsyncIterator[Stage]:
    """A running bot with its Slack, for one test."""
    async with staged(database_url, config_folder, app_manifest) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(
    request: pytest.FixtureRequest, shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One running bot for all tests of a module, with the files of the module's `FILES` in its configuration."""
    folder = write_config(tmp_path_factory.mktemp("config"), **getattr(request.module, "FILES", {}))
    async with staged(shared_database_url, folder, app_of_the_bot()) as made:
        yield made
