"""Stored revisions to export: an ordinary one, a hostile one, one of many events, one of a single event."""

import hashlib
from datetime import UTC, datetime
from functools import cache

from bot.postmortems.facts import Facts, gather
from bot.postmortems.model import Postmortem
from bot.postmortems.render import render
from tests.postmortems.story import Story, checkout

WRITTEN = datetime(2026, 3, 2, 15, 30, 1, 250000, tzinfo=UTC)

# Each would mean something in one of the formats.
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "[click](javascript:alert(3)) ![x](http://example.com/x.png) **bold** `code` | cell |",
    '#image("/etc/passwd") #eval("1") $x$ \\#let @label <event-1> = Heading // comment',
    "{{ 7 * 7 }} {% for x in y %} {{ config }}",
    "]]></ac:plain-text-body> <ac:link/> &lt;b&gt; &amp; \x00\x0b\ud800 end",
    "=HYPERLINK(1) +1 -1 @SUM(A1)",
    "障害が発生した 服务中断 장애",
    "שגיאה בשרת خطأ في الخادم",
    "\u202egnp.exe 🔥 fire 👩🏽‍💻 flag 🇩🇪 ☃",
    "w" * 400,
]


def stored(facts: Facts, text: str | None = None, *, revision: int = 3) -> Postmortem:
    """A revision as it comes out of the database."""
    told = render(facts) if text is None else text
    return Postmortem(
        id="1" * 32,
        incident_id="a" * 32,
        revision=revision,
        template="default",
        facts=facts.as_json(),
        text=told,
        sha256=hashlib.sha256(told.encode()).hexdigest(),
        created_at=WRITTEN,
    )


def written(text: str) -> Postmortem:
    """A revision of which there are no facts: only what somebody wrote."""
    return Postmortem(
        id="1" * 32,
        incident_id="a" * 32,
        revision=1,
        template="default",
        text=text,
        sha256="3" * 64,
        created_at=WRITTEN,
    )


def told(story: Story) -> Facts:
    """What the timeline of a story says."""
    return gather(story.incident, story.events, story.roles)


@cache
def rich() -> Facts:
    """Alerts, a page, runs, notes and both ends."""
    return told(checkout())


@cache
def hostile() -> Facts:
    """Titles and notes that people should not get away with."""
    story = Story(title=HOSTILE[0], service=HOSTILE[1])
    story.open(title=HOSTILE[0])
    for minute, text in enumerate(HOSTILE, 3):
        story.say(minute, "note.added", text, actor="U0COMMAND", kind=("note", "finding", "decision")[minute % 3])
    story.resolve(30, HOSTILE[2])
    return told(story)


@cache
def many(count: int = 5000) -> Facts:
    """A storm."""
    kinds = ("alert.attached", "note.added", "run.step_succeeded", "page.sent", "alert.resolved")
    story = Story()
    story.open()
    for n in range(count):
        story.say(
            2 + n * 0.02, kinds[n % 5], f"Event {n}", title=f"A{n % 50}", connection="am", labels={}, run="r", step="s"
        )
    story.resolve(110, "calm")
    return told(story)


@cache
def one() -> Facts:
    """An alert, and nothing else."""
    story = Story()
    story.open()
    return told(story)
