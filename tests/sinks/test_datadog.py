"""Datadog events: the documented fields within their limits."""

from datetime import timedelta

import jsonschema
import pytest
from aiohttp import web

from bot.kit.errors import PermanentError
from bot.sinks import datadog
from tests.fakes.receiver import Receiver
from tests.sinks.conftest import NOW, SECRET, said

EVENT = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "text": {"type": "string", "minLength": 1, "maxLength": 4000},
        "aggregation_key": {"type": "string", "maxLength": 100},
        "alert_type": {"enum": ["error", "warning", "info", "success"]},
        "date_happened": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z_]+:.+$", "maxLength": 200}},
    },
    "required": ["title", "text"],
    "additionalProperties": False,
}


def taken(got):
    jsonschema.validate(got.json, EVENT)
    if got.headers.get("dd-api-key") != SECRET:
        return web.json_response({"errors": ["Forbidden"]}, status=403)
    return web.json_response({"status": "ok", "event": {"id": 7, "id_str": "7", "title": "x"}}, status=202)


@pytest.fixture
async def server():
    async with Receiver(usual=taken) as made:
        yield made


def events(sink, server, now=NOW, **env):
    made = datadog.make(sink(f"    kind: datadog\n    api_url: {server.url}\n    api_key: {{env: SECRET}}\n", **env))
    made._clock = lambda: now
    return made


async def test_everything_of_one_incident_stands_under_one_key(sink, server):
    made = events(sink, server)
    receipts = [await made.send(said(kind)) for kind in ("incident.opened", "severity.changed", "incident.resolved")]

    assert [receipt.reference for receipt in receipts] == ["7"] * 3
    assert [got.path for got in server.got] == ["/api/v1/events"] * 3
    assert len({got.json["aggregation_key"] for got in server.got}) == 1
    assert [got.json["alert_type"] for got in server.got] == ["error", "error", "success"]
    assert server.got[0].json["date_happened"] == int(NOW.timestamp())
    assert "service:checkout" in server.got[0].json["tags"]


async def test_what_is_older_than_it_takes_is_told_with_its_time_in_words(sink, server):
    await events(sink, server, NOW + timedelta(hours=20)).send(said())

    assert "date_happened" not in server.got[0].json
    assert "It happened at 2026-03-01 12:00 UTC." in server.got[0].json["text"]


async def test_long_words_are_cut(sink, server):
    await events(sink, server).send(said(title="x" * 500, text="y" * 9000, service="z" * 500))

    assert (len(server.got[0].json["title"]), len(server.got[0].json["text"])) == (100, 4000)


async def test_a_wrong_key_says_where_to_look(sink, server):
    with pytest.raises(PermanentError, match="a key of this site"):
        await events(sink, server, SECRET="another-key-0123456789").send(said())


def test_the_site_is_part_of_the_address(sink):
    made = datadog.make(sink("    kind: datadog\n    site: datadoghq.eu\n    api_key: {env: SECRET}\n"))

    assert made._api.url == "https://api.datadoghq.eu"
