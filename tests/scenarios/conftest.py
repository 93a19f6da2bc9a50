"""A whole bot in this process, against the sandbox, over real HTTP and WebSockets, on a real database.

Nothing is faked but Slack itself, and that is a server which checks what it is sent.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from bot.app import Bot, Tempo, build
from bot.incidents.model import Incident, TimelineEvent
from bot.kit.shelf import Shelf
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from bot.slack import manifest

TOKEN = "a-token-of-the-tests-0123456789"
QUICK = Tempo(lease_seconds=3, poll_seconds=0.5, listen_seconds=0.1, drain_seconds=2, messages_per_second=50)

CONFIG = {
    "tocsin.yaml": "version: 1\nannouncement_channel: incidents\npager: log\n",
    "connections.yaml": (
        "version: 1\nconnections:\n"
        "  prometheus: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n"
        "  anything: {source: generic, token: {env: ALERTS_TOKEN}}\n"
    ),
}


@dataclass
class Stage:
    """What a story is played on."""

    sandbox: Sandbox
    bot: Bot
    http: aiohttp.ClientSession
    settings: Settings
    environment: dict[str, str]

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

    async def restart(self) -> None:
        """Stop the bot and start another on the same database."""
        await self.bot.stop()
        self.bot = build(self.settings, self.environment, tempo=QUICK)
        await self.bot.start()
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


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    for name, text in CONFIG.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def app_manifest() -> dict[str, Any]:
    return json.loads(json.dumps(manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())))


@pytest.fixture
async def stage(database_url: str, config_folder: Path, app_manifest: dict[str, Any]) -> AsyncIterator[Stage]:
    """A running bot with its Slack, and nothing wrong in Slack's eyes at the end."""
    async with Sandbox(app_manifest) as sandbox, aiohttp.ClientSession() as http:
        settings = Settings(
            database_url=database_url,
            config=config_folder,
            slack_api_url=sandbox.api_url,
            slack_bot_token=sandbox.bot_token,
            slack_app_token=sandbox.app_token,
            port=0,
        )
        environment = {"ALERTS_TOKEN": TOKEN}
        bot = build(settings, environment, tempo=QUICK)
        await bot.start()
        await sandbox.connected()
        made = Stage(sandbox, bot, http, settings, environment)
        yield made
        await made.bot.stop()
        sandbox.assert_no_violations()
