"""Connections to Slack: several, replaced before they go, given up when they are dead without having been closed."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from bot.kit.errors import PermanentError, TemporaryError
from bot.slack.socket import Envelope, Patience, Sockets

QUICK = Patience(
    hello=1.0, ping=0.05, pong=0.3, silence=0.6, first=0.02, most=0.2, refused=0.3, settled=0.05, drain=1.0, linger=0.2
)


@dataclass
class Slack:
    """The other end of the sockets: hands out addresses, greets, and does to connections what a test wants."""

    server: TestServer | None = None
    issued: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    open: list[web.WebSocketResponse] = field(default_factory=list)
    most: int = 0
    least: int | None = None
    acks: list[tuple[int, dict]] = field(default_factory=list)
    refuse: int = 0
    greets: bool = True
    deaf: bool = False
    pings: float | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def address(self) -> str:
        ticket = f"ticket-{len(self.issued)}"
        self.issued.append(ticket)
        return str(self.server.make_url(f"/link?ticket={ticket}"))

    async def link(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query["ticket"]
        self.used.append(ticket)
        if self.refuse or self.used.count(ticket) > 1:
            self.refuse = max(0, self.refuse - 1)
            return web.Response(status=408)
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        if self.greets:
            await ws.send_json({"type": "hello", "num_connections": 1})
        number = len(self.used)
        self.open.append(ws)
        self._count()
        pinging = asyncio.ensure_future(self._ping(ws))
        try:
            async for message in ws:
                if message.type is WSMsgType.PING and not self.deaf:
                    await ws.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    self.acks.append((number, json.loads(message.data)))
                    self._count()
        finally:
            pinging.cancel()
            self.open.remove(ws)
            self._count()
        return ws

    async def _ping(self, ws: web.WebSocketResponse) -> None:
        while self.pings:
            with contextlib.suppress(ConnectionError):
                await ws.ping()
            await asyncio.sleep(self.pings)

    def _count(self) -> None:
        self.most = max(self.most, len(self.open))
        if self.least is not None:
            self.least = min(self.least, len(self.open))
        self.changed.set()

    async def until(self, fact) -> None:
        async with asyncio.timeout(10):
            while not fact():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.changed.wait(), 0.05)

    async def send(self, ws: web.WebSocketResponse, number: str, kind: str = "slash_commands", **more) -> None:
        await ws.send_json({"envelope_id": number, "type": kind, "payload": {"n": number}, **more})


@pytest.fixture
async def slack():
    made = Slack()
    app = web.Application()
    app.router.add_get("/link", made.link)
    made.server = TestServer(app)
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
async def connect(slack):
    """Makes and starts sockets to that Slack."""
    made: list[Sockets] = []
    async with aiohttp.ClientSession() as session:

        async def start(answer=None, *, count=2, patience=QUICK, address=None, lost=lambda reason: None) -> Sockets:
            async def same(envelope: Envelope):
                return {"text": envelope.id}

            sockets = Sockets(
                session, address or slack.address, answer or same, count=count, patience=patience, lost=lost
            )
            made.append(sockets)
            await sockets.start()
            return sockets

        yield start
        for sockets in made:
            await sockets.stop()


async def test_there_are_two_connections_each_with_an_address_of_its_own(slack, connect):
    sockets = await connect()
    await slack.until(lambda: sockets.open == 2)

    assert sorted(slack.used) == sorted(slack.issued) == ["ticket-0", "ticket-1"]
    assert sockets.health() is None
    assert sockets.silence() < 1


async def test_a_connection_that_is_asked_to_go_stays_until_its_replacement_stands(slack, connect):
    sockets = await connect()
    await slack.until(lambda: sockets.open == 2)
    slack.least = 2
    for reason in ("warning", "refresh_requested"):
        first, before = slack.open[0], len(slack.used)
        await asyncio.sleep(QUICK.settled)
        await first.send_json({"type": "disconnect", "reason": reason})
        await slack.send(first, f"late-{reason}")  # what still comes down the old one is answered on it
        await slack.until(lambda before=before: len(slack.used) > before)
        await slack.until(lambda first=first: first not in slack.open and sockets.open == 2)

    assert slack.least == 2
    assert [ack["envelope_id"] for _, ack in slack.acks] == ["late-warning", "late-refresh_requested"]
    assert len(set(slack.used)) == len(slack.used)


async def test_an_address_that_did_not_work_is_never_tried_again(slack, connect):
    slack.refuse = 5
    sockets = await connect()
    await slack.until(lambda: sockets.open == 2)

    assert len(slack.used) == len(set(slack.used)) == 7


async def test_a_connection_whose_pings_are_not_answered_is_replaced(slack, connect):
    lost = []
    sockets = await connect(lost=lost.append)
    await slack.until(lambda: sockets.open == 2)
    slack.deaf = True
    await slack.until(lambda: len(lost) >= 2)
    slack.deaf = False
    await slack.until(lambda: sockets.open == 2 and len(slack.open) == 2)

    assert set(lost) == {"no_pong"}
    assert len(set(slack.used)) == len(slack.used)


async def test_a_connection_on_which_slack_fell_silent_is_replaced_though_pings_are_answered(slack, connect):
    lost = []
    slack.pings = 0.05
    sockets = await connect(lost=lost.append)
    await slack.until(lambda: sockets.open == 2)
    await asyncio.sleep(0.2)
    slack.pings = None
    await slack.until(lambda: len(lost) >= 2)

    assert set(lost) == {"silent"}


async def test_where_slack_never_pings_its_silence_says_nothing(slack, connect):
    lost = []
    sockets = await connect(lost=lost.append)
    await slack.until(lambda: sockets.open == 2)
    await asyncio.sleep(QUICK.silence * 2)

    assert lost == []
    assert sockets.open == 2


async def test_a_connection_without_a_greeting_does_not_count(slack, connect):
    slack.greets = False
    starting = asyncio.ensure_future(connect(patience=Patience(**{**QUICK.__dict__, "hello": 0.2})))
    await slack.until(lambda: len(slack.used) >= 4)
    assert not starting.done()
    slack.greets = True
    sockets = await starting
    await slack.until(lambda: sockets.open == 2 and len(slack.open) == 2)


async def test_a_cut_wire_is_noticed_at_once_and_the_other_connection_goes_on(slack, connect):
    sockets = await connect()
    await slack.until(lambda: sockets.open == 2)
    first, second = slack.open
    first._req.transport.abort()
    await slack.until(lambda: len(slack.open) == 2 and first not in slack.open)

    assert second in slack.open
    assert len(slack.used) == 3


async def test_a_request_is_acknowledged_where_it_came_from_else_by_another_connection(slack, connect):
    ready = asyncio.Event()

    async def answer(envelope: Envelope):
        if envelope.payload["n"] == "slow":
            await ready.wait()
        return {"retry": envelope.retry, "reason": envelope.reason, "type": envelope.type}

    sockets = await connect(answer)
    await slack.until(lambda: sockets.open == 2)
    first, second = slack.open
    await slack.send(second, "quick", retry_attempt=2, retry_reason="timeout", kind="events_api")
    await slack.until(lambda: slack.acks)
    await slack.send(first, "slow")
    await asyncio.sleep(0.05)
    first._req.transport.abort()
    await slack.until(lambda: first not in slack.open)
    ready.set()
    await slack.until(lambda: len(slack.acks) == 2)

    (where, quick), (elsewhere, slow) = slack.acks
    assert quick == {
        "envelope_id": "quick",
        "payload": {"retry": 2, "reason": "timeout", "type": "events_api"},
    }
    assert slow["envelope_id"] == "slow"
    assert where == 2
    assert elsewhere != 1


async def test_an_envelope_that_comes_twice_at_once_is_handled_once_and_acknowledged_twice(slack, connect):
    handled = []

    async def answer(envelope: Envelope):
        handled.append(envelope.id)
        await asyncio.sleep(0.05)
        return {"text": str(len(handled))}

    sockets = await connect(answer)
    await slack.until(lambda: sockets.open == 2)
    for ws in slack.open:
        await slack.send(ws, "same")
    await slack.until(lambda: len(slack.acks) == 2)

    assert handled == ["same"]
    assert [ack["payload"] for _, ack in slack.acks] == [{"text": "1"}] * 2


async def test_stopping_acknowledges_what_was_taken(slack, connect):
    async def answer(envelope: Envelope):
        await asyncio.sleep(0.2)

    sockets = await connect(answer)
    await slack.until(lambda: sockets.open == 2)
    for number, ws in enumerate(slack.open):
        await slack.send(ws, f"under way {number}")
    await asyncio.sleep(0.05)
    await sockets.stop()
    await slack.until(lambda: not slack.open)

    assert [ack for _, ack in slack.acks] == [{"envelope_id": "under way 0"}, {"envelope_id": "under way 1"}]
    assert sockets.health() == "no socket to Slack is connected"


async def test_why_there_is_no_connection_is_told(slack):
    ready = asyncio.Event()

    async def address():
        if not ready.is_set():
            raise PermanentError("check the token")
        return await slack.address()

    async def answer(envelope: Envelope):
        return None

    async with aiohttp.ClientSession() as session:
        sockets = Sockets(session, address, answer, count=1, patience=QUICK)
        starting = asyncio.ensure_future(sockets.start())
        await slack.until(lambda: sockets.trouble)
        told = sockets.health()
        ready.set()
        await starting
        await sockets.stop()

    assert told == "no socket to Slack is connected (check the token)"
    assert sockets.trouble is None


async def test_a_reason_to_wait_is_respected(slack, connect):
    clock = asyncio.get_running_loop().time
    asked = []

    async def address():
        asked.append(clock())
        if len(asked) == 1:
            raise TemporaryError("Slack asked to wait", after=0.4)
        return await slack.address()

    await connect(count=1, address=address)

    assert asked[1] - asked[0] >= 0.4


async def test_noise_on_the_line_is_left_alone(slack, connect):
    sockets = await connect(count=1)
    ws = slack.open[0]
    for text in ("", "[]", "{}", '{"type": "hello"}', '{"type":"interactive","envelope_id":"x","payload":null}', "nan"):
        await ws.send_str(text)
    await slack.send(ws, "after")
    await slack.until(lambda: slack.acks)

    assert slack.acks[0][1]["envelope_id"] == "after"
    assert sockets.open == 1


async def test_what_comes_while_it_stops_is_left_to_others(slack, connect):
    handled = []

    async def answer(envelope: Envelope):
        handled.append(envelope.id)
        await asyncio.sleep(0.3)

    sockets = await connect(answer, count=1)
    ws = slack.open[0]
    await slack.send(ws, "before")
    await slack.until(lambda: handled)
    stopping = asyncio.ensure_future(sockets.stop())
    await asyncio.sleep(0.1)
    await slack.send(ws, "after")
    await stopping
    await slack.until(lambda: not slack.open)

    assert handled == ["before"]
    assert [ack["envelope_id"] for _, ack in slack.acks] == ["before"]


async def test_a_fault_nobody_foresaw_does_not_make_the_bot_deaf_for_good(slack, connect):
    faults = [KeyError("url"), ZeroDivisionError()]

    async def address():
        if faults:
            raise faults.pop()
        return await slack.address()

    with capture_logs() as logs:
        sockets = await connect(count=1, address=address)

    assert sockets.open == 1
    assert [entry["event"] for entry in logs].count("slack.socket_broken") == 2
