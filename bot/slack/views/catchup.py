"""What somebody who comes late is shown."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from bot.kit.clock import duration_text
from bot.kit.text import clip, one_line
from bot.runs.model import ENDED
from bot.runs.overview import CatchUp, Waiting
from bot.slack.views.blocks import Block, context, formatted, link, moment, named, paragraphs, people, safe, section
from bot.slack.views.incident import MARK
from bot.slack.views.run import INDENT, line, state

Drawn = tuple[str, list[Block]]
# Where a message can be read, by channel and message.
Link = Callable[[str, str], str]
SHOWN = 8


def catch_up(noun: CatchUp, where: Link, now: datetime) -> Drawn:
    """How it stands, who is asked, what runs, and what happened lately."""
    incident = noun.card.incident
    lead = f"<@{noun.card.commander}>" if noun.card.commander else "nobody yet"
    old = duration_text((incident.resolved_at or now) - incident.detected_at)
    head = f"{MARK.get(incident.severity, '')} *{incident.reference}* {safe(incident.title, 250)}"
    blocks: list[Block] = [
        section(head),
        context(
            f"{incident.severity} · {incident.status} · {'took' if incident.resolved_at else 'since'} {old}",
            f"Commander: {lead}",
            f"Alerts: {noun.card.firing} firing of {max(noun.card.total, noun.card.firing)}",
        ),
    ]
    if incident.summary:
        blocks.append(section(safe(incident.summary, 1000)))
    if noun.questions:
        asked = [_question(incident.channel, one, where) for one in noun.questions[:SHOWN]]
        blocks += paragraphs(["*Waits for an answer*", *asked])
    blocks += _runs(noun, where)
    if noun.events:
        told = [f"{moment(one.at)} · {people(clip(one_line(one.text), 200), 300)}" for one in noun.events]
        blocks += paragraphs(["*Lately*", *told], most=20)
    return f"{incident.reference}: {safe(incident.title, 250)}", blocks


def _question(channel: str | None, one: Waiting, where: Link) -> str:
    asked = formatted(clip(one_line(one.approval.prompt), 200), 300)
    who = f"{named(one.approval.who, 200)} until {moment(one.approval.expires_at)}"
    text = f":raised_hand: Run {one.number}: {asked}\n{INDENT}{who}"
    url = where(channel, one.ts) if channel and one.ts else ""
    return text + (f" · {link(url, 'answer')}" if url else "")


def _runs(noun: CatchUp, where: Link) -> list[Block]:
    if not noun.runs:
        return [context("No runbook was run.")]
    going = [one for one in noun.runs if one.run.state not in ENDED]
    ended = Counter(state(one.run) for one in noun.runs if one.run.state in ENDED)
    lines = [line(noun.card.incident, one, where) for one in going[:SHOWN]]
    if ended:
        lines.append("Ended: " + ", ".join(f"{count} {told}" for told, count in ended.items()) + " · `/inc runs`")
    return paragraphs(["*Runs*", *lines])
