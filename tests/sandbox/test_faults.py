"""Things that go wrong on purpose."""

import time

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox.faults import FaultPlan


async def say(client) -> None:
    await client.chat_postMessage(channel="C02INCIDENTS", text="hello")


async def test_a_rate_limit_names_its_seconds_and_is_no_violation(client, sandbox):
    sandbox.faults.add("chat.*", "429", retry_after=7)

    with pytest.raises(SlackApiError) as caught:
        await say(client)
    await say(client)

    assert caught.value.response.headers["Retry-After"] == "7"
    assert [c.error for c in sandbox.calls] == ["ratelimited", None]
    sandbox.assert_no_violations()


async def test_a_server_error_has_no_json(client, sandbox):
    sandbox.faults.add("chat.postMessage", "500", times=2)

    for _ in range(2):
        with pytest.raises(SlackApiError) as caught:
            await say(client)
        assert caught.value.response.status_code == 500
    await say(client)


async def test_a_lost_reply_leaves_the_work_done(client, sandbox):
    sandbox.faults.add("chat.postMessage", "lost")

    with pytest.raises(aiohttp.ClientConnectionError):
        await say(client)

    assert len(sandbox.actor("alice").sees("#incidents")) == 1


async def test_an_error_code_can_be_chosen_and_calls_be_skipped(client, sandbox):
    sandbox.faults.add("chat.postMessage", "error", skip=1, error="restricted_action")

    await say(client)
    with pytest.raises(SlackApiError, match="restricted_action"):
        await say(client)


async def test_slowness_and_latency_take_time(client, sandbox):
    sandbox.faults.latency = 0.05
    sandbox.faults.add("chat.postMessage", "slow", seconds=0.1)
    started = time.monotonic()
    await say(client)

    assert time.monotonic() - started >= 0.15


async def test_a_plan_with_a_seed_strikes_the_same_calls_every_time():
    def struck() -> list[bool]:
        plan = FaultPlan(seed=7)
        plan.add("*", "500", times=100, chance=0.3)
        return [plan.strike("x") is not None for _ in range(50)]

    assert struck() == struck()
    assert 5 < sum(struck()) < 30
    with pytest.raises(ValueError, match="not a kind of fault"):
        FaultPlan().add("x", "explosion")


@pytest.mark.parametrize("same", [True, False])
async def test_envelopes_can_come_twice(app, sandbox, same):
    told = []

    @app.event("message")
    async def message(body, context):
        told.append(body["event_id"])

    sandbox.faults.duplicate(1, same_envelope=same)
    await sandbox.actor("alice").say("#incidents", "once")
    await sandbox.wait(lambda: len(told) == 2)

    assert len(set(told)) == 1
    sandbox.assert_no_violations()


async def test_after_killed_sockets_the_app_comes_back_and_waiting_events_arrive(app, sandbox):
    told = []

    @app.event("message")
    async def message(event):
        told.append(event["text"])

    assert sandbox.faults.kill_sockets() == 1
    await sandbox.wait(lambda: not sandbox.sockets.connections)
    await sandbox.actor("alice").say("#incidents", "anybody there?")
    await sandbox.connected()
    await sandbox.wait(lambda: told == ["anybody there?"])

    sandbox.assert_no_violations()


async def test_a_refresh_makes_the_app_take_a_new_connection(app, sandbox):
    before = sandbox.sockets.connections[0]
    assert sandbox.faults.send_disconnect is not None
    await sandbox.faults.send_disconnect("refresh_requested")

    await sandbox.wait(lambda: sandbox.sockets.connections and sandbox.sockets.connections[0] is not before)
    assert [c.method for c in sandbox.calls].count("apps.connections.open") == 2
