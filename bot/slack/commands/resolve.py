"""The incident is over: say what ended it."""

from bot.incidents import lifecycle
from bot.slack.context import Context, Reply

USAGE = "resolve [what ended it]"
ALIASES = ("resolved",)


async def run(context: Context, text: str) -> Reply:
    """Resolve it and have the post-mortem draft written."""
    incident, rest = await context.scope(text)
    await lifecycle.resolve(context.tx, context.react, incident, by=context.person.id, now=context.now, note=rest)
    return Reply(f"{incident.reference} is resolved. The post-mortem draft follows in its channel.")
