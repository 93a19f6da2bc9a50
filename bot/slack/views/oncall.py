"""Who is on call, who stands in, who is here: as people read it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.incidents.model import Incident, Page
from bot.incidents.oncall import Duty, Standing
from bot.incidents.shifts import Handover
from bot.kit.clock import duration_text
from bot.slack.views.blocks import Block, bounded, context, moment, paragraphs, people, safe, section
from bot.slack.views.incident import page_line

Drawn = tuple[str, list[Block]]

# What was asked for longer ago than this is told with its age.
FRESH = timedelta(minutes=3)
SHOWN = 30
LEVELS = {1: "first", 2: "second", 3: "third"}
WAYS = {"phone": "phone", "sms": "SMS", "email": "e-mail"}

# How the chat calls somebody on call: a mention, or a name; and whether it knows them.
Called = Callable[[Duty], tuple[str, bool]]


@dataclass(frozen=True)
class Here:
    """Somebody with a role in the incident, and since when."""

    person: str
    role: str
    since: datetime


def on_call(standings: Sequence[Standing], called: Called, now: datetime, *, about: str = "") -> Drawn:
    """Who is on call at each place, how to reach them, until when, and how old that is."""
    if not standings:
        text = f"Nobody is on call for {safe(about, 100)}: catalog.yaml does not say who." if about else _NOTHING
        return text, [section(text)]
    blocks: list[Block] = []
    for found in standings[:SHOWN]:
        blocks += [section(_place(found, called, now)), *_small(found, now)]
    if len(standings) > SHOWN:
        blocks.append(context(f"and {len(standings) - SHOWN} more; name one: `/inc oncall NAME`"))
    first = standings[0]
    named = ", ".join(called(duty)[0] for duty in first.first) or "nobody"
    return f"On call at {safe(first.name, 100)}: {people(named, 300)}", bounded(blocks)


_NOTHING = "catalog.yaml does not say who is on call: `oncall`, or `pager` of a service or a team."


def _place(found: Standing, called: Called, now: datetime) -> str:
    head = f"*{safe(found.name, 100)}*" + ("" if found.place.kind == "list" else f" ({found.place.kind})")
    if not found.said:
        return f"{head}\n:grey_question: not known yet"
    if not found.duties:
        return f"{head}\n:warning: *nobody is on call*"
    lines = [_duty(duty, called, now, levels=found.place.kind == "policy") for duty in found.duties[:SHOWN]]
    if found.cover is not None:
        lines.append(f"_stands in, as <@{found.cover.by}> asked_")
    return "\n".join([head, *lines])


def _duty(duty: Duty, called: Called, now: datetime, *, levels: bool) -> str:
    name, there = called(duty)
    told = f"• {people(name, 300)}"
    if levels:
        told += f" · {LEVELS.get(duty.level, f'level {duty.level}')}"
    if duty.until is not None:
        told += f" · until {moment(duty.until)}"
        if not duty.at(now):
            told += " (over: somebody else by now)"
    ways = [f"{WAYS.get(way.kind) or safe(way.kind, 20)} {safe(way.address, 100)}" for way in duty.contacts[:4]]
    if ways:
        told += f"\n    {' · '.join(ways)}"
    return told if there else f"{told}\n    :warning: not found in Slack"


def _small(found: Standing, now: datetime) -> list[Block]:
    age = now - found.checked_at if found.checked_at else None
    if found.problem is None and (age is None or age < FRESH):
        return []
    told = f"As of {duration_text(age)} ago" if age else "Never told"
    return [context(told + (f": {safe(found.problem, 300)}" if found.problem else ""))]


def responders(incident: Incident, here: Sequence[Here], pages: Sequence[Page]) -> Drawn:
    """Who has a role, who was paged, and what came of it."""
    head = f"*Responders of {incident.reference}*"
    lines = [f"• <@{one.person}> · {one.role} since {moment(one.since)}" for one in here]
    blocks = [
        section(head),
        *paragraphs(lines or ["Nobody has a role yet: `/inc join`, or *Take command* on the card."]),
    ]
    if pages:
        told = [f"• {moment(page.at)} {page_line(page)}" for page in pages[-SHOWN:]]
        blocks += [section("*Paged*"), *paragraphs(told)]
    else:
        blocks.append(context("Nobody was paged."))
    return f"{len(here)} responders of {incident.reference}", bounded(blocks)


def handover(noun: Handover) -> Drawn:
    """Who leaves and who comes, and what they should know."""
    place = safe(noun.place, 100)
    coming = people(", ".join(noun.coming), 1000)
    text = (
        f":telephone_receiver: *On call at {place}:* {coming}"
        if coming
        else f":warning: *Nobody is on call at {place}*"
    )
    if noun.until is not None and coming:
        text += f" until {moment(noun.until)}"
    if noun.leaving:
        text += f"\nThank you, {people(', '.join(noun.leaving), 1000)}."
    lines = [
        f"• *{i.reference}* {safe(i.title, 150)} · {i.severity} · {i.status}"
        + (f" · <#{i.channel}>" if i.channel else "")
        for i in noun.open[:10]
    ]
    if len(noun.open) > len(lines):
        lines.append("_and more: `/inc list`_")
    blocks = [section(text), *paragraphs([_open(noun), *lines], most=12)]
    blocks.append(context(f"In the last 24 hours: {noun.opened} opened, {noun.resolved} resolved."))
    return f"On call at {place}: {coming or 'nobody'}", bounded(blocks)


def _open(noun: Handover) -> str:
    about = f" of {safe(', '.join(noun.services), 300)}" if noun.services else ""
    return f"*Open incidents{about}:*" if noun.open else f"No open incidents{about}."
