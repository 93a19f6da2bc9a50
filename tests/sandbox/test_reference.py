"""The sandbox against Slack's published table of methods: arguments, scopes, rates, errors, and what answers hold."""

import time

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox.methods.method import RefusedError, Request
from bot.sandbox.methods.table import METHODS
from bot.sandbox.state import Call
from tests.sandbox import reference
from tests.sandbox.shapes import modal, section

TIERS = {"t1": 1, "t2": 2, "t3": 3, "t4": 4, "t5": 5, None: 0}


def call(method: str, *args: str, error: str | None = None, keys: tuple[str, ...] = ("ok",)) -> Call:
    return Call(method, dict.fromkeys(args, "x"), 0.0, "", error is None, error, "bot", keys)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_the_documented_arguments_and_no_others(name):
    known = set(reference.table()[name]["args"])
    taken = {*METHODS[name].needs, *METHODS[name].takes}

    assert taken - reference.EXTRA.get(name, set()) - reference.ANYWHERE == known - reference.ANYWHERE


@pytest.mark.parametrize("name", METHODS)
def test_a_method_needs_the_arguments_that_are_documented_as_required(name):
    required = {k for k, about in reference.table()[name]["args"].items() if about["required"]} - {"token"}

    allowed = (required | reference.NEEDED.get(name, set())) - reference.EMPTY.get(name, set())
    assert set(METHODS[name].needs) == allowed


@pytest.mark.parametrize("name", METHODS)
def test_a_method_asks_for_documented_scopes(name):
    scopes = METHODS[name].scopes
    asked = {scopes} - {""} if isinstance(scopes, str) else set(scopes.values())
    documented = set((reference.table()[name]["scope"] or {}).get("bot") or [])

    assert asked <= documented
    assert bool(asked) == bool(documented)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_documented_rate(name):
    assert METHODS[name].tier == TIERS[reference.table()[name]["tier"]]


@pytest.mark.parametrize(
    "name", sorted(set(METHODS) - {"api.test"})
)  # which answers with whatever error it is asked for
def test_a_method_refuses_with_documented_errors(name):
    assert reference.Codes().of(METHODS[name].run) <= reference.documented(name)


async def test_every_method_answers_with_documented_keys(sandbox, client):
    """One call of each method that succeeds; the fixture compares all answers with the table."""
    general, room = "C01GENERAL", "C02INCIDENTS"
    trigger = sandbox.workspace.new_trigger("U01ALICE")
    view = (await client.views_open(trigger_id=trigger.id, view=modal()))["view"]
    pushed = sandbox.workspace.new_trigger("U01ALICE", view["id"])
    await client.views_push(trigger_id=pushed.id, view=modal())
    await client.views_update(view_id=view["id"], view=modal())
    await client.views_publish(user_id="U01ALICE", view={"type": "home", "blocks": [section()]})

    await client.api_test()
    await client.auth_test()
    await client.apps_connections_open(app_token=sandbox.app_token)
    await client.team_info()
    await client.bots_info()
    await client.api_call("blocks.validate", json={"blocks": [section()]})

    ts = (await client.chat_postMessage(channel=room, text="one"))["ts"]
    await client.chat_update(channel=room, ts=ts, text="two")
    await client.chat_postEphemeral(channel=room, user="U01ALICE", text="psst")
    await client.chat_getPermalink(channel=room, message_ts=ts)
    later = await client.chat_scheduleMessage(channel=room, post_at=int(time.time()) + 3600, text="later")
    await client.chat_scheduledMessages_list()
    number = later["scheduled_message_id"]
    await client.chat_deleteScheduledMessage(channel=room, scheduled_message_id=number)

    await client.reactions_add(channel=room, timestamp=ts, name="eyes")
    await client.reactions_get(channel=room, timestamp=ts)
    await client.reactions_remove(channel=room, timestamp=ts, name="eyes")
    await client.pins_add(channel=room, timestamp=ts)
    await client.pins_list(channel=room)
    await client.pins_remove(channel=room, timestamp=ts)
    link = {"title": "Docs", "link": "https://example.com/"}
    mark = (await client.bookmarks_add(channel_id=room, type="link", **link))["bookmark"]["id"]
    await client.bookmarks_edit(channel_id=room, bookmark_id=mark, title="Other")
    await client.bookmarks_list(channel_id=room)
    await client.bookmarks_remove(channel_id=room, bookmark_id=mark)

    made = (await client.conversations_create(name="inc-1"))["channel"]["id"]
    await client.conversations_rename(channel=made, name="inc-2")
    await client.conversations_setTopic(channel=made, topic="topic")
    await client.conversations_setPurpose(channel=made, purpose="purpose")
    await client.conversations_invite(channel=made, users=["U01ALICE"])
    await client.conversations_kick(channel=made, user="U01ALICE")
    await client.conversations_info(channel=made)
    await client.conversations_list()
    await client.conversations_members(channel=made)
    await client.conversations_history(channel=room)
    await client.conversations_replies(channel=room, ts=ts)
    await client.conversations_open(users=["U01ALICE"])
    await client.conversations_open(users=["U01ALICE"], return_im=True)
    await client.conversations_join(channel=general)
    await client.conversations_join(channel=general)
    await client.users_conversations()
    await client.conversations_archive(channel=made)
    await client.conversations_unarchive(channel=made)
    await client.conversations_leave(channel=made)
    await client.conversations_leave(channel=made)

    await client.users_info(user="U01ALICE")
    await client.users_list()
    await client.users_lookupByEmail(email="alice@example.com")
    await client.usergroups_list()
    await client.usergroups_users_list(usergroup="S01ONCALL")
    await client.usergroups_users_update(usergroup="S01ONCALL", users=["U01ALICE"])

    place = await client.files_getUploadURLExternal(filename="a.txt", length=1)
    async with aiohttp.ClientSession() as http, http.post(place["upload_url"], data=b"x") as response:
        assert response.status == 200
    await client.files_completeUploadExternal(files=[{"id": place["file_id"], "title": "A"}], channel_id=room)
    await client.files_info(file=place["file_id"])

    text = {"type": "markdown", "markdown": "# One"}
    await client.conversations_canvases_create(channel_id=room, document_content=text)
    canvas = (await client.canvases_create(document_content=text))["canvas_id"]
    await client.canvases_edit(canvas_id=canvas, changes=[{"operation": "replace", "document_content": text}])
    await client.canvases_sections_lookup(canvas_id=canvas, criteria={"section_types": ["h1"]})
    await client.canvases_access_set(canvas_id=canvas, access_level="read", user_ids=["U01ALICE"])
    await client.canvases_access_delete(canvas_id=canvas, user_ids=["U01ALICE"])
    await client.canvases_delete(canvas_id=canvas)
    await client.chat_delete(channel=room, ts=ts)

    assert {c.method for c in sandbox.calls if c.ok} == set(METHODS)
    assert reference.bad_calls(sandbox.calls) == []
    assert reference.bad_answers(sandbox.calls) == []


async def test_what_a_call_of_the_app_lacks_or_has_too_much_of_is_found(sandbox, client):
    with pytest.raises(SlackApiError):
        await client.api_call("pins.add", params={"channels": "C02INCIDENTS"})

    assert reference.bad_calls(sandbox.calls) == ["pins.add: lacks channel", "pins.add: takes no channels"]
    assert reference.bad_calls([call("chat.shout", "text")]) == ["chat.shout: not documented"]
    assert reference.bad_calls([call("conversations.setTopic", "channel", "team_id")]) == []


def test_an_undocumented_error_or_key_of_an_answer_is_found():
    odd = [call("pins.add", error="no_such_pin"), call("pins.add", keys=("ok", "pin"))]

    assert reference.bad_answers(odd) == ["pins.add: answered no_such_pin", "pins.add: answered with pin"]
    assert reference.bad_answers([call("pins.add", error="ratelimited"), call("pins.add", error="no_pin")]) == [
        "pins.add: answered no_pin"
    ]


def test_errors_are_found_wherever_a_method_gets_them_from():
    """The reader of the sources is tried on a method made for it, and on known ones that hide theirs well."""
    found = {name: reference.Codes().of(METHODS[name].run) for name in METHODS}

    assert found["canvases.edit"] >= {"canvas_editing_failed", "canvas_not_found", "canvas_too_large"}
    assert found["conversations.invite"] >= {"cant_invite_self", "already_in_channel", "is_archived", "not_in_channel"}
    assert found["conversations.history"] >= {"invalid_ts_oldest", "invalid_ts_latest", "invalid_cursor"}
    assert found["bookmarks.add"] >= {"permission_denied", "channel_not_found"}
    assert "is_archived" not in found["conversations.archive"]  # it asks for no active channel
    assert "msg_too_long" not in found["chat.postMessage"]
    assert reference.Codes().of(_example) == {"plain", "one", "other", "channel_not_found", "is_archived"}


def _example(request: Request) -> None:
    if request.flag("x"):
        raise RefusedError("plain")
    request.channel(active=True, member=False)
    raise RefusedError("one" if request.flag("y") else "other")
