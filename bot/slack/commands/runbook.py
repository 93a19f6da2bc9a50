"""Show the runbooks as buttons, or open the form of one."""

from bot.incidents import lifecycle
from bot.kit.errors import UserError
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms
from bot.slack.views import incident as views

USAGE = "runbook [name]"
ALIASES = ("runbooks", "run")


def form(asked: Asked, text: str) -> Form | None:
    """The form of a runbook that is named in full, in an incident's channel."""
    name = _name(text)
    if asked.incident_id is None or name not in asked.books.runbooks:
        return None
    return Form(forms.loading("Run a runbook"), {"incident": asked.incident_id, "runbook": name})


async def run(context: Context, text: str) -> Reply:
    """All of them, the fitting ones first."""
    incident, rest = await context.scope(text)
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
    name = _name(rest)
    if name:
        context.books.find(name)
    fitting = context.books.offers(incident, await lifecycle.alerts(context.tx.session, incident.id))
    every = [*fitting, *(offer for offer in context.books.all() if offer not in fitting)]
    shown = [offer for offer in every if offer.runbook == name] if name else every
    return Reply(*views.offers(incident, shown))


def _name(text: str) -> str:
    words = text.split()
    if words and words[0] == "run":
        words = words[1:]
    return words[0] if words else ""
