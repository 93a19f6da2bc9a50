"""Declare an incident; without a title a form opens."""

from bot.incidents import lifecycle
from bot.incidents.model import Sev
from bot.kit.errors import UserError
from bot.slack.context import Asked, Context, Form, Reply, severity, words
from bot.slack.views import forms

USAGE = "new [sev1…sev5] [title]"
ALIASES = ("declare", "create")


def form(asked: Asked, text: str) -> Form | None:
    """The form, if there is no title yet."""
    level, title = _split(text)
    if title:
        return None
    return Form(forms.declare(severity=level or Sev.SEV3))


async def run(context: Context, text: str) -> Reply:
    """Declare it at once."""
    level, title = _split(text)
    if not title:
        raise UserError(f"An incident needs a title: `{context.word} new sev2 Checkout fails for card payments`")
    incident = await lifecycle.declare(
        context.tx,
        context.react,
        title=context.named(title),
        severity=level or Sev.SEV3,
        by=context.person.id,
        now=context.now,
        incident_id=context.derived("incident"),
    )
    return Reply(f"{incident.reference} declared ({incident.severity}). Its channel opens now; you will be invited.")


def _split(text: str) -> tuple[Sev | None, str]:
    # Only `sev2`, not `s2` or `2`: "5 nodes are down" and "S3 refuses uploads" are titles.
    first, rest = words(text)
    found = severity(first)
    if found is None and first.lower() == "sev":
        number, after = words(rest)
        if found := severity(number, bare=True):
            rest = after
    return (found, rest) if found else (None, text.strip())
