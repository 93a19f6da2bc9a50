"""The Slack client against the sandbox: patient where it may be, honest always."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bot.incidents.chat import NameTaken, Notice, Remark
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.shelf import Shelf
from bot.sandbox.server import Sandbox
from bot.sandbox.state import Limits
from bot.slack import manifest
from bot.slack.app import draw
from bot.slack.client import Pace, Refused, SlackChat


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    app = manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())
    async with Sandbox(app, limits=Limits(rate_factor=50)) as made:
        yield made
        made.assert_no_violations()


@pytest.fixture
async def chat(sandbox: Sandbox) -> AsyncIterator[SlackChat]:
    async with aiohttp.ClientSession() as session:
        web = AsyncWebClient(sandbox.bot_token, base_url=sandbox.api_url, session=session, retry_handlers=[])
        made = SlackChat(web, session, draw, timeout=1.0, pace=Pace(rate=50))
        await made.hello()
        yield made


def since() -> datetime:
    return datetime.now(UTC)


async def test_a_429_is_waited_out_for_its_own_method_and_for_no_other(sandbox: Sandbox, chat: SlackChat):
    channel = await chat.create_channel("inc-1", private=False)
    sandbox.faults.add("conversations.setTopic", "429", retry_after=1)
    started = time.monotonic()
    topic = asyncio.ensure_future(chat.set_topic(channel.id, "one"))
    await chat.post(channel.id, Notice("meanwhile"), key="k")
    assert not topic.done()
    await topic
    assert time.monotonic() - started > 0.95
    assert sandbox.workspace.channels[channel.id].topic.value == "one"

    sandbox.faults.add("conversations.setTopic", "429", retry_after=120)
    with pytest.raises(TemporaryError, match="wait") as refused:
        await chat.set_topic(channel.id, "two")
    assert refused.value.after > 100


async def test_an_answer_that_is_no_json_and_one_that_never_comes_are_for_now(sandbox: Sandbox, chat: SlackChat):
    channel = await chat.create_channel("inc-1", private=False)
    for kind in ("500", "lost", "slow"):
        sandbox.faults.add("conversations.setTopic", kind, seconds=1.2)
        with pytest.raises(TemporaryError, match=r"conversations\.setTopic") as error:
            await chat.set_topic(channel.id, "x")
        assert sandbox.bot_token not in f"{error.value!r} {error.value.__cause__!r}"


async def test_a_refusal_says_what_a_person_can_do(sandbox: Sandbox, chat: SlackChat):
    for code, hint in (("restricted_action", "workspace admin"), ("missing_scope", "tocsin manifest")):
        sandbox.faults.add("conversations.create", "error", error=code)
        with pytest.raises(Refused, match=hint) as error:
            await chat.create_channel("inc-1", private=False)
        assert error.value.code == code
        assert "conversations.create" in str(error.value)


async def test_a_private_channel_that_slack_made_public_is_refused_and_never_adopted(sandbox: Sandbox, chat: SlackChat):
    create = sandbox.workspace.create
    sandbox.workspace.create = lambda name, user, private=False: create(name, user)
    with pytest.raises(PermanentError, match="public although it was asked for a private"):
        await chat.create_channel("inc-9", private=True)

    assert await chat.find_channel(["inc-9"], private=True, since=since()) is None
    assert (await chat.find_channel(["inc-9"], private=False, since=since())) is not None


async def test_only_a_channel_of_our_own_and_of_this_time_is_found(sandbox: Sandbox, chat: SlackChat):
    bob = sandbox.actor("bob")
    theirs = await bob.create("inc-2")
    await bob.invite(theirs, "bot")
    mine = await chat.create_channel("inc-3", private=False)
    with pytest.raises(NameTaken):
        await chat.create_channel("inc-2", private=False)

    assert await chat.find_channel(["inc-2"], private=False, since=since()) is None
    assert await chat.find_channel(["inc-3", "inc-3-2"], private=False, since=since()) == mine
    assert await chat.find_channel(["inc-3"], private=False, since=since() + timedelta(hours=1)) is None


async def test_who_can_be_invited_is_and_who_cannot_is_named_with_the_reason(sandbox: Sandbox, chat: SlackChat):
    channel = await chat.create_channel("inc-1", private=False)
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    people = [alice.id, "bob@example.com", "nobody@example.com", "U99GONE", sandbox.workspace.bot.id]
    refused = await chat.invite(channel.id, people)

    members = sandbox.workspace.channels[channel.id].members
    assert {alice.id, bob.id} <= set(members)
    assert refused["nobody@example.com"] == "nobody in this workspace has this address"
    assert "nobody by this id" in refused["U99GONE"]
    assert len(refused) == 2
    assert await chat.invite(channel.id, [alice.id, bob.id]) == {}
    assert await chat.invite(channel.id, [alice.id]) == {}


async def test_what_is_there_is_found_and_not_made_again(sandbox: Sandbox, chat: SlackChat):
    channel = (await chat.create_channel("inc-1", private=False)).id
    await chat.set_topic(channel, "<@U01ALICE> & <!channel> " + "y" * 300)
    assert await chat.has_topic(channel, "<@U01ALICE> & <!channel> " + "y" * 300)
    assert len(sandbox.workspace.channels[channel].topic.value) <= 250
    await chat.bookmark(channel, "Runbook", "https://r.example/a")
    assert await chat.has_bookmark(channel, "https://r.example/a")
    assert not await chat.has_bookmark(channel, "https://r.example/b")
    ts = await chat.post(channel, Notice("once"), key="one")
    await chat.pin(channel, ts)
    await chat.pin(channel, ts)
    assert await chat.find_post(channel, "one", since=since()) == ts
    assert await chat.find_post(channel, "two", since=since()) is None


async def test_what_stands_below_a_message_is_found_there_and_has_a_link(sandbox: Sandbox, chat: SlackChat):
    channel = (await chat.create_channel("inc-1", private=False)).id
    top = await chat.post(channel, Notice("the run"), key="run")
    below = await chat.post(channel, Remark("*done* &amp; dusted"), key="say", thread=top)
    shown = await chat.post(channel, Remark("also here"), key="both", thread=top, broadcast=True)

    messages = {message.ts: message for message in sandbox.workspace.channels[channel].messages}
    assert (messages[below].thread_ts, messages[below].text) == (top, "*done* &amp; dusted")
    assert messages[shown].extra == {"broadcast": True}
    assert await chat.find_post(channel, "say", since=since()) is None
    assert await chat.find_post(channel, "say", since=since(), thread=top) == below
    assert await chat.find_post(channel, "both", since=since(), thread=top) == shown
    assert (await chat.permalink(channel, below)).endswith(below)
    with pytest.raises(Refused, match="message_not_found"):
        await chat.permalink(channel, "1.5")


async def test_a_channel_is_found_by_its_name_and_joined(sandbox: Sandbox, chat: SlackChat):
    bob = sandbox.actor("bob")
    made = await bob.create("ops")

    assert await chat.place("#ops") == made.id == await chat.place(made.id)
    assert sandbox.workspace.bot.id in made.members
    with pytest.raises(PermanentError, match="no channel #nowhere that the bot may see"):
        await chat.place("nowhere")


async def test_a_missing_announcement_channel_is_named_and_a_new_one_is_taken(sandbox: Sandbox, chat: SlackChat):
    bob = sandbox.actor("bob")
    place = await chat.announcement_channel()
    assert place == "C02INCIDENTS"
    sandbox.workspace.rename(sandbox.workspace.channels[place], bob.id, "old-incidents")
    new = await bob.create("incidents")
    sandbox.faults.add("chat.postMessage", "error", error="channel_not_found")
    with pytest.raises(Refused):
        await chat.post(place, Notice("x"), key="x")
    assert await chat.announcement_channel() == new.id
    assert sandbox.workspace.bot.id in new.members

    chat._place, chat._announcements = None, "nowhere"
    with pytest.raises(PermanentError, match="there is no channel #nowhere"):
        await chat.announcement_channel()


async def test_messages_to_one_channel_are_paced_and_to_others_are_not():
    pace = Pace(rate=0.01, burst=3)  # a turn every hundred seconds: what is not free now does not come in this test
    one = [asyncio.ensure_future(pace.wait("C1")) for _ in range(6)]
    others = [asyncio.ensure_future(pace.wait(f"D{n}")) for n in range(50)]
    await asyncio.gather(*others, *one[:3])

    assert [wait.done() for wait in one] == [True] * 3 + [False] * 3
    for wait in one:
        wait.cancel()
    await asyncio.gather(*one, return_exceptions=True)


async def test_channels_that_were_quiet_for_long_are_forgotten():
    pace = Pace(rate=1000, burst=3)
    await asyncio.gather(*(pace.wait(f"D{n}") for n in range(2000)))
    await asyncio.sleep(0.05)
    await pace.wait("C2")

    assert len(pace._free) < 1100
