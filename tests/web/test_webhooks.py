import asyncio
import base64
import gzip
import io
import json
import zlib
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from structlog.testing import capture_logs

from bot.alerts import source
from bot.alerts.model import AlertRow, Delivery
from bot.alerts.routing import Routes
from bot.catalog.config import Connection
from bot.engine import Engine
from bot.incidents.intake import Intake
from bot.kit.errors import TemporaryError, UserError
from bot.kit.shelf import Shelf
from bot.web import webhooks

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOKEN, NEXT = "correct-horse-battery-staple", "a-second-token-for-rotation"
ALERT = {"title": "Queue is full", "severity": "critical", "dedup_key": "queue", "labels": {"service": "orders"}}
SOURCES = Shelf(source.SHELF, must_have=source.MUST_HAVE).load()


class Refusing:
    """An intake that cannot store anything now, or fails in a way nobody foresaw."""

    def __init__(self, error):
        self.error = error

    async def accept(self, _incoming):
        raise self.error


def connection(name="cron", kind="generic", **labels):
    return Connection(name, kind, (SecretStr(TOKEN), SecretStr(NEXT)), labels)


@pytest.fixture
async def serve():
    """Starts a web server with the routes on a free port."""
    clients = []

    async def start(intake, *connections, decompress=False):
        app = web.Application()
        given = {
            item.name: item for item in connections or (connection(), connection("am", "alertmanager", env="prod"))
        }
        app.add_routes(webhooks.routes(given, SOURCES, intake, lambda: NOW))
        server = TestServer(app)
        await server.start_server(auto_decompress=decompress)
        clients.append(TestClient(server))
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(serve, database):
    """The real thing, on a real database."""
    engine = Engine(database)
    yield await serve(Intake(engine, lambda event: [], Routes, lambda: NOW))
    await engine.close()


@pytest.fixture
async def door(serve):
    """A server for what is turned away before anything is stored."""
    return await serve(Refusing(AssertionError("nothing may come this far")))


async def post(client, body, path="/alerts/cron", token=TOKEN, **headers):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Authorization": f"Bearer {token}"} if token else {}
    async with client.post(path, data=io.BytesIO(data), headers={**sent, **headers}) as response:
        return response.status, await response.json(), response.headers


async def rows(database, model):
    async with database.read() as session:
        return list(await session.scalars(sa.select(model)))


async def test_an_alert_is_stored_and_then_accepted(client, database):
    with capture_logs() as logged:
        status, answer, _ = await post(client, ALERT)

    assert status == 202
    assert answer["alerts"] == [{"dedup_key": "queue", "outcome": "opened", "incident": "INC-1"}]
    (delivery,) = await rows(database, Delivery)
    assert answer["id"] == delivery.id
    assert json.loads(zlib.decompress(delivery.body)) == ALERT
    assert logged[-1]["event"] == "alerts.stored"
    assert logged[-1]["delivery"] == delivery.id
    assert logged[-1]["outcomes"] == {"opened": 1}


async def test_the_connections_labels_join_and_win_but_do_not_change_identity(client, database):
    body = {"alerts": [{"labels": {"alertname": "A", "env": "claimed"}, "fingerprint": "f1"}]}
    status, _, _ = await post(client, body, "/alerts/am")

    (row,) = await rows(database, AlertRow)
    assert status == 202
    assert (row.fingerprint, row.connection, row.labels["env"]) == ("f1", "am", "prod")


async def test_every_token_of_a_connection_opens_it_as_bearer_or_password(client):
    basic = base64.b64encode(f"any:{NEXT}".encode()).decode()

    assert (await post(client, ALERT, token=NEXT))[0] == 202
    assert (await post(client, ALERT, token=None, Authorization=f"Basic {basic}"))[0] == 202
    assert (await post(client, ALERT, token=None, Authorization=f"bearer {TOKEN}"))[0] == 202


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Token {TOKEN}",
        "Basic !!!",
        "Basic Og==",
        "Bearer ключ",
    ],
)
async def test_nothing_else_does(door, header):
    with capture_logs() as logged:
        status, answer, headers = await post(door, ALERT, token=None, **({"Authorization": header} if header else {}))

    assert status == 401
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in json.dumps([answer, logged])


async def test_an_unknown_connection_is_not_found_whatever_the_token(door):
    assert (await post(door, ALERT, "/alerts/nobody"))[0] == 404
    assert (await post(door, ALERT, "/alerts/nobody", token=None))[0] == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not"),
        (b"[" * 50_000, "nested deeper"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested deeper"),
        (b"9" * 5000, "not JSON we can read"),
        (b'{"title": NaN}', "NaN"),
        (b"{}", 'no "title"'),
        (b"3", "must be an alert"),
    ],
)
async def test_what_is_not_understood_is_refused_with_one_reason(door, body, reason):
    status, answer, _ = await post(door, body)

    assert status == 400
    assert reason in answer["error"]
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("decompress", [False, True])
async def test_a_packed_body_is_unpacked_whoever_does_it(serve, database, decompress):
    engine = Engine(database)
    client = await serve(Intake(engine, lambda event: [], Routes, lambda: NOW), decompress=decompress)
    status, answer, _ = await post(client, gzip.compress(json.dumps(ALERT).encode()), **{"Content-Encoding": "gzip"})
    await engine.close()

    assert (status, answer["alerts"][0]["outcome"]) == (202, "opened")


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(door):
    bomb = gzip.compress(b" " * (source.BODY_LIMIT + 1))

    assert (await post(door, bomb, **{"Content-Encoding": "gzip"}))[0] in (400, 413)
    assert (await post(door, bomb))[0] == 400


async def test_a_torn_packed_body_is_refused(door):
    torn = gzip.compress(json.dumps(ALERT).encode())[:-12]

    assert (await post(door, torn, **{"Content-Encoding": "gzip"}))[0] == 400
    assert (await post(door, b"plain", **{"Content-Encoding": "gzip"}))[0] == 400
    assert (await post(door, b"x", **{"Content-Encoding": "zstd"}))[0] in (400, 415)


async def test_a_body_that_is_too_large_is_refused_by_its_length(door):
    assert (await post(door, b" " * (source.BODY_LIMIT + 1)))[0] == 413


async def test_a_body_that_does_not_say_its_length_is_bounded_while_it_is_read(door):
    async def endless():
        for _ in range(source.BODY_LIMIT // 2**20 + 1):
            yield b" " * 2**20

    async with door.post("/alerts/cron", data=endless(), headers={"Authorization": f"Bearer {TOKEN}"}) as response:
        assert response.status == 413


async def test_a_group_of_two_thousand_alerts_is_accepted(client, database):
    alerts = [{"labels": {"alertname": "A", "instance": str(i), "x": "y" * 700}} for i in range(2000)]
    status, answer, _ = await post(client, {"alerts": alerts}, "/alerts/am")

    assert (status, len(answer["alerts"])) == (202, 2000)
    assert len(await rows(database, AlertRow)) == 2000


async def test_what_cannot_be_stored_now_is_to_be_sent_again(serve):
    client = await serve(Refusing(TemporaryError("the database did not answer", after=7)))
    with capture_logs():
        status, answer, headers = await post(client, ALERT)

    assert (status, headers["Retry-After"]) == (503, "7")
    assert answer == {"error": "the database did not answer"}


async def test_a_fault_of_ours_is_logged_and_not_shown(serve):
    client = await serve(Refusing(RuntimeError("secret detail")))
    with capture_logs() as logged:
        status, answer, _ = await post(client, ALERT)

    assert status == 500
    assert "secret" not in answer["error"]
    assert logged[-1]["event"] == "alerts.failed"


async def test_a_hundred_senders_at_once_are_all_answered(client):
    bodies = [{**ALERT, "dedup_key": f"q{i % 10}"} for i in range(100)]

    answers = await asyncio.gather(*(post(client, body) for body in bodies))

    outcomes = [answer["alerts"][0]["outcome"] for _, answer, _ in answers]
    assert {status for status, _, _ in answers} == {202}
    assert (outcomes.count("opened"), outcomes.count("attached"), outcomes.count("repeat")) == (1, 9, 90)


def test_a_connection_to_a_source_that_does_not_exist_is_refused_at_the_start():
    with pytest.raises(UserError, match="there is no source 'nagios'; there is: alertmanager, generic"):
        webhooks.routes({"x": connection("x", "nagios")}, SOURCES, Refusing(None), lambda: NOW)


async def test_a_body_that_repeats_itself_is_stored_each_time_and_one_that_differs_is_read_anew(client, database):
    for _ in range(3):
        status, answer, _ = await post(client, ALERT)
        assert status == 202
    assert answer["alerts"][0]["outcome"] == "repeat"
    status, answer, _ = await post(client, {**ALERT, "title": "Queue is fuller"})
    assert answer["alerts"][0]["outcome"] == "repeat"

    deliveries = await rows(database, Delivery)
    assert len({delivery.id for delivery in deliveries}) == 4
    assert len({delivery.sha256 for delivery in deliveries}) == 2
    assert max(json.loads(zlib.decompress(delivery.body))["title"] for delivery in deliveries) == "Queue is fuller"
    (alert,) = await rows(database, AlertRow)
    assert (alert.seen, alert.title) == (4, "Queue is fuller")


async def test_only_what_is_news_is_logged_for_each_request(client):
    await post(client, ALERT)
    with capture_logs() as logged:
        await post(client, ALERT)
    assert [line["event"] for line in logged] == []
