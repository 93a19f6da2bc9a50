"""The forms people fill in."""

import json
from collections.abc import Mapping
from typing import Any

from bot.incidents.model import Sev
from bot.slack import ids
from bot.slack.views.blocks import Block, entry, mentions, modal, option, plain, section

WORD = "word"

SEVERITIES = {
    Sev.SEV1: "SEV1 · critical: everybody is affected",
    Sev.SEV2: "SEV2 · major: many are affected",
    Sev.SEV3: "SEV3 · moderate: some are affected",
    Sev.SEV4: "SEV4 · minor: few are affected",
    Sev.SEV5: "SEV5 · nobody is affected yet",
}


def declare(*, title: str = "", severity: Sev = Sev.SEV3) -> Block:
    """Declare an incident. Needs nothing that is not at hand, so it opens at once."""
    text: Block = {"type": "plain_text_input", "max_length": 200, "placeholder": plain("What is wrong?", 150)}
    if title:
        text["initial_value"] = title[:200]
    chosen = option(SEVERITIES[severity], severity)
    return modal(
        ids.DECLARE_FORM,
        "Declare an incident",
        [
            entry("title", "Title", text),
            entry(
                "severity",
                "Severity",
                {
                    "type": "static_select",
                    "options": [option(text, sev) for sev, text in SEVERITIES.items()],
                    "initial_option": chosen,
                },
                hint="If unsure, take the worse one; it can be changed.",
            ),
            entry(
                "summary",
                "What is known so far",
                {"type": "plain_text_input", "multiline": True, "max_length": 3000},
                optional=True,
            ),
            entry(
                "private",
                "Who may see it",
                {"type": "checkboxes", "options": [option("Private: only for people in its channel", "private")]},
                optional=True,
                hint="A private incident cannot be made public later.",
            ),
        ],
        submit="Declare",
    )


def resolve(incident_id: str) -> Block:
    """What ended it."""
    note = {"type": "plain_text_input", "multiline": True, "max_length": 2000}
    return modal(
        ids.RESOLVE_FORM,
        "Resolve the incident",
        [
            section("The timeline stays; a post-mortem draft is written from it."),
            entry("note", "What ended it?", note, optional=True),
        ],
        submit="Resolve",
        about=json.dumps({"incident": incident_id}),
    )


def loading(title: str) -> Block:
    """Shown at once, while the real form is made."""
    text = ":hourglass_flowing_sand: Loading… If this stays, close it and press the button again."
    return modal(ids.NOTE_VIEW, title, [section(text)])


def trouble(title: str, text: str) -> Block:
    """Why there is no form."""
    return modal(ids.NOTE_VIEW, title, [section(f":warning: {mentions(text, 2900)}")])


def with_word(view: Mapping[str, Any], text: str) -> Block:
    """The same form, with a word on top of it; what was filled in stays."""
    kept = ("type", "callback_id", "title", "submit", "close", "private_metadata")
    blocks = [block for block in view["blocks"] if block.get("block_id") != WORD]
    return {
        **{key: view[key] for key in kept if view.get(key)},
        "blocks": [{**section(text), "block_id": WORD}, *blocks[:99]],
    }
