"""Outgoing webhooks: CloudEvents of one documented shape, signed."""

import json
from pathlib import Path

import jsonschema
import pytest

from bot.incidents.sink import Message
from bot.kit import signature
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.sinks import webhook
from tests.fakes.receiver import Receiver
from tests.sinks.conftest import NOW, SECRET, said

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/outgoing-event.schema.json").read_text())
OLD = "the-old-secret-of-the-tests-0123456789"


def receiver(sink, server, secret="{env: SECRET}"):  # noqa: S107
    made = webhook.make(sink(f"    kind: webhook\n    url: {server.url}/hook\n    secret: {secret}\n", OLD=OLD))
    made._clock = lambda: NOW
    return made


async def test_an_event_is_a_signed_cloudevent_of_the_documented_shape(sink):
    async with Receiver() as server:
        receipt = await receiver(sink, server).send(said(id_="e" * 32))

    (got,) = server.got
    assert (receipt.outcome, receipt.detail) == ("delivered", "HTTP 200")
    assert got.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert signature.genuine([SECRET], got.headers, got.body, int(NOW.timestamp()))
    assert got.headers["webhook-id"] == got.json["id"] == "e" * 32
    jsonschema.validate(got.json, SCHEMA)
    assert got.json["type"] == "tocsin.incident.opened"
    assert got.json["subject"] == "INC-42"
    assert got.json["source"] == "https://tocsin.example.com"
    assert got.json["data"]["incident"]["title"] == "Payments are down"


async def test_both_secrets_sign_while_they_change(sink):
    async with Receiver() as server:
        await receiver(sink, server, "[{env: SECRET}, {env: OLD}]").send(said())

    (got,) = server.got
    assert all(signature.genuine([one], got.headers, got.body, int(NOW.timestamp())) for one in (OLD, SECRET))


async def test_what_is_sent_again_has_the_same_id_and_the_same_bytes(sink):
    async with Receiver(answers=["lost"]) as server:
        made = receiver(sink, server)
        with pytest.raises(TemporaryError):
            await made.send(said())
        await made.send(said())

    first, again = server.got
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])


async def test_a_refusal_is_final(sink):
    async with Receiver(usual=410) as server:
        with pytest.raises(PermanentError, match="HTTP 410"):
            await receiver(sink, server).send(said())


def test_any_event_has_the_documented_shape():
    plain = said("note.added", text="<@U1>: ünïcode\n", data={"kind": "note", "deep": [1, {"a": None}]}, actor=None)
    bare: Message = said("run.ended", service=None, private=True, title="a private incident", text="", data={})

    for message in (plain, bare):
        jsonschema.validate(json.loads(json.dumps(webhook.event(message))), SCHEMA)


def test_more_than_two_secrets_are_refused(sink):
    with pytest.raises(UserError, match="give one secret, or two"):
        sink("    kind: webhook\n    url: https://example.com\n    secret: [{env: A}, {env: B}, {env: C}]\n")
