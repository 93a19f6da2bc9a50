"""It is not over after all."""

from bot.incidents import lifecycle
from bot.slack.context import Context, Reply

USAGE = "reopen [reason]"


async def run(context: Context, text: str) -> Reply:
    """Go on with a resolved incident."""
    incident, rest = await context.scope(text)
    await lifecycle.reopen(context.tx, context.react, incident, by=context.person.id, now=context.now, reason=rest)
    return Reply(f"{incident.reference} is open again.")
