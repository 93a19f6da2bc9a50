"""What a sender writes into an alert reaches people as harmless text or not at all; the channel is made anyhow."""

import json
import re

from tests.scenarios.conftest import Stage

HIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
WORDS = [
    "\u202egpj.exe \u2066hidden\u2069",
    "a\0b\x1b[31m red",
    "\ud800 half \udfff",
    "<!channel> <@U0000001> <https://example.com|click>",
    "``` ` *b* _i_ ~s~ &lt; & >",
    "x" * 70_000,
    "a\u0301" * 3000,
    "\u0600" * 3000,
    "line\n" * 900,
    "\U0001f9e8" * 2000,
    ":tada: :skull: @here #general",
]


def marked(message):
    """Every text of a message in which Slack looks for mentions; in plain text it does not."""

    def walk(value):
        if isinstance(value, dict):
            if value.get("type") == "mrkdwn":
                yield value["text"]
            for item in value.values():
                yield from walk(item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(item)

    return [message.text, *walk(message.blocks)]


async def test_whatever_an_alert_says_its_incident_is_furnished_and_nobody_is_pinged(stage: Stage):
    odd = ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "nonsense"]
    for number, word in enumerate(WORDS):
        labels = {"alertname": word, "severity": "critical", "service": f"s{number}", word[:40]: word, "n": 1e308}
        notes = {"summary": word, "description": word, "runbook_url": f"https://example.com/{word}"}
        entry = {"status": "firing", "labels": labels, "annotations": notes, "generatorURL": word}
        response = await stage.alert({"alerts": [{**entry, "startsAt": odd[number % len(odd)]}]})
        assert response.status == 202, await response.text()
    await stage.quiet(within=60)
    workspace = stage.sandbox.workspace
    channels = [channel for channel in workspace.channels.values() if channel.name.startswith("inc-")]
    kinds = await stage.kinds()
    said = [text for channel in channels for message in channel.messages for text in marked(message)]

    assert len(channels) == len(WORDS)
    assert all(channel.pins and channel.topic.value for channel in channels)
    assert "part.failed" not in kinds
    assert "work.parked" not in kinds
    assert not HIDDEN.search(json.dumps([[m.text, m.blocks] for c in channels for m in c.messages], ensure_ascii=False))
    assert said
    assert not [
        text for text in said if "<!channel>" in text or "<@U0000001>" in text or "<https://example.com|" in text
    ]
