"""What a person asked is done once, or they are told that it was not: whatever is slow, away, doubled or broken."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import psycopg
import pytest
import sqlalchemy as sa
import structlog

from bot.incidents.model import Request
from tests.scenarios.conftest import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@contextlib.asynccontextmanager
async def blocked(stage: Stage) -> AsyncIterator[None]:
    """The database takes no request while this lasts: somebody else holds it."""
    if stage.bot.db.sqlite:
        other = sqlite3.connect(str(stage.bot.db.path), isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(other.execute, "begin immediate")
        try:
            yield
        finally:
            other.execute("rollback")
            other.close()
    else:
        url = stage.bot.db.sync_url.set(drivername="postgresql").render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(url) as other:
            await other.execute("lock table request in access exclusive mode")
            yield
            await other.rollback()


async def requests(stage: Stage) -> list[Request]:
    async with stage.bot.db.read() as session:
        return list(await session.scalars(sa.select(Request).order_by(Request.received_at)))


async def notes(stage: Stage) -> list[str]:
    return [event.text for event in await stage.timeline() if event.kind == "note.added"]


async def test_a_request_that_slack_delivers_twice_is_done_once(shared_stage: Stage):
    stage, sandbox = shared_stage, shared_stage.sandbox
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    incident, channel = await stage.declare()
    await bob.join(channel)
    card = await sandbox.expect_message(channel.id, incident.reference)
    for same in (False, True):
        sandbox.faults.duplicate(same_envelope=same)
        assert (await alice.slash(f"/inc note said once {same}", channel)).ok
        sandbox.faults.duplicate(same_envelope=same)
        assert (await alice.slash("/inc bananas", channel)).ok
        sandbox.faults.duplicate(same_envelope=same)
        form = (await alice.slash("/inc", "#general")).modal
        sandbox.faults.duplicate(same_envelope=same)
        assert (await alice.fill(form, title=f"Declared once {same}")).error is None
        sandbox.faults.duplicate(same_envelope=same)
        assert (await (bob if same else alice).click(card, "Take command")).ok
        sandbox.faults.duplicate(same_envelope=same)
        await bob.say(channel, f"@{sandbox.workspace.bot.name} hello")
        await stage.quiet()

    timeline = await stage.timeline()
    assert sorted(await notes(stage)) == ["said once False", "said once True"]
    assert [e.kind for e in timeline].count("role.assigned") == 2
    assert [e.kind for e in timeline].count("incident.opened") == 3
    assert len([m for m in bob.ephemerals(channel) if "This is the channel of" in m.text]) == 2


async def test_what_was_acknowledged_is_done_after_a_crash(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    incident, channel = await stage.declare()
    # The workers are gone, the door still stands: what comes in now is recorded and acknowledged, and nothing more.
    await stage.bot.engine.stop(drain_seconds=0)
    reply = await alice.slash("/inc note survives", channel)
    card = await stage.sandbox.expect_message(channel.id, incident.reference)
    click = await alice.click(card, "Take command")
    assert reply.ok
    assert click.ok
    assert "survives" not in await notes(stage)
    await stage.restart()
    await alice.expect("Noted on the timeline", channel)
    await stage.quiet()
    assert (await notes(stage)).count("survives") == 1
    assert "is commander" in (await stage.sandbox.expect_message(channel.id, "is commander")).rendered

    # The bare word knows its channel right after a restart.
    await alice.slash("/inc", channel)
    assert await alice.expect(f"{incident.reference} · Checkout is slow", channel)


@pytest.mark.slow
async def test_while_the_database_is_stuck_people_are_told_that_nothing_was_done_and_nothing_ever_is(
    shared_stage: Stage,
):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    incident, channel = await stage.declare()
    card = await sandbox.expect_message(channel.id, incident.reference)
    form = (await alice.slash("/inc new", channel)).modal
    known = {request.id for request in await requests(stage)}
    before = len(await stage.timeline())
    async with blocked(stage):
        reply, click, result = await asyncio.gather(
            alice.slash("/inc note must not be", channel),
            alice.click(card, "Take command"),
            alice.fill(form, title="Must not be either"),
        )
        assert "nothing was done" in reply.text
        assert click.ok
        assert (await alice.expect("nothing was done", channel)).rendered
        top = await alice.modal(title="Nothing was done")
        assert "reference" in top.rendered
        assert max(reply.ms, click.ms, result.ms) < 2500
        # A form still opens: it needs no database.
        assert (await alice.slash("/inc new", channel)).modal is not None
    await asyncio.sleep(1.0)
    await stage.quiet()

    late = [request for request in await requests(stage) if request.id not in known]
    assert {request.state for request in late} <= {"void"}
    assert len(await stage.timeline()) == before
    await stage.restart()
    await stage.quiet()
    assert len(await stage.timeline()) == before
    assert (await alice.slash("/inc note works again", channel)).ok
    await alice.expect("Noted on the timeline", channel)


async def test_a_row_that_came_through_too_late_is_void_even_for_another_process(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    _, channel = await stage.declare()
    await stage.bot.engine.stop(drain_seconds=0)
    assert (await alice.slash("/inc note too late", channel)).ok
    async with stage.bot.db.write() as session:
        # As if the insert had been stuck: recorded by the database two seconds after its deadline.
        await session.execute(
            sa.update(Request).where(Request.state == "waiting").values(recorded=Request.deadline + 2)
        )
    await stage.restart()
    await stage.quiet()

    assert "too late" not in await notes(stage)
    assert (await requests(stage))[-1].state == "void"


async def test_a_channel_that_another_process_opened_is_known_at_once(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    incident, channel = await stage.declare(title="Opened elsewhere")
    stage.bot._joined.inbox.channels.clear()
    await alice.slash("/inc", channel)
    form = await alice.modal(title=incident.reference, contains="This is the channel of")
    await alice.close(form)
    await alice.slash("/inc", channel)
    assert await alice.expect(f"{incident.reference} · Opened elsewhere", channel)


async def test_a_fault_in_a_command_gives_the_person_a_reference_that_the_log_has(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    _, channel = await stage.declare()
    inbox = stage.bot._joined.inbox
    good, people = inbox.commands.modules["note"], inbox.people
    token = stage.settings.slack_bot_token.get_secret_value()

    class Broken:
        """A command with a fault in it."""

        @staticmethod
        async def run(context, text):
            await context.tx.session.execute(sa.text("update incident set title = 'half done'"))
            raise ZeroDivisionError(token)

    class Deaf:
        """A door with a fault in it."""

        @staticmethod
        def recall(user):
            raise ZeroDivisionError(token)

    inbox.commands.modules["note"] = Broken
    with structlog.testing.capture_logs() as logs:
        await alice.slash("/inc note x", channel)
        told = await alice.expect("Something went wrong", channel)
        reference = told.text.split("`")[1]
    inbox.commands.modules["note"] = good
    assert any(entry["event"] == "request.broken" and entry["request"].startswith(reference) for entry in logs)
    assert token not in told.rendered
    assert (await stage.latest()).title != "half done"

    form = (await alice.slash("/inc new", channel)).modal
    card = await stage.sandbox.expect_message(channel.id, "INC-")
    inbox.people = Deaf
    with structlog.testing.capture_logs() as logs:
        reply = await alice.slash("/inc note x", channel)
        assert "Something went wrong" in reply.text
        before = stage.sandbox.workspace.next_ts()
        assert (await alice.click(card, "Take command")).ok
        await alice.expect("Something went wrong", channel, after=before)
        await alice.fill(form, title="Broken")
        assert "Something went wrong" in (await alice.modal(title="Sorry")).rendered
        assert (await alice.shortcut("declare_incident")).ok
    inbox.people = people
    references = {entry["reference"] for entry in logs if entry["event"] == "slack.broken"}
    assert reply.text.split("`")[1] in references
    assert len(references) == 4


async def test_nothing_that_slack_may_send_is_left_unanswered(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    _, channel = await stage.declare()
    workspace, bot = stage.sandbox.workspace, stage.sandbox.workspace.bot
    strange = {"type": "button", "action_id": "gone.away", "text": {"type": "plain_text", "text": "Old"}, "value": "x"}
    menu = {
        "type": "static_select", "action_id": "some.menu",
        "options": [{"text": {"type": "plain_text", "text": "One"}, "value": "1"}],
    }  # fmt: skip
    message = workspace.post(channel, bot.id, "old", blocks=[{"type": "actions", "elements": [strange, menu]}])
    assert (await alice.click(message, "gone.away")).ok
    assert await alice.expect("belongs to another version of the bot", channel)
    assert (await alice.click(message, "some.menu", "1")).ok

    deliver = stage.sandbox.delivery.deliver
    user = {"id": alice.id, "team_id": "T00SANDBOX"}
    team = {"id": "T00SANDBOX", "domain": "sandbox"}
    odd = [
        {"type": "view_submission", "view": {"id": "V1", "callback_id": "unknown", "type": "modal", "hash": "1"}},
        {"type": "view_closed", "view": {"id": "V1", "callback_id": "unknown", "type": "modal"}, "is_cleared": False},
        {"type": "block_suggestion", "action_id": "x", "block_id": "y", "value": "z", "container": {"type": "view"}},
        {"type": "shortcut", "callback_id": "unknown"},
        {"type": "message_action", "callback_id": "unknown", "channel": {"id": channel.id}, "message": {}},
        {
            "type": "interactive_message",
            "callback_id": "old",
            "actions": [{"name": "n", "type": "button"}],
            "channel": {"id": channel.id},
        },
        {"type": "something_new_of_2031"},
    ]
    with structlog.testing.capture_logs():  # nobody measures how long a traceback takes to be drawn
        for number, payload in enumerate(odd):
            common = {"user": user, "team": team, "api_app_id": "A1", "token": "t", "trigger_id": f"odd.{number}"}
            outcome = await deliver("interactive", {**common, **payload}, f"odd {payload['type']}", accepts=True)
            assert outcome.ok, payload["type"]
            assert outcome.ms < 1000
    outcome = await deliver("interactive", {**common, **odd[0]}, "an unknown form", accepts=True)
    assert "not known here" in str(outcome.payload)


async def test_a_form_that_slack_holds_back_is_explained_and_a_lost_reply_doubles_nothing(shared_stage: Stage):
    stage, alice = shared_stage, shared_stage.sandbox.actor("alice")
    _, channel = await stage.declare()
    token = stage.settings.slack_bot_token.get_secret_value()
    with structlog.testing.capture_logs() as logs:
        stage.sandbox.faults.add("chat.postMessage", "lost")
        stage.sandbox.faults.add("views.open", "429", retry_after=30)
        refused = await alice.slash("/inc new", channel)
        assert "did not open the form" in refused.text
        assert refused.ms < 2900
        await alice.slash("/inc note heard in spite of it", channel)
        await stage.quiet()
    stage.bot._joined.chat._blocked.clear()
    assert token not in str(logs)
    assert len([m for m in channel.messages if "heard in spite of it" in m.text]) == 1
