"""Opening an incident: smooth, with Slack failing at every call, and what people see of it afterwards."""

import asyncio

import pytest

from bot.sandbox.state import Channel
from tests.scenarios.conftest import Stage, alertmanager

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = {
    "tocsin": "version: 1\nannouncement_channel: incidents\npager: log\ninvite: [bob@example.com]\n",
    "routes": (
        "version: 1\nroutes:\n"
        "  - {name: ask, match: ['service=\"maybe\"'], open: suggest, group_by: [alertname]}\n"
        "  - {name: rest, match: [], open: always, group_by: [alertname]}\n"
    ),
}
LOOKING = ("conversations.history", "users.conversations", "bookmarks.list", "conversations.info", "conversations.list")
OPENING = ("conversations.create", "conversations.setTopic", "conversations.invite", "pins.add", "bookmarks.add")


@pytest.fixture(autouse=True)
def no_leftovers(shared_stage: Stage):
    yield
    shared_stage.sandbox.faults.clear()


def cards(channel: Channel, reference: str) -> list:
    return [m for m in channel.messages if m.metadata and m.metadata["event_payload"]["key"].endswith(":card")]


def announcements(stage: Stage, reference: str) -> list:
    place = stage.sandbox.workspace.channel("incidents")
    return [m for m in place.messages if f"{reference} " in m.rendered or f"{reference}\n" in m.rendered]


async def opened(stage: Stage, name: str, **labels) -> tuple[str, Channel]:
    """An incident opened by an alert of this name, when all is done."""
    response = await stage.alert(alertmanager(name, **labels))
    assert response.status == 202
    await stage.quiet(still=0.4, within=30)
    incident = await stage.latest()
    return incident.reference, stage.sandbox.workspace.channels[incident.channel]


def whole(stage: Stage, reference: str, channel: Channel) -> None:
    """Everything is there, and once."""
    workspace = stage.sandbox.workspace
    assert len([c for c in workspace.channels.values() if c.name.startswith(f"{reference.lower()}-")]) == 1
    assert len(cards(channel, reference)) == 1
    assert len(channel.pins) == 1
    assert len(channel.bookmarks) == 1
    assert channel.topic.value.startswith(f"{reference} · SEV1")
    assert len([m for m in channel.messages if m.subtype == "channel_topic"]) == 1
    assert len(announcements(stage, reference)) == 1
    assert channel.id in announcements(stage, reference)[0].rendered
    assert stage.sandbox.actor("bob").id in channel.members
    assert "Not everything could be set up" not in cards(channel, reference)[0].rendered


async def test_a_smooth_opening_takes_four_round_trips_and_looks_for_nothing(shared_stage: Stage):
    stage, sandbox = shared_stage, shared_stage.sandbox
    await opened(stage, "Warm")  # the announcement channel and the people to invite are known from now on
    before = len(sandbox.workspace.calls)
    sandbox.faults.latency = 1.0
    await stage.alert(alertmanager("Smooth"))
    await stage.quiet(still=1.2, within=60)
    sandbox.faults.latency = 0.0
    incident = await stage.latest()
    channel = sandbox.workspace.channels[incident.channel]
    calls = sandbox.calls[before:]
    made = [call for call in calls if call.method in OPENING or call.method == "chat.postMessage"]
    last = next(call for call in made if call.method == "pins.add")

    whole(stage, incident.reference, channel)
    assert last.started - made[0].started < 3.5 * 1.0  # create, card, pin; the rest beside them
    assert [call.method for call in made].count("chat.postMessage") <= 3  # card, announcement, who was paged
    assert all([call.method for call in made].count(method) == 1 for method in OPENING)
    assert not [call.method for call in calls if call.method in LOOKING]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["429", "lost"])
async def test_whatever_slack_does_nothing_is_doubled_and_nothing_is_missing(shared_stage: Stage, kind: str):
    stage, sandbox = shared_stage, shared_stage.sandbox
    for method in OPENING:
        sandbox.faults.add(method, kind, retry_after=1)
    sandbox.faults.add("chat.postMessage", kind, times=2, retry_after=1)
    reference, channel = await opened(stage, f"Trouble{kind}")

    assert not sandbox.faults.planned
    whole(stage, reference, channel)
    if kind == "429":
        for method in OPENING:
            first, again = [c for c in sandbox.calls if c.method == method and c.error == "ratelimited"][-1:] + [
                c for c in sandbox.calls if c.method == method and c.ok
            ][-1:]
            assert again.started - first.started >= 0.95, method


async def test_a_name_that_is_taken_gets_a_suffix(shared_stage: Stage):
    stage, bob = shared_stage, shared_stage.sandbox.actor("bob")
    number = (await stage.latest()).number + 1
    old = await bob.create(f"inc-{number}-5xx-of-checkout-above-5")
    await bob.archive(old)
    _, channel = await opened(stage, "Taken")

    assert channel.name == f"inc-{number}-5xx-of-checkout-above-5-2"
    assert channel.id != old.id


async def test_without_a_channel_the_incident_exists_and_retry_mends_it(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    sandbox.faults.add("conversations.create", "error", error="restricted_action")
    await alice.slash("/inc new sev1 No channel for you")
    await stage.quiet()
    incident = await stage.latest()
    assert (incident.title, incident.channel) == ("No channel for you", None)
    (said,) = announcements(stage, incident.reference)
    assert "restricted_action" in said.rendered
    assert "ask a workspace admin" in said.rendered
    direct = next(c for c in sandbox.workspace.channels.values() if c.kind == "im" and alice.id in c.members)
    assert any("has no channel yet" in m.rendered for m in direct.messages)
    await alice.slash(f"/inc note {incident.reference} seen before there was a channel")
    await alice.click(said, "Retry")
    await stage.quiet()

    incident = await stage.latest()
    channel = sandbox.workspace.channels[incident.channel]
    (said,) = announcements(stage, incident.reference)
    assert "restricted_action" not in said.rendered
    assert channel.id in said.rendered
    assert len(cards(channel, incident.reference)) == 1
    assert len([m for m in channel.messages if "seen before there was a channel" in m.rendered]) == 1
    kinds = [e.kind for e in await stage.timeline() if e.incident_id == incident.id]
    assert kinds.count("part.failed") == kinds.count("part.mended") == kinds.count("channel.opened") == 1


async def test_a_part_that_fails_stands_on_the_card_until_retry_mends_it(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    sandbox.faults.add("bookmarks.add", "error", error="permission_denied")
    sandbox.faults.add("pins.add", "error", error="not_pinnable")
    reference, channel = await opened(stage, "Partly")
    await alice.join(channel)
    (card,) = cards(channel, reference)
    assert "bookmark: Slack refused bookmarks.add: permission_denied" in card.rendered.replace("\u200b", "")
    assert "pin: Slack refused pins.add: not_pinnable" in card.rendered.replace("\u200b", "")
    assert channel.topic.value
    await alice.click(card, "Retry")
    await stage.quiet()

    whole(stage, reference, channel)
    kinds = [e.kind for e in await stage.timeline() if e.incident_id == (await stage.latest()).id]
    assert (kinds.count("part.failed"), kinds.count("part.mended")) == (2, 2)


async def test_card_and_announcement_are_edited_in_place_and_bursts_are_merged(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    reference, channel = await opened(stage, "Busy")
    await alice.join(channel)
    before = len(sandbox.workspace.calls)
    sandbox.faults.latency = 0.15
    lines = [f"/inc sev {2 + n % 3}" for n in range(9)] + ["/inc status identified", "/inc status fixing"]
    for line in lines:
        await alice.slash(line, channel)
    await alice.click(cards(channel, reference)[0], "Take command")
    await stage.quiet()
    await alice.slash("/inc sev 5", channel)
    await alice.slash("/inc status monitoring", channel)
    await stage.quiet()
    sandbox.faults.latency = 0.0
    edits = [c for c in sandbox.calls[before:] if c.method == "chat.update" and c.args["channel"] == channel.id]

    (card,), (said,) = cards(channel, reference), announcements(stage, reference)
    for shown in (card.rendered, said.rendered, channel.topic.value):
        assert "SEV5" in shown
        assert "monitoring" in shown
        assert alice.id in shown
    assert len(edits) < len(lines)
    updates = len([c for c in sandbox.calls if c.method == "chat.update"])
    await asyncio.sleep(0.3)
    assert len([c for c in sandbox.calls if c.method == "chat.update"]) == updates


async def test_a_suggestion_asks_and_is_answered_once(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    channels = len(sandbox.workspace.channels)
    for name in ("MaybeYes", "MaybeNo"):
        await stage.alert(alertmanager(name, service="maybe", summary=f"{name}?"))
        asked = await sandbox.expect_message("#incidents", f"{name}?")
        assert "Is this an incident?" in asked.rendered
        await stage.quiet()
        assert len(sandbox.workspace.channels) == channels
        button = "Open incident" if name == "MaybeYes" else "Not an incident"
        if name == "MaybeYes":
            stale = asked.blocks
            await alice.click(asked, button)
            await stage.quiet()
            incident = await stage.latest()
            channel = sandbox.workspace.channels[incident.channel]
            assert len(cards(channel, incident.reference)) == 1
            (said,) = announcements(stage, incident.reference)
            assert channel.id in said.rendered
            # An old window still shows the buttons.
            block = next(b for b in stale if b["type"] == "actions")
            before = sandbox.workspace.next_ts()
            await alice.delivery.act(alice.user, said, block, block["elements"][1], {})
            await alice.expect("so it cannot be declined", after=before)
            await alice.delivery.act(alice.user, said, block, block["elements"][0], {})
            await alice.expect("is already investigating", after=before)
            channels = len(sandbox.workspace.channels)
        else:
            block = next(b for b in asked.blocks if b["type"] == "actions")
            await alice.click(asked, button)
            await stage.quiet()
            incident = await stage.latest()
            assert incident.status == "declined"
            assert "Not an incident" in asked.rendered
            before = sandbox.workspace.next_ts()
            await alice.delivery.act(alice.user, asked, block, block["elements"][0], {})
            await alice.expect("is already declined", after=before)
            await stage.quiet()
            assert len(sandbox.workspace.channels) == channels


async def test_alerts_join_clear_and_fire_again(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    reference, channel = await opened(stage, "Flock", fingerprint="f1")
    await alice.join(channel)
    await stage.alert(alertmanager("Flock", instance="web-2.example.com", fingerprint="f2"))
    await stage.quiet()
    (card,) = cards(channel, reference)
    assert "2 firing" in card.rendered
    assert "web-2.example.com" in card.rendered

    end = "2026-11-20T03:30:00Z"
    await stage.alert(alertmanager("Flock", status="resolved", fingerprint="f1", ends_at=end))
    await stage.quiet()
    assert "1 firing, 1 resolved" in card.rendered
    assert not [m for m in channel.messages if "has resolved. Is the incident over" in m.rendered]
    await stage.alert(
        alertmanager("Flock", status="resolved", fingerprint="f2", instance="web-2.example.com", ends_at=end)
    )
    cleared = await sandbox.expect_message(channel.id, "Is the incident over?")
    await alice.click(cleared, "Keep open")
    await sandbox.expect_message(channel.id, f"keeps {reference} open")
    await stage.alert(alertmanager("Flock", fingerprint="f1", starts_at="2026-11-20T04:10:00Z"))
    await stage.quiet()
    assert "1 firing, 1 resolved" in card.rendered
    assert (await stage.latest()).reference == reference

    await alice.click(cleared, "Resolve")
    await alice.fill(await alice.modal(title="Resolve the incident"), note="Enough")
    await sandbox.expect_message(channel.id, f"{reference} is resolved")
    before = sandbox.workspace.next_ts()
    await alice.click(cleared, "Keep open")
    await alice.expect("is resolved already", channel, after=before)
    await stage.quiet()


async def test_what_people_deleted_or_archived_is_left_alone_quietly(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    reference, channel = await opened(stage, "Leaving")
    await alice.join(channel)
    (card,) = cards(channel, reference)
    sandbox.workspace.delete(channel, card)
    await alice.slash("/inc sev 2", channel)
    await stage.quiet(within=5)
    await sandbox.expect_message(channel.id, "SEV1 → SEV2")
    await alice.archive(channel)
    await alice.slash(f"/inc sev {reference} 3")
    await stage.quiet(within=5)
    await alice.slash(f"/inc status {reference}")
    shown = await alice.expect(f"{reference} · ", "#general")
    assert "Not everything could be set up" not in shown.rendered
    assert not cards(channel, reference)

    known = ("is_archived", "cant_update_message")
    sandbox.workspace.violations[:] = [v for v in sandbox.violations if v.kind not in known]
