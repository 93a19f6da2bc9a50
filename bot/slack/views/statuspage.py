"""The form that publishes on a status page."""

import json
from collections.abc import Sequence

from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.statuspage import COMPONENTS, STATUSES, TEXT, TITLE, Page
from bot.slack import ids
from bot.slack.views.blocks import Block, context, entry, modal, moment, option, safe, section

TITLE_OF_FORM = "Publish"
# What an incident that stands so is called on the page, to begin with.
_FIRST = {"identified": "identified", "fixing": "identified", "monitoring": "monitoring"}


def form(incident: Incident, pages: Sequence[Page], last: TimelineEvent | None, text: str) -> Block:
    """Which page, what it says, and what becomes of its components. The incident's own title is not filled in."""
    over = not incident.is_open
    status = "resolved" if over else _FIRST.get(incident.status, "investigating")
    components = "operational" if over else "unchanged"
    words: Block = {"type": "plain_text_input", "multiline": True, "max_length": min(TEXT, 3000)}
    if text:
        words["initial_value"] = text[:3000]
    names = [option(page.name, page.name) for page in pages]
    shown = [
        f"*{safe(page.name, 60)}*: {_components(page, incident.service)}"
        + (" It also speaks by itself (`auto`)." if page.auto else "")
        for page in pages[:5]
    ]
    before = f"Published last: {moment(last.at)} {safe(last.text, 300)}" if last else "Nothing was published yet."
    return modal(
        ids.STATUSPAGE_FORM,
        TITLE_OF_FORM,
        [
            section(
                f":loudspeaker: *This is public.* Customers read what you send here about {incident.reference}, "
                "word for word."
            ),
            context(*shown, before),
            entry(
                "page",
                "Status page",
                {"type": "static_select", "options": names, "initial_option": names[0]},
            ),
            entry(
                "title",
                "Public title",
                {"type": "plain_text_input", "max_length": TITLE},
                hint="Used when the page has nothing about this incident yet; later the page keeps its title.",
            ),
            entry("text", "What customers read", words),
            entry("status", "Status", _menu(STATUSES, status)),
            entry("component", "Components", _menu(COMPONENTS, components)),
            entry(
                "notify",
                "Subscribers",
                {
                    "type": "checkboxes",
                    "options": [option("Send them this by e-mail and text message", "notify")],
                },
                optional=True,
            ),
        ],
        submit="Publish",
        about=json.dumps({"incident": incident.id}),
    )


def _components(page: Page, service: str | None) -> str:
    found = page.affected(service)
    of = f" of {safe(service, 60)}" if service else ""
    if not found:
        return f"no component{of} is known; sinks.yaml maps services to components."
    return f"{len(found)} component{'s' if len(found) > 1 else ''}{of}."


def _menu(choices: dict[str, str], first: str) -> Block:
    return {
        "type": "static_select",
        "options": [option(text, value) for value, text in choices.items()],
        "initial_option": option(choices[first], first),
    }
