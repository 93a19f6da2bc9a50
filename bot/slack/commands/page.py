"""Wake somebody for this incident: its on-call again, that of another service, or a person by name."""

from bot.slack import calling
from bot.slack.context import REFERENCE, Asked, Context, Form, Reply
from bot.slack.views import page as views

USAGE = "page [service|@person|e-mail|policy:name] [text]"


def form(asked: Asked, text: str) -> Form | None:
    """The form, if nothing was said."""
    said = text.strip()
    if said and not REFERENCE.fullmatch(said):
        return None
    return Form(views.form(asked.services, incident_id=None if said else asked.incident_id, reference=said))


async def run(context: Context, text: str) -> Reply:
    """Page at once."""
    incident, rest = await context.scope(text)
    target, said = calling.split(context, rest)
    return await calling.call(context, incident, target, said)
