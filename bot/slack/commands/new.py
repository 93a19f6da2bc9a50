"""Declare an incident; without a title a form opens."""

import json

from bot.incidents import lifecycle
from bot.incidents.model import Sev
from bot.kit.errors import UserError
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms

USAGE = "new [sev1…sev5] [title]"
ALIASES = ("declare", "create")


def form(asked: Asked, text: str) -> Form | None:
    """The form, if there is no title yet."""
    severity, title = _split(text)
    if title:
        return None
    view = forms.declare(severity=severity or Sev.SEV3)
    return Form({**view, "private_metadata": json.dumps({"channel": asked.channel})})


async def run(context: Context, text: str) -> Reply:
    """Declare it at once."""
    severity, title = _split(text)
    if not title:
        raise UserError(f"An incident needs a title: `{context.word} new sev2 Checkout fails for card payments`")
    incident = await lifecycle.declare(
        context.tx,
        context.react,
        title=title,
        severity=severity or Sev.SEV3,
        by=context.person.id,
        now=context.now,
        incident_id=context.derived("incident"),
    )
    return Reply(f"{incident.reference} declared ({incident.severity}). Its channel opens now; you will be invited.")


def _split(text: str) -> tuple[Sev | None, str]:
    first, _, rest = text.strip().partition(" ")
    found = severity(first)
    return (found, rest.strip()) if found else (None, text.strip())


def severity(word: str) -> Sev | None:
    """SEV2 from `sev2`, `SEV-2`, `s2` or `2`."""
    digits = word.lower().removeprefix("sev").removeprefix("s").lstrip("-")
    return Sev(f"SEV{digits}") if digits in ("1", "2", "3", "4", "5") and word else None
