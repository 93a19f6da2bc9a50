"""Publish on the status page what customers may read: a form opens."""

from bot.kit.errors import UserError
from bot.slack.context import REFERENCE, Asked, Context, Form, Reply
from bot.slack.views import forms

USAGE = "statuspage [text]"
ALIASES = ("status-page", "publish")


def form(asked: Asked, text: str) -> Form | None:
    """The form, with *text* in it: about the incident whose channel this is, since that must be sure."""
    if REFERENCE.match(text.strip()):
        return None
    return Form(forms.loading("Publish"), {"form": "statuspage", "text": text.strip()})


async def run(context: Context, text: str) -> Reply:
    """Who names an incident is sent to its channel."""
    incident, _ = await context.scope(text)
    where = f"<#{incident.channel}>" if incident.channel else "its channel"
    raise UserError(f"Say `{context.word} statuspage` in {where}: the form shows what would be published.")
