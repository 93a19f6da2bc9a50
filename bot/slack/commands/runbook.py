"""Show the runbooks, open the form of one, or run it with what is said."""

from bot.incidents import lifecycle, roles
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.runs.books import prefill
from bot.runs.model import Run
from bot.runs.ranking import offer
from bot.runs.runbook import Runbook
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.starting import begin, elsewhere, promised, runnable
from bot.slack.typed import Typed, parse
from bot.slack.views import forms
from bot.slack.views import runbook as views
from bot.slack.views.blocks import safe

USAGE = 'runbook [run] [name] [key=value …] [--dry-run] [--break-glass "reason"]'
ALIASES = ("runbooks", "run")


def form(asked: Asked, text: str) -> Form | None:
    """The form of a runbook that is named in full, in an incident's channel, if nothing more was said."""
    try:
        typed = parse(text)
    except UserError:
        return None
    book = asked.books.runbooks.get(typed.name)
    if asked.incident_id is None or book is None or typed.reference or typed.more or (typed.run and not book.params):
        return None
    fill = {"form": "run", "incident": asked.incident_id, "runbook": book.id}
    return Form(forms.loading("Run a runbook"), fill)


async def run(context: Context, text: str) -> Reply:
    """All that this person may run, the fitting ones first; with a name and `run`, a run."""
    typed = parse(text)
    incident, _ = await context.scope(typed.reference)
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
    if not typed.name:
        if typed.run or typed.more:
            raise UserError(f"Which runbook? `{context.word} runbook` lists them.")
        return await _list(context, incident)
    book = context.books.find(typed.name)
    away = context.channel != incident.channel
    if typed.more or (typed.run and (away or not book.params)):
        return await _start(context, incident, book, typed)
    if why := elsewhere(context.channel, incident, book):
        raise UserError(why)
    return Reply(*views.listing(incident, [offer(book)]))


async def _list(context: Context, incident: Incident) -> Reply:
    fitting = context.offers(incident, await lifecycle.alerts(context.tx.session, incident.id))
    held = await roles.held(context.tx.session, incident.id)
    may, hidden = runnable(context.books.runbooks, fitting, incident, context.person.id, held, context.groups)
    return Reply(*views.listing(incident, may, hidden))


async def _start(context: Context, incident: Incident, book: Runbook, typed: Typed) -> Reply:
    """What was not said comes from the alert, as in the form; the answer says what it was."""
    found = prefill(book, incident, await lifecycle.alerts(context.tx.session, incident.id))
    made = await begin(
        context,
        incident,
        book,
        {**found, **typed.given},
        dry_run=typed.dry_run,
        break_glass=typed.break_glass,
    )
    return Reply(f"{promised(made, book)}{_with(made)}.")


def _with(made: Run) -> str:
    given = [f"{name}={value}" for name, value in made.params.items() if value is not None]
    return f": {safe(', '.join(given), 500)}" if given else ""
