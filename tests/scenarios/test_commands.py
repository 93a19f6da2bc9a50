"""What people type: one running bot, and the words it knows."""

import asyncio

import pytest

from tests.scenarios.conftest import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = (
    "*bold* _it_ ~no~ `code` ```fence``` & < > &amp; <!channel> <!here> @channel @everyone <@U99NOBODY> "
    "<https://evil.example|click> \u202eRTL\u202c \u200bzero \x00NUL 🔥 :fire: 家"
)


async def test_declaring_with_a_title_opens_a_channel_and_brings_the_declarer_in(shared_stage: Stage):
    stage = shared_stage
    alice = stage.sandbox.actor("alice")
    for line, title, severity in (
        ("/inc new sev2 Card payments fail", "Card payments fail", "SEV2"),
        ("/incident declare SEV-1 Everything is down", "Everything is down", "SEV1"),
        ("/inc create sev 4 A typo", "A typo", "SEV4"),
        ("/inc new 5 nodes are down", "5 nodes are down", "SEV3"),
        ("/inc new S3 refuses uploads & says <no>", "S3 refuses uploads & says <no>", "SEV3"),
        ("/inc new Ask @bob about it", "Ask @bob about it", "SEV3"),
    ):
        reply = await alice.slash(line)
        assert reply.ok
        assert reply.ms < 1500
        await stage.quiet()
        incident = await stage.latest()

        assert (incident.title, incident.severity) == (title, severity)
        channel = stage.sandbox.workspace.channels[incident.channel]
        assert alice.id in channel.members
        assert f"{incident.reference} declared" in (await alice.expect(f"{incident.reference} declared")).text
        card = await stage.sandbox.expect_message(channel.id, incident.reference)
        assert title in card.rendered.replace("\u200b", "")


async def test_declaring_without_a_title_opens_a_form_at_once(shared_stage: Stage):
    stage = shared_stage
    alice = stage.sandbox.actor("alice")
    for line in ("/inc", "/incident", "/inc new", "/inc declare sev1", "/inc create"):
        reply = await alice.slash(line)
        form = reply.modal
        assert form is not None, line
        assert ("SEV1" in str(form.blocks[1]["element"]["initial_option"])) == ("sev1" in line)
        await alice.close(form)

    reply = await alice.slash("/inc")
    blank = await alice.fill(reply.modal, title="   ")
    assert blank.errors == {"title": "An incident needs a title."}
    result = await alice.fill(reply.modal, title=HOSTILE[:180], summary=HOSTILE, severity="SEV2")
    assert (result.errors, result.closed) == (None, True)
    await stage.quiet()
    # The bot is no member of #general, and still tells the person there.
    incident = await stage.latest()
    assert (await alice.expect(f"{incident.reference} declared", "#general")).text
    assert incident.declared_by == alice.id


async def test_the_shortcut_opens_the_same_form_and_messages_can_be_put_on_the_timeline(shared_stage: Stage):
    stage = shared_stage
    alice, bob = stage.sandbox.actor("alice"), stage.sandbox.actor("bob")
    await alice.shortcut("declare_incident")
    await alice.fill(await alice.modal(), title="From the menu")
    await stage.quiet()
    incident = await stage.latest()
    channel = stage.sandbox.workspace.channels[incident.channel]
    assert incident.title == "From the menu"

    await bob.join(channel)
    said = await bob.say(channel, "I restarted <web-1> & it helped")
    await alice.message_shortcut("add_to_timeline", said)
    note = await stage.sandbox.expect_message(channel.id, "I restarted <web-1> & it helped", after=said.ts)
    assert bob.id in note.text
    elsewhere = await bob.say("#general", "nothing to do with it")
    await alice.message_shortcut("add_to_timeline", elsewhere)
    assert await alice.expect("Only messages in an incident's channel")


async def test_in_an_incident_channel_every_word_is_about_that_incident(shared_stage: Stage):
    stage = shared_stage
    sandbox, alice, bob = stage.sandbox, stage.sandbox.actor("alice"), stage.sandbox.actor("bob")
    incident, channel = await stage.declare()
    ref = incident.reference
    await bob.join(channel)

    async def tell(line: str, expected: str, who=alice) -> None:
        before = sandbox.workspace.next_ts()
        reply = await who.slash(line, channel)
        assert reply.ok, line
        assert (await who.expect(expected, channel, after=before)).rendered

    await tell("/inc", f"{ref} · Checkout is slow")
    await tell("/inc status", f"{ref} · Checkout is slow")
    await tell("/inc show", f"{ref} · Checkout is slow")
    await tell("/inc note", "What shall the note say?")
    await tell("/inc note first line\nsecond line", "Noted on the timeline")
    await tell("/inc timeline It was @bob", "Noted on the timeline")
    await tell("/inc sev", "Which severity?")
    await tell("/inc severity 9", "Which severity?")
    await tell("/inc sev 3", "is SEV3 already")
    await tell("/inc sev SEV-1 all regions", f"{ref} is SEV1 now")
    await tell("/inc severity s2", f"{ref} is SEV2 now")
    await tell("/inc status identify", f"{ref} is identified now")
    await tell("/inc status identified", f"{ref} is identified already")
    await tell("/inc status monitorng", "Did you mean `monitoring`?")
    await tell("/inc status bananas", "There are: investigating, identified, fixing, monitoring")
    await tell("/inc status resolved", "To resolve it: `/inc resolve")
    await tell("/inc status Mitigated", f"{ref} is monitoring now")
    await tell("/inc join", "You are a responder", bob)
    await tell("/inc join", "already", bob)
    await tell("/inc runbook", "Runbooks for")
    await tell("/inc runbook nonsense", "nonsense")
    await tell("/inc task", "There is nothing to do")
    await tell("/inc task Ask the provider @bob", "T1 is on the list")
    await tell("/inc followup prevent: Alert sooner due 2099-12-24", "T2 is on the list")
    await tell("/inc task detect: nothing", "A type belongs to a follow-up")
    await tell("/inc followup later due 2099-13-24", "is no day")
    await tell("/inc task done 9", "has no T9")
    await tell("/inc task done 1", "T1 is done")
    await tell("/inc tasks", "1 to do of 2")
    await tell("/inc keep", "is not something this bot knows")
    await tell("/inc reopen", "is open already")
    await tell("/inc resolve Rolled back", f"{ref} is resolved")
    await tell("/inc resolve again", f"{ref} is resolved already")
    await tell("/inc status fixing", "To go on with it: `/inc reopen`")
    await tell("/inc runbook", "is not open any more")
    await tell("/inc", f"{ref} · Checkout is slow")
    await tell("/inc postmortem", "is being written")
    await tell("/inc reopen it is back", f"{ref} is open again")
    await stage.quiet()

    todo = await sandbox.expect_message(channel.id, "Follow-up T2: Alert sooner")
    await alice.click(todo, "Done")
    assert (await alice.expect("T2 is done: Alert sooner", channel)).rendered
    note = await sandbox.expect_message(channel.id, "second line")
    assert "first line\nsecond line" in note.text
    assert bob.mention in (await sandbox.expect_message(channel.id, "It was")).text
    kinds = [e.kind for e in await stage.timeline() if e.incident_id == incident.id]
    assert kinds.count("note.added") == 2
    assert kinds.count("severity.changed") == 2
    assert kinds.count("incident.resolved") == kinds.count("incident.reopened") == 1


async def test_elsewhere_the_incident_is_named_and_a_wrong_place_is_explained(shared_stage: Stage):
    stage = shared_stage
    alice = stage.sandbox.actor("alice")
    incident, channel = await stage.declare()
    ref = incident.reference

    async def tell(line: str, expected: str) -> str:
        before = stage.sandbox.workspace.next_ts()
        await alice.slash(line, "#general")
        return (await alice.expect(expected, "#general", after=before)).rendered

    told = await tell("/inc resolve", "This is not an incident channel")
    assert f"`/inc resolve {ref}`" in told
    assert channel.id in told
    await tell("/inc note it is nothing", "This is not an incident channel")
    await tell(f"/inc note {ref.lower()} seen from afar", f"Noted on the timeline of {ref}")
    await tell(f"/inc sev #{incident.number} 4", f"{ref} is SEV4 now")
    await tell(f"/inc status {ref}", f"{ref} · Checkout is slow")
    await tell("/inc resolve INC-99999", "There is no INC-99999")
    await tell("/inc list", ref)
    await tell("/inc list all", ref)
    await tell("/inc list bananas", "shows the open incidents")
    await tell(f"/inc resolve {ref} it went away", f"{ref} is resolved")
    assert ref not in (await tell("/inc list", "open incident")).replace(f"{ref}0", "")
    await stage.sandbox.expect_message(channel.id, "seen from afar")


async def test_help_and_unknown_words_point_the_way(shared_stage: Stage):
    alice = shared_stage.sandbox.actor("alice")
    everything = (await alice.slash("/inc help")).text
    for verb in ("new", "list", "status", "severity", "note", "resolve", "reopen", "runbook", "postmortem", "join"):
        assert f"/inc {verb}" in everything
        assert f"/inc {verb}" in (await alice.slash(f"/incident help {verb}")).text
    assert "Did you mean `resolve`?" in (await alice.slash("/inc help resolv")).text
    assert "Did you mean `/inc resolve`?" in (await alice.slash("/inc resovle")).text
    assert "`/inc help` shows what there is" in (await alice.slash("/inc supercalifragilistic")).text
    weird = (await alice.slash(f"/inc {HOSTILE}")).text
    assert "is not something this bot knows" in weird


async def test_hostile_text_is_harmless_everywhere(shared_stage: Stage):
    stage = shared_stage
    alice = stage.sandbox.actor("alice")
    incident, channel = await stage.declare(title=HOSTILE)
    long = "x" * 3000
    for line in (
        f"/inc note {HOSTILE}", f"/inc note {long}", f"/inc note {'<' * 2500}", f"/inc sev 1 {HOSTILE}",
        f"/inc status {HOSTILE}", f"/inc runbook {HOSTILE}", f"/inc list {HOSTILE}", "/inc list",
        f"/inc resolve {HOSTILE}", f"/inc reopen {HOSTILE}", f"/inc help {HOSTILE}", f"/inc resolve {'&' * 2900}",
    ):  # fmt: skip
        assert (await alice.slash(line, channel)).ok
    await stage.declare(title="y" * 400)
    await stage.declare(title="家が火事")
    await stage.quiet()

    assert "\x00" not in incident.title
    assert "\u202e" not in incident.title
    assert not stage.sandbox.violations


async def test_who_may_not_act_is_told_so(shared_stage: Stage):
    stage = shared_stage
    workspace = stage.sandbox.workspace
    incident, channel = await stage.declare()
    guest, carol = stage.sandbox.actor("guest"), stage.sandbox.actor("carol")
    await guest.join(channel)
    card = await stage.sandbox.expect_message(channel.id, incident.reference)
    before = len(await stage.timeline())

    assert "Guests cannot act" in (await guest.slash("/inc resolve", channel)).text
    await guest.click(card, "Take command")
    await guest.expect("Guests cannot act", channel)
    await guest.shortcut("declare_incident")
    await guest.expect("Guests cannot act")
    # Changes reach the bot as events.
    everybody = {"team_id": "T00SANDBOX", "name": "carol", "profile": {}}
    for change, word in (
        ({"deleted": True}, "deactivated"),
        ({"is_bot": True}, "Bots cannot"),
        ({"team_id": "T99OTHER"}, "other workspaces"),
    ):
        workspace.emit({"type": "user_change", "user": {"id": carol.id, **everybody, **change}}, None)
        async for _ in retrying():
            reply = await carol.slash("/inc resolve", channel)
            if word in reply.text:
                break
        assert word in reply.text
    workspace.emit({"type": "user_change", "user": {"id": carol.id, **everybody}}, None)
    await stage.quiet()
    assert len(await stage.timeline()) == before


async def retrying(times: int = 20):
    for number in range(times):
        yield number
        await asyncio.sleep(0.05)
