"""Publish on the status page what customers may read: a form opens."""

from bot.kit.errors import UserError
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms

USAGE = "statuspage [text]"
ALIASES = ("status-page", "publish")


def form(asked: Asked, text: str) -> Form | None:
    """The form, with *text* in it; only in an incident's channel, since it must be sure what it is about."""
    if asked.incident_id is None:
        return None
    return Form(forms.loading("Publish"), {"form": "statuspage", "incident": asked.incident_id, "text": text.strip()})


async def run(context: Context, text: str) -> Reply:
    """Outside of an incident's channel nothing is published."""
    incident, _ = await context.scope(text)
    where = f"<#{incident.channel}>" if incident.channel else "its channel"
    raise UserError(f"Say `{context.word} statuspage` in {where}: the form shows what would be published.")
