"""Deliveries over signed HTTP: what the app gets, what its answers mean, and what is tried again."""

import asyncio
import contextlib
import json
import logging
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from slack_bolt.adapter.aiohttp import to_aiohttp_response, to_bolt_request
from slack_bolt.async_app import AsyncApp
from slack_sdk.signature import SignatureVerifier

from bot.sandbox.signed import AGENT
from tests.sandbox.shapes import modal


@dataclass
class Endpoint:
    """An app of our own behind a request URL: it keeps what came and answers as it is told."""

    answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    seen: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((dict(request.headers), await request.read()))
        return await self.answer(request)


async def fine(request: web.Request) -> web.StreamResponse:
    return web.Response()


@contextlib.asynccontextmanager
async def listening(handle) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/slack/events", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/slack/events"
    finally:
        await runner.cleanup()


@pytest.fixture
async def endpoint(sandbox) -> AsyncIterator[Endpoint]:
    made = Endpoint(fine)
    async with listening(made.handle) as url:
        made.url = sandbox.request_url = url
        yield made


def saying(body: str = "", status: int = 200, **more):
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status, **more)

    return answer


def kinds(sandbox) -> list[str]:
    return [v.kind for v in sandbox.violations]


async def test_every_request_is_signed_over_its_raw_body(sandbox, endpoint):
    alice = sandbox.actor("alice")
    await alice.slash("/inc new Schöner <Ausfall> & mehr")
    await alice.shortcut("declare")
    await alice.say("#incidents", "hello")
    await sandbox.wait(lambda: len(endpoint.seen) == 3)

    verifier = SignatureVerifier(sandbox.signing_secret)
    assert [verifier.is_valid_request(body, headers) for headers, body in endpoint.seen] == [True] * 3
    assert {headers["User-Agent"] for headers, _ in endpoint.seen} == {AGENT}
    assert not verifier.is_valid_request(endpoint.seen[0][1] + b" ", endpoint.seen[0][0])


async def test_commands_come_as_a_form_interactions_as_one_field_and_events_as_json(sandbox, endpoint):
    alice = sandbox.actor("alice")
    await alice.slash("/inc new a & b")
    await alice.shortcut("declare")
    await alice.say("#incidents", "hello")
    await sandbox.wait(lambda: len(endpoint.seen) == 3)

    (first, command), (second, interactive), (third, event) = endpoint.seen
    fields = {k: v[0] for k, v in urllib.parse.parse_qs(command.decode(), keep_blank_values=True).items()}
    assert (fields["command"], fields["text"], fields["user_id"]) == ("/inc", "new a &amp; b", alice.id)
    form = urllib.parse.parse_qs(interactive.decode())
    assert list(form) == ["payload"]
    assert json.loads(form["payload"][0])["callback_id"] == "declare"
    assert json.loads(event)["event"]["text"] == "hello"
    types = [headers["Content-Type"] for headers in (first, second, third)]
    assert types == ["application/x-www-form-urlencoded", "application/x-www-form-urlencoded", "application/json"]
    assert {d.transport for d in sandbox.workspace.deliveries} == {"http"}


@pytest.mark.parametrize(
    ("body", "kind", "ack"),
    [
        ("", "text/plain", None),
        ("hello", "text/plain", {"text": "hello"}),
        ('{"text": "hello", "response_type": "in_channel"}', "application/json", {"text": "hello"}),
    ],
)
async def test_the_body_of_an_answer_is_its_payload(sandbox, endpoint, body, kind, ack):
    endpoint.answer = saying(body, content_type=kind)

    reply = await sandbox.actor("alice").slash("/inc")

    assert reply.ok
    assert (reply.ack or {}).get("text") == (ack or {}).get("text")
    sandbox.assert_no_violations()


@pytest.mark.parametrize("body", ["{", "[1]", '"text"'])
async def test_a_json_answer_that_is_no_object_is_a_violation(sandbox, endpoint, body):
    endpoint.answer = saying(body, content_type="application/json")

    assert (await sandbox.actor("alice").slash("/inc")).ack is None
    assert kinds(sandbox) == ["bad_ack"]


async def test_an_answer_after_the_limit_is_late_and_the_user_is_told(sandbox, endpoint):
    async def sleepy(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.6)
        return web.Response()

    endpoint.answer = sleepy
    reply = await sandbox.actor("alice").slash("/inc")

    assert reply.error == "operation_timeout"
    assert kinds(sandbox) == ["late_ack"]
    assert "did not answer" in sandbox.workspace.notices[-1].text


async def test_an_app_that_cannot_be_reached_is_not_blamed_and_a_refusal_is(sandbox, endpoint):
    endpoint.answer = saying(status=500)
    failed = await sandbox.actor("alice").slash("/inc")
    assert (failed.error, kinds(sandbox)) == ("http_service_error", ["bad_status"])

    sandbox.request_url = "http://127.0.0.1:9/slack/events"
    away = await sandbox.actor("alice").slash("/inc")

    assert (away.error, kinds(sandbox)) == ("dispatch_failed", ["bad_status"])
    assert "cannot be reached" in sandbox.workspace.notices[-1].text


async def test_commands_and_interactions_are_never_tried_again(sandbox, endpoint):
    endpoint.answer = saying(status=503)
    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    await alice.shortcut("declare")
    await asyncio.sleep(0.3)

    assert len(endpoint.seen) == 2


async def test_a_refused_event_is_tried_three_times_more_and_says_why(sandbox, endpoint):
    endpoint.answer = saying(status=503)
    await sandbox.actor("alice").say("#incidents", "hello")
    await sandbox.wait(lambda: len(endpoint.seen) == 4)
    await asyncio.sleep(0.2)

    retries = [(h.get("X-Slack-Retry-Num"), h.get("X-Slack-Retry-Reason")) for h, _ in endpoint.seen]
    assert retries == [(None, None), ("1", "http_error"), ("2", "http_error"), ("3", "http_error")]
    assert len({body for _, body in endpoint.seen}) == 1
    sandbox.assert_no_violations()


async def test_a_late_event_is_tried_again_as_timed_out(sandbox, endpoint):
    async def sleepy_once(request: web.Request) -> web.StreamResponse:
        if len(endpoint.seen) == 1:
            await asyncio.sleep(0.6)
        return web.Response()

    endpoint.answer = sleepy_once
    await sandbox.actor("alice").say("#incidents", "hello")
    await sandbox.wait(lambda: len(endpoint.seen) == 2)

    assert endpoint.seen[1][0]["X-Slack-Retry-Reason"] == "http_timeout"


async def test_an_event_that_found_nobody_arrives_when_the_app_is_back(sandbox, endpoint):
    sandbox.limits.retry_seconds = (0.0, 0.3, 0.3)
    url, sandbox.request_url = endpoint.url, "http://127.0.0.1:9/slack/events"
    await sandbox.actor("alice").say("#incidents", "hello")
    await sandbox.wait(lambda: len(sandbox.workspace.deliveries) == 2)
    sandbox.request_url = url
    await sandbox.wait(lambda: endpoint.seen)

    headers = endpoint.seen[0][0]
    assert (headers["X-Slack-Retry-Num"], headers["X-Slack-Retry-Reason"]) == ("2", "connection_failed")
    assert [d.error for d in sandbox.workspace.deliveries][:2] == ["dispatch_failed"] * 2


async def test_an_app_may_forbid_further_attempts(sandbox, endpoint):
    endpoint.answer = saying(status=500, headers={"X-Slack-No-Retry": "1"})
    await sandbox.actor("alice").say("#incidents", "hello")
    await sandbox.wait(lambda: endpoint.seen)
    await asyncio.sleep(0.3)

    assert len(endpoint.seen) == 1


@pytest.mark.parametrize(("same", "retry"), [(True, None), (False, "1")])
async def test_deliveries_can_come_twice(sandbox, endpoint, same, retry):
    sandbox.faults.duplicate(1, same_envelope=same)
    await sandbox.actor("alice").say("#incidents", "once")
    await sandbox.wait(lambda: len(endpoint.seen) == 2)

    (_, first), (_, second) = endpoint.seen
    assert first == second
    assert {h.get("X-Slack-Retry-Num") for h, _ in endpoint.seen} == {None, retry}


async def test_a_request_url_is_verified_by_a_challenge(sandbox, endpoint):
    async def repeat(request: web.Request) -> web.StreamResponse:
        return web.json_response({"challenge": json.loads(endpoint.seen[-1][1])["challenge"]})

    assert not await sandbox.verify_request_url()
    assert kinds(sandbox) == ["url_verification"]
    endpoint.answer = repeat
    assert await sandbox.verify_request_url()


async def test_being_connected_means_that_the_url_answers(sandbox, endpoint):
    await sandbox.connected()
    assert endpoint.seen == []  # it was asked without a signed request

    sandbox.request_url = "http://127.0.0.1:9/slack/events"
    with pytest.raises(AssertionError, match="nothing answers"):
        await sandbox.connected(within=0.1)


async def test_anything_can_be_delivered_over_either_transport(sandbox, endpoint):
    endpoint.answer = saying('{"response_action": "clear"}', content_type="application/json")

    outcome = await sandbox.delivery.deliver("interactive", {"type": "odd"}, "something odd", accepts=True)

    assert (outcome.ok, outcome.payload) == (True, {"response_action": "clear"})
    assert (sandbox.workspace.deliveries[-1].transport, len(endpoint.seen)) == ("http", 1)


async def test_a_bolt_app_behind_a_request_url_takes_commands_forms_and_events(sandbox, client):
    logger = logging.getLogger("bolt.under.test")
    logger.setLevel(logging.CRITICAL)
    bolt = AsyncApp(client=client, signing_secret=sandbox.signing_secret, logger=logger)
    told = []

    @bolt.command("/inc")
    async def inc(ack, command, client):
        await client.views_open(trigger_id=command["trigger_id"], view=modal())
        await ack()

    @bolt.view("form")
    async def form(ack, view):
        await ack(response_action="errors", errors={"name": view["state"]["values"]["name"]["value"]["value"]})

    @bolt.event("message")
    async def message(event):
        told.append(event["text"])

    async def handle(request: web.Request) -> web.StreamResponse:
        return await to_aiohttp_response(await bolt.async_dispatch(await to_bolt_request(request)))

    async with listening(handle) as url:
        sandbox.request_url = url
        assert await sandbox.verify_request_url()
        alice = sandbox.actor("alice")
        await alice.slash("/inc")
        result = await alice.fill(await alice.modal(), name="no")
        await alice.say("#incidents", "hello")
        await sandbox.wait(lambda: told == ["hello"])

    assert result.errors == {"name": "no"}
    sandbox.assert_no_violations()
