"""The verdict on a round: what Slack holds and what the database holds, against what the players were promised.

It uses nothing of the bot: raw SQL, and the channels as people see them.
"""

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field

from bot.sandbox.state import Channel, Message
from tests.torture.players import Ledger
from tests.torture.world import World

INVARIANTS = (
    "alerts lost",
    "channels doubled",
    "messages doubled",
    "messages missing",
    "timeline missing",
    "timeline doubled",
    "steps repeated",
    "steps missing",
    "work stuck",
)


@dataclass
class Verdict:
    """What is wrong, by invariant; and how much there was to get wrong."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in INVARIANTS})
    volume: Counter[str] = field(default_factory=Counter)

    def say(self, invariant: str, what: str) -> None:
        self.wrong[invariant].append(what)

    @property
    def good(self) -> bool:
        return not any(self.wrong.values())


# What a run writes into the ledger, by how it ended.
LINES = {
    "succeeded": ("first", "second", "always"),
    "rolled_back": ("first", "second", "not second", "not first", "always"),
}


def judge(world: World, ledger: Ledger) -> Verdict:
    """Everything that is checked when a round is over and the bot at rest."""
    verdict = Verdict()
    incidents = world.rows("select id, number, channel, group_key, status from incident order by number")
    timeline = world.rows("select incident_id, kind, text, actor from timeline")
    _alerts(world, ledger, verdict)
    _channels(world, verdict, incidents)
    _messages(world, ledger, verdict)
    _timeline(ledger, verdict, incidents, timeline)
    _runs(world, ledger, verdict, timeline)
    _work(world, verdict)
    workspace = world.sandbox.workspace
    verdict.volume.update(
        {
            "alerts": len(ledger.alerts) + len(ledger.resolved),
            "incidents": len(incidents),
            "requests": ledger.asked,
            "timeline rows": len(timeline),
            "slack calls": len(workspace.calls),
            "messages": sum(len(c.messages) for c in workspace.channels.values()),
        }
    )
    return verdict


def _alerts(world: World, ledger: Ledger, verdict: Verdict) -> None:
    rows = dict(world.rows("select fingerprint, state from alert"))
    for name in sorted(ledger.alerts - set(rows)):
        verdict.say("alerts lost", f"{name} was accepted and is not stored")
    for name in sorted(ledger.resolved):
        if rows.get(name) != "resolved":
            verdict.say("alerts lost", f"the end of {name} was accepted and it is {rows.get(name)}")
    orphans = world.rows("select fingerprint from alert where incident_id is null")
    for (name,) in orphans:
        verdict.say("alerts lost", f"{name} belongs to no incident")


def _channels(world: World, verdict: Verdict, incidents: list[tuple]) -> None:
    groups = Counter(group for _, _, _, group, _ in incidents)
    for group, count in groups.items():
        if count > 1:
            verdict.say("channels doubled", f"{count} incidents of {group}")
    made = [c for c in world.sandbox.workspace.channels.values() if c.name.startswith("inc-")]
    numbers = Counter(re.match(r"inc-(\d+)", c.name)[1] for c in made)
    for number, count in numbers.items():
        if count > 1:
            verdict.say("channels doubled", f"INC-{number} has {count} channels")
    known = {channel for _, _, channel, _, _ in incidents}
    for channel in made:
        if channel.id not in known:
            verdict.say("channels doubled", f"#{channel.name} belongs to nobody")
    for _, number, channel, _, _ in incidents:
        if channel not in {c.id for c in made}:
            verdict.say("messages missing", f"INC-{number} has no channel")


def _said(message: Message) -> str:
    """As a person reads it; times that go on counting are the same to them."""
    return re.sub(r"\d+ (s|min|h)\b", "N", message.rendered)


def _messages(world: World, ledger: Ledger, verdict: Verdict) -> None:
    bot = world.sandbox.workspace.bot.id
    for channel in world.sandbox.workspace.channels.values():
        ours = [m for m in channel.messages if m.user == bot and m.subtype is None]
        for said, count in Counter(_said(m) + str([f.get("name") for f in m.files]) for m in ours).items():
            if count > 1:
                verdict.say("messages doubled", f"{count} times in #{channel.name}: {said[:100]!r}")
        files = Counter(f.get("name") for m in ours for f in m.files)
        for name, count in files.items():
            if count > 1:
                verdict.say("messages doubled", f"{count} times in #{channel.name}: the file {name}")
        topics = [m.rendered for m in channel.messages if m.subtype == "channel_topic"]
        for first, second in itertools.pairwise(topics):
            if first == second:
                verdict.say("messages doubled", f"the topic of #{channel.name} was set twice: {first[:80]!r}")
        if channel.id in ledger.promised:
            _room(channel, ours, ledger, verdict)
    announced = [m for c in world.sandbox.workspace.channels.values() if c.name == "incidents" for m in c.messages]
    numbers = Counter(n for m in announced if m.user == bot for n in set(re.findall(r"INC-\d+", m.rendered)))
    for number, count in numbers.items():
        if count > 1:
            verdict.say("messages doubled", f"{count} announcements of {number}")


def _room(channel: Channel, ours: list[Message], ledger: Ledger, verdict: Verdict) -> None:
    """What an incident's channel must hold at the end."""
    cards = [m for m in ours if m.blocks and m.blocks[0].get("type") == "header"]
    if len(cards) != 1:
        verdict.say("messages doubled" if cards else "messages missing", f"{len(cards)} cards in #{channel.name}")
    elif [p.ts for p in channel.pins] != [cards[0].ts]:
        verdict.say("messages missing", f"the card of #{channel.name} is not the one pinned message")
    if cards and "resolved" not in cards[0].rendered.lower():
        verdict.say("messages missing", f"the card of #{channel.name} does not say that it is resolved")
    if not any(m.files for m in ours):
        verdict.say("messages missing", f"no post-mortem in #{channel.name}")
    if not any("is resolved" in m.rendered for m in ours):
        verdict.say("messages missing", f"#{channel.name} was not told that it is resolved")
    for text in sorted(ledger.promised[channel.id]):
        if not any(text in m.rendered for m in ours):
            verdict.say("messages missing", f"{text!r} was not said in #{channel.name}")


ONCE = ("incident.opened", "channel.opened", "page.nobody", "incident.resolved", "alerts.cleared")


def _timeline(ledger: Ledger, verdict: Verdict, incidents: list[tuple], timeline: list[tuple]) -> None:
    kinds = Counter((incident, kind) for incident, kind, _, _ in timeline)
    for incident, number, channel, _, _ in incidents:
        for kind in ONCE:
            count = kinds[incident, kind]
            if count > 1:
                verdict.say("timeline doubled", f"{kind} of INC-{number}: {count} times")
            elif not count and (kind != "incident.resolved" or channel in ledger.ended) and kind != "alerts.cleared":
                verdict.say("timeline missing", f"{kind} of INC-{number}")
        if channel in ledger.commands and not kinds[incident, "role.assigned"]:
            verdict.say("timeline missing", f"role.assigned of INC-{number}")
    notes = Counter(text for _, kind, text, _ in timeline if kind == "note.added")
    for channel, promised in ledger.promised.items():
        for text in sorted(promised):
            if not notes[text]:
                verdict.say("timeline missing", f"{text!r} was acknowledged")
        for text in sorted(ledger.tried[channel]):
            if notes[text] > 1:
                verdict.say("timeline doubled", f"{text!r}: {notes[text]} times")
    for text, count in Counter((i, k, t) for i, k, t, _ in timeline if k.startswith("alert.")).items():
        if count > 1 and "joined" in text[2]:
            pass  # alerts of one summary share their words; their identity is checked by the rows
    episodes = Counter(text for _, kind, text, _ in timeline if kind == "alert.resolved")
    verdict.volume["ends"] = sum(episodes.values())


def _runs(world: World, ledger: Ledger, verdict: Verdict, timeline: list[tuple]) -> None:
    runs = world.rows("select id, incident_id, state from run")
    channels = dict(world.rows("select id, channel from incident"))
    by_channel = Counter(channels[incident] for _, incident, _ in runs)
    for channel, count in ledger.runs.items():
        if not by_channel[channel]:
            verdict.say("timeline missing", f"a run in {channel} was acknowledged and does not exist")
        if by_channel[channel] > ledger.run_tries[channel]:
            verdict.say("steps repeated", f"{by_channel[channel]} runs in {channel}, asked for {count}")
    lines = Counter(world.ledger.read_text().split("\n"))
    lines.pop("", None)
    repeated = sum(count - 1 for count in lines.values())
    if repeated > ledger.repeats:
        verdict.say("steps repeated", f"{repeated} lines too many, {ledger.repeats} asked for")
    answered = any(kind == "run.answered" for _, kind, _, _ in timeline)
    for run, _, state in runs:
        for word in LINES.get(state, ()):
            # What a person treated as done may not have been.
            if not lines[f"{run} {word}"] and not answered:
                verdict.say("steps missing", f"{word} of {run}, which {state}, is said to be done and was not")
        for word in {line for end in LINES.values() for line in end} - set(LINES.get(state, ())):
            if state in LINES and lines[f"{run} {word}"]:
                verdict.say("steps repeated", f"{word} of {run}, which {state}, was done and should not have been")
        if state not in LINES:
            verdict.say("work stuck", f"run {run} is {state}")
    order = [line.partition(" ") for line in world.ledger.read_text().split("\n") if line]
    for run, _, state in runs:
        done = [word for name, _, word in order if name == run]
        once = [word for i, word in enumerate(done) if word not in done[:i]]
        if state in LINES and not answered and once != list(LINES[state]):
            verdict.say("steps repeated", f"run {run}, which {state}, did {once}")
    verdict.volume["runs"] = len(runs)


def _work(world: World, verdict: Verdict) -> None:
    for status, name, count in world.rows(
        "select status, name, count(*) from workflow_status where status not in ('SUCCESS', 'CANCELLED') "
        "group by status, name"
    ):
        verdict.say("work stuck", f"{count} of {name} are {status}")
    for (count,) in world.rows("select count(*) from request where state = 'waiting'"):
        if count:
            verdict.say("work stuck", f"{count} requests wait")
    for name, error in world.rows("select name, error from part where state <> 'done'"):
        verdict.say("messages missing", f"part {name}: {error}")
    for (count,) in world.rows("select count(*) from timeline where kind = 'work.parked'"):
        if count:
            verdict.say("work stuck", f"{count} workflows were given up")
