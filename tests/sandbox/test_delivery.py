"""Commands, clicks, events and answers over real sockets."""

import asyncio

import aiohttp
import pytest

from bot.sandbox.inputs import ImpossibleError
from tests.sandbox.conftest import connected
from tests.sandbox.shapes import actions, button, menu, section


def kinds(sandbox) -> list[str]:
    return [v.kind for v in sandbox.violations]


async def test_the_ack_of_a_command_is_shown_to_its_user_alone(app, sandbox):
    @app.command("/inc")
    async def inc(ack, command):
        await ack(f"{command['user_name']}: {command['text']}")

    alice = sandbox.actor("alice")
    reply = await alice.slash("/inc a < b @bob #incidents", "#incidents")

    text = "alice: a &lt; b <@U02BOB|bob> <#C02INCIDENTS|incidents>"
    assert reply.ack == {"text": text}
    assert reply.ms < 400
    assert [m.text for m in alice.ephemerals("#incidents")] == [text]
    assert sandbox.actor("bob").ephemerals("#incidents") == []
    sandbox.assert_no_violations()


async def test_mentions_stay_as_typed_without_should_escape(app, sandbox):
    @app.command("/raw")
    async def raw(ack, command):
        await ack(command["text"])

    reply = await sandbox.actor("alice").slash("/raw @bob & co")

    assert reply.text == "@bob & co"


async def test_a_command_nobody_knows_is_refused_to_the_user(app, sandbox):
    reply = await sandbox.actor("alice").slash("/nothing at all")

    assert reply.error == "invalid_command"
    assert "no app here knows" in sandbox.workspace.notices[-1].text


async def test_a_late_ack_is_a_violation_and_the_user_is_told(app, sandbox):
    @app.command("/inc")
    async def inc(ack):
        await asyncio.sleep(0.5)
        await ack("too late")

    alice = sandbox.actor("alice")
    reply = await alice.slash("/inc")

    assert reply.error == "operation_timeout"
    assert kinds(sandbox) == ["late_ack"]
    assert "did not answer" in sandbox.workspace.notices[-1].text
    await asyncio.sleep(0.3)
    assert alice.ephemerals("#general") == []
    assert kinds(sandbox) == ["late_ack"]


async def test_an_app_that_is_not_connected_fails_at_once_and_is_not_blamed(sandbox):
    reply = await sandbox.actor("alice").slash("/inc")

    assert reply.error == "not_connected"
    sandbox.assert_no_violations()


async def test_a_click_tells_what_was_pressed_where(app, sandbox, client):
    told = []

    @app.action("press")
    async def press(ack, body, respond):
        await ack()
        told.append(body)
        await respond("done", replace_original=True)

    posted = await client.chat_postMessage(
        channel="C02INCIDENTS", text="card", blocks=[actions(button(value="42"), menu("a", "b"))]
    )
    message = await sandbox.expect_message("#incidents", "card")
    alice = sandbox.actor("alice")
    await alice.click(message, "Press")

    body = told[0]
    assert body["container"] == {
        "type": "message",
        "message_ts": posted["ts"],
        "channel_id": "C02INCIDENTS",
        "is_ephemeral": False,
    }
    assert body["actions"][0]["value"] == "42"
    assert body["message"]["ts"] == posted["ts"]
    assert body["user"]["id"] == alice.id
    await sandbox.expect_message("#incidents", "done")
    assert message.text == "done"
    sandbox.assert_no_violations()


async def test_a_menu_tells_the_option_that_was_chosen(app, sandbox, client):
    told = []

    @app.action("menu")
    async def choose(ack, action):
        await ack()
        told.append(action["selected_option"]["value"])

    await client.chat_postMessage(channel="C02INCIDENTS", text="card", blocks=[actions(menu("a", "b"))])
    message = await sandbox.expect_message("#incidents", "card")
    await sandbox.actor("alice").click(message, "menu", "b")

    assert told == ["b"]


async def test_people_can_only_press_what_is_there(app, sandbox, client):
    await client.chat_postMessage(channel="C02INCIDENTS", text="card", blocks=[actions(button(), menu("a"))])
    message = await sandbox.expect_message("#incidents", "card")
    alice = sandbox.actor("alice")

    with pytest.raises(ImpossibleError, match=r"no button or menu 'Stop'; there is: press \(Press\)"):
        await alice.click(message, "Stop")
    with pytest.raises(ImpossibleError, match="no option 'z'"):
        await alice.click(message, "menu", "z")
    await client.chat_delete(channel=message.channel, ts=message.ts)
    with pytest.raises(ImpossibleError, match="does not see"):
        await alice.click(message, "Press")


async def test_a_response_url_answers_five_times(app, sandbox):
    results = []

    @app.command("/inc")
    async def inc(ack, respond):
        await ack()
        results.extend([(await respond(f"answer {i}")).status_code for i in range(6)])

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    await sandbox.wait(lambda: len(results) == 6)

    assert results == [200] * 5 + [404]
    assert kinds(sandbox) == ["response_url"]
    assert len(alice.ephemerals("#general")) == 5


async def test_a_response_url_expires(app, sandbox):
    sandbox.limits.response_seconds = 0.0
    results = []

    @app.command("/inc")
    async def inc(ack, respond):
        await ack()
        results.append((await respond("late")).status_code)

    await sandbox.actor("alice").slash("/inc")
    await sandbox.wait(lambda: results)

    assert results == [404]


async def test_events_come_from_channels_of_the_bot_and_only_if_subscribed(app, sandbox):
    told = []

    @app.event("message")
    async def message(event):
        told.append((event.get("subtype"), event["text"], event["channel_type"]))

    @app.event("reaction_added")
    async def reaction(event):
        told.append((event["reaction"], event["item"]["ts"]))

    alice = sandbox.actor("alice")
    await alice.say("#general", "not for the bot")
    said = await alice.say("#incidents", "for the bot & @bob")
    await alice.react(said, "eyes")
    await alice.react(said, "eyes", add=False)
    await alice.leave("#incidents")
    await sandbox.wait(lambda: len(told) == 3)
    await asyncio.sleep(0.1)

    assert (None, "for the bot &amp; <@U02BOB>", "channel") in told
    assert ("eyes", said.ts) in told
    assert ("channel_leave", f"<@{alice.id}> has left the channel", "channel") in told
    assert len(told) == 3
    sandbox.assert_no_violations()


async def test_an_event_that_is_not_acknowledged_is_tried_again_three_times(sandbox):
    """A client of our own, which hears and keeps silent."""
    seen = []
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {sandbox.app_token}"}
        async with http.post(f"{sandbox.api_url}apps.connections.open", headers=headers) as response:
            url = (await response.json())["url"]
        sandbox.limits.ack_seconds = 0.05
        async with http.ws_connect(url) as socket:
            assert (await socket.receive_json())["type"] == "hello"
            await sandbox.actor("alice").say("#incidents", "hello")
            for _ in range(4):
                envelope = await socket.receive_json(timeout=2)
                seen.append((envelope["payload"]["event_id"], envelope["retry_attempt"], envelope["retry_reason"]))
            await sandbox.wait(lambda: len(kinds(sandbox)) == 4)

    assert len({event for event, _, _ in seen}) == 1
    assert [retry for _, retry, _ in seen] == [0, 1, 2, 3]
    assert seen[1][2] == "timeout"
    assert set(kinds(sandbox)) == {"late_ack"}


async def test_a_ticket_admits_one_connection_and_odd_acks_are_violations(sandbox):
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {sandbox.app_token}"}
        async with http.post(f"{sandbox.api_url}apps.connections.open", headers=headers) as response:
            url = (await response.json())["url"]
        async with http.ws_connect(url) as socket:
            hello = await socket.receive_json()
            assert hello["num_connections"] == 1
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await http.ws_connect(url)
            await sandbox.actor("alice").say("#incidents", "hello")
            envelope = await socket.receive_json()
            for number in (envelope["envelope_id"], envelope["envelope_id"], "none"):
                await socket.send_json({"envelope_id": number})
            await socket.send_str("what?")
            await sandbox.wait(lambda: len(kinds(sandbox)) == 3)

    assert kinds(sandbox) == ["duplicate_ack", "unknown_ack", "bad_ack"]


async def test_shortcuts_reach_the_app(app, sandbox):
    told = []

    @app.shortcut("declare")
    async def declare(ack, shortcut):
        await ack()
        told.append(shortcut["type"])

    @app.shortcut("keep")
    async def keep(ack, shortcut):
        await ack()
        told.append(shortcut["message"]["text"])

    alice = sandbox.actor("alice")
    await alice.shortcut("declare")
    said = await alice.say("#incidents", "remember this")
    await alice.message_shortcut("keep", said)

    assert told == ["shortcut", "remember this"]
    with pytest.raises(ImpossibleError, match="no global shortcut 'keep'"):
        await alice.shortcut("keep")


async def test_each_envelope_goes_to_one_of_several_connections(app, sandbox):
    told = []

    @app.command("/inc")
    async def inc(ack):
        told.append(1)
        await ack()

    async with connected(app, sandbox):
        await sandbox.connected(2)
        for _ in range(6):
            assert (await sandbox.actor("alice").slash("/inc")).ok

    assert len(told) == 6
    sandbox.assert_no_violations()


async def test_an_ephemeral_card_can_be_clicked_and_taken_away(app, sandbox, client):
    bodies = []

    @app.action("press")
    async def press(ack, body, respond):
        await ack()
        bodies.append(body)
        await respond(delete_original=True)

    await client.chat_postEphemeral(
        channel="C02INCIDENTS", user="U01ALICE", text="choose", blocks=[section("choose", accessory=button())]
    )
    alice = sandbox.actor("alice")
    await alice.click(await alice.expect("choose"), "press")
    await sandbox.wait(lambda: not alice.ephemerals("#incidents"))

    assert bodies[0]["container"]["is_ephemeral"]
    assert "message" not in bodies[0]
