"""A post-mortem from its draft to its end, in Slack: edited while the timeline grows, read, sent back, approved."""

from tests.scenarios.conftest import Stage


async def test_people_edit_review_and_complete_a_post_mortem_and_lose_nothing(stage: Stage):
    sandbox = stage.sandbox
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    incident, channel = await stage.declare(title="Checkout fails")
    await alice.slash("/inc resolve rolled back", channel)
    await sandbox.expect_message(channel.id, "revision 1, in another format")
    await stage.quiet()

    await alice.slash("/inc postmortem edit mitigators", channel)
    form = await alice.modal(title="Edit a section", contains="Mitigators")
    await alice.submit(form, {"text": "The canary was small."})
    await sandbox.expect_message(channel.id, "revision 2, in another format")
    await bob.slash("/inc note The lock was held by a pipeline", channel)
    await stage.quiet()
    await alice.slash("/inc postmortem", channel)
    await sandbox.expect_message(channel.id, "revision 3, in another format")

    await alice.slash("/inc postmortem review", channel)
    form = await alice.modal(10, title="Post-mortem", contains="Owner")
    await alice.submit(form, {"decision": "ready"})
    asked = await sandbox.expect_message(channel.id, "is ready for review")
    await bob.click(asked, "postmortem.review")
    form = await bob.modal(10, title="Post-mortem", contains="Owner")
    await bob.submit(form, {"decision": "changes", "reason": "Say what users saw"})
    await sandbox.expect_message(channel.id, "Say what users saw")
    await stage.quiet()

    await alice.slash("/inc postmortem review", channel)
    form = await alice.modal(10, title="Post-mortem", contains="Owner")
    await alice.submit(form, {"decision": "ready"})
    await stage.quiet()
    await bob.slash("/inc postmortem review", channel)
    form = await bob.modal(10, title="Post-mortem", contains="Owner")
    await bob.submit(form, {"decision": "approve"})
    await sandbox.expect_message(channel.id, "is completed with revision 3")

    await bob.slash("/inc postmortem status", channel)
    await bob.expect(f"The post-mortem of {incident.reference} is completed", channel)
    file = list(sandbox.workspace.files.values())[-1]
    assert b"The canary was small." in (file.data or b"")
    assert b"The lock was held by a pipeline" in (file.data or b"")
