"""The database goes away in the middle: what was answered 202 is kept, what was not is sent again, nothing doubles."""

import asyncio
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from bot.alerts.model import AlertRow, Delivery
from bot.incidents.model import Incident, TimelineEvent
from bot.kit.db import Database
from bot.migrations import migrate
from tests.postgres import postgres
from tests.scenarios.conftest import QUICK, TOKEN, Stage, alertmanager, staged


class Sender:
    """Sends as Alertmanager does: again after a 5xx or no answer, with growing pauses, until it is accepted."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.answers: Counter[int] = Counter()
        self.accepted: dict[str, str] = {}

    async def send(self, key: str, **how: Any) -> None:
        body = alertmanager(fingerprint=key, instance=key, **how)
        pause = 0.1
        while True:
            status, answer = await self._once(body)
            self.answers[status] += 1
            if status == 202:
                self.accepted[key] = answer["id"]
                return
            assert status in (0, 503), answer
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def _once(self, body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        try:
            async with self.stage.http.post(
                f"{self.stage.url}/alerts/prometheus",
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=25),
            ) as response:
                assert response.status == 202 or response.headers.get("Retry-After")
                return response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError):
            return 0, None


async def left(stage: Stage) -> tuple[list[AlertRow], list[Incident], list[TimelineEvent], set[str]]:
    async with stage.bot.db.read() as session:
        alerts = list(await session.scalars(sa.select(AlertRow)))
        incidents = list(await session.scalars(sa.select(Incident)))
        events = list(await session.scalars(sa.select(TimelineEvent)))
        deliveries = set(await session.scalars(sa.select(Delivery.id)))
    return alerts, incidents, events, deliveries


@pytest.mark.slow
async def test_a_postgres_that_is_killed_under_load_loses_and_doubles_nothing(
    config_folder: Path, app_manifest: dict[str, Any]
):
    with postgres(lasting=True) as server:
        url = server.database()
        await asyncio.to_thread(migrate, Database(url))
        async with staged(url, config_folder, app_manifest) as stage:
            sender = Sender(stage)

            async def line(number: int) -> None:
                for n in range(12):
                    await sender.send(f"web-{number}-{n}", service=f"s{n % 2}")
                    await asyncio.sleep(0.05)

            lines = asyncio.gather(*(line(number) for number in range(8)))
            for _ in range(2):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(server.stop)
                await asyncio.sleep(1)
                await asyncio.to_thread(server.start)
            await lines
            await stage.quiet(within=60)
            alerts, incidents, events, deliveries = await left(stage)
            channels = [found.name for found in stage.sandbox.workspace.channels.values() if found.name[:4] == "inc-"]

    assert sender.answers[503] > 0
    assert len(sender.accepted) == 96
    assert {row.fingerprint for row in alerts} == set(sender.accepted)
    assert set(sender.accepted.values()) <= deliveries
    assert len(alerts) == 96
    assert sorted(incident.number for incident in incidents) == [1, 2]
    assert len(channels) == 2
    told = Counter(event.data["fingerprint"] for event in events if event.kind in ("incident.opened", "alert.attached"))
    assert set(told.values()) == {1}
    assert len(told) == 96


async def test_a_sqlite_file_that_somebody_else_locks_loses_and_doubles_nothing(
    sqlite_template: Path, tmp_path: Path, config_folder: Path, app_manifest: dict[str, Any]
):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    tempo = replace(QUICK, answer_seconds=0.4)
    async with staged(f"sqlite:///{path}", config_folder, app_manifest, tempo=tempo) as stage:
        sender = Sender(stage)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        sending = asyncio.gather(*(sender.send(f"web-{n}") for n in range(20)))
        await asyncio.sleep(2)
        early = dict(sender.accepted)
        other.rollback()
        await sending
        other.close()
        await stage.quiet(within=30)
        alerts, incidents, _, deliveries = await left(stage)
        channels = [found.name for found in stage.sandbox.workspace.channels.values() if found.name[:4] == "inc-"]

    assert early == {}
    assert sender.answers[503] >= 20
    assert sorted(row.fingerprint for row in alerts) == sorted(sender.accepted)
    assert set(sender.accepted.values()) <= deliveries
    assert (len(incidents), len(channels)) == (1, 1)
