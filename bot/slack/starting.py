"""Starting a run for somebody in Slack, whichever way they asked."""

from collections.abc import Mapping
from typing import Any

from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.runs import run as runs
from bot.runs.model import Run
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
        groups=await context.groups(incident),
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
    )


def elsewhere(channel: str | None, incident: Incident, runbook: Runbook) -> str | None:
    """Why a runbook is not run from *channel*; None if it may be."""
    if incident.channel is None or channel == incident.channel or runbook.access.channels == "any":
        return None
    where = "its channel" if incident.private else f"<#{incident.channel}>"
    return f"{runbook.name} is run from the channel of {incident.reference} alone: go to {where}."
