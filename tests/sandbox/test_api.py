"""The Web API, driven by the real Slack SDK."""

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.server import Sandbox
from tests.sandbox.conftest import MANIFEST
from tests.sandbox.shapes import actions, button, mrkdwn, section


async def refused(call) -> str:
    """The error code of a call that is refused."""
    with pytest.raises(SlackApiError) as caught:
        await call
    return caught.value.response["error"]


def kinds(sandbox: Sandbox) -> set[str]:
    return {v.kind for v in sandbox.violations}


async def room(client: AsyncWebClient, name: str = "inc-1", **more) -> str:
    return (await client.conversations_create(name=name, **more))["channel"]["id"]


async def test_auth_test_says_who_and_which_scopes(client, sandbox):
    answer = await client.auth_test()

    assert answer["user"] == "tocsin"
    assert "chat:write" in answer.headers["x-oauth-scopes"].split(",")
    sandbox.assert_no_violations()


async def test_a_wrong_token_and_the_wrong_kind_of_token_are_refused(sandbox, client):
    stranger = AsyncWebClient("xoxb-other", base_url=sandbox.api_url)

    assert await refused(stranger.auth_test()) == "invalid_auth"
    assert await refused(AsyncWebClient(base_url=sandbox.api_url).auth_test()) == "not_authed"
    assert await refused(client.apps_connections_open(app_token=sandbox.bot_token)) == "not_allowed_token_type"


async def test_arguments_may_come_as_query_form_or_json_and_the_token_as_argument(sandbox):
    async with aiohttp.ClientSession() as http:
        url, token = f"{sandbox.api_url}chat.postMessage", sandbox.bot_token
        body = {"channel": "C02INCIDENTS", "text": "hello", "token": token}
        for request in (
            http.get(url, params=body),
            http.post(url, params=body),
            http.post(url, data=body | {"blocks": '[{"type":"divider"}]'}),
            http.post(
                url,
                json={"channel": "C02INCIDENTS", "text": "hello", "blocks": [{"type": "divider"}]},
                headers={"Authorization": f"Bearer {token}"},
            ),
        ):
            async with request as response:
                assert (await response.json())["ok"]

    assert [c.token_kind for c in sandbox.calls] == ["bot"] * 4
    assert all("token" not in c.args for c in sandbox.calls)
    sandbox.assert_no_violations()


async def test_a_missing_scope_is_named():
    manifest = MANIFEST | {"oauth_config": {"scopes": {"bot": ["chat:write", "channels:manage"]}}}
    async with Sandbox(manifest) as sandbox:
        client = AsyncWebClient(sandbox.bot_token, base_url=sandbox.api_url)

        with pytest.raises(SlackApiError) as caught:
            await client.pins_add(channel="C02INCIDENTS", timestamp="1.2")

        assert caught.value.response.data == {
            "ok": False,
            "error": "missing_scope",
            "needed": "pins:write",
            "provided": "chat:write,channels:manage",
        }
        private = client.conversations_create(name="x", is_private=True)
        assert await refused(private) == "missing_scope"


async def test_an_unknown_method_or_argument_is_a_violation(client, sandbox):
    assert await refused(client.api_call("conversations.explode")) == "unknown_method"
    answer = await client.chat_postMessage(channel="C02INCIDENTS", text="hello", shout=True)

    assert answer["response_metadata"]["messages"] == ["[WARN] unknown argument: shout"]
    assert kinds(sandbox) == {"unknown_method", "unknown_argument"}


async def test_a_missing_argument_is_named(client):
    with pytest.raises(SlackApiError) as caught:
        await client.api_call("conversations.info", params={})

    assert caught.value.response["response_metadata"]["messages"] == ["[ERROR] missing required field: channel"]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("Inc-1", "invalid_name_specials"),
        ("inc 1", "invalid_name_specials"),
        ("inc.1", "invalid_name_specials"),
        ("-_-", "invalid_name_punctuation"),
        ("x" * 81, "invalid_name_maxlength"),
    ],
)
async def test_channel_names_keep_the_rules(client, sandbox, name, error):
    assert await refused(client.conversations_create(name=name)) == error
    assert kinds(sandbox) == {error}


async def test_an_archived_channel_keeps_its_name(client, sandbox):
    channel = await room(client)
    await client.conversations_archive(channel=channel)

    assert await refused(client.conversations_create(name="inc-1")) == "name_taken"
    assert await refused(client.conversations_archive(channel=channel)) == "already_archived"
    sandbox.assert_no_violations()


async def test_nothing_can_be_said_or_set_in_an_archived_channel(client, sandbox):
    channel = await room(client)
    await client.conversations_archive(channel=channel)

    assert await refused(client.chat_postMessage(channel=channel, text="x")) == "is_archived"
    assert await refused(client.conversations_setTopic(channel=channel, topic="x")) == "is_archived"
    assert kinds(sandbox) == {"is_archived"}


async def test_topics_have_250_characters(client, sandbox):
    channel = await room(client)
    await client.conversations_setTopic(channel=channel, topic="x" * 250)

    assert await refused(client.conversations_setTopic(channel=channel, topic="x" * 251)) == "too_long"
    assert kinds(sandbox) == {"too_long"}


async def test_a_bot_sets_topics_and_pins_only_where_it_is_a_member(client, sandbox):
    assert await refused(client.conversations_setTopic(channel="C01GENERAL", topic="x")) == "not_in_channel"
    posted = await client.chat_postMessage(channel="C01GENERAL", text="public channels are open")
    pin = client.pins_add(channel="C01GENERAL", timestamp=posted["ts"])
    assert await refused(pin) == "not_in_channel"
    assert await refused(client.conversations_history(channel="C01GENERAL")) == "not_in_channel"


async def test_a_private_channel_of_others_does_not_exist_for_the_bot(client, sandbox):
    channel = await sandbox.actor("bob").create("secret", private=True)

    assert await refused(client.conversations_info(channel=channel.id)) == "channel_not_found"
    assert await refused(client.chat_postMessage(channel=channel.id, text="x")) == "channel_not_found"


async def test_invitations_fail_by_person(client, sandbox):
    channel = await room(client)
    await client.conversations_invite(channel=channel, users=["U01ALICE", "U02BOB"])

    with pytest.raises(SlackApiError) as caught:
        await client.conversations_invite(channel=channel, users=["U01ALICE", "UNOBODY"])
    assert {e["user"]: e["error"] for e in caught.value.response["errors"]} == {
        "U01ALICE": "already_in_channel",
        "UNOBODY": "user_not_found",
    }
    forced = await client.conversations_invite(channel=channel, users="UNOBODY,U03CAROL", force=True)
    assert [e["user"] for e in forced["errors"]] == ["UNOBODY"]
    assert "U03CAROL" in (await client.conversations_members(channel=channel))["members"]
    sandbox.assert_no_violations()


async def test_bad_blocks_are_refused_with_their_place(client, sandbox):
    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="C02INCIDENTS", text="x", blocks=[section("x" * 3001)])

    assert caught.value.response["error"] == "invalid_blocks"
    assert "[json-pointer:/blocks/0/text/text]" in caught.value.response["errors"][0]
    assert kinds(sandbox) == {"invalid_blocks"}


@pytest.mark.parametrize(
    ("text", "blocks", "kind"),
    [
        ("the token is xoxb-1234567-abcdef", None, "leaked_secret"),
        ("look", [section("xapp-1-A0000-123456")], "leaked_secret"),
        ("<!channel> wake up", None, "broadcast"),
        ("look", [section("<!here> wake up")], "broadcast"),
        ("x" * 40_001, None, "text_cut"),
    ],
)
async def test_messages_that_slack_takes_but_people_would_not_are_violations(client, sandbox, text, blocks, kind):
    await client.chat_postMessage(channel="C02INCIDENTS", text=text, blocks=blocks)

    assert kinds(sandbox) == {kind}


async def test_blocks_without_fallback_text_are_a_violation(sandbox):
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{sandbox.api_url}chat.postMessage",
            json={"channel": "C02INCIDENTS", "blocks": [section()]},
            headers={"Authorization": f"Bearer {sandbox.bot_token}"},
        ) as response,
    ):
        assert (await response.json())["ok"]

    assert kinds(sandbox) == {"no_fallback"}
    with pytest.raises(AssertionError, match="no_fallback"):
        sandbox.assert_no_violations()
    sandbox.assert_no_violations(ignore=("no_fallback",))


async def test_an_escaped_mention_is_no_violation(client, sandbox):
    await client.chat_postMessage(channel="C02INCIDENTS", text="&lt;!channel&gt;", blocks=[section("@here")])

    sandbox.assert_no_violations()


async def test_all_text_together_has_12000_characters_and_an_update_4000(client, sandbox):
    long = [section("x" * 2500) for _ in range(5)]
    post = client.chat_postMessage(channel="C02INCIDENTS", text="x", blocks=long)
    assert await refused(post) == "msg_blocks_too_long"
    posted = await client.chat_postMessage(channel="C02INCIDENTS", text="x" * 4001)
    update = client.chat_update(channel="C02INCIDENTS", ts=posted["ts"], text="x" * 4001)
    assert await refused(update) == "msg_too_long"


async def test_an_update_replaces_and_a_delete_removes(client, sandbox):
    posted = await client.chat_postMessage(channel="C02INCIDENTS", text="a", blocks=[actions(button())])
    assert posted["message"]["blocks"][0]["block_id"]
    await client.chat_update(channel="C02INCIDENTS", ts=posted["ts"], text="b", blocks=[section("c")])

    message = await sandbox.expect_message("#incidents", "c")
    assert message.text == "b"
    await client.chat_delete(channel="C02INCIDENTS", ts=posted["ts"])
    assert await refused(client.chat_delete(channel="C02INCIDENTS", ts=posted["ts"])) == "message_not_found"


async def test_only_own_messages_can_be_changed(client, sandbox):
    said = await sandbox.actor("alice").say("#incidents", "mine")

    update = client.chat_update(channel="C02INCIDENTS", ts=said.ts, text="yours")
    assert await refused(update) == "cant_update_message"
    assert await refused(client.chat_delete(channel="C02INCIDENTS", ts=said.ts)) == "cant_delete_message"


async def test_history_is_newest_first_paged_and_finds_metadata(client, sandbox):
    mark = {"event_type": "tocsin", "event_payload": {"outbox_id": "7"}}
    first = await client.chat_postMessage(channel="C02INCIDENTS", text="one", metadata=mark)
    await client.chat_postMessage(channel="C02INCIDENTS", text="reply", thread_ts=first["ts"])
    await client.chat_postMessage(channel="C02INCIDENTS", text="two")

    page = await client.conversations_history(channel="C02INCIDENTS", limit=1)
    assert ([m["text"] for m in page["messages"]], page["has_more"]) == (["two"], True)
    rest = await client.conversations_history(
        channel="C02INCIDENTS", cursor=page["response_metadata"]["next_cursor"], include_all_metadata=True
    )
    assert [(m["text"], m["reply_count"], m["metadata"]) for m in rest["messages"]] == [("one", 1, mark)]
    thread = await client.conversations_replies(channel="C02INCIDENTS", ts=first["ts"])
    assert [m["text"] for m in thread["messages"]] == ["one", "reply"]
    later = await client.conversations_history(channel="C02INCIDENTS", oldest=first["ts"])
    assert [m["text"] for m in later["messages"]] == ["two"]
    sandbox.assert_no_violations()


async def test_pins_bookmarks_and_reactions(client, sandbox):
    posted = await client.chat_postMessage(channel="C02INCIDENTS", text="card")
    where = {"channel": "C02INCIDENTS", "timestamp": posted["ts"]}
    await client.pins_add(**where)
    await client.reactions_add(name="eyes", **where)
    made = await client.bookmarks_add(
        channel_id="C02INCIDENTS", title="Runbook", type="link", link="https://example.com"
    )

    assert await refused(client.pins_add(**where)) == "already_pinned"
    assert await refused(client.reactions_add(name="eyes", **where)) == "already_reacted"
    pinned = await client.pins_list(channel="C02INCIDENTS")
    assert [i["message"]["text"] for i in pinned["items"]] == ["card"]
    number = made["bookmark"]["id"]
    await client.bookmarks_edit(channel_id="C02INCIDENTS", bookmark_id=number, title="Graph")
    listed = await client.bookmarks_list(channel_id="C02INCIDENTS")
    assert [b["title"] for b in listed["bookmarks"]] == ["Graph"]
    await client.bookmarks_remove(channel_id="C02INCIDENTS", bookmark_id=number)
    await client.reactions_remove(name="eyes", **where)
    assert "reactions" not in (await client.reactions_get(**where))["message"]
    await client.pins_remove(**where)
    sandbox.assert_no_violations()


async def test_people_groups_and_direct_messages(client, sandbox):
    found = await client.users_lookupByEmail(email="bob@example.com")
    assert found["user"]["id"] == "U02BOB"
    assert await refused(client.users_lookupByEmail(email="x@example.com")) == "users_not_found"
    assert (await client.users_info(user="U04GUEST"))["user"]["is_restricted"]
    assert (await client.usergroups_users_list(usergroup="S01ONCALL"))["users"] == ["U01ALICE", "U02BOB"]
    direct = await client.conversations_open(users="U02BOB")
    await client.chat_postMessage(channel=direct["channel"]["id"], text="hello")
    posted = await client.chat_postMessage(channel="U02BOB", text="hello again")
    assert posted["channel"] == direct["channel"]["id"]
    mine = await client.users_conversations(types="public_channel,im")
    assert {c["id"] for c in mine["channels"]} == {"C02INCIDENTS", posted["channel"]}
    sandbox.assert_no_violations()


async def test_a_file_goes_up_in_three_steps(client, sandbox):
    done = await client.files_upload_v2(
        channel="C02INCIDENTS", content="# Draft", filename="draft.md", title="Draft", initial_comment="Here"
    )

    message = await sandbox.expect_message("#incidents", "Here")
    assert [f["title"] for f in message.files] == ["Draft"]
    async with aiohttp.ClientSession() as http, http.get(done["file"]["url_private_download"]) as response:
        assert await response.text() == "# Draft"
        assert response.headers["Content-Disposition"].startswith("attachment")
    sandbox.assert_no_violations()


async def test_a_file_whose_bytes_did_not_arrive_cannot_be_completed(client, sandbox):
    slot = await client.files_getUploadURLExternal(filename="a.txt", length=10)
    number = slot["file_id"]
    complete = client.files_completeUploadExternal(files=[{"id": number}], channel_id="C02INCIDENTS")
    assert await refused(complete) == "file_not_found"

    async with aiohttp.ClientSession() as http, http.post(slot["upload_url"], data=b"short") as response:
        assert response.status == 400
    complete = client.files_completeUploadExternal(files=[{"id": number}], channel_id="C02INCIDENTS")
    assert await refused(complete) == "file_not_found"
    assert kinds(sandbox) == {"upload_length"}


async def test_an_ephemeral_message_is_seen_by_one_person(client, sandbox):
    await client.chat_postEphemeral(channel="C02INCIDENTS", user="U01ALICE", text="psst")

    assert [m.text for m in sandbox.actor("alice").ephemerals("#incidents")] == ["psst"]
    assert sandbox.actor("bob").sees("#incidents") == []
    stranger = client.chat_postEphemeral(channel="C02INCIDENTS", user="U04GUEST", text="psst")
    assert await refused(stranger) == "user_not_in_channel"


async def test_blocks_validate_tells_every_problem(client):
    with pytest.raises(SlackApiError) as caught:
        await client.api_call("blocks.validate", json={"blocks": [{"type": "section"}, {"type": "x"}]})

    assert [e["pointer"] for e in caught.value.response["errors"]] == ["/blocks/0", "/blocks/1/type"]
    fine = await client.api_call("blocks.validate", json={"blocks": [section(accessory=button())]})
    assert fine["ok"]


async def test_a_lenient_sandbox_records_nothing():
    async with Sandbox(MANIFEST, strict=False) as sandbox:
        client = AsyncWebClient(sandbox.bot_token, base_url=sandbox.api_url)
        body = [{"type": "context", "elements": [mrkdwn("<!here>")]}]
        await client.chat_postMessage(channel="C02INCIDENTS", text="x", blocks=body)

        sandbox.assert_no_violations()
