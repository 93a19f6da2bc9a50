"""Say that you have seen it: the page is acknowledged, here and in the pager."""

from bot.slack import calling
from bot.slack.context import Context, Reply

USAGE = "ack"
ALIASES = ("acknowledge", "acked")


async def run(context: Context, text: str) -> Reply:
    """Whoever is first counts."""
    incident, _ = await context.scope(text)
    return await calling.acknowledge(context, incident.id)
