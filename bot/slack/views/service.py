"""A service as people read it: on a card, and in full."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bot.catalog.services import Directory, Service
from bot.incidents.budget import Spent
from bot.incidents.model import Incident
from bot.incidents.services import About, Need
from bot.kit.clock import plain_duration
from bot.runs.model import Run
from bot.slack.views.blocks import (
    SECTION,
    Block,
    bounded,
    context,
    cut,
    header,
    link,
    moment,
    paragraphs,
    people,
    safe,
    section,
)

Drawn = tuple[str, list[Block]]

SHOWN = 10
LISTED, ROOM = 60, 2500
MARKS = {"succeeded": ":white_check_mark:", "running": ":arrows_counterclockwise:", "failed": ":x:"}


@dataclass(frozen=True)
class Whole:
    """Everything about a service. *on_call* are lines of places and people; *needed_by* are services that need it."""

    about: About
    team: str = ""
    on_call: Sequence[str] = ()
    needed_by: Sequence[str] = ()
    incidents: Sequence[Incident] = ()
    runs: Sequence[tuple[Run, Incident]] = ()
    offered: Sequence[str] = ()
    assets: Sequence[str] = ()


def label(about: About) -> str:
    """A service with its tier and owner, in a line."""
    more = [f"tier {safe(str(about.service.tier), 20)}"] if about.service.tier is not None else []
    more += [f"owned by {safe(about.service.owner, 60)}"] if about.service.owner else []
    return safe(about.name, 100) + (f" ({', '.join(more)})" if more else "")


def on_card(about: About) -> list[Block]:
    """What an incident's card says of its service: needs that are in trouble, the budget, where to look."""
    lines = []
    if troubled := [need for need in about.needs if need.incidents]:
        told = ", ".join(f"{safe(one.name, 60)} ({', '.join(one.incidents[:5])})" for one in troubled[:SHOWN])
        lines.append(f":warning: *In trouble too, and needed:* {told}")
    if about.spent is not None:
        lines.append(f"*Error budget:* {budget(about.spent)}")
    if about.service.dashboards:
        lines.append(f"*Dashboards:* {_links(about.service.dashboards, 1000)}")
    return paragraphs(lines)


def budget(spent: Spent) -> str:
    """How much is left, and how fast it goes."""
    of = f"({spent.objective:g} % over {plain_duration(spent.window)})"
    if spent.left is None:
        return f"unknown {of}" + (f": {safe(spent.problem, 200)}" if spent.problem else "")
    left = f"{max(spent.left, 0):.0%} left" if spent.left >= 0 else f"overspent by {-spent.left:.0%}"
    burn = f", burning {spent.burn:.1f} times as fast as allowed" if spent.burn is not None else ""
    return f"{':red_circle: ' if spent.left < 0 else ''}{left}{burn} {of}"


def whole(noun: Whole) -> Drawn:
    """What it is, who has it, how it stands."""
    about, service = noun.about, noun.about.service
    head = f"{about.name}" + (f" · tier {service.tier}" if service.tier is not None else "")
    blocks: list[Block] = [header(head)]
    if service.description:
        blocks.append(section(safe(service.description, 1500)))
    lines = [f"*Owner:* {noun.team or '_nobody_'}", "*On call:* " + ("; ".join(noun.on_call) or "_not said_")]
    if service.channel:
        lines.append(f"*Channel:* {safe(service.channel, 80)}")
    if about.needs:
        lines.append("*Needs:* " + ", ".join(map(_need, about.needs[:LISTED])))
    if noun.needed_by:
        lines.append("*Needed by:* " + ", ".join(safe(name, 60) for name in noun.needed_by[:LISTED]))
    if about.spent is not None:
        lines.append(f"*Error budget:* {budget(about.spent)}")
    for title, links in (("Dashboards", service.dashboards), ("Links", service.links)):
        lines += [f"*{title}:* {_links(links)}"] if links else []
    if noun.offered:
        lines.append("*Runbooks:* " + ", ".join(f"`{safe(name, 60)}`" for name in noun.offered[:LISTED]))
    blocks += paragraphs([cut(line, SECTION) for line in lines])
    blocks += _incidents(noun.incidents)
    if noun.runs:
        blocks.append(section("*Last runs*"))
        blocks += paragraphs([_run(run, incident) for run, incident in noun.runs[:SHOWN]])
    if noun.assets:
        blocks += [section("*Assets*"), *paragraphs(noun.assets[:LISTED])]
    return f"Service {safe(about.name, 100)}", bounded(blocks)


def listing(directory: Directory) -> Drawn:
    """All services, a line each."""
    services = directory.catalog.services
    if not services:
        text = "catalog.yaml names no services yet."
        return text, [section(text)]
    lines = [_line(name, service) for name, service in list(services.items())[:LISTED]]
    if len(services) > LISTED:
        lines.append(f"_and {len(services) - LISTED} more_")
    blocks = [section(f"*{len(services)} services*"), *paragraphs(lines), context("`/inc service NAME` shows one.")]
    return f"{len(services)} services", bounded(blocks)


def _line(name: str, service: Service) -> str:
    told = f"• {label(About(name, service))}"
    return told + (f" · {safe(service.description, 120)}" if service.description else "")


def _need(need: Need) -> str:
    return safe(need.name, 60) + (f" :warning: {', '.join(need.incidents[:5])}" if need.incidents else "")


def _links(links: Mapping[str, str], room: int = ROOM) -> str:
    told = ""
    for title, url in list(links.items())[:SHOWN]:
        more = f"{' · ' if told else ''}{link(url, title)}"
        if len(told) + len(more) > room:
            return f"{told} · …"
        told += more
    return told


def _incidents(incidents: Sequence[Incident]) -> list[Block]:
    if not incidents:
        return [context("No open incident.")]
    lines = [
        f"• *{i.reference}* {safe(i.title, 150)} · {i.severity} · {i.status}"
        + (f" · <#{i.channel}>" if i.channel else "")
        for i in incidents[:SHOWN]
    ]
    return [section("*Open incidents*"), *paragraphs(lines)]


def _run(run: Run, incident: Incident) -> str:
    mark = MARKS.get(run.state, ":white_small_square:")
    who = (
        people(f"<@{run.requested_by}>", 60) if run.requested_by.isalnum() and run.requested_by != "bot" else "the bot"
    )
    dry = ", dry run" if run.dry_run else ""
    state = f"{safe(run.state.replace('_', ' '), 40)}{dry}"
    return f"{mark} `{safe(run.runbook, 80)}` {state} · {incident.reference} · {who} · {moment(run.requested_at)}"
