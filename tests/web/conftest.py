"""The door for alerts as it is served, on a free port, with a real intake behind it or one that refuses."""

import io
import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from bot.alerts import source
from bot.alerts.routing import Routes
from bot.catalog.config import Connection
from bot.engine import Engine
from bot.incidents.intake import Intake
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

    async def start(intake, *connections, decompress=False, bounds=None):
        app = web.Application()
        given = {
            item.name: item for item in connections or (connection(), connection("am", "alertmanager", env="prod"))
        }
        app.add_routes(webhooks.routes(given, SOURCES, intake, lambda: NOW, bounds=bounds))
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
