"""The page: threads, the Home tab, and the traffic between Slack and the app, all over real HTTP."""

import asyncio
import json
import math
import re
from importlib.resources import files

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox import traffic
from bot.sandbox.page import STATIC, TICK_SECONDS, Watcher
from bot.sandbox.server import Sandbox
from tests.sandbox.conftest import MANIFEST
from tests.sandbox.shapes import actions, button, field, menu, modal, option, section

INCIDENTS = "C02INCIDENTS"


@pytest.fixture
async def http(sandbox):
    async with aiohttp.ClientSession(sandbox.url) as session:
        yield session


async def act(http: aiohttp.ClientSession, deed: str, user: str = "alice", **body) -> dict:
    async with http.post("/page/act", json={"do": deed, "user": user, **body}) as response:
        return await response.json()


async def state(http: aiohttp.ClientSession, user: str = "alice") -> dict:
    async with http.get("/page/state", params={"user": user}) as response:
        return await response.json()


async def incidents(http: aiohttp.ClientSession, user: str = "alice") -> dict:
    return next(c for c in (await state(http, user))["channels"] if c["id"] == INCIDENTS)


async def traffic_text(http: aiohttp.ClientSession) -> str:
    async with http.get("/page/traffic") as response:
        assert response.headers["Cache-Control"] == "no-store"
        return await response.text()


async def shown(http: aiohttp.ClientSession) -> dict:
    return json.loads(await traffic_text(http))


# Threads -----------------------------------------------------------------------------------------------------------


async def test_a_thread_says_how_many_replied_who_and_when(http, client, sandbox):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    await client.chat_postMessage(channel=INCIDENTS, text="unrelated")
    await act(http, "say", user="bob", channel=INCIDENTS, text="first", thread_ts=root)
    await client.chat_postMessage(channel=INCIDENTS, text="second", thread_ts=root)
    await act(http, "say", user="bob", channel=INCIDENTS, text="third", thread_ts=root)

    channel = await incidents(http)

    last = sandbox.workspace.channels[INCIDENTS].messages[-1]
    assert last.text == "third"
    assert channel["threads"] == {
        root: {"replies": 3, "private": 0, "users": ["U02BOB", "U00BOT"], "latest": last.ts},
    }
    assert {m["text"] for m in channel["messages"] if m.get("thread_ts") == root} == {"first", "second", "third"}


async def test_only_a_reply_that_was_also_sent_to_the_channel_is_marked_so(http, client):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    await client.chat_postMessage(channel=INCIDENTS, text="quiet", thread_ts=root)
    await client.chat_postMessage(channel=INCIDENTS, text="loud", thread_ts=root, reply_broadcast=True)

    marked = {m["text"]: m["broadcast"] for m in (await incidents(http))["messages"]}

    assert marked == {"root": False, "quiet": False, "loud": True}


async def test_an_ephemeral_reply_counts_for_the_one_who_sees_it_and_apart(http, client):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    await client.chat_postEphemeral(channel=INCIDENTS, user="U01ALICE", text="psst", thread_ts=root)

    alice, bob = await incidents(http), await incidents(http, "bob")

    assert (alice["threads"][root]["replies"], alice["threads"][root]["private"]) == (0, 1)
    assert bob["threads"] == {}


async def test_the_replies_outlive_a_root_that_was_deleted(http, client):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    await act(http, "say", channel=INCIDENTS, text="reply", thread_ts=root)
    await client.chat_delete(channel=INCIDENTS, ts=root)

    assert await act(http, "say", channel=INCIDENTS, text="again", thread_ts=root) == {}

    channel = await incidents(http)
    assert [m["text"] for m in channel["messages"]] == ["reply", "again"]
    assert channel["threads"][root]["replies"] == 2


async def test_an_answer_to_a_reply_joins_the_thread_of_its_root(http, client, sandbox):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    reply = (await client.chat_postMessage(channel=INCIDENTS, text="reply", thread_ts=root))["ts"]

    await act(http, "say", channel=INCIDENTS, text="answer", thread_ts=reply)

    assert sandbox.workspace.channels[INCIDENTS].messages[-1].thread_ts == root


async def test_nobody_replies_to_what_was_never_there(http, sandbox):
    assert await act(http, "say", channel=INCIDENTS, text="hello?", thread_ts="1.2") == {"error": "this thread is gone"}
    assert sandbox.workspace.channels[INCIDENTS].messages == []


async def test_a_slash_command_is_refused_in_a_thread_as_slack_does(app, http, client, sandbox):
    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]

    refused = await act(http, "say", channel=INCIDENTS, text="/inc help", thread_ts=root)

    assert refused == {"error": "/inc is not supported in threads"}
    assert [d for d in sandbox.workspace.deliveries if d.kind == "slash_commands"] == []
    assert len(sandbox.workspace.channels[INCIDENTS].messages) == 1


async def test_a_button_in_a_thread_tells_the_app_which_thread(app, http, client, sandbox):
    told = []

    @app.action("press")
    async def press(ack, body, client):
        await ack()
        told.append(body["container"])
        where = {"channel": body["channel"]["id"], "ts": body["message"]["ts"]}
        await client.chat_update(**where, text="pressed", blocks=[section("pressed")])

    root = (await client.chat_postMessage(channel=INCIDENTS, text="root"))["ts"]
    reply = await client.chat_postMessage(channel=INCIDENTS, text="?", thread_ts=root, blocks=[actions(button())])
    block = reply["message"]["blocks"][0]["block_id"]

    done = await act(http, "action", channel=INCIDENTS, ts=reply["ts"], block_id=block, action_id="press")

    assert done["error"] is None
    assert (told[0]["message_ts"], told[0]["thread_ts"]) == (reply["ts"], root)
    await sandbox.expect_message("#incidents", "pressed")
    assert next(m for m in (await incidents(http))["messages"] if m["ts"] == reply["ts"])["thread_ts"] == root


# Home --------------------------------------------------------------------------------------------------------------


def home(*blocks: dict) -> dict:
    return {"type": "home", "blocks": list(blocks)}


async def test_opening_home_tells_the_app_and_shows_what_it_publishes_to_this_person_alone(app, http, sandbox):
    @app.event("app_home_opened")
    async def opened(event, client):
        await client.views_publish(user_id=event["user"], view=home(section(f"hello <@{event['user']}>")))

    assert (await state(http))["home"] is None
    await act(http, "home")
    await sandbox.wait(lambda: sandbox.workspace.homes.get("U01ALICE"))

    alice, bob = await state(http), await state(http, "bob")
    assert alice["home"]["blocks"][0]["text"]["text"] == "hello <@U01ALICE>"
    assert bob["home"] is None
    assert alice["app"]["home"]
    assert alice["app"]["hears_home"]


async def test_buttons_and_fields_of_home_work(app, http, client, sandbox):
    told = []

    @app.action("save")
    async def save(ack, body, client):
        await ack()
        told.append((body["view"]["type"], body["view"]["state"]["values"]))
        await client.views_publish(user_id=body["user"]["id"], view=home(section("saved")))

    @app.action("menu")
    async def chosen(ack, body):
        await ack()
        told.append(body["actions"][0]["selected_option"]["value"])

    view = home(field("note"), {**actions(button("save"), menu("low", "high")), "block_id": "row"})
    await client.views_publish(user_id="U01ALICE", view=view)
    place = {"view": (await state(http))["home"]["id"], "block_id": "row"}

    await act(http, "action", **place, action_id="menu", value="high")
    await act(http, "action", **place, action_id="save", values={"note": {"value": "remember"}})
    foreign = await act(http, "action", user="bob", **place, action_id="save")

    await sandbox.wait(lambda: len(told) == 2)
    assert told[0] == "high"
    kind, values = told[1]
    assert kind == "home"
    assert values["note"]["value"]["value"] == "remember"
    assert values["row"]["menu"]["selected_option"]["value"] == "high"
    assert foreign == {"error": "this view is closed"}
    await sandbox.wait(lambda: sandbox.workspace.homes["U01ALICE"].contains("saved"))
    assert (await state(http))["home"]["blocks"][0]["text"]["text"] == "saved"
    sandbox.assert_no_violations()


async def test_a_menu_of_a_form_asks_the_app_for_what_is_typed_and_is_sent_as_chosen(app, http, sandbox):
    told = []

    @app.command("/inc")
    async def inc(ack, command, client):
        asking = {"type": "external_select", "action_id": "service", "min_query_length": 1}
        await client.views_open(trigger_id=command["trigger_id"], view=modal(field("about", asking)))
        await ack()

    @app.options("service")
    async def options(ack, body):
        await ack(options=[option(f"{body['value']}out")])

    @app.view("form")
    async def form(ack, view):
        told.append(view["state"]["values"]["about"]["service"]["selected_option"]["value"])
        await ack()

    await act(http, "say", channel=INCIDENTS, text="/inc")
    view = (await state(http))["modals"][-1]["id"]
    menu_ = {"view": view, "block_id": "about", "action_id": "service"}
    (chosen,) = (await act(http, "suggest", **menu_, typed="check"))["options"]
    assert chosen == option("checkout")
    assert await act(http, "suggest", **{**menu_, "action_id": "no"}) == {"error": "this menu is gone"}
    assert await act(http, "suggest", user="bob", **menu_) == {"error": "this view is closed"}

    done = await act(http, "submit", view=view, values={"about": {"value": chosen}})

    assert done["closed"]
    assert told == ["checkout"]
    sandbox.assert_no_violations()


async def test_a_manifest_without_a_home_tab_has_nothing_to_open():
    features = {**MANIFEST["features"], "app_home": {"home_tab_enabled": False}}
    async with Sandbox({**MANIFEST, "features": features}) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        assert not (await state(http))["app"]["home"]
        assert await act(http, "home") == {"error": "the app's manifest has no Home tab"}


async def test_the_page_knows_that_the_app_cannot_hear_home_being_opened():
    settings = {"event_subscriptions": {"bot_events": ["message.channels"]}}
    async with Sandbox({**MANIFEST, "settings": settings}) as sandbox, aiohttp.ClientSession(sandbox.url) as http:
        told = (await state(http))["app"]

    assert (told["home"], told["hears_home"]) == (True, False)


# Traffic -----------------------------------------------------------------------------------------------------------


async def test_deliveries_and_calls_are_listed_newest_first_with_what_they_were(app, http, client, sandbox):
    @app.command("/inc")
    async def inc(ack):
        await ack()

    assert (await shown(http))["rows"][-1]["name"] == "apps.connections.open"
    await act(http, "say", channel=INCIDENTS, text="/inc help")
    with pytest.raises(SlackApiError):
        await client.chat_postMessage(channel="C99", text="nowhere")
    await client.chat_postMessage(channel=INCIDENTS, text="hello", blocks=json.dumps([section("hello")]))
    await sandbox.wait(lambda: len(sandbox.workspace.deliveries) == 2)

    rows = (await shown(http))["rows"]

    assert [r["at"] for r in rows] == sorted((r["at"] for r in rows), reverse=True)
    command = next(r for r in rows if r["type"] == "delivery" and r["kind"] == "slash_commands")
    assert command["name"] == "slash command '/inc help'"
    assert (command["transport"], command["ok"], command["error"], command["retry"]) == ("socket", True, None, 0)
    assert command["level"] == traffic.level(True, command["ms"])
    assert 0 < command["ms"] == sandbox.workspace.deliveries[0].ms
    event = next(r for r in rows if r["type"] == "delivery" and r["kind"] == "events_api")
    assert event["name"] == "event message.channels"
    good, bad = [r for r in rows if r["name"] == "chat.postMessage"]
    assert (good["ok"], good["error"], good["token"], good["about"]) == (True, None, "bot", "#incidents")
    assert json.loads(good["args"])["blocks"][0]["text"]["text"] == "hello"
    assert (bad["ok"], bad["error"], bad["about"]) == (False, "channel_not_found", "")


async def test_what_the_app_does_not_acknowledge_in_time_is_listed_as_late(app, http, sandbox):
    @app.command("/inc")
    async def inc(ack):
        await asyncio.sleep(sandbox.limits.ack_seconds + 0.2)
        await ack()

    answer = await act(http, "say", channel=INCIDENTS, text="/inc")

    told = await shown(http)
    late = next(r for r in told["rows"] if r["type"] == "delivery" and r["kind"] == "slash_commands")
    assert answer["error"] == "operation_timeout"
    assert (late["ok"], late["error"], late["level"]) == (False, "operation_timeout", "failed")
    assert (told["summary"]["deliveries"], told["summary"]["failed"], told["summary"]["p50"]) == (1, 1, None)
    assert told["summary"]["violations"] == 1


async def test_the_figures_tell_rate_limits_from_other_errors(http, client, sandbox):
    sandbox.faults.add("chat.postMessage", "429", 2)
    sandbox.faults.add("users.info", "500")
    for call in (client.chat_postMessage(channel=INCIDENTS, text="x"), client.chat_postMessage(channel="C9", text="y")):
        with pytest.raises(SlackApiError, match="ratelimited"):
            await call
    with pytest.raises(SlackApiError):
        await client.users_info(user="U01ALICE")
    await client.auth_test()

    summary = (await shown(http))["summary"]

    assert (summary["calls"], summary["limited"], summary["errors"]) == (4, 2, 1)


async def test_no_token_reaches_the_page_wherever_it_stands(app, http, client, sandbox):
    @app.command("/inc")
    async def inc(ack):
        await ack()

    leak, rotating = "xoxb-12345-secretpart", "xoxe.xoxp-1-secretpart"
    async with http.get("/api/auth.test", params={"token": sandbox.bot_token, "other": leak}) as response:
        assert (await response.json())["ok"]
    blocks = json.dumps([section(f"line\n{leak} and {rotating}\nhttps://user:secretpart@example.com/")])
    await client.chat_postMessage(channel=INCIDENTS, text=f"_{sandbox.app_token}", blocks=blocks)
    await client.api_call("api.test", json={leak: "key", "deep": [{"a": "XAPP-1-SECRETPART"}]})
    await act(http, "say", channel=INCIDENTS, text=f"/inc note {leak}")

    text = await traffic_text(http)

    assert "secretpart" not in text.lower()
    assert sandbox.bot_token not in text
    assert sandbox.app_token not in text
    assert text.count("xoxb-***") >= 4
    assert "and xoxe.xoxp-***" in text


async def test_only_the_newest_are_sent_and_the_others_counted(http, client, sandbox):
    await asyncio.gather(*(client.api_call("api.test", params={"n": n}) for n in range(traffic.NEWEST + 5)))
    await client.api_test(last="yes")

    told = await shown(http)

    assert len(told["rows"]) == traffic.NEWEST
    assert told["left_off"] == 6
    assert told["summary"]["calls"] == traffic.NEWEST + 6
    assert '"last": "yes"' in told["rows"][0]["args"]


async def test_arguments_are_cut_after_tokens_are_hidden(http, client):
    filler = "x" * (traffic.LONGEST - 20)
    await client.api_call("api.test", json={"a": f"{filler} xoxb-{'s' * 200}-secretpart", "b": "y" * 500})

    args = (await shown(http))["rows"][0]["args"]

    assert len(args) < traffic.LONGEST + 60
    assert "ssss" not in args
    assert re.search(r"\n… \(\d+ more characters\)$", args)


async def test_arguments_that_no_json_can_hold_are_shown_as_they_came(http, client):
    await client.api_call("api.test", json={"odd": "{not json", "lone": "\ud800", "deep": "[" * 100_000})

    args = (await shown(http))["rows"][0]["args"]

    assert args.startswith('{\n  "odd": "{not json",\n  "lone": "\ud800",\n  "deep": "[[[[')


def test_arguments_that_are_nested_without_end_do_no_harm():
    deep: list = []
    for _ in range(5000):
        deep = [deep]

    assert traffic.pretty({"deep": deep}) == "(nested too deeply to be shown)"


@pytest.mark.parametrize(
    ("ok", "ms", "level"),
    [
        (True, 0.0, "fast"),
        (True, 499.9, "fast"),
        (True, 500.0, "fair"),
        (True, 999.9, "fair"),
        (True, 1000.0, "slow"),
        (True, 2999.9, "slow"),
        (True, 3000.0, "failed"),
        (False, 1.0, "failed"),
    ],
)
def test_an_acknowledgement_is_as_good_as_it_is_fast(ok, ms, level):
    assert traffic.level(ok, ms) == level


def test_a_percentile_is_one_of_the_values():
    values = [float(n) for n in range(1, 21)]

    assert [traffic.percentile(values, p) for p in (1, 50, 95, 100)] == [1.0, 10.0, 19.0, 20.0]
    assert traffic.percentile([7.0], 95) == 7.0
    assert traffic.percentile([], 50) is None


# The stream of changes ---------------------------------------------------------------------------------------------


async def test_much_traffic_is_told_twice_a_second_at_most_and_its_end_is_told(app, http, client, sandbox):
    loop = asyncio.get_running_loop()
    heard: list[str] = []
    async with http.get("/page/changes") as stream:
        start = loop.time()
        assert await stream.content.readuntil(b"data: hello\n\n")

        async def listen() -> None:
            async for line in stream.content:
                if line.startswith(b"data: "):
                    heard.append(line.decode().removeprefix("data: ").strip())
                    sandbox.workspace.touch("test")

        listening = asyncio.create_task(listen())
        for _ in range(60):
            await client.api_test()
        before = heard.count("traffic")
        await client.api_test()
        await sandbox.wait(lambda: heard.count("traffic") > before)
        listening.cancel()
        most = math.ceil((loop.time() - start) / TICK_SECONDS) + 1

    assert 0 < heard.count("traffic") <= most
    assert not {"calls", "deliveries"} & set(heard)


async def test_a_change_that_happens_often_is_told_once_to_a_page_that_is_slow():
    watcher = Watcher()
    for what in ("channel C1", "views U1", "channel C1", "calls", "deliveries", "calls"):
        watcher.hear(what)

    assert await watcher.news() == ["channel C1", "views U1"]
    assert await watcher.news() == ["traffic"]
    watcher.hear("calls")
    watcher.close()
    assert await watcher.news() == []


async def test_an_open_page_does_not_hold_up_the_end_of_the_sandbox():
    async with aiohttp.ClientSession() as http, Sandbox(MANIFEST) as sandbox:
        stream = await http.get(f"{sandbox.url}/page/changes")
        await stream.content.readline()
        await asyncio.wait_for(sandbox.stop(), 5)
        await asyncio.wait_for(stream.content.read(), 5)

        assert stream.content.at_eof()


# The files ---------------------------------------------------------------------------------------------------------


def source(name: str) -> str:
    return files("bot.sandbox").joinpath("static", name).read_text("utf-8")


def test_every_file_of_the_page_is_served_and_every_import_leads_to_one():
    assert {f.name for f in files("bot.sandbox").joinpath("static").iterdir()} == set(STATIC)
    for name in STATIC:
        for wanted in re.findall(r'["\'(]/static/([^"\')]+)', source(name)):
            assert wanted in STATIC, f"{name} wants {wanted}"


def test_whatever_the_scripts_look_for_is_on_the_page_once():
    ids = re.findall(r'\bid="([^"]+)"', source("index.html"))
    assert len(ids) == len(set(ids))
    # What a script makes itself, it may look for as well.
    scripts = {name: source(name) for name in STATIC if name.endswith(".js")}
    made = {i for text in scripts.values() for i in re.findall(r'\bid: "([^"]+)"', text)}
    for name, text in scripts.items():
        wanted = re.findall(r'(?:\$|getElementById)\("([^"]+)"\)', text)
        assert set(wanted) <= {*ids, *made}, name


def test_nothing_of_the_page_parses_html_or_needs_a_laxer_policy():
    page = source("index.html")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\bsrc=)", page)
    for name in STATIC:
        if name.endswith(".js"):
            unwanted = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc"
            assert not re.search(unwanted, source(name)), name
            assert not re.search(r'setAttribute\("style"|\bstyle: "', source(name)), name
