"""Starting a run for somebody in Slack, whichever way they asked."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bot.incidents.chat import Offer
from bot.incidents.model import Incident, Role
from bot.kit.errors import UserError
from bot.runs import access
from bot.runs import run as runs
from bot.runs.model import Run
from bot.runs.ranking import offer
from bot.runs.runbook import Runbook, used
from bot.slack.context import Context


async def begin(
    context: Context,
    incident: Incident,
    runbook: Runbook,
    given: Mapping[str, Any],
    *,
    dry_run: bool = False,
    break_glass: str | None = None,
) -> Run:
    """Promise the run, if this person may have it from here. UserError, or ParamErrors by parameter, otherwise."""
    if why := elsewhere(context.channel, incident, runbook):
        raise UserError(why)
    asked = runs.Asked(
        context.person.id,
        email=context.person.email,
        groups=context.groups,
        break_glass=break_glass,
    )
    return await runs.start(
        context.tx,
        context.react,
        incident,
        runbook,
        given,
        asked=asked,
        now=context.now,
        run_id=context.derived("run"),
        dry_run=dry_run,
        uses=used(runbook, context.books.runbooks),
        commit=context.books.commit,
    )


def promised(run: Run, runbook: Runbook) -> str:
    """What the person is told of a run that was promised."""
    what = f"{'Dry run' if run.dry_run else 'Run'} {run.number} of {runbook.name}"
    return f"{what} waits its turn" if run.held else f"{what} starts now"


def runnable(
    books: Mapping[str, Runbook],
    fitting: Sequence[Offer],
    incident: Incident,
    person: str,
    held: Iterable[Role],
    groups: frozenset[str],
) -> tuple[list[Offer], int]:
    """Every runbook that *person* may run, those that fit first, and how many more there are."""
    every = {one.runbook: one for one in fitting}
    for _, book in sorted(books.items()):
        every.setdefault(book.id, offer(book))
    roles = list(held)
    may = [
        one
        for one in every.values()
        if not access.refusal(books[one.runbook].access.run, "", incident, person, roles, groups)
    ]
    return may, len(every) - len(may)


def elsewhere(channel: str | None, incident: Incident, runbook: Runbook) -> str | None:
    """Why a runbook is not run from *channel*; None if it may be."""
    if incident.channel is None or channel == incident.channel or runbook.access.channels == "any":
        return None
    where = "its channel" if incident.private else f"<#{incident.channel}>"
    return f"{runbook.name} is run from the channel of {incident.reference} alone: go to {where}."
