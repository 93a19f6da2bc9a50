"""Modals: triggers, stacks, validation, and what submitting does."""

import asyncio

import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox.inputs import ImpossibleError
from tests.sandbox.shapes import actions, button, field, menu, modal, plain, section

NUMBER = {"type": "number_input", "action_id": "value", "is_decimal_allowed": False, "min_value": "1", "max_value": "9"}


async def error_of(call) -> str | None:
    try:
        await call
    except SlackApiError as error:
        return error.response["error"]
    return None


def opens(app, view):
    """Let ``/inc`` open this view."""

    @app.command("/inc")
    async def inc(ack, command, client):
        await client.views_open(trigger_id=command["trigger_id"], view=view)
        await ack()


async def test_a_command_opens_a_modal_and_submitting_closes_it(app, sandbox):
    opens(app, modal(field("name"), field("level", menu("low", "high"), optional=True)))
    told = []

    @app.view("form")
    async def form(ack, view):
        told.append(view["state"]["values"])
        await ack()

    alice = sandbox.actor("alice")
    reply = await alice.slash("/inc")
    result = await alice.fill(await alice.modal(title="Form"), name="x", level="high")

    assert reply.modal is not None
    assert result.closed
    assert told[0]["name"]["value"] == {"type": "plain_text_input", "value": "x"}
    assert told[0]["level"]["menu"]["selected_option"]["value"] == "high"
    assert sandbox.workspace.top(alice.id) is None
    sandbox.assert_no_violations()


async def test_a_trigger_opens_one_view_and_only_soon(app, sandbox):
    errors = []

    @app.command("/inc")
    async def inc(ack, command, client):
        trigger = command["trigger_id"]
        await ack()
        if command["text"] == "late":
            await asyncio.sleep(0.5)
        errors.append(await error_of(client.views_open(trigger_id=trigger, view=modal())))
        errors.append(await error_of(client.views_open(trigger_id=trigger, view=modal())))
        errors.append(await error_of(client.views_open(trigger_id="nonsense", view=modal())))

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    await sandbox.wait(lambda: len(errors) == 3)
    await alice.slash("/inc late")
    await sandbox.wait(lambda: len(errors) == 6)

    assert errors[:3] == [None, "exchanged_trigger_id", "invalid_trigger_id"]
    assert errors[3] == "expired_trigger_id"
    kinds = {v.kind for v in sandbox.violations}
    assert kinds == {"exchanged_trigger_id", "invalid_trigger_id", "expired_trigger_id"}


async def test_a_bad_view_is_refused_and_does_not_use_up_the_trigger(app, sandbox):
    errors = []

    @app.command("/inc")
    async def inc(ack, command, client):
        views = (modal(title=plain("x" * 25)), modal(private_metadata="x" * 300_000), modal())
        trigger = command["trigger_id"]
        errors.extend([await error_of(client.views_open(trigger_id=trigger, view=v)) for v in views])
        await ack()

    await sandbox.actor("alice").slash("/inc")

    assert errors == ["invalid_arguments", "view_too_large", None]


async def test_errors_are_shown_at_their_fields(app, sandbox):
    opens(app, modal(field("name"), field("other", optional=True)))

    @app.view("form")
    async def form(ack, view):
        await ack(response_action="errors", errors={"name": "Too short"})

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    modal_ = await alice.modal()
    result = await alice.fill(modal_, name="x")

    assert (result.errors, result.closed) == ({"name": "Too short"}, False)
    assert modal_.open
    sandbox.assert_no_violations()


async def test_errors_for_fields_that_do_not_exist_are_a_violation(app, sandbox):
    opens(app, modal(field("name")))

    @app.view("form")
    async def form(ack):
        await ack(response_action="errors", errors={"nmae": "Too short"})

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    result = await alice.fill(await alice.modal(), name="x")

    assert result.error == "bad_response"
    assert [v.kind for v in sandbox.violations] == ["bad_response"]
    assert "trouble" in sandbox.workspace.notices[-1].text


async def test_a_submission_may_update_push_and_clear(app, sandbox):
    opens(app, modal(field("step"), callback_id="one"))

    @app.view("one")
    async def one(ack):
        await ack(response_action="push", view=modal(field("step"), callback_id="two", title=plain("Two")))

    @app.view("two")
    async def two(ack):
        await ack(response_action="update", view=modal(field("step"), callback_id="three", title=plain("Three")))

    @app.view("three")
    async def three(ack):
        await ack(response_action="clear")

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    first = await alice.modal()
    await alice.fill(first, step="1")
    second = await alice.modal(title="Two")
    assert (second.previous, second.root) == (first.id, first.id)
    await alice.fill(second, step="2")
    assert second.title == "Three"
    await alice.fill(second, step="3")

    assert not first.open
    assert not second.open
    sandbox.assert_no_violations()


async def test_an_invalid_view_in_an_answer_is_a_violation(app, sandbox):
    opens(app, modal())

    @app.view("form")
    async def form(ack):
        await ack(response_action="update", view=modal(title=plain("x" * 30)))

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    result = await alice.fill(await alice.modal(), name="x")

    assert result.error == "bad_response"
    assert [v.kind for v in sandbox.violations] == ["invalid_view"]


async def test_what_slack_itself_checks_never_reaches_the_app(app, sandbox):
    short = {"type": "plain_text_input", "action_id": "value", "max_length": 5}
    opens(app, modal(field("name", short), field("count", NUMBER), field("more", optional=True)))
    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    modal_ = await alice.modal()

    empty = await alice.fill(modal_)
    wrong = await alice.fill(modal_, name="123456", count=10)

    assert set(empty.errors or {}) == {"name", "count"}
    assert wrong.errors == {"name": "Must be no more than 5 characters.", "count": "Must be no more than 9."}
    sandbox.assert_no_violations()


async def test_a_view_is_updated_while_typed_text_is_kept_and_an_old_hash_is_refused(app, sandbox):
    opened = {}
    errors = []

    @app.command("/inc")
    async def inc(ack, command, client):
        opened.update(
            (await client.views_open(trigger_id=command["trigger_id"], view=modal(section("Loading"))))["view"]
        )
        await ack()
        body = modal(section("Ready"), field("name"))
        await client.views_update(view_id=opened["id"], hash=opened["hash"], view=body)
        errors.append(await error_of(client.views_update(view_id=opened["id"], hash=opened["hash"], view=body)))

    @app.view("form")
    async def form(ack):
        await ack()

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    view = await alice.modal(until=lambda v: not v.contains("Loading"))
    await sandbox.wait(lambda: errors)
    assert errors == ["hash_conflict"]
    alice.enter(view, {"name": "kept"})
    sandbox.workspace.reshow(view, modal(section("Newer"), field("name")))
    assert view.values["name"]["value"]["value"] == "kept"
    await alice.fill(view)
    gone = await error_of(app.client.views_update(view_id=view.id, view=modal()))
    assert gone == "not_found"


async def test_three_modals_may_lie_on_top_of_each_other(app, sandbox):
    errors = []
    opens(app, modal(actions(button("more"))))

    @app.action("more")
    async def more(ack, body, client):
        await ack()
        call = client.views_push(trigger_id=body["trigger_id"], view=modal(actions(button("more"))))
        errors.append(await error_of(call))

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    for pushed in range(1, 4):
        await alice.click(await alice.modal(), "more")
        await sandbox.wait(lambda pushed=pushed: len(errors) == pushed)

    assert errors == [None, None, "push_limit_reached"]


async def test_closing_is_told_only_to_those_who_asked(app, sandbox):
    opens(app, modal(notify_on_close=True))
    told = []

    @app.view_closed("form")
    async def closed(ack, body):
        told.append(body["is_cleared"])
        await ack()

    alice = sandbox.actor("alice")
    await alice.slash("/inc")
    view = await alice.modal()
    await alice.close(view)

    assert told == [False]
    with pytest.raises(ImpossibleError, match="closed"):
        await alice.fill(view, name="x")


async def test_the_home_tab_is_published_when_it_is_opened(app, sandbox):
    @app.event("app_home_opened")
    async def opened(event, client):
        await client.views_publish(user_id=event["user"], view={"type": "home", "blocks": [section("Welcome")]})

    await sandbox.actor("bob").home(contains="Welcome")

    sandbox.assert_no_violations()
