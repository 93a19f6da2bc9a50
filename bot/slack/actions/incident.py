"""The buttons and forms about an incident."""

from collections.abc import Mapping
from typing import Any

from bot.incidents import lifecycle, paging, roles
from bot.incidents.model import Kind, RoleName, Sev
from bot.kit.errors import UserError
from bot.slack import ids
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms


async def take_command(context: Context, value: str) -> Reply:
    """Whoever presses leads."""
    incident = await context.incident(value)
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more.")
    me = context.person.id
    fresh = await roles.assign(context.tx, context.react, incident, RoleName.COMMANDER, me, by=me, now=context.now)
    if await paging.waiting(context.tx.session, incident.id):  # whoever leads has seen it
        await paging.acknowledge(context.tx, context.react, incident, by=me, now=context.now)
    if not fresh:
        return Reply(f"You are in command of {incident.reference} already.")
    return Reply(f"You are in command of {incident.reference}. `/inc help` shows what you can say.")


async def accept(context: Context, value: str) -> Reply:
    """The suggestion is an incident."""
    incident = await context.incident(value)
    await lifecycle.accept(context.tx, context.react, incident, by=context.person.id, now=context.now)
    return Reply(f"{incident.reference} is open; its channel comes now.")


async def decline(context: Context, value: str) -> Reply:
    """The suggestion is none."""
    incident = await context.incident(value)
    await lifecycle.decline(context.tx, context.react, incident, by=context.person.id, now=context.now)
    return Reply(f"{incident.reference} is declined. The alert stays on record.")


async def keep_open(context: Context, value: str) -> Reply:
    """The alerts have cleared, and it goes on."""
    incident = await context.incident(value)
    if not incident.is_open:
        raise UserError(f"{incident.reference} is resolved already; `/inc reopen` opens it again.")
    await lifecycle.keep_open(context.tx, context.react, incident, by=context.person.id, now=context.now)
    return Reply(f"{incident.reference} stays open.")


async def retry(context: Context, value: str) -> Reply:
    """Try again what could not be set up."""
    incident = await context.incident(value)
    await lifecycle.retry_parts(context.tx, context.react, incident, by=context.person.id, now=context.now)
    return Reply("Trying again; the card shows how it goes.")


async def draft(context: Context, value: str) -> Reply:
    """Write the post-mortem draft."""
    incident = await context.incident(value)
    await lifecycle.request_draft(
        context.tx, context.react, incident, by=context.person.id, now=context.now, once=context.request.id
    )
    return Reply("The draft is being written; it will be shared here.")


def resolve_form(asked: Asked, value: str) -> Form:
    """Ask what ended it."""
    return Form(forms.resolve(value))


async def declared(context: Context, form: Mapping[str, Any]) -> Reply:
    """The declare form was sent."""
    values = form["values"]
    incident = await lifecycle.declare(
        context.tx,
        context.react,
        title=str(values.get("title") or ""),
        severity=Sev(values.get("severity") or Sev.SEV3),
        summary=str(values.get("summary") or ""),
        private="private" in (values.get("private") or ()),
        kind=Kind.STANDARD,
        by=context.person.id,
        now=context.now,
        incident_id=context.derived("incident"),
    )
    return Reply(f"{incident.reference} declared ({incident.severity}). Its channel opens now; you will be invited.")


async def resolved(context: Context, form: Mapping[str, Any]) -> Reply:
    """The resolve form was sent."""
    incident = await context.incident(form["about"]["incident"])
    note = str(form["values"].get("note") or "")
    await lifecycle.resolve(context.tx, context.react, incident, by=context.person.id, now=context.now, note=note)
    return Reply(f"{incident.reference} is resolved. The post-mortem draft follows.")


async def noted(context: Context, message: Mapping[str, Any]) -> Reply:
    """A message was put on the timeline by its menu; it keeps the time at which it was said."""
    incident = await context.here()
    if incident is None:
        raise UserError("Only messages in an incident's channel can be put on a timeline.")
    author = message.get("author")
    text = str(message.get("text") or "").strip()
    if not text:
        raise UserError("There is no text in this message to put on a timeline.")
    await lifecycle.note(
        context.tx,
        context.react,
        incident,
        f"<@{author}>: {text}" if author else text,
        by=context.person.id,
        now=context.now,
        at=message.get("at"),
    )
    return Reply(f"Put on the timeline of {incident.reference}.")


OPENS = {ids.RESOLVE: resolve_form}
BUTTONS = {
    ids.TAKE_COMMAND: take_command,
    ids.ACCEPT: accept,
    ids.DECLINE: decline,
    ids.KEEP_OPEN: keep_open,
    ids.RETRY: retry,
    ids.POSTMORTEM: draft,
}
FORMS = {ids.DECLARE_FORM: declared, ids.RESOLVE_FORM: resolved}
SHORTCUTS = {ids.NOTE_SHORTCUT: noted}
