"""The door for trackers: signed, stored, then answered; a repeat changes nothing, and what is not ours is let go."""

import hashlib
import hmac
import io
import json
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from bot.catalog.tracking import File, Tracking
from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Sev, Ticket, TrackerWord
from bot.kit.clock import utc_now
from bot.web import trackers
from tests.fakes.jira import Issue, JiraServer
from tests.trackers.conftest import SECRET, SHELF, access

ISSUE = Issue("10001", "OPS-1", {"labels": []})


@pytest.fixture
async def engine(database):
    made = Engine(database)
    async with made.transaction() as tx:
        incident = await lifecycle.declare(
            tx, lambda event: [], title="Slow", severity=Sev.SEV2, by="U1", now=utc_now()
        )
        tx.session.add(
            Ticket(
                id="t", incident_id=incident.id, tracker="ops", purpose="incident", key="tocsin-INC-1", state="made",
                remote_id="10001", reference="OPS-1", status="To Do", created_at=utc_now(), changed_at=utc_now(),
            )
        )  # fmt: skip
    yield made
    await made.close()


@pytest.fixture
async def client(engine):
    given = access("jira", "https://example.atlassian.net", "t" * 20, project="OPS")
    app = web.Application()
    app.add_routes(trackers.routes(Tracking(File(), {"ops": given}), SHELF, engine, utc_now))
    made = TestClient(TestServer(app))
    await made.start_server()
    yield made
    await made.close()


async def send(client, body=None, headers=None, path="/trackers/ops", **word):
    made, signed = JiraServer().word(ISSUE, SECRET, **word)
    answer = await client.post(
        path, data=made if body is None else body, headers=signed if headers is None else headers
    )
    return answer.status, await answer.json()


async def words(engine):
    async with engine.db.read() as session:
        return list(await session.scalars(sa.select(TrackerWord)))


async def promised(engine):
    table = "workflow_status" if engine.db.sqlite else "dbos.workflow_status"
    async with engine.db.read() as session:
        return await session.scalar(sa.text(f"select count(*) from {table} where name = 'ticket_heard'"))


async def test_a_word_about_our_ticket_is_stored_and_looked_into(client, engine):
    assert await send(client) == (202, {"outcome": "stored"})

    (word,) = await words(engine)
    assert (word.tracker, word.ticket_id, word.what, word.by) == ("ops", "t", "jira:issue_updated", "A person")
    assert await promised(engine) == 1


@pytest.mark.parametrize("delivery", ["d1", None], ids=["by its delivery", "by its body"])
async def test_a_repeat_is_stored_once(client, engine, delivery):
    await send(client, delivery=delivery)

    assert await send(client, delivery=delivery) == (202, {"outcome": "repeat"})
    assert await promised(engine) == 1


async def test_a_forged_word_is_refused_and_leaves_nothing(client, engine):
    status, _ = await send(client, headers={"X-Hub-Signature": "sha256=" + "0" * 64})
    other, _ = await send(client, body=b'{"issue": {"id": "10001"}}')

    assert (status, other) == (401, 401)
    assert await words(engine) == []


async def test_a_ticket_that_is_not_ours_is_let_go(client, engine):
    body, headers = JiraServer().word(Issue("99", "OPS-99", {"labels": []}), SECRET)

    assert await send(client, body, headers) == (202, {"outcome": "unknown"})
    assert await words(engine) == []


async def test_what_cannot_be_read_or_is_too_large_is_refused(client):
    def signed(body):
        return {"X-Hub-Signature": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()}

    assert (await send(client, b"no json", signed(b"no json")))[0] == 400
    large = json.dumps({"issue": "x" * (3 * 1024 * 1024)}).encode()
    assert (await send(client, io.BytesIO(large), signed(large)))[0] == 413
    assert (await send(client, b'{"webhookEvent": "x"}', signed(b'{"webhookEvent": "x"}')))[1] == {"outcome": "ignored"}
    assert (await send(client, path="/trackers/nobody"))[0] == 404


class Away:
    """An engine whose database does not answer."""

    @asynccontextmanager
    async def transaction(self):
        raise sa.exc.OperationalError("begin", None, OSError("nobody there"))
        yield


async def test_without_a_database_the_sender_is_asked_to_come_again():
    given = access("jira", "https://example.atlassian.net", "t" * 20, project="OPS")
    app = web.Application()
    app.add_routes(trackers.routes(Tracking(File(), {"ops": given}), SHELF, Away(), utc_now))
    async with TestClient(TestServer(app)) as client:
        body, headers = JiraServer().word(ISSUE, SECRET)
        answer = await client.post("/trackers/ops", data=body, headers=headers)

        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
