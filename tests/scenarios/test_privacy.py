"""A private incident exists for nobody but those who belong to it."""

import pytest

from tests.scenarios.conftest import Stage, alertmanager

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = {
    "tocsin": "version: 1\nannouncement_channel: incidents\npager: log\ninvite: [bob@example.com]\n",
    "routes": "version: 1\nroutes:\n  - {name: hush, match: ['service=\"hr\"'], open: always, private: true}\n",
}
SECRET = "Somebody reads the payroll"


async def test_a_private_incident_shows_nowhere_but_in_its_channel(shared_stage: Stage):
    stage, sandbox = shared_stage, shared_stage.sandbox
    alice, bob, carol = (sandbox.actor(name) for name in ("alice", "bob", "carol"))
    form = (await alice.slash("/inc new")).modal
    await alice.fill(form, title=SECRET, summary="Very secret", private=["private"], severity="SEV1")
    await stage.quiet()
    incident = await stage.latest()
    channel = sandbox.workspace.channels[incident.channel]
    ref = incident.reference

    assert channel.kind == "private"
    assert channel.name == ref.lower()
    assert sorted(channel.members) == sorted([alice.id, sandbox.workspace.bot.id])
    assert "only for members" in (await sandbox.expect_message(channel.id, SECRET)).rendered

    async def says(who, line: str, expected: str, place="#general") -> str:
        before = sandbox.workspace.next_ts()
        await who.slash(line, place)
        return (await who.expect(expected, place, after=before)).rendered

    # The declarer sees it everywhere, a stranger nowhere, and both get the very words of a number that does not exist.
    assert SECRET in await says(alice, "/inc list", "incident")
    for line in ("/inc list", "/inc list all"):
        assert ref not in await says(carol, line, "incident")
    assert "Open now" not in await says(carol, "/inc resolve", "This is not an incident channel")
    for verb in ("status", "resolve", "note {} x", "sev {} 1", "join", "runbook", "postmortem", "reopen"):
        lines = [f"/inc {verb}".replace("{}", r) if "{}" in verb else f"/inc {verb} {r}" for r in (ref, "INC-999")]
        refused, unknown = [await says(carol, line, "There is no") for line in lines]
        assert refused.replace(ref, "INC-999") == unknown
    await alice.invite(channel, "bob")
    assert SECRET in await says(bob, "/inc status", SECRET, channel)
    assert "You are a responder" in await says(bob, "/inc join", "You are", channel)
    assert SECRET in await says(bob, "/inc list", "incident")
    await says(alice, f"/inc sev {ref} 2 because", "is SEV2 now")
    await says(alice, "/inc resolve It was the auditor", "is resolved", channel)
    await stage.quiet()

    seen = [
        m for c in sandbox.workspace.channels.values() if c is not channel for m in (*c.messages, *c.ephemerals)
        if (SECRET in m.rendered or ref in m.rendered) and m.only_for not in (alice.id, bob.id)
    ]  # fmt: skip
    assert [m.rendered for m in seen if m.only_for is None] == []
    assert all("There is no" in m.rendered or "`/inc resolve INC-1`" in m.rendered for m in seen)


async def test_a_private_incident_of_an_alert_brings_in_whom_the_operator_named(shared_stage: Stage):
    stage, sandbox = shared_stage, shared_stage.sandbox
    await stage.alert(alertmanager("Payroll", service="hr", summary=SECRET))
    await stage.quiet()
    incident = await stage.latest()
    channel = sandbox.workspace.channels[incident.channel]

    assert channel.kind == "private"
    assert sandbox.actor("bob").id in channel.members
    assert not [m for m in sandbox.workspace.channel("incidents").messages if SECRET in m.rendered]


async def test_a_private_incident_without_a_channel_is_told_to_its_declarer_alone(shared_stage: Stage):
    stage, sandbox, alice = shared_stage, shared_stage.sandbox, shared_stage.sandbox.actor("alice")
    sandbox.faults.add("conversations.create", "error", error="restricted_action")
    form = (await alice.slash("/inc new")).modal
    await alice.fill(form, title="Hush", private=["private"])
    await stage.quiet()
    direct = next(c for c in sandbox.workspace.channels.values() if c.kind == "im" and alice.id in c.members)
    told = direct.messages[-1]
    assert "Hush" in told.rendered
    assert "has no channel yet" in told.rendered
    await alice.click(told, "Retry")
    await stage.quiet()

    channel = sandbox.workspace.channels[(await stage.latest()).channel]
    assert channel.kind == "private"
    assert alice.id in channel.members
