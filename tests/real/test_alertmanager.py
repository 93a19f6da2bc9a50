"""What real senders do: duplicates, retries, silence. One incident each time, and it is offered for resolution."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bot.alerts.model import AlertRow
from bot.app import Tempo
from bot.incidents import lifecycle
from bot.incidents.model import Incident
from bot.kit.db import Database
from bot.migrations import migrate
from bot.sandbox.state import Channel
from tests.conftest import KINDS
from tests.postgres import postgres
from tests.real.conftest import Play, bodies
from tests.real.monitoring import Monitoring
from tests.scenarios.conftest import QUICK, Stage


async def until(true: Callable[[], Any], what: str, within: float = 30.0) -> None:
    """Wait for something outside the bot."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.1)


async def opened(stage: Stage, service: str) -> Channel:
    """The channel of the one incident there is."""
    channel = await stage.sandbox.expect_channel("inc-1-*", within=30)
    await stage.sandbox.expect_message(channel.id, f"INC-1 · Work of {service} fails", within=15)
    return channel


async def everything(stage: Stage) -> tuple[list[Incident], list[AlertRow], list[Channel]]:
    async with stage.bot.db.read() as session:
        incidents = await lifecycle.listed(session, open_only=False)
        alerts = [row for found in incidents for row in await lifecycle.alerts(session, found.id)]
    channels = [found for found in stage.sandbox.workspace.channels.values() if found.name.startswith("inc-")]
    return incidents, alerts, channels


async def test_a_rule_that_fires_opens_an_incident_and_its_end_offers_to_resolve_it(
    watch: Monitoring, play: Play, database_url: str
):
    service = f"plain-{'sqlite' if database_url.startswith('sqlite') else 'postgres'}"
    async with play(database_url) as stage:
        watch.fires(service)
        channel = await opened(stage, service)
        watch.ends(service)
        offer = await stage.sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved", within=30)
        await stage.quiet()
        incidents, alerts, channels = await everything(stage)
        sent = await bodies(stage.bot.db)
        kinds = await stage.kinds()

    assert "Resolve" in offer.rendered
    assert [body["status"] for _, body in sent] == ["firing", "resolved"]
    assert (len(incidents), len(alerts), len(channels)) == (1, 1, 1)
    assert (alerts[0].state, alerts[0].severity, alerts[0].labels["service"]) == ("resolved", "critical", service)
    assert [kinds.count(kind) for kind in ("incident.opened", "alert.resolved", "alerts.cleared")] == [1, 1, 1]


async def test_two_alertmanagers_and_two_receivers_that_send_the_same_alert_make_one_incident(
    watch: Monitoring, play: Play, database_url: str
):
    service = f"twice-{'sqlite' if database_url.startswith('sqlite') else 'postgres'}"
    async with play(database_url) as stage:

        async def heard(status: str) -> list[str]:
            return sorted(name for name, body in await bodies(stage.bot.db) if body["status"] == status)

        watch.fires(service)
        channel = await opened(stage, service)
        while len(await heard("firing")) < 3:
            await asyncio.sleep(0.1)
        watch.ends(service)
        await stage.sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved", within=30)
        while len(await heard("resolved")) < 3:
            await asyncio.sleep(0.1)
        await stage.quiet()
        incidents, alerts, channels = await everything(stage)
        firing, resolved, kinds = await heard("firing"), await heard("resolved"), await stage.kinds()

    assert firing == resolved == ["prometheus", "prometheus", "second"]
    assert (len(incidents), len(channels)) == (1, 1)
    # One alert for each connection, since each has its own word on it; both belong to the one incident.
    assert sorted((row.connection, row.state, row.seen) for row in alerts) == [
        ("prometheus", "resolved", 2),
        ("second", "resolved", 1),
    ]
    assert [kinds.count(kind) for kind in ("incident.opened", "alert.attached", "alerts.cleared")] == [1, 1, 1]


@pytest.mark.parametrize("database_url", KINDS[-1:], indirect=True)
async def test_a_silenced_alert_that_ends_without_a_word_is_offered_for_resolution(
    watch: Monitoring, play: Play, database_url: str
):
    tempo: Tempo = replace(QUICK, sweep_seconds=1, stale_seconds=5)
    async with play(database_url, tempo) as stage:
        watch.fires("silenced")
        channel = await opened(stage, "silenced")
        await asyncio.to_thread(watch.silence, "silenced")
        watch.ends("silenced")
        await until(lambda: not watch.active("silenced"), "the alert has ended in the Alertmanager")
        offer = await stage.sandbox.expect_message(channel.id, "No alert of INC-1 fires any more", within=30)
        alice = stage.sandbox.actor("alice")
        await alice.join(channel)
        await alice.click(offer, "Resolve")
        result = await alice.fill(await alice.modal(), note="It had ended")
        await stage.quiet()
        incidents, alerts, channels = await everything(stage)
        sent = await bodies(stage.bot.db)
        kinds = await stage.kinds()

    assert "of 1 alert nothing was heard" in offer.rendered
    assert [body["status"] for _, body in sent] == ["firing"]
    assert (len(incidents), len(channels), [row.state for row in alerts]) == (1, 1, ["stale"])
    assert kinds.count("alerts.quiet") == 1
    assert "alerts.cleared" not in kinds
    assert result.error is None
    assert not incidents[0].is_open


@pytest.mark.parametrize("database_url", KINDS[:1], indirect=True)
async def test_what_fires_while_the_bot_is_down_is_one_incident_when_it_is_back(
    watch: Monitoring, play: Play, database_url: str
):
    async with play(database_url) as stage:
        await stage.bot.stop()
        before = await asyncio.to_thread(watch.failures)
        watch.fires("while-down")
        await until(lambda: watch.failures() >= before + 2, "the Alertmanager has tried again")
        await stage.restart()
        channel = await opened(stage, "while-down")
        watch.ends("while-down")
        await stage.sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved", within=30)
        await stage.quiet()
        incidents, alerts, channels = await everything(stage)

    assert (len(incidents), len(alerts), len(channels)) == (1, 1, 1)


async def test_what_fires_while_the_database_is_away_is_one_incident_when_it_is_back(watch: Monitoring, play: Play):
    with postgres(lasting=True) as server:
        url = server.database()
        await asyncio.to_thread(migrate, Database(url))
        async with play(url) as stage:
            await asyncio.to_thread(server.stop)
            before = await asyncio.to_thread(watch.failures)
            watch.fires("database-away")
            await until(lambda: watch.failures() >= before + 2, "the Alertmanager has tried again")
            await asyncio.to_thread(server.start)
            channel = await opened(stage, "database-away")
            watch.ends("database-away")
            await stage.sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved", within=30)
            await stage.quiet()
            incidents, alerts, channels = await everything(stage)

    assert (len(incidents), len(alerts), len(channels)) == (1, 1, 1)
