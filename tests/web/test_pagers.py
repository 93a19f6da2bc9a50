"""The door for what pagers tell: signed over the very bytes, kept once, answered; anything else is turned away."""

import hashlib
import hmac
import io
import json

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from bot.catalog.config import PagerDutyAccess
from bot.engine import Engine
from bot.incidents.hearing import Hearing
from bot.incidents.model import PagerWord
from bot.incidents.paging import Rules
from bot.pagers.pagerduty import PagerDuty
from bot.web import pagers
from tests.fakes.pager import FakePager
from tests.fakes.pagerduty import signed
from tests.web.conftest import NOW

OLD, NEW = "the-old-secret-0123456789", "the-new-secret-0123456789"
BODY = json.dumps({"event": {"id": "E1", "event_type": "incident.triggered", "data": {}}}).encode()


@pytest.fixture
async def engine(database):
    made = Engine(database)
    made._promise = lambda connection, work: None
    yield made
    await made.close()


@pytest.fixture
async def client(engine):
    access = PagerDutyAccess(
        SecretStr("r" * 32),
        {},
        None,
        None,
        "http://127.0.0.1:9",
        "http://127.0.0.1:9",
        (SecretStr(OLD), SecretStr(NEW)),
    )
    pager = PagerDuty(access)
    known = {"pagerduty": pager, "second": FakePager()}
    hearing = Hearing(engine, lambda event: [], known, Rules(), lambda: NOW, None)
    app = web.Application()
    app.add_routes(pagers.routes(known, hearing))
    server = TestServer(app)
    await server.start_server(auto_decompress=False)
    async with TestClient(server) as made:
        yield made
    await pager.close()


async def post(client, body=BODY, headers=None, name="pagerduty"):
    headers = signed(body, NEW) if headers is None else headers
    async with client.post(f"/pagers/{name}", data=io.BytesIO(body), headers=headers) as answer:
        return answer.status, await answer.json()


async def rows(engine):
    async with engine.db.read() as session:
        return list(await session.scalars(sa.select(PagerWord)))


async def test_a_signed_event_is_kept_and_sent_again_is_the_same(client, engine):
    first = await post(client)
    again = await post(client)

    assert (first[0], again[0]) == (202, 202)
    assert (first[1]["outcome"], again[1]["outcome"]) == ("stored", "repeat")
    assert first[1]["id"] == again[1]["id"]
    assert len(await rows(engine)) == 1


@pytest.mark.parametrize("secrets", [(OLD,), (NEW,), ("another", OLD), (NEW, "another")])
async def test_any_signature_by_any_secret_will_do_while_they_are_changed(client, secrets):
    assert (await post(client, headers=signed(BODY, *secrets)))[0] == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-PagerDuty-Signature": ""},
        {"X-PagerDuty-Signature": "v1="},
        {"X-PagerDuty-Signature": hmac.new(NEW.encode(), BODY, hashlib.sha256).hexdigest()},
        {"X-PagerDuty-Signature": "v0=" + hmac.new(NEW.encode(), BODY, hashlib.sha256).hexdigest()},
        {"X-PagerDuty-Signature": "v1=" + hmac.new(b"x", BODY, hashlib.sha256).hexdigest()},
        {"X-PagerDuty-Signature": "v1=" + hmac.new(NEW.encode(), BODY + b" ", hashlib.sha256).hexdigest()},
        {"X-PagerDuty-Signature": "v1=é"},
    ],
    ids=["none", "empty", "no sign", "no version", "another version", "another secret", "another body", "no ascii"],
)
async def test_what_is_not_signed_with_a_secret_of_ours_is_kept_nowhere(client, engine, headers):
    status, said = await post(client, headers=headers)

    assert status == 401
    assert "webhook_secrets" in said["error"]
    assert await rows(engine) == []


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b"{}", b'{"event": {}}', b'{"event": {"id": 3}}', b"\xff", b"[" * 999]
)
async def test_a_signed_body_that_is_no_event_is_refused_with_a_reason(client, engine, body):
    status, said = await post(client, body)

    assert status == 400
    assert said["error"]
    assert await rows(engine) == []


async def test_a_body_without_end_is_not_read(client):
    assert (await post(client, b"x" * (pagers.LIMIT + 1)))[0] == 413


@pytest.mark.parametrize("name", ["second", "opsgenie", "log"])
async def test_a_pager_that_tells_nothing_has_no_address(client, name):
    assert (await post(client, name=name))[0] == 404


async def test_without_a_database_the_sender_is_asked_to_come_again(client, engine):
    engine.transaction = Broken
    async with client.post("/pagers/pagerduty", data=BODY, headers=signed(BODY, NEW)) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


class Broken:
    async def __aenter__(self):
        raise sa.exc.OperationalError("x", {}, Exception("away"))

    async def __aexit__(self, *_):
        return None
