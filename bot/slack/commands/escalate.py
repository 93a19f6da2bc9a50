"""Bring somebody more to it: the next level of the escalation policy, another service's on-call, or a person."""

from bot.slack import calling
from bot.slack.context import REFERENCE, Asked, Context, Form, Reply
from bot.slack.views import page as views

USAGE = "escalate [service|@person|e-mail|policy:name] [text]"
ALIASES = ("esc",)


def form(asked: Asked, text: str) -> Form | None:
    """The form, if nothing was said."""
    said = text.strip()
    if said and not REFERENCE.fullmatch(said):
        return None
    incident_id = None if said else asked.incident_id
    return Form(views.form(asked.services, incident_id=incident_id, reference=said, up=True))


async def run(context: Context, text: str) -> Reply:
    """Escalate at once."""
    incident, rest = await context.scope(text)
    target, said = calling.split(context, rest)
    return await calling.call(context, incident, target, said, up=True)
