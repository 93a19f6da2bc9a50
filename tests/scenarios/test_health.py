"""Seen from outside: the bot says how it is, and takes alerts while Slack is away."""

import socket

import aiohttp

from bot.app import build
from bot.sandbox.server import Sandbox
from bot.settings import Settings
from tests.scenarios.conftest import QUICK, TOKEN, Stage, alertmanager


async def test_a_bot_at_work_is_alive_and_ready(stage: Stage):
    alive = await stage.http.get(f"{stage.url}/healthz")
    ready = await stage.http.get(f"{stage.url}/readyz")

    assert alive.status == 200
    assert (ready.status, (await ready.json())["ready"]) == (200, True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_alerts_are_taken_while_slack_is_away_and_the_channel_follows(database_url, config_folder, app_manifest):
    port = free_port()
    settings = Settings(
        database_url=database_url,
        config=config_folder,
        slack_api_url=f"http://127.0.0.1:{port}/api/",
        slack_bot_token="xoxb-sandbox-known",
        slack_app_token="xapp-sandbox-known",
        port=0,
    )
    bot = build(settings, {"ALERTS_TOKEN": TOKEN}, tempo=QUICK)
    await bot.start()
    try:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
            url = f"http://127.0.0.1:{bot.port}"
            taken = await http.post(f"{url}/alerts/prometheus", json=alertmanager())
            alive = await http.get(f"{url}/healthz")
            ready = await http.get(f"{url}/readyz")
            told = await ready.json()
            tokens = {"bot_token": "xoxb-sandbox-known", "app_token": "xapp-sandbox-known"}
            async with Sandbox(app_manifest, port=port, **tokens) as sandbox:
                channel = await sandbox.expect_channel("inc-1-*", within=20)
                await sandbox.connected(within=20)
                await sandbox.expect_message(channel.id, "INC-1 ·", within=20)
                again = await http.get(f"{url}/readyz")
                await bot.stop()
                sandbox.assert_no_violations()
    finally:
        await bot.stop()

    assert taken.status == 202
    assert alive.status == 200
    assert ready.status == 503
    assert told["checks"]["database"] == "ok"
    assert "Slack" in told["checks"]["slack"]
    assert again.status == 200
