"""The menu, the button and the forms of a post-mortem."""

from collections.abc import Mapping
from typing import Any

from bot.kit.errors import UserError
from bot.postmortems import draft as drafts
from bot.postmortems import files
from bot.postmortems.draft import Edit, revise
from bot.postmortems.model import Origin
from bot.postmortems.review import Change
from bot.postmortems.sections import replaced
from bot.slack import ids
from bot.slack.context import Asked, Context, Form, Reply
from bot.slack.views import forms
from bot.slack.views import postmortem as views


async def export(context: Context, value: str) -> Reply:
    """That revision, in the chosen format."""
    incident_id, _, chosen = value.partition(":")
    revision, _, name = chosen.partition(":")
    incident = await context.incident(incident_id)
    if name not in context.formats or not revision.isdecimal():
        raise UserError(f"There is no such format any more; there is: {', '.join(context.formats)}.")
    await files.ask(
        context.tx,
        context.react,
        incident,
        name,
        revision=int(revision),
        by=context.person.id,
        now=context.now,
        once=context.request.id,
    )
    return Reply(f"Revision {revision} is being written as {name}; it will be shared here.")


def review(asked: Asked, value: str) -> Form:
    """What a reviewer should see."""
    return Form(forms.loading("Post-mortem"), {"form": "review", "incident": value})


async def decided(context: Context, form: Mapping[str, Any]) -> Reply:
    """What the reviewer says."""
    incident = await context.incident(form["about"]["incident"])
    change = Change(context.tx, context.react, incident, context.person.id, context.now)
    match form["values"].get("decision"):
        case views.READY:
            await change.hand_in()
            return Reply(f"The post-mortem of {incident.reference} is in review; the channel is asked to read it.")
        case views.APPROVE:
            await change.complete(int(form["about"]["revision"]))
            return Reply(f"The post-mortem of {incident.reference} is completed.")
    await change.send_back(str(form["values"].get("reason") or ""))
    return Reply(f"The post-mortem of {incident.reference} is a draft again; the channel hears why.")


async def edited(context: Context, form: Mapping[str, Any]) -> Reply:
    """A section was written."""
    about = form["about"]
    incident = await context.incident(about["incident"])
    base = await drafts.stored(context.tx.session, incident.id, int(about["revision"]))
    if base is None:
        raise UserError("This revision does not exist any more.")
    name, text = str(about["section"]), str(form["values"].get("text") or "")
    edit = Edit(replaced(base.text, name, text), Origin.SECTION, base.revision, name)
    who = context.person.id
    made, conflicts = await revise(context.tx, context.react, incident, edit, by=who, now=context.now, actor=who)
    if conflicts:
        return Reply(
            f"Revision {made.revision} has what you wrote, and a conflict with what was written meanwhile: both stand "
            "there. Keep one of them."
        )
    return Reply(f"Revision {made.revision} of the post-mortem of {incident.reference} has what you wrote.")


OPENS = {ids.REVIEW: review}
BUTTONS = {ids.EXPORT_DOCUMENT: export}
FORMS = {ids.REVIEW_FORM: decided, ids.SECTION_FORM: edited}
