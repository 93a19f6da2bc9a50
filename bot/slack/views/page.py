"""The form that asks whom to wake."""

import json
from collections.abc import Sequence

from bot.slack import ids
from bot.slack.views.blocks import Block, entry, modal, option, plain

ONCALL, LEVEL, SERVICE = "oncall", "level", "service:"
MOST = 98


def form(services: Sequence[str], *, incident_id: str | None = None, reference: str = "", up: bool = False) -> Block:
    """Whom, and why. Needs nothing that is not at hand, so it opens at once."""
    options = [
        option("The on-call of this incident, again", ONCALL),
        option("The next level of its escalation policy", LEVEL),
        *(option(f"The on-call of {name}", SERVICE + name) for name in list(services)[:MOST] if len(name) <= 140),
    ]
    blocks = []
    if incident_id is None:
        which: Block = {"type": "plain_text_input", "max_length": 20, "placeholder": plain("INC-3", 20)}
        if reference:
            which["initial_value"] = reference
        blocks.append(entry("incident", "Incident", which))
    blocks += [
        entry(
            "whom",
            "Whom to wake",
            {"type": "static_select", "options": options, "initial_option": options[1 if up else 0]},
        ),
        entry(
            "person",
            "Or somebody by name",
            {"type": "users_select"},
            optional=True,
            hint="They are asked to join in the pager, which knows them by their e-mail address.",
        ),
        entry(
            "text",
            "What should they know?",
            {"type": "plain_text_input", "multiline": True, "max_length": 500},
            optional=True,
        ),
    ]
    title = "Escalate" if up else "Page somebody"
    about = json.dumps({"incident": incident_id}) if incident_id else ""
    return modal(ids.PAGE_FORM, title, blocks, submit="Escalate" if up else "Page", about=about)
