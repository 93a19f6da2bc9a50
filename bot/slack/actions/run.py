"""The buttons and forms about runbooks and their runs."""

from collections.abc import Mapping
from typing import Any

from bot.incidents import roles
from bot.incidents.model import LOGBOOK, Incident
from bot.kit.errors import UserError
from bot.runs import access, live, params
from bot.runs import run as runs
from bot.runs.form import entered
from bot.runs.model import Trigger
from bot.slack import ids
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.starting import begin, promised
from bot.slack.views import forms


def start_form(asked: Asked, value: str) -> Form:
    """The form opens empty at once and is filled in from the alert right after."""
    incident_id, _, runbook = value.partition(":")
    return Form(forms.loading("Run a runbook"), {"form": "run", "incident": incident_id, "runbook": runbook})


def more(asked: Asked, value: str) -> Form:
    """All runbooks that this person may run."""
    return Form(forms.loading("Runbooks"), {"form": "runbooks", "incident": value})


async def started(context: Context, form: Mapping[str, Any]) -> Reply:
    """The form was sent: start the run."""
    about, values = form["about"], form["values"]
    incident = await context.incident(about["incident"])
    runbook = context.books.find(about["runbook"])
    if runbook.sha256 != about["sha256"]:
        raise UserError(f"{runbook.name} was changed since the form was opened. Press its button again.")
    given = entered(runbook.params, values)
    live.check(about.get("live") or {}, params.check(runbook, given))
    run = await begin(context, incident, runbook, given, dry_run=values.get("mode") == "dry_run")
    return Reply(f"{promised(run, runbook)}.")


async def cancel(context: Context, value: str) -> Reply:
    """Stop the run. What nobody started, anybody may stop."""
    run = await runs.find(context.tx.session, value)
    if run.trigger in (Trigger.AUTO, Trigger.SCHEDULE):
        await context.incident(run.incident_id)
    else:
        await _responder(context, value)
    run = await runs.cancel(context.tx, context.react, value, by=context.person.id, now=context.now)
    return Reply(f"Run {run.number} is being cancelled.")


async def roll_back(context: Context, value: str) -> Reply:
    """Take back what a cancelled run has changed."""
    await _responder(context, value)
    run = await runs.roll_back(context.tx, context.react, value, by=context.person.id, now=context.now)
    return Reply(f"Run {run.number} takes back what it has changed.")


async def repeat(context: Context, value: str) -> Reply:
    """Do the interrupted step again."""
    return await _answer(context, value, runs.REPEAT, "is going on with that step")


async def accept(context: Context, value: str) -> Reply:
    """The interrupted step counts as done."""
    return await _answer(context, value, runs.ACCEPT, "is going on after that step")


async def abandon(context: Context, value: str) -> Reply:
    """The run is given up, and what it changed is taken back where it says how."""
    return await _answer(
        context, value, runs.ABANDON, "is given up; what it changed is taken back as far as it says how"
    )


async def _answer(context: Context, run_id: str, choice: str, word: str) -> Reply:
    await _responder(context, run_id)
    run = await runs.answer(context.tx, context.react, run_id, choice, by=context.person.id, now=context.now)
    return Reply(f"Run {run.number} {word}.")


async def _responder(context: Context, run_id: str) -> Incident:
    """Whoever may start a run may also stop it and answer for it."""
    run = await runs.find(context.tx.session, run_id)
    incident = await context.incident(run.incident_id)
    if context.person.id == run.requested_by:
        return incident
    runbook = runs.definition(run)
    if incident.number == LOGBOOK and access.RESPONDERS in runbook.access.run:
        return incident  # nobody is called to what runs by the clock, so whoever sees it may answer
    held = await roles.held(context.tx.session, incident.id)
    what = f"{runbook.name} may be run"
    if why := access.refusal(runbook.access.run, what, incident, context.person.id, held, context.groups):
        raise UserError(why)
    return incident


DRY = ":eyes: The dry run begins; its message comes in the channel. *Run* does it for real."
OPENS = {ids.START_RUN: start_form, ids.MORE_RUNBOOKS: more}
BUTTONS = {
    ids.CANCEL_RUN: cancel,
    ids.ROLL_BACK_RUN: roll_back,
    ids.REPEAT_STEP: repeat,
    ids.ACCEPT_STEP: accept,
    ids.ABANDON_RUN: abandon,
}
FORMS = {ids.RUN_FORM: started}
# Buttons in a form that send it as well: which form, with what more among its values, and the word when it was taken.
SENDS = {ids.DRY_RUN: (ids.RUN_FORM, {"mode": "dry_run"}, DRY)}
