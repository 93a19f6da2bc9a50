"""The server around it: the page, who may talk to it, and what tests wait for."""

import asyncio
import json

import aiohttp
import pytest
from aiohttp import web

from bot.kit.errors import UserError
from bot.sandbox.server import Sandbox
from tests.sandbox.conftest import MANIFEST
from tests.sandbox.shapes import actions, button, menu, modal


@pytest.fixture
async def http(sandbox):
    async with aiohttp.ClientSession(sandbox.url) as session:
        yield session


async def act(http: aiohttp.ClientSession, deed: str, user: str = "alice", **body) -> dict:
    async with http.post("/page/act", json={"do": deed, "user": user, **body}) as response:
        return await response.json()


@pytest.mark.parametrize("host", ["192.0.2.1", "::", "example.com", ""])
def test_only_this_machine_can_reach_it(host):
    with pytest.raises(UserError, match="only listens on this machine"):
        Sandbox(MANIFEST, host=host)


async def test_a_port_that_is_taken_is_said_plainly(sandbox):
    with pytest.raises(UserError, match="cannot listen"):
        await Sandbox(MANIFEST, port=sandbox.port).start()


async def test_tokens_survive_a_restart_when_they_are_handed_in():
    async with Sandbox(MANIFEST, bot_token="xoxb-sandbox-1", app_token="xapp-sandbox-1") as sandbox:
        assert (sandbox.bot_token, sandbox.app_token) == ("xoxb-sandbox-1", "xapp-sandbox-1")
    assert len({Sandbox(MANIFEST).bot_token for _ in range(2)}) == 2


@pytest.mark.parametrize("path", ["/", "/api/api.test", "/page/state?user=alice"])
async def test_a_foreign_name_or_page_is_refused(http, path):
    async with http.get(path, headers={"Host": "evil.example.com"}) as response:
        assert response.status == 403
    async with http.get(path, headers={"Origin": "https://evil.example.com"}) as response:
        assert response.status == 403
    async with http.get(path) as response:
        assert response.status == 200


async def test_the_page_brings_everything_with_it_and_nothing_else_may_load(http):
    async with http.get("/") as response:
        policy = response.headers["Content-Security-Policy"]
        page = await response.text()
    for name in ("app.js", "blocks.js", "text.js", "style.css"):
        async with http.get(f"/static/{name}") as response:
            assert response.status == 200
            source = await response.text()
            assert "innerHTML" not in source
    async with http.get("/static/../server.py") as response:
        assert response.status == 404

    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "http://" not in page
    assert "https://" not in page


async def test_a_page_of_another_kind_of_request_does_nothing(http, sandbox):
    body = json.dumps({"do": "say", "user": "alice", "channel": "C02INCIDENTS", "text": "x"})
    async with http.post("/page/act", data=body, headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415

    assert sandbox.actor("alice").sees("#incidents") == []


async def test_people_write_react_and_press_on_the_page(app, http, sandbox, client):
    told = []

    @app.action("press")
    async def press(ack, body):
        await ack()
        told.append(body["user"]["id"])

    await client.chat_postMessage(channel="C02INCIDENTS", text="card", blocks=[actions(button(), menu("a"))])
    message = await sandbox.expect_message("#incidents", "card")
    where = {"channel": message.channel, "ts": message.ts}
    block = message.blocks[0]["block_id"]

    await act(http, "say", channel="C02INCIDENTS", text="hello")
    await act(http, "react", name="eyes", **where)
    await act(http, "action", user="bob", block_id=block, action_id="press", **where)
    gone = await act(http, "action", block_id=block, action_id="other", **where)

    assert told == ["U02BOB"]
    assert message.reactions == {"eyes": ["U01ALICE"]}
    assert gone == {"error": "this button is gone"}
    async with http.get("/page/state?user=carol") as response:
        state = await response.json()
    shown = next(c for c in state["channels"] if c["name"] == "incidents")
    assert [m["text"] for m in shown["messages"]] == ["card", "hello"]


async def test_a_form_is_filled_in_on_the_page(app, http, sandbox):
    @app.command("/inc")
    async def inc(ack, command, client):
        await client.views_open(trigger_id=command["trigger_id"], view=modal())
        await ack()

    @app.view("form")
    async def form(ack, view):
        name = view["state"]["values"]["name"]["value"]["value"]
        await (ack() if name == "good" else ack(response_action="errors", errors={"name": "bad"}))

    await act(http, "say", channel="C01GENERAL", text="/inc")
    view = await sandbox.actor("alice").modal()
    bad = await act(http, "submit", view=view.id, values={"name": {"value": "no"}})
    good = await act(http, "submit", view=view.id, values={"name": {"value": "good"}})

    assert (bad["errors"], bad["closed"]) == ({"name": "bad"}, False)
    assert good["closed"]
    assert (await act(http, "close", view=view.id))["error"] == "this view is closed"


async def test_an_open_page_hears_of_changes(http, sandbox):
    async with http.get("/page/changes") as stream:
        assert stream.content_type == "text/event-stream"
        await sandbox.actor("alice").say("#incidents", "hello")
        while await asyncio.wait_for(stream.content.readline(), 2) != b"data: channel C02INCIDENTS\n":
            pass


async def test_the_sample_alert_is_sent_with_the_token_and_resolved_for_the_same_start():
    received = []

    async def take(request: web.Request) -> web.Response:
        received.append((request.headers["Authorization"], await request.json()))
        return web.json_response({}, status=202)

    receiver = web.Application()
    receiver.router.add_post("/alerts/demo", take)
    runner = web.AppRunner(receiver, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/alerts/demo"
    async with (
        Sandbox(MANIFEST, alert_url=url, alert_token="secret") as sandbox,
        aiohttp.ClientSession(sandbox.url) as http,
    ):
        assert await act(http, "alert") == {"status": 202}
        assert await act(http, "alert", resolved=True) == {"status": 202}
        sandbox.page.alert_url = "http://127.0.0.1:1/"
        assert (await act(http, "alert"))["error"]
        assert "could not be sent" in sandbox.workspace.notices[-1].text
    await runner.cleanup()

    (token, firing), (_, resolved) = received
    assert token == "Bearer secret"
    assert (firing["version"], firing["status"], resolved["status"]) == ("4", "firing", "resolved")
    first, second = firing["alerts"][0], resolved["alerts"][0]
    assert first["labels"]["alertname"] == "CheckoutErrorRate"
    assert first["startsAt"] == second["startsAt"] < second["endsAt"]
    assert first["fingerprint"] == second["fingerprint"]


async def test_waiting_in_vain_says_what_was_there_instead(client, sandbox):
    await client.chat_postMessage(channel="C02INCIDENTS", text="something else")

    with pytest.raises(AssertionError, match=r"no message in #incidents with 'hello'.*something else"):
        await sandbox.expect_message("#incidents", "hello", within=0.05)
    with pytest.raises(AssertionError, match=r"no channel inc-\*.*general"):
        await sandbox.expect_channel("inc-*", within=0.05)
    with pytest.raises(ValueError, match="alice, bob, carol, guest"):
        sandbox.actor("mallory")


async def test_the_newest_message_and_channel_are_found_by_pattern(client, sandbox):
    await client.conversations_create(name="inc-1")
    newest = (await client.conversations_create(name="inc-2"))["channel"]["id"]
    first = await client.chat_postMessage(channel=newest, text="hello <@U01ALICE>")
    second = await client.chat_postMessage(channel=newest, text="hello again")

    assert (await sandbox.expect_channel("inc-*")).id == newest
    assert (await sandbox.expect_message("inc-*", "hello")).ts == second["ts"]
    with pytest.raises(AssertionError):
        await sandbox.expect_message("inc-*", "hello <@U01ALICE>", within=0.05, after=first["ts"])
