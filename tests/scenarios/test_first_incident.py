"""The whole path: alert in, channel, runbook button, timeline, post-mortem out."""

from tests.scenarios.conftest import Stage, alertmanager


async def test_an_alert_becomes_a_furnished_channel(stage: Stage):
    response = await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    card = await stage.sandbox.expect_message(channel.id, "INC-1 · 5xx")
    announcement = await stage.sandbox.expect_message("#incidents", "INC-1")
    await stage.sandbox.wait(lambda: channel.pins and channel.bookmarks and channel.topic.value, 5, "furniture")

    assert response.status == 202
    assert "SEV1" in card.rendered
    assert "nobody was paged" in (await stage.sandbox.expect_message(channel.id, "nobody was paged")).rendered
    assert channel.id in announcement.rendered
    assert channel.bookmarks[0].link == "https://runbooks.example.com/errors"
    assert channel.topic.value.startswith("INC-1 · SEV1 · investigating")
    assert "incident.opened" in await stage.kinds()


async def test_the_whole_story(stage: Stage):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await stage.alert(alertmanager())
    channel = await sandbox.expect_channel("inc-1-*")
    card = await sandbox.expect_message(channel.id, "INC-1 · 5xx")
    await alice.join(channel)

    reply = await alice.click(card, "Take command")
    await sandbox.expect_message(channel.id, "is commander")
    assert reply.error is None

    await alice.click(card, "High error rate - look at the machine")
    form = await alice.modal(until=lambda view: "Loading" not in str(view.blocks))
    result = await alice.fill(form, **{"param.observe": "1s"})
    assert result.errors is None
    await sandbox.expect_message(channel.id, "succeeded", within=15)

    await alice.slash("/inc note Rolled back the last deployment", channel)
    await sandbox.expect_message(channel.id, "Rolled back the last deployment")
    await alice.slash("/inc sev 2 only card payments", channel)
    await sandbox.expect_message(channel.id, "SEV1 → SEV2")
    await alice.slash("/inc status monitoring", channel)
    await stage.alert(alertmanager(status="resolved", ends_at="2026-11-20T03:30:00Z"))
    cleared = await sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved")
    await alice.click(cleared, "Resolve")
    form = await alice.modal()
    await alice.fill(form, note="The deployment was rolled back")
    await sandbox.expect_message(channel.id, "INC-1 is resolved")
    await sandbox.wait(lambda: any(m.files for m in channel.messages), 10, "post-mortem file")

    kinds = await stage.kinds()
    for kind in (
        "incident.opened", "channel.opened", "page.nobody", "role.assigned", "run.started", "run.step_started",
        "run.step_succeeded", "run.ended", "note.added", "severity.changed", "status.changed", "alert.resolved",
        "alerts.cleared", "incident.resolved", "postmortem.drafted",
    ):  # fmt: skip
        assert kind in kinds, kind
