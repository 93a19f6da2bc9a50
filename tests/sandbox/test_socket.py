"""The life of a socket: tickets, pings, refreshes, and the ways in which it can be there and not be there."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import WSMsgType

from bot.sandbox.faults import FaultPlan
from tests.sandbox.shapes import actions, button


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ticket(http, sandbox) -> str:
    headers = {"Authorization": f"Bearer {sandbox.app_token}"}
    async with http.post(f"{sandbox.api_url}apps.connections.open", headers=headers) as response:
        return (await response.json())["url"]


@contextlib.asynccontextmanager
async def opened(http, sandbox, **options) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A connection that has been greeted. It answers pings only if it is read."""
    patience = aiohttp.ClientWSTimeout(ws_close=0.05)  # for an answer to its goodbye, which the deaf do not give
    async with http.ws_connect(await ticket(http, sandbox), timeout=patience, **options) as socket:
        assert (await socket.receive_json())["type"] == "hello"
        yield socket


async def refused(http, url: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(url)
    return caught.value.status


async def test_a_ticket_is_good_once_and_not_for_long(http, sandbox):
    url = await ticket(http, sandbox)
    async with http.ws_connect(url):
        assert await refused(http, url) == 403
    sandbox.limits.ticket_seconds = 0.0
    url = await ticket(http, sandbox)

    assert await refused(http, url) == 408
    assert await refused(http, url) == 403


async def test_connections_can_be_turned_away_for_a_while(http, sandbox):
    sandbox.sockets.refuse(2, status=429)
    first, second = await ticket(http, sandbox), await ticket(http, sandbox)

    assert [await refused(http, first), await refused(http, second)] == [429, 429]
    assert await refused(http, first) == 403  # the ticket is used up all the same
    async with opened(http, sandbox):
        assert len(sandbox.sockets.connections) == 1


async def test_the_eleventh_connection_is_shown_out(http, sandbox):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(opened(http, sandbox))
        async with http.ws_connect(await ticket(http, sandbox)) as extra:
            assert (await extra.receive_json())["reason"] == "too_many_websockets"
            assert (await extra.receive()).type is WSMsgType.CLOSE

        assert len(sandbox.sockets.connections) == 10


async def test_slack_pings_and_answers_pings(http, sandbox):
    sandbox.limits.ping_seconds = 0.05
    async with opened(http, sandbox, autoping=False) as socket:
        assert (await socket.receive(timeout=2)).type is WSMsgType.PING
        await socket.ping(b"there?")
        while (message := await socket.receive(timeout=2)).type is WSMsgType.PING:
            pass

        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"there?")


async def test_a_connection_is_warned_then_asked_to_leave_then_closed(http, sandbox):
    sandbox.sockets.refresh_seconds = 0.8
    sandbox.limits.warning_seconds = 0.2
    async with opened(http, sandbox) as socket:
        warned, asked = await socket.receive_json(timeout=2), await socket.receive_json(timeout=2)
        closed = await socket.receive(timeout=2)

        assert (warned["type"], warned["reason"]) == ("disconnect", "warning")
        assert (asked["type"], asked["reason"]) == ("disconnect", "refresh_requested")
        assert closed.type is WSMsgType.CLOSE


async def test_connections_made_together_do_not_end_together(http, sandbox):
    sandbox.sockets.refresh_seconds = 1.0
    async with opened(http, sandbox), opened(http, sandbox), opened(http, sandbox):
        lives = sorted(sandbox.sockets._lifetime(c) for c in sandbox.sockets.connections)

    assert lives[0] >= 0.5
    assert lives[-1] <= 1.0
    assert min(b - a for a, b in itertools.pairwise(lives)) > 0.1


async def test_a_connection_that_was_asked_to_leave_gets_nothing_new_while_there_is_another(http, sandbox):
    async with opened(http, sandbox) as old, opened(http, sandbox) as new:
        sandbox.sockets.connections[0].leaving = True
        for number in range(8):
            await sandbox.actor("alice").say("#incidents", f"hello {number}")
            envelope = await new.receive_json(timeout=2)
            await new.send_json({"envelope_id": envelope["envelope_id"]})

        with pytest.raises(TimeoutError):
            await old.receive(timeout=0.05)


async def test_a_real_app_lives_through_refreshes(app, sandbox):
    heard = []

    @app.command("/inc")
    async def inc(ack):
        heard.append(1)
        await ack()

    first = sandbox.sockets.connections[0]
    sandbox.sockets.refresh_seconds = 0.6
    assert sandbox.faults.kill_sockets() == 1
    await sandbox.wait(lambda: sandbox.sockets.connections and sandbox.sockets.connections[0] is not first)
    second = sandbox.sockets.connections[0]
    await sandbox.wait(lambda: sandbox.sockets.connections and second not in sandbox.sockets.connections, within=10)
    await sandbox.actor("alice").slash("/inc")

    assert heard == [1]
    sandbox.assert_no_violations()


async def test_on_a_dead_connection_nothing_comes_or_goes_and_it_stays_open(http, sandbox):
    sandbox.limits.ping_seconds = 0.02
    async with opened(http, sandbox, autoping=False) as socket:
        assert sandbox.sockets.deafen() == 1
        await socket.ping(b"there?")
        reply = await sandbox.actor("alice").slash("/inc")
        with contextlib.suppress(TimeoutError):
            while (message := await socket.receive(timeout=0.1)).type is WSMsgType.PING:
                pass  # sent before it went deaf
            raise AssertionError(f"something came: {message}")

        assert reply.error == "operation_timeout"
        assert not socket.closed
        assert len(sandbox.sockets.connections) == 1
    sandbox.assert_no_violations()  # the app never heard of the command
    await sandbox.wait(lambda: not sandbox.sockets.connections, what="end of the torn wire")


async def test_a_mute_connection_still_answers_pings_and_says_nothing(http, sandbox):
    async with opened(http, sandbox, autoping=False) as socket:
        assert sandbox.sockets.deafen(pongs=True) == 1
        sandbox.limits.ping_seconds = 0.02
        await sandbox.actor("alice").slash("/inc")
        await socket.ping(b"there?")

        assert (await socket.receive(timeout=2)).type is WSMsgType.PONG
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.1)


async def test_what_went_to_a_deaf_connection_is_told_again_on_a_sound_one(http, sandbox):
    async with opened(http, sandbox):
        sandbox.sockets.deafen()
        await sandbox.actor("alice").say("#incidents", "hello")
        async with opened(http, sandbox) as sound:
            sandbox.sockets.connections[0].leaving = True
            envelope = await sound.receive_json(timeout=2)
            await sound.send_json({"envelope_id": envelope["envelope_id"]})

    assert envelope["retry_attempt"] >= 1
    assert envelope["payload"]["event"]["text"] == "hello"


async def test_a_sandbox_with_deaf_connections_stops_at_once(http, sandbox):
    async with opened(http, sandbox):
        sandbox.sockets.deafen()
        started = time.monotonic()
        await sandbox.stop()

    assert time.monotonic() - started < 5


async def test_held_back_events_come_after_later_ones(app, sandbox):
    told = []

    @app.event("message")
    async def message(event):
        told.append(event["text"])

    sandbox.faults.reorder(1, after=2, within=30)
    for text, heard in (("one", 0), ("two", 1), ("three", 3), ("four", 4)):
        await sandbox.actor("alice").say("#incidents", text)
        await sandbox.wait(lambda heard=heard: len(told) == heard)

    assert told == ["two", "three", "one", "four"]
    sandbox.assert_no_violations()


async def test_a_held_back_event_does_not_wait_for_ever(app, sandbox):
    told = []

    @app.event("message")
    async def message(event):
        told.append(event["text"])

    sandbox.faults.reorder(1, within=0.1)
    await sandbox.actor("alice").say("#incidents", "one")
    await sandbox.wait(lambda: told == ["one"])


async def test_only_events_are_held_back_unless_everything_may_be(app, sandbox, client):
    told = []

    @app.event("message")
    async def message(event):
        told.append(event["text"])

    @app.action("press")
    async def press(ack):
        await ack()
        told.append("press")

    alice = sandbox.actor("alice")
    await client.chat_postMessage(channel="#incidents", text="card", blocks=[actions(button())])
    card = await sandbox.expect_message("#incidents", "card")
    await asyncio.sleep(0.1)
    sandbox.faults.reorder(1)
    await alice.click(card, "press")
    assert told == ["press"]
    sandbox.faults.clear()

    sandbox.faults.reorder(1, everything=True)
    click = asyncio.ensure_future(alice.click(card, "press"))
    await asyncio.sleep(0.05)
    await alice.say("#incidents", "said later")
    await click

    assert told == ["press", "said later", "press"]


async def test_the_order_of_what_is_held_back_comes_from_the_seed():
    async def order(seed: int) -> list[int]:
        plan = FaultPlan(seed=seed)
        plan.reorder(6, after=1)
        gone: list[int] = []

        async def send(number: int) -> None:
            await plan.turn("events_api")
            gone.append(number)

        held = [asyncio.ensure_future(send(number)) for number in range(6)]
        await asyncio.sleep(0)
        plan.passed()
        await asyncio.gather(*held)
        return gone

    assert await order(1) == await order(1)
    assert sorted(await order(1)) == list(range(6))
    assert len({tuple(await order(seed)) for seed in range(5)}) > 1
