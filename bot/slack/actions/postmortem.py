"""The menu of a post-mortem."""

from bot.kit.errors import UserError
from bot.postmortems import files
from bot.slack import ids
from bot.slack.context import Context, Reply


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


BUTTONS = {ids.EXPORT_DOCUMENT: export}
