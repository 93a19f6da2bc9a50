"""Show what starts by itself, or keep it from doing so: all of it, or one runbook."""

from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.runs import access, auto, automation
from bot.runs.automation import EVERY
from bot.runs.runbook import Runbook
from bot.slack.context import Context, Reply, words
from bot.slack.views import automation as views
from bot.slack.views.blocks import quoted

USAGE = "auto [on|off] [runbook]"
ALIASES = ("automation",)


async def run(context: Context, text: str) -> Reply:
    """Switching off is anybody's; switching on is for those who may run the runbook."""
    said, rest = words(text)
    if not said:
        return await _overview(context)
    if said.lower() not in ("on", "off"):
        raise UserError(
            f"Say `{context.word} auto off` or `{context.word} auto on`, with the id of a runbook or without."
        )
    off, name = said.lower() == "off", rest.split()[0] if rest.split() else ""
    if name.lower() in ("", "all", EVERY):
        name = EVERY
    else:
        _may(context, context.books.find(name), off=off)
    log = await context.log(context.tx, now=context.now)
    places: list[Incident] = [log]
    if (here := await context.here()) is not None:
        places.append(here)
    told = await automation.switch(
        context.tx, context.react, places, name, off=off, by=context.person.id, now=context.now
    )
    if not off and not (context.policy.on and context.policy.schedules):
        told += ". What is off in tocsin.yaml (`auto_runbooks`, `schedules`) stays off"
    return Reply(f"{told}.")


def _may(context: Context, runbook: Runbook, *, off: bool) -> None:
    rules = set(runbook.access.run)
    if not runbook.schedule and all(offer.mode != "auto" for offer in runbook.offer):
        raise UserError(f"{quoted(runbook.id)} starts by hand alone: it has neither `mode: auto` nor a schedule.")
    named = context.person.id in rules or rules & set(context.groups)
    if not off and not named and access.RESPONDERS not in rules:
        who = ", ".join(sorted(rules)) or "nobody"
        raise UserError(f"Only those who may run {quoted(runbook.id)} may let it start by itself again: {who}.")


async def _overview(context: Context) -> Reply:
    session, now = context.tx.session, context.now
    books = [
        book
        for _, book in sorted(context.books.runbooks.items())
        if book.schedule is not None or any(offer.mode == "auto" for offer in book.offer)
    ]
    said = await automation.switched(session)
    lines = [views.Line(book, await automation.history(session, book.id), auto.next_time(book, now)) for book in books]
    return Reply(*views.overview(lines, context.policy, said.get(EVERY), word=context.word))
