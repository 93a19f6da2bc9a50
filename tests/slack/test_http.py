"""Slack's requests over HTTP: only what Slack signed, and lately, over the very bytes that came."""

import asyncio
import hashlib
import hmac
import io
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from bot.slack import http

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
BODY = b"command=%2Finc&text=caf%C3%A9+status&user_id=U1"


@pytest.fixture
async def slack():
    """A client of the route, and what came through it."""
    came = []

    async def dispatch(body, headers):
        came.append(body)
        return 200, {"content-type": "application/json;charset=utf-8"}, '{"text": "heard"}'

    app = web.Application()
    app.add_routes(http.routes(dispatch, SECRET))
    async with TestClient(TestServer(app)) as client:
        yield client, came


def signed(body: bytes = BODY, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={digest}",
        "Content-Type": "application/x-www-form-urlencoded",
    }


async def test_what_slack_signed_comes_through_byte_for_byte(slack):
    client, came = slack
    async with client.post("/slack/events", data=BODY, headers=signed()) as answer:
        assert answer.status == 200
        assert await answer.json() == {"text": "heard"}
    assert came == [BODY.decode()]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"X-Slack-Signature": "v0=" + "0" * 64}, "wrong signature"),
        ({"X-Slack-Signature": ""}, "no signature"),
        ({"X-Slack-Signature": "v0=ключ"}, "no signature"),
        ({"X-Slack-Request-Timestamp": ""}, "no signature"),
        ({"X-Slack-Request-Timestamp": "yesterday"}, "no signature"),
        ({"X-Slack-Request-Timestamp": "-1"}, "no signature"),
        ({"X-Slack-Request-Timestamp": "9" * 40}, "no signature"),
        ({"X-Slack-Request-Timestamp": "1"}, "too old"),
    ],
)
async def test_anything_else_is_refused_and_the_log_says_why(slack, change, reason):
    client, came = slack
    with capture_logs() as logged:
        async with client.post("/slack/events", data=BODY, headers={**signed(), **change}) as answer:
            assert answer.status == 401
            assert SECRET not in await answer.text()
    assert came == []
    assert reason in logged[-1]["reason"]
    assert SECRET not in str(logged)


@pytest.mark.parametrize("seconds", [-301, 301])
async def test_a_signature_is_good_for_five_minutes(slack, seconds):
    client, came = slack
    with capture_logs():
        async with client.post("/slack/events", data=BODY, headers=signed(at=time.time() + seconds)) as answer:
            assert answer.status == 401
    async with client.post("/slack/events", data=BODY, headers=signed(at=time.time() + seconds * 0.95)) as answer:
        assert answer.status == 200
    assert len(came) == 1


async def test_a_body_that_was_changed_or_is_no_text_is_refused(slack):
    client, came = slack
    with capture_logs() as logged:
        for body, headers in (
            (BODY + b"&text=more", signed()),
            (b"\xff\xfe", signed(b"\xff\xfe")),
            (BODY, signed(secret="another")),
        ):
            async with client.post("/slack/events", data=body, headers=headers) as answer:
                assert answer.status == 401
    assert came == []
    assert "not UTF-8" in logged[1]["reason"]


async def test_a_body_is_bounded_in_size_and_time(slack):
    client, came = slack

    async def endless():
        for _ in range(http.LIMIT // 2**20 + 1):
            yield b" " * 2**20

    async def stuck():
        yield b"comm"
        await asyncio.sleep(http.SECONDS + 0.5)

    async with client.post("/slack/events", data=io.BytesIO(b" " * (http.LIMIT + 1)), headers=signed()) as answer:
        assert answer.status == 413
    async with client.post("/slack/events", data=endless(), headers=signed()) as answer:
        assert answer.status == 413
    async with client.post("/slack/events", data=stuck(), headers=signed()) as answer:
        assert answer.status == 408
    assert came == []


async def test_a_sender_that_hangs_up_is_no_fault_of_ours(slack, caplog):
    client, came = slack
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(b"POST /slack/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.1)

    assert came == []
    assert [record for record in caplog.records if record.exc_info] == []
