"""How a post-mortem looks: the menu of its formats, how its review stands, the form of a section, that of a review."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot.incidents.chat import Drafted, HandedIn
from bot.incidents.model import Incident, Role
from bot.postmortems.facts import Facts
from bot.postmortems.lint import Finding
from bot.postmortems.model import Postmortem, Review, State
from bot.postmortems.render import lasted
from bot.postmortems.review import WORDS
from bot.postmortems.sections import Section
from bot.slack import ids
from bot.slack.views.blocks import (
    Block,
    actions,
    button,
    context,
    entry,
    menu,
    modal,
    named,
    option,
    paragraphs,
    people,
    safe,
    section,
)

# What a field of a form can hold; a longer section is edited in a file.
FIELD = 3000
FINDINGS = 5
READY, APPROVE, CHANGES = "ready", "approve", "changes"
_CHOICES = {
    State.DRAFT: {READY: "It is ready: others shall read it"},
    State.IN_REVIEW: {APPROVE: "Approve: it is completed", CHANGES: "Ask for changes"},
}


@dataclass(frozen=True)
class Standing:
    """A post-mortem as it stands; *findings* are what the linter says of it, worst first."""

    incident: Incident
    review: Review
    document: Postmortem
    conflicts: int
    facts: Facts | None = None
    findings: Sequence[Finding] = ()
    roles: Sequence[Role] = field(default_factory=tuple)


def drafted(noun: Drafted) -> tuple[str, list[Block]]:
    """The menu below a draft."""
    text = f"Post-mortem of {noun.incident.reference}, revision {noun.revision}, in another format"
    about = f"{noun.incident.id}:{noun.revision}"
    options = [option(name, f"{about}:{name}") for name in noun.formats]
    return text, [section(f"{text}:", accessory=menu("Choose a format", ids.EXPORT_DOCUMENT, options))]


def handed_in(noun: HandedIn) -> tuple[str, list[Block]]:
    """The question who reads it."""
    text = f":mag: {people(noun.text)}"
    return text, [section(text), actions(button("Review", ids.REVIEW, noun.incident.id, style="primary"))]


def standing(noun: Standing, word: str) -> tuple[str, list[Block]]:
    """How it stands, whose it is, and what is missing."""
    text = f"The post-mortem of {noun.incident.reference} is {WORDS[State(noun.review.state)]}"
    blocks: list[Block] = [section(f"*{text}*"), section("", fields=_fields(noun))]
    blocks += _trouble(noun)
    blocks += _findings(noun)
    if noun.review.state in _CHOICES:
        if meeting := _meeting(noun):
            blocks.append(context(meeting))
        blocks.append(
            context(" · ".join(f"`{word} postmortem {more}`" for more in ("review", "edit ‹section›", "waive ‹why›")))
        )
    elif noun.review.reason:
        blocks.append(section(f"Reason: {people(noun.review.reason, 600)}"))
    return text, blocks


def review_form(noun: Standing) -> Block:
    """What a reviewer should see before they say yes."""
    head = f"*{noun.incident.reference}* {safe(noun.incident.title, 200)}"
    blocks: list[Block] = [section(head), section("", fields=_fields(noun))]
    blocks += _trouble(noun)
    if noun.facts is not None:
        blocks += paragraphs(_told(noun.facts))
    blocks += _findings(noun)
    choices = _CHOICES.get(State(noun.review.state), {})
    about = json.dumps({"incident": noun.incident.id, "revision": noun.document.revision})
    if not choices:
        return modal(ids.NOTE_VIEW, "Post-mortem", blocks)
    options = [option(text, value) for value, text in choices.items()]
    blocks += [
        entry("decision", "What do you say?", {"type": "radio_buttons", "options": options}),
        entry(
            "reason",
            "What is to be changed",
            {"type": "plain_text_input", "multiline": True, "max_length": 500},
            optional=True,
        ),
    ]
    return modal(ids.REVIEW_FORM, "Post-mortem", blocks, submit="Send", about=about)


def section_form(incident: Incident, document: Postmortem, found: Section, words: str) -> Block:
    """One section, to write in. What others write meanwhile is joined with it."""
    element: Block = {"type": "plain_text_input", "multiline": True, "max_length": FIELD}
    if words:
        element["initial_value"] = words
    told = f"Revision {document.revision}. Markdown; what others write meanwhile is not lost."
    return modal(
        ids.SECTION_FORM,
        "Edit a section",
        [
            section(f"*{safe(found.heading or found.name, 200)}* of {incident.reference}"),
            entry("text", "Text", element, hint=told),
        ],
        submit="Keep",
        about=json.dumps({"incident": incident.id, "section": found.name, "revision": document.revision}),
    )


def _fields(noun: Standing) -> list[str]:
    review = noun.review
    return [
        f"*State*\n{WORDS[State(review.state)]}",
        f"*Owner*\n{named([review.owner]) if review.owner else 'nobody yet'}",
        f"*Due*\n{review.due or 'no day'}",
        f"*Revision*\n{noun.document.revision}, {noun.document.template}",
    ]


def _trouble(noun: Standing) -> list[Block]:
    if not noun.conflicts:
        return []
    many = "1 conflict waits" if noun.conflicts == 1 else f"{noun.conflicts} conflicts wait"
    return [section(f":warning: {many} for a decision: both texts stand in the document, between markers.")]


def _told(facts: Facts) -> list[str]:
    """The facts in short; what is unknown says so."""
    lines = []
    for duration in facts.durations:
        length = lasted(duration.seconds) if duration.seconds is not None else f"unknown: {duration.missing}"
        lines.append(f"{duration.name.capitalize()}: {safe(length, 200)}")
    runs = ", ".join(f"{run.name or run.runbook} ({run.state or 'not ended'})" for run in facts.runs[:5])
    lines.append(f"Runbooks: {safe(runs, 400) or 'none'}")
    lines.append(f"Follow-ups: {len(facts.to_do('followup')) or 'none'}")
    return lines


def _findings(noun: Standing) -> list[Block]:
    if not noun.findings:
        return [context("The linter has found nothing to look at.")]
    shown = [_finding(one) for one in noun.findings[:FINDINGS]]
    more = len(noun.findings) - len(shown)
    head = "*To look at*" + (f" (and {more} more: `tocsin postmortem lint`)" if more > 0 else "")
    return paragraphs([head, *shown])


def _finding(one: Finding) -> str:
    hint = f" _{safe(one.hint, 200)}_" if one.hint else ""
    return f"• line {one.line}: {safe(one.text, 120)}: {safe(one.why, 200)}{hint}"


def _meeting(noun: Standing) -> str:
    """A meeting that the review would take; nobody is invited by it."""
    who = list(dict.fromkeys(role.person for role in noun.roles))
    if noun.review.due is None or not who:
        return ""
    return f"A meeting? An hour before {noun.review.due}, with {named(who[:10])}."
