"""From Slack: a menu below the draft, a word, and the file arrives in the incident's channel and nowhere else."""

from tests.scenarios.conftest import Stage


async def test_a_post_mortem_is_had_in_other_formats_by_menu_and_by_word(stage: Stage):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await alice.slash("/inc declare", "#general")
    form = await alice.modal(title="Declare an incident")
    await alice.submit(form, {"title": "Payments of a customer fail", "severity": "SEV2", "private": ["private"]})
    await stage.quiet()
    incident = await stage.latest()
    channel = sandbox.workspace.channels[incident.channel]

    def files() -> dict[str, str]:
        return {file["name"]: file["id"] for message in channel.messages for file in message.files}

    await alice.slash("/inc resolve rolled back", channel)
    menu = await sandbox.expect_message(channel.id, "revision 1, in another format")

    reply = await alice.slash("/inc postmortem export rtf", channel)
    assert reply.ok
    wrong = await alice.expect("is no format", channel)
    assert "`docx`" in wrong.text

    await alice.click(menu, "postmortem.export", "html")
    await sandbox.wait(lambda: "inc-1-postmortem-1.html" in files(), 20, "the page")
    await alice.slash("/inc pm export png", channel)
    await sandbox.wait(lambda: "inc-1-postmortem-1.png" in files(), 20, "the picture")
    await stage.quiet()

    events = [event.data for event in await stage.timeline() if event.kind == "postmortem.exported"]
    assert [(data["exporter"], data["place"]) for data in events] == [
        ("md", "slack"),
        ("html", "slack"),
        ("png", "slack"),
    ]
    for other in sandbox.workspace.channels.values():
        assert other is channel or not [message for message in other.messages if message.files]
