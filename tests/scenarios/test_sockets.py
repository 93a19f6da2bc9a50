"""Sockets come and go, some without a word; what people do meanwhile is acknowledged, all of it where it can be."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.sandbox.actor import Actor
from bot.sandbox.state import Channel
from bot.slack.socket import Patience
from tests.conftest import KINDS
from tests.scenarios.conftest import QUICK, Stage, staged

SOON = replace(
    QUICK, patience=Patience(hello=3, ping=0.2, pong=0.8, silence=2, first=0.02, most=0.2, settled=0.1, linger=1)
)


@pytest.fixture(params=KINDS[:1])
async def stage(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path, config_folder: Path, app_manifest: Any
) -> AsyncIterator[Stage]:
    """A bot with sockets that are watched closely."""
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    async with staged(f"sqlite:///{path}", config_folder, app_manifest, tempo=SOON, way="socket") as made:
        yield made


async def talk(alice: Actor, channel: Channel, seconds: float, pause: float = 0.02) -> list[Any]:
    """Say something again and again; how each was answered."""
    end, replies = asyncio.get_running_loop().time() + seconds, []
    while asyncio.get_running_loop().time() < end:
        replies.append(await alice.slash("/inc help", channel))
        await asyncio.sleep(pause)
    return replies


async def test_while_slack_refreshes_every_connection_again_and_again_nothing_is_missed(stage: Stage):
    alice, sockets = stage.sandbox.actor("alice"), stage.sandbox.sockets
    _, channel = await stage.declare()
    stage.sandbox.limits.warning_seconds = 0.3
    sockets.refresh_seconds = 0.8
    issued = len([c for c in stage.sandbox.calls if c.method == "apps.connections.open"])
    await sockets.disconnect("refresh_requested")  # from now on all are of the short-lived kind
    await asyncio.sleep(1.5)  # nobody closes the long-lived ones but the bot
    replies = await talk(alice, channel, 5)
    opened = len([c for c in stage.sandbox.calls if c.method == "apps.connections.open"]) - issued

    assert opened >= 6, "they were replaced again and again"
    assert len(replies) > 50
    assert [reply.error for reply in replies if not reply.ok] == []


@pytest.mark.parametrize("pongs", [False, True])
async def test_a_deaf_connection_is_replaced_by_itself(stage: Stage, pongs: bool):
    alice, sandbox = stage.sandbox.actor("alice"), stage.sandbox
    _, channel = await stage.declare()
    sandbox.limits.ping_seconds = 0.2
    await sandbox.sockets.disconnect("refresh_requested")  # so that there are connections that Slack pings often
    await asyncio.sleep(2)  # the old ones have gone, the new ones were pinged
    deaf = sandbox.sockets.deafen(pongs=pongs)
    await sandbox.wait(lambda: not any(c.deaf for c in sandbox.sockets.connections), 10, "the end of the deaf ones")
    await sandbox.connected(2)
    reply = await alice.slash("/inc help", channel)

    assert deaf == 2
    assert reply.ok


async def test_addresses_that_do_not_work_are_not_insisted_on(stage: Stage):
    alice, sandbox = stage.sandbox.actor("alice"), stage.sandbox
    _, channel = await stage.declare()
    sandbox.sockets.refuse(5)
    sandbox.sockets.kill()
    await sandbox.wait(lambda: not sandbox.sockets._refusals, 5, "five attempts")
    await sandbox.connected(2)
    ready = await stage.http.get(f"{stage.url}/readyz")

    assert (await alice.slash("/inc help", channel)).ok
    assert ready.status == 200


async def test_without_any_socket_the_bot_says_so_and_takes_alerts_all_the_same(stage: Stage):
    sandbox = stage.sandbox
    sandbox.sockets.refuse(10**6)
    sandbox.sockets.kill()
    await sandbox.wait(lambda: not sandbox.sockets.connections, 5, "the end of the sockets")
    async with asyncio.timeout(10):
        while (ready := await stage.http.get(f"{stage.url}/readyz")).status == 200:
            await asyncio.sleep(0.05)
    told = (await ready.json())["checks"]
    taken = await stage.alert({"title": "Queue is full", "labels": {"service": "orders"}}, connection="anything")
    sandbox.sockets._refusals.clear()
    await sandbox.connected(2)

    assert "no socket to Slack is connected" in told["slack"]
    assert taken.status == 202
