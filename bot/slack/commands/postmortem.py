"""Write the post-mortem draft from the timeline and share it in the channel, or export it in a format."""

from bot.incidents import lifecycle
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.postmortems import files
from bot.slack.context import Context, Reply, words
from bot.slack.views.blocks import quoted

USAGE = "postmortem [export <format> [ticket]]"
ALIASES = ("pm", "retro")


async def run(context: Context, text: str) -> Reply:
    """A new revision, if the timeline has grown; with `export`, a file."""
    incident, rest = await context.scope(text)
    verb, more = words(rest)
    if verb.lower() == "export":
        return await _export(context, incident, more)
    if verb:
        raise UserError(f"{quoted(verb)} is not known here; `{context.word} postmortem export pdf` shares a file.")
    await lifecycle.request_draft(
        context.tx, context.react, incident, by=context.person.id, now=context.now, once=context.request.id
    )
    return Reply(f"The post-mortem draft of {incident.reference} is being written; it will be shared in its channel.")


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
