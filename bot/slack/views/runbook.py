"""How runbooks look: lists of them with buttons, and the form that starts one."""

import json
from collections.abc import Sequence

from bot.incidents.chat import Offer
from bot.incidents.model import Incident
from bot.kit.text import clip, one_line
from bot.runs.form import Change, Sheet
from bot.slack import ids
from bot.slack.views.blocks import Block, actions, button, context, divider, link, modal, paragraphs, safe, section
from bot.slack.views.fields import field

Drawn = tuple[str, list[Block]]

RISK = {"low": "primary", "medium": None, "high": "danger"}
MARK = {"low": ":large_green_circle:", "medium": ":large_yellow_circle:", "high": ":red_circle:"}
OFFERED, LISTED = 5, 40
# Blocks of a form that are no field of a parameter stand within the hundred that Slack takes.
FIELDS = 90
CHANGED = 12


def offered(incident: Incident, offers: Sequence[Offer]) -> Block:
    """The runbooks that may help, as buttons in the colour of their risk, and one that shows the others."""
    more = button("More…", ids.MORE_RUNBOOKS, incident.id)
    return actions(*(opener(incident, offer) for offer in offers[:OFFERED]), more)


def opener(incident: Incident, offer: Offer, text: str = "") -> Block:
    """The button that opens the form of a runbook."""
    label = text or f"{MARK.get(offer.risk, '')} {clip(offer.name, 50)}".strip()
    made = button(label, ids.START_RUN, f"{incident.id}:{offer.runbook}", style=RISK.get(offer.risk))
    # Several buttons of one action in a message need ids of their own.
    made["action_id"] = f"{ids.START_RUN}:{offer.runbook}"
    return made


def listing(incident: Incident, offers: Sequence[Offer], hidden: int = 0) -> Drawn:
    """Runbooks, one to a line, each with its button; *hidden* is how many this person may not run."""
    if not offers:
        text = "There are no runbooks yet. Put YAML files into the `runbooks` folder and restart."
        if hidden:
            text = f"There is no runbook that you may run here. {_hidden(hidden)}"
        return text, [section(text)]
    blocks: list[Block] = [section(f"*Runbooks for {incident.reference}*")]
    for offer in offers[:LISTED]:
        about = f" · {safe(clip(one_line(offer.description), 140))}" if offer.description else ""
        fits = " :point_left:" if offer.fits else ""
        text = f"{MARK.get(offer.risk, '')} *{safe(offer.name, 100)}*{fits}\n`{safe(offer.runbook, 60)}`{about}"
        blocks.append(section(text, accessory=opener(incident, offer, "Open…")))
    small = [f"and {len(offers) - LISTED} more: `/inc runbook NAME`"] if len(offers) > LISTED else []
    small += [_hidden(hidden)] if hidden else []
    if small:
        blocks.append(context(*small))
    return f"Runbooks for {incident.reference}", blocks


def _hidden(hidden: int) -> str:
    what = "1 more is" if hidden == 1 else f"{hidden} more are"
    return f"{what} there that you may not run; responders may run more: `/inc join`."


def shelf(incident: Incident, offers: Sequence[Offer], hidden: int) -> Block:
    """The same, as a form to choose from."""
    return modal(ids.NOTE_VIEW, "Runbooks", listing(incident, offers, hidden)[1])


def form(noun: Sheet) -> Block:
    """A runbook's parameters, filled in from the alert; what it changes; and two ways to start it."""
    book = noun.runbook
    about = f"*{safe(book.name, 150)}*\n{safe(book.description, 1500)}"
    small = [f"{MARK[book.risk]} Risk: {book.risk} · owner: {safe(book.owner, 100)}"]
    small += [link(book.docs, "documentation")] if book.docs else []
    blocks: list[Block] = [section(about), context(*small, _steps(noun)), *_changes(noun.changes)]
    if noun.fields:
        blocks.append(divider())
    blocks += [field(one) for one in noun.fields[:FIELDS]]
    blocks.append(actions(button("Dry run", ids.DRY_RUN, book.id)))
    blocks.append(context(f"*Dry run* looks and changes nothing; the form stays open. {_back(noun)}"))
    carried = {"incident": noun.incident.id, "runbook": book.id, "sha256": book.sha256, "live": dict(noun.live)}
    return modal(ids.RUN_FORM, "Run a runbook", blocks, submit="Run", about=json.dumps(carried))


def _steps(noun: Sheet) -> str:
    steps = noun.runbook.steps
    many = "1 step" if len(steps) == 1 else f"{len(steps)} steps"
    return f"{many}: " + safe(" → ".join(step.heading for step in steps), 800)


def _changes(changes: Sequence[Change]) -> list[Block]:
    if not any(change.effect != "read" for change in changes):
        asks = " It asks people on the way." if changes else ""
        return [section(f":eyes: *Changes nothing*: every step only reads.{asks}")]
    lines = [f"{_mark(change)} {safe(change.name, 150)}{_word(change)}" for change in changes[:CHANGED]]
    if len(changes) > CHANGED:
        lines.append(f"_and {len(changes) - CHANGED} more_")
    return paragraphs(["*What it changes*", *lines], most=20)


def _mark(change: Change) -> str:
    if change.asks:
        return ":raised_hand:"
    return ":boom:" if change.effect == "destructive" else ":wrench:"


def _word(change: Change) -> str:
    if change.asks:
        return " · asks people first"
    return " · *destructive*" if change.effect == "destructive" else ""


def _back(noun: Sheet) -> str:
    ways = sum(bool(step.rollback) for step in noun.runbook.steps)
    return f"Should it fail, it takes back what it did ({ways} of its steps say how)." if ways else ""
