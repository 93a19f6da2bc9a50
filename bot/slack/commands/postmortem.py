"""Write the post-mortem draft and share it; edit, review, export, complete or waive it."""

from bot.incidents import lifecycle
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.postmortems import draft as drafts
from bot.postmortems import files
from bot.postmortems.model import State
from bot.postmortems.review import Change, found
from bot.postmortems.sections import sections
from bot.slack import reviewing
from bot.slack.context import Asked, Context, Form, Reply, words
from bot.slack.views import forms
from bot.slack.views import postmortem as views
from bot.slack.views.blocks import quoted

USAGE = (
    "postmortem [status|edit <section>|review|owner <@person>|due <day>|complete|waive <reason>|reopen"
    "|draft <template>|export <format> [ticket]]"
)
ALIASES = ("pm", "retro")
_VERBS = ("status", "edit", "review", "owner", "due", "complete", "waive", "reopen", "draft", "export")


def form(asked: Asked, text: str) -> Form | None:
    """A section to edit, or the review, in the incident's own channel."""
    verb, more = words(text)
    if asked.incident_id is None:
        return None
    if verb.lower() == "edit" and more:
        return Form(
            forms.loading("Edit a section"), {"form": "section", "incident": asked.incident_id, "section": more}
        )
    if verb.lower() == "review" and not more:
        return Form(forms.loading("Post-mortem"), {"form": "review", "incident": asked.incident_id})
    return None


async def run(context: Context, text: str) -> Reply:
    """Alone a new revision, if the timeline has grown; with a word what it says."""
    incident, rest = await context.scope(text)
    verb, more = words(rest)
    change = Change(context.tx, context.react, incident, context.person.id, context.now)
    match verb.lower():
        case "" | "draft":
            return await _draft(context, incident, more)
        case "export":
            return await _export(context, incident, more)
        case "status":
            noun = await reviewing.standing(context.tx.session, incident)
            return Reply(*views.standing(noun, context.word))
        case "edit":
            return await _sections(context, incident)
        case "review":
            return await _review(context, incident, change)
        case "owner":
            person = reviewing.person(more)
            await change.own(person)
            return Reply(f"<@{person}> owns the post-mortem of {incident.reference}.")
        case "due":
            return Reply(f"The post-mortem of {incident.reference} is due {await change.plan(more)}.")
        case "complete":
            await change.complete()
            return Reply(f"The post-mortem of {incident.reference} is completed.")
        case "waive":
            await change.waive(more)
            return Reply(f"There will be no post-mortem of {incident.reference}.")
        case "reopen":
            await change.reopen()
            return Reply(f"The post-mortem of {incident.reference} is a draft again.")
    near = nearest(verb.lower(), list(_VERBS))
    hint = f"Did you mean `{near}`?" if near else f"There is: {', '.join(_VERBS)}."
    raise UserError(f"{quoted(verb)} is not known here. {hint}")


async def _draft(context: Context, incident: Incident, template: str) -> Reply:
    known = context.templates
    if template and template not in known:
        raise UserError(f"There is no template {quoted(template)}; there is: {', '.join(known)}.")
    await lifecycle.request_draft(
        context.tx,
        context.react,
        incident,
        by=context.person.id,
        now=context.now,
        once=context.request.id,
        template=template or None,
    )
    return Reply(f"The post-mortem draft of {incident.reference} is being written; it will be shared in its channel.")


async def _sections(context: Context, incident: Incident) -> Reply:
    """Which there are; the form of one opens in the incident's channel."""
    await found(context.tx.session, incident)
    document = await drafts.newest(context.tx.session, incident.id)
    names = [one.name for one in sections(document.text)] if document else []
    where = f"<#{incident.channel}>" if incident.channel else "its channel"
    return Reply(
        f"Say `{context.word} postmortem edit ‹section›` in {where}. There are: {', '.join(names) or 'none'}. Longer "
        "edits go by file: `tocsin postmortem import`."
    )


async def _review(context: Context, incident: Incident, change: Change) -> Reply:
    """From elsewhere: hand it in; whoever approves has to see it, so that is for the form."""
    review = await found(context.tx.session, incident)
    if review.state == State.IN_REVIEW:
        where = f"<#{incident.channel}>" if incident.channel else "its channel"
        raise UserError(f"It is in review. Say `{context.word} postmortem review` in {where}: the form shows it.")
    await change.hand_in()
    return Reply(f"The post-mortem of {incident.reference} is in review.")


async def _export(context: Context, incident: Incident, text: str) -> Reply:
    name, where = words(text.lower().lstrip("."))
    if where not in ("", "ticket"):
        raise UserError(f"{quoted(where)} is no place: say nothing for the channel, or `ticket`.")
    if name not in context.formats:
        near = nearest(name, list(context.formats)) if name else None
        hint = f"Did you mean `{near}`? " if near else ""
        there = ", ".join(f"`{known}`" for known in context.formats)
        wrong = f"{quoted(name)} is no format. " if name else "Which format? "
        raise UserError(f"{wrong}{hint}There is: {there}.")
    await files.ask(
        context.tx,
        context.react,
        incident,
        name,
        by=context.person.id,
        now=context.now,
        once=context.request.id,
        ticket=bool(where),
    )
    if where:
        return Reply(f"The post-mortem of {incident.reference} is being written as {name} and attached to its ticket.")
    return Reply(
        f"The post-mortem of {incident.reference} is being written as {name}; it will be shared in its channel."
    )
