"""User groups, canvases, the Home tab, menus that ask, and messages for later."""

import asyncio
import time

import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox.inputs import ImpossibleError
from bot.sandbox.methods import canvases
from tests.sandbox.shapes import actions, field, modal, option, plain, section

TOO_MUCH = "é" * (512 * 1024 + 1)


async def refused(call) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return caught.value.response["error"]


def markdown(text: str) -> dict:
    return {"type": "markdown", "markdown": text}


def kinds(sandbox) -> list[str]:
    return [v.kind for v in sandbox.violations]


# User groups --------------------------------------------------------------------------------------------------------


async def test_a_user_group_is_listed_filled_anew_and_tells_of_it(app, sandbox, client):
    told = []

    @app.event("subteam_members_changed")
    async def changed(event):
        told.append((event["subteam_id"], event["added_users"], event["removed_users"], event["removed_users_count"]))

    (group,) = (await client.usergroups_list(include_users=True))["usergroups"]
    assert (group["handle"], group["users"]) == ("oncall", ["U01ALICE", "U02BOB"])
    made = await client.usergroups_users_update(usergroup=group["id"], users=["U02BOB", "U03CAROL"])
    await sandbox.wait(lambda: told)

    assert made["usergroup"]["users"] == ["U02BOB", "U03CAROL"]
    assert (await client.usergroups_users_list(usergroup=group["id"]))["users"] == ["U02BOB", "U03CAROL"]
    assert told == [(group["id"], ["U03CAROL"], ["U01ALICE"], "1")]
    sandbox.assert_no_violations()


async def test_a_user_group_is_never_empty_and_has_only_members(sandbox, client):
    update = client.usergroups_users_update

    assert await refused(update(usergroup="S01ONCALL", users="U04GUEST")) == "invalid_users"
    assert await refused(update(usergroup="S01ONCALL", users="U00BOT,U01ALICE")) == "invalid_users"
    assert await refused(update(usergroup="S01ONCALL", users=",")) == "no_users_provided"
    assert await refused(update(usergroup="S09", users="U01ALICE")) == "permission_denied"
    assert sandbox.workspace.groups["S01ONCALL"].users == ["U01ALICE", "U02BOB"]


async def test_people_change_who_is_on_call(app, sandbox):
    told = []

    @app.event("subteam_members_changed")
    async def changed(event):
        told.append(event["added_users"])

    await sandbox.actor("bob").staff("@oncall", "bob", "carol")
    await sandbox.wait(lambda: told == [["U03CAROL"]])

    with pytest.raises(ImpossibleError):
        await sandbox.actor("bob").staff("@oncall", "mallory")


# Canvases -----------------------------------------------------------------------------------------------------------


async def test_a_channel_has_one_canvas_and_its_members_alone_write_in_it(sandbox, client):
    made = await client.conversations_canvases_create(channel_id="C02INCIDENTS", document_content=markdown("# One"))
    again = client.conversations_canvases_create(channel_id="C02INCIDENTS", document_content=markdown(""))
    elsewhere = client.conversations_canvases_create(channel_id="C01GENERAL", document_content=markdown(""))

    assert await refused(again) == "channel_canvas_already_exists"
    assert await refused(elsewhere) == "channel_canvas_creation_failed"
    info = await client.conversations_info(channel="C02INCIDENTS")
    assert info["channel"]["properties"]["canvas"]["file_id"] == made["canvas_id"]
    await sandbox.actor("alice").remove("#incidents", "bot")
    assert await refused(client.canvases_delete(canvas_id=made["canvas_id"])) == "canvas_not_found"


async def test_a_canvas_is_changed_section_by_section(sandbox, client):
    text = "# Status\nAll is lost\n\n## Timeline\n\nfirst\n\nsecond"
    number = (await client.canvases_create(title="INC-1", document_content=markdown(text)))["canvas_id"]

    async def find(**criteria) -> list[str]:
        answer = await client.canvases_sections_lookup(canvas_id=number, criteria=criteria)
        return [found["id"] for found in answer["sections"]]

    async def change(operation: str, text: str | None = None, **more) -> None:
        content = {"document_content": markdown(text)} if text is not None else {}
        await client.canvases_edit(canvas_id=number, changes=[{"operation": operation, **content, **more}])

    canvas = sandbox.workspace.canvases[number]
    assert len(await find(section_types=["any_header"])) == 2
    (status,), (lost,) = await find(section_types=["h1"]), await find(contains_text="lost")
    await change("replace", "All is well", section_id=lost)
    await change("insert_after", "since 10:00", section_id=status)
    await change("insert_before", "Top", section_id=status)
    await change("insert_at_start", "Very top")
    await change("insert_at_end", "third")
    await change("delete", section_id=(await find(contains_text="second"))[0])
    await client.canvases_edit(
        canvas_id=number, changes=[{"operation": "rename", "title_content": markdown("INC-1 is over")}]
    )

    assert [s.text for s in canvas.sections] == [
        *("Very top", "Top", "# Status", "since 10:00", "All is well", "## Timeline", "first", "third")
    ]
    assert canvas.title == "INC-1 is over"
    await change("replace", "Nothing else")
    assert canvas.markdown == "Nothing else"
    sandbox.assert_no_violations()


async def test_an_edit_that_slack_would_refuse_changes_nothing(sandbox, client):
    half = "x" * 600_000
    number = (await client.canvases_create(document_content=markdown(half)))["canvas_id"]

    def edit(*changes, canvas: str = number):
        return client.canvases_edit(canvas_id=canvas, changes=list(changes))

    end = {"operation": "insert_at_end", "document_content": markdown("more")}
    assert await refused(edit(end, canvas="F0")) == "canvas_not_found"
    assert await refused(edit(end, end)) == "invalid_arguments"
    assert await refused(edit({**end, "document_content": {"type": "html", "html": "x"}})) == "invalid_arguments"
    assert await refused(edit({**end, "operation": "append"})) == "invalid_arguments"
    assert await refused(edit({**end, "operation": "replace", "section_id": "temp:C:0"})) == "canvas_editing_failed"
    assert await refused(edit({**end, "document_content": markdown(half)})) == "canvas_too_large"
    assert sandbox.workspace.canvases[number].markdown == half


# The client library thinks that a big body should be a file.
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_canvas_of_more_than_a_mebibyte_is_not_made(sandbox, client):
    assert await refused(client.canvases_create(document_content=markdown(TOO_MUCH))) == "canvas_creation_failed"
    assert kinds(sandbox) == ["canvas_too_large"]


async def test_access_is_given_to_people_or_to_channels(sandbox, client):
    number = (await client.canvases_create(document_content=markdown("hello")))["canvas_id"]
    allow = client.canvases_access_set

    await allow(canvas_id=number, access_level="read", channel_ids=["C02INCIDENTS"])
    await allow(canvas_id=number, access_level="write", user_ids=["U01ALICE", "U02BOB"])
    await client.canvases_access_delete(canvas_id=number, user_ids=["U02BOB"])
    await allow(canvas_id=number, access_level="owner", user_ids=["U03CAROL"])
    canvas = sandbox.workspace.canvases[number]

    assert canvas.access == {"C02INCIDENTS": "read", "U01ALICE": "write"}
    assert canvas.owner == "U03CAROL"
    both = allow(canvas_id=number, access_level="read", channel_ids=["C02INCIDENTS"], user_ids=["U01ALICE"])
    assert await refused(both) == "invalid_parameters"
    assert await refused(allow(canvas_id=number, access_level="read", user_ids=["U09"])) == "user_not_found"
    assert await refused(allow(canvas_id=number, access_level="read", channel_ids=["C09"])) == "channel_not_found"


async def test_a_deleted_canvas_is_gone_and_its_channel_may_have_another(sandbox, client):
    made = await client.conversations_canvases_create(channel_id="C02INCIDENTS", document_content=markdown(""))
    await client.canvases_delete(canvas_id=made["canvas_id"])

    assert await refused(client.canvases_delete(canvas_id=made["canvas_id"])) == "canvas_not_found"
    assert (await client.conversations_canvases_create(channel_id="C02INCIDENTS", document_content=markdown("")))[
        "canvas_id"
    ] != made["canvas_id"]


async def test_a_token_in_a_canvas_is_a_leaked_secret(sandbox, client):
    await client.canvases_create(document_content=markdown("use xoxb-1234567890-abc"))

    assert kinds(sandbox) == ["leaked_secret"]


def test_sections_are_headings_and_paragraphs():
    found = [s.text for s in canvases.sections("# A\nb\nc\n\n- d\n- e\n\n\n## F")]

    assert found == ["# A", "b\nc", "- d\n- e", "## F"]


# The Home tab and menus ---------------------------------------------------------------------------------------------


async def test_the_home_tab_is_told_with_what_it_shows_and_refuses_an_old_hash(app, sandbox, client):
    told = []

    @app.event("app_home_opened")
    async def opened(event):
        told.append(event)

    first = {"type": "home", "blocks": [section("First")]}
    old = (await client.views_publish(user_id="U01ALICE", view=first))["view"]["hash"]
    await client.views_publish(user_id="U01ALICE", view={"type": "home", "blocks": [section("Second")]}, hash=old)
    late = client.views_publish(user_id="U01ALICE", view=first, hash=old)

    assert await refused(late) == "hash_conflict"
    assert await refused(client.views_publish(user_id="U09", view=first)) == "missing_profile_id"
    await sandbox.actor("alice").home(contains="Second")
    await sandbox.wait(lambda: told)
    assert (told[0]["tab"], told[0]["user"]) == ("home", "U01ALICE")
    assert told[0]["view"]["blocks"][0]["text"]["text"] == "Second"
    sandbox.assert_no_violations()


def asking(**more) -> dict:
    return {"type": "external_select", "action_id": "service", "min_query_length": 2, **more}


async def test_a_menu_asks_the_app_for_its_options(app, sandbox):
    told = []

    @app.command("/inc")
    async def inc(ack, command, client):
        await client.views_open(trigger_id=command["trigger_id"], view=modal(field("about", asking())))
        await ack()

    @app.options("service")
    async def options(ack, body):
        told.append((body["value"], body["view"]["callback_id"], body["container"]["type"]))
        await ack(options=[option("checkout"), option("cart")])

    @app.view("form")
    async def form(ack, view):
        told.append(view["state"]["values"]["about"]["service"]["selected_option"]["value"])
        await ack()

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    view = await alice.modal()
    assert await alice.suggest(view, "service", "c") == []
    checkout, _ = await alice.suggest(view, "service", "ch")
    with pytest.raises(ImpossibleError, match="as it is"):
        await alice.fill(view, about="checkout")
    await alice.fill(view, about=checkout)

    assert told == [("ch", "form", "view"), "checkout"]
    sandbox.assert_no_violations()


@pytest.mark.parametrize(
    "answer",
    [{"options": [option(f"o{n}") for n in range(101)]}, {"options": [{"text": plain("x" * 76), "value": "x"}]}, {}],
)
async def test_options_that_slack_would_not_show_are_a_violation(app, sandbox, client, answer):
    @app.options("service")
    async def options(ack):
        await ack(**answer) if answer else await ack({"nothing": 1})

    await client.chat_postMessage(channel="#incidents", text="card", blocks=[actions(asking())])
    message = await sandbox.expect_message("#incidents", "card")

    assert await sandbox.actor("alice").suggest(message, "service", "ch") == []
    assert kinds(sandbox)[0] == "invalid_options"


# Messages for later -------------------------------------------------------------------------------------------------


async def test_a_message_comes_when_it_is_time(sandbox, client):
    at = int(time.time()) + 2
    made = await client.chat_scheduleMessage(channel="C02INCIDENTS", post_at=at, text="later")
    waiting = await client.chat_scheduledMessages_list(channel="C02INCIDENTS")

    assert [m["id"] for m in waiting["scheduled_messages"]] == [made["scheduled_message_id"]]
    assert sandbox.actor("alice").sees("#incidents") == []
    await sandbox.expect_message("#incidents", "later")
    assert (await client.chat_scheduledMessages_list())["scheduled_messages"] == []
    assert made["post_at"] == at


async def test_a_message_for_later_can_be_taken_back_until_its_last_minute(sandbox, client):
    soon, far = int(time.time()) + 30, int(time.time()) + 3600
    first = await client.chat_scheduleMessage(channel="C02INCIDENTS", post_at=soon, text="soon")
    second = await client.chat_scheduleMessage(channel="C02INCIDENTS", post_at=far, text="far")

    def take(made):
        number = made["scheduled_message_id"]
        return client.chat_deleteScheduledMessage(channel="C02INCIDENTS", scheduled_message_id=number)

    await take(second)
    assert await refused(take(second)) == "invalid_scheduled_message_id"
    assert await refused(take(first)) == "invalid_scheduled_message_id"
    assert len(sandbox.workspace.scheduled) == 1


async def test_messages_for_later_have_their_limits(sandbox, client):
    def schedule(at: float, channel: str = "C02INCIDENTS"):
        return client.chat_scheduleMessage(channel=channel, post_at=int(at), text="later")

    now = time.time()
    assert await refused(schedule(now - 60)) == "time_in_past"
    assert await refused(schedule(now + 121 * 86_400)) == "time_too_far"
    assert await refused(schedule(now + 600, "C01GENERAL")) == "not_in_channel"
    start = (now // 300 + 2) * 300
    for _ in range(30):
        await schedule(start)
    assert await refused(schedule(start + 1)) == "restricted_too_many"
    await asyncio.sleep(0)
    await sandbox.stop()
    assert sandbox.workspace.scheduled == {}
