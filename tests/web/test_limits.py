"""What one sender sends badly costs that sender an answer, and the others nothing."""

import asyncio
import contextlib
import gzip
import json
import shutil
import tracemalloc

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from bot.alerts import source
from bot.alerts.model import AlertRow, Delivery
from bot.alerts.routing import Routes
from bot.engine import Engine
from bot.incidents.intake import Intake
from bot.kit.db import Database
from bot.web import server, webhooks
from bot.web.webhooks import Bounds
from tests.web.conftest import ALERT, NOW, SOURCES, TOKEN, connection, post, rows

SOON = 0.3  # seconds for a body


class Wire:
    """A connection to the door, byte by byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, length, *more, token=TOKEN):
        lines = ["POST /alerts/cron HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", f"Content-Length: {length}"]
        await self.send("\r\n".join([*lines, *more, "", ""]).encode())

    async def status(self):
        return int((await asyncio.wait_for(self.reader.readline(), 10)).split()[1])

    async def ended(self, within):
        """Whether the other side closes."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(), within)
        return True


@pytest.fixture
async def database(sqlite_template, tmp_path):
    """Of one kind: none of this comes as far as the database, or it is the same for both."""
    shutil.copy(sqlite_template, tmp_path / "tocsin.db")
    db = Database(f"sqlite:///{tmp_path / 'tocsin.db'}")
    yield db
    await db.close()


@pytest.fixture
async def listen(database):
    """Serves the door exactly as the bot does, with other bounds; returns a way to connect and the base address."""
    runners, wires, engine = [], [], Engine(database)
    intake = Intake(engine, lambda event: [], Routes, lambda: NOW)

    async def start(bounds=None, **how):
        app = web.Application(client_max_size=2**25)
        app.add_routes(webhooks.routes({"cron": connection()}, SOURCES, intake, lambda: NOW, bounds=bounds))
        runners.append(server.runner(app, **{"linger_seconds": 0.1, **how}))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        port = runners[-1].addresses[0][1]

        async def connect():
            wires.append(Wire(*await asyncio.open_connection("127.0.0.1", port)))
            return wires[-1]

        return connect, f"http://127.0.0.1:{port}/alerts/cron"

    yield start
    for wire in wires:
        wire.writer.close()
    for runner in runners:
        await runner.cleanup()
    await engine.close()


async def good(url, key="good"):
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json={**ALERT, "dedup_key": key}, headers={"Authorization": f"Bearer {TOKEN}"}) as response,
    ):
        return response.status


async def test_a_body_that_stops_midway_is_given_up(listen, database):
    connect, _ = await listen(Bounds(read_seconds=SOON))
    wire = await connect()
    await wire.head(1000)
    await wire.send(b'{"title": ')
    with capture_logs() as logged:
        assert await wire.status() == 408

    assert [entry["event"] for entry in logged] == ["alerts.too_slow"]
    assert await rows(database, Delivery) == []


async def test_a_body_that_dribbles_is_given_up_although_something_always_comes(listen):
    connect, _ = await listen(Bounds(read_seconds=SOON))
    wire = await connect()
    await wire.head(1000)

    async def dribble():
        with contextlib.suppress(ConnectionError):
            while True:
                await wire.send(b" ")
                await asyncio.sleep(0.02)

    dribbling = asyncio.ensure_future(dribble())
    assert await wire.status() == 408
    dribbling.cancel()


async def test_a_slow_body_that_arrives_in_time_is_accepted(listen):
    connect, _ = await listen(Bounds(read_seconds=20))
    wire = await connect()
    body = json.dumps(ALERT).encode()
    await wire.head(len(body))
    for at in range(0, len(body), 20):
        await wire.send(body[at : at + 20])
        await asyncio.sleep(0.01)

    assert await wire.status() == 202


async def test_many_slow_senders_do_not_keep_a_good_one_waiting(listen, database):
    connect, url = await listen(Bounds(read_seconds=60))
    for _ in range(200):
        wire = await connect()
        await wire.head(1000)
        await wire.send(b"{")

    assert [await good(url, key) for key in "abc"] == [202] * 3
    assert len(await rows(database, Delivery)) == 3


async def test_the_bodies_that_are_here_at_once_have_a_bound_and_the_next_one_is_told_to_come_again(listen):
    connect, url = await listen(Bounds(read_seconds=60, held_bytes=1000))
    first = await connect()
    await first.head(2000)
    await first.send(b" " * 950)
    await asyncio.sleep(0.1)

    second = await connect()
    await second.head(100)
    await second.send(b" " * 100)
    status = await second.status()
    headers = (await second.reader.readuntil(b"\r\n\r\n")).decode()
    first.writer.close()
    await first.writer.wait_closed()
    while (freed := await good(url)) == 503:
        await asyncio.sleep(0.02)

    assert status == 503
    assert "Retry-After: 5" in headers
    assert freed == 202


async def test_what_was_answered_holds_no_memory_whatever_the_answer(listen):
    connect, url = await listen(Bounds(read_seconds=SOON, held_bytes=len(json.dumps(ALERT)) + 50))
    for body in (b"nonsense", b"[" * 100, gzip.compress(b"{", mtime=0)):
        wire = await connect()
        await wire.head(len(body))
        await wire.send(body)
        assert await wire.status() == 400
    slow = await connect()
    await slow.head(100)
    await slow.send(b"x" * 50)
    assert await slow.status() == 408

    assert await good(url) == 202


async def test_a_sender_that_hangs_up_midway_is_no_fault_of_ours(listen, database):
    connect, url = await listen()
    with capture_logs() as logged:
        wire = await connect()
        await wire.head(1000)
        await wire.send(b"{")
        await asyncio.sleep(0.1)
        wire.writer.transport.abort()
        await asyncio.sleep(0.1)
        assert await good(url) == 202

    assert [entry["event"] for entry in logged] == ["alerts.hung_up", "alerts.stored"]
    assert len(await rows(database, Delivery)) == 1


async def test_nobody_without_a_token_has_a_body_read(listen):
    connect, _ = await listen(Bounds(read_seconds=60))
    wire = await connect()
    await wire.head(10_000_000, token="wrong")

    assert await wire.status() == 401


@pytest.mark.parametrize("head", [b"", b"POST /alerts/cron HTTP/1.1\r\nHost: x\r\n"])
async def test_a_connection_without_a_whole_request_head_is_closed(listen, head):
    connect, url = await listen(idle_seconds=0.5)
    wire = await connect()
    await wire.send(head)

    assert await wire.ended(within=10)
    assert await good(url) == 202


async def test_a_head_that_dribbles_is_closed_too(listen):
    connect, _ = await listen(idle_seconds=0.5)
    wire = await connect()

    async def dribble():
        with contextlib.suppress(ConnectionError):
            await wire.send(b"POST /alerts/cron HTTP/1.1\r\nX: ")
            while True:
                await wire.send(b"x")
                await asyncio.sleep(0.02)

    dribbling = asyncio.ensure_future(dribble())
    assert await wire.ended(within=10)
    dribbling.cancel()


async def test_the_time_for_a_head_is_not_the_time_for_a_body(listen):
    connect, _ = await listen(Bounds(read_seconds=60), idle_seconds=0.3)
    wire = await connect()
    body = json.dumps(ALERT).encode()
    await wire.head(len(body))
    await asyncio.sleep(0.8)
    await wire.send(body)

    assert await wire.status() == 202


PACKED = gzip.compress(json.dumps(ALERT).encode(), mtime=0)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (["Content-Encoding: gzip"], PACKED, 202),
        (["Content-Encoding: x-gzip"], PACKED, 202),
        (["Content-Encoding: GZIP"], PACKED, 202),
        ([], PACKED, 202),
        (["Content-Encoding: gzip"], gzip.compress(b'{"title": ', mtime=0) + gzip.compress(b'"x"}', mtime=0), 202),
        (["Content-Encoding: gzip"], PACKED + b"and more", 400),
        (["Content-Encoding: gzip"], gzip.compress(PACKED, mtime=0), 400),
        (["Content-Encoding: gzip, gzip"], gzip.compress(PACKED, mtime=0), 415),
        (["Content-Encoding: gzip", "Content-Encoding: gzip"], gzip.compress(PACKED, mtime=0), 415),
        (["Content-Encoding: gzip", "Content-Encoding: br"], PACKED, 415),
        (["Content-Encoding: deflate"], PACKED, 415),
        (["Content-Encoding: zstd"], PACKED, 415),
    ],
)
async def test_a_body_may_be_packed_once_with_gzip_and_in_no_other_way(listen, headers, body, status):
    connect, _ = await listen()
    wire = await connect()
    await wire.head(len(body), *headers)
    await wire.send(body)

    assert await wire.status() == status


async def test_a_body_of_more_alerts_than_can_be_stored_in_time_is_too_large(listen, database):
    connect, _ = await listen(Bounds(alerts=10))
    for count, status in ((10, 202), (11, 413)):
        body = json.dumps([{"title": f"A {number}"} for number in range(count)]).encode()
        wire = await connect()
        await wire.head(len(body))
        await wire.send(body)
        assert await wire.status() == status

    assert len(await rows(database, AlertRow)) == 10


async def test_a_small_body_that_unpacks_to_a_huge_one_keeps_nobody_waiting(listen):
    connect, url = await listen()
    bombs = [
        gzip.compress(body, mtime=0) for body in (b"[" + b"{}," * 2_000_000 + b"{}]", b" " * (source.BODY_LIMIT + 1))
    ]
    wires = [await connect() for _ in range(4)]
    for number, wire in enumerate(wires):
        bomb = bombs[number % 2]
        await wire.head(len(bomb), "Content-Encoding: gzip")
        await wire.send(bomb)

    assert await good(url) == 202
    assert {await wire.status() for wire in wires} == {400}


async def test_a_packed_body_that_would_wait_too_long_for_its_turn_is_told_to_come_again(listen):
    connect, url = await listen(Bounds(turn_seconds=0.01))
    bomb = gzip.compress(b"[" + b"{}," * 300_000 + b"{}]", mtime=0)
    wires = [await connect() for _ in range(4)]
    for wire in wires:
        await wire.head(len(bomb))
        await wire.send(bomb)
    answers = sorted([await wire.status() for wire in wires])

    assert answers[0] == 400
    assert answers[-1] == 503
    assert await good(url) == 202


async def test_many_bombs_at_once_do_not_add_up(door, serve):
    bomb = gzip.compress(b"[" + b"{}," * 250_000 + b"{}]", mtime=0)
    await post(door, bomb)
    tracemalloc.start()
    await post(door, bomb)
    one = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    answers = await asyncio.gather(*(post(door, bomb) for _ in range(6)))
    many = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert {status for status, _, _ in answers} == {400}
    assert many < 2 * one
