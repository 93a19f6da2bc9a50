"""Show the runs of this incident: how they stand, who started them, and where."""

from bot.runs.overview import listed
from bot.slack.context import Context, Reply
from bot.slack.views import run as views

USAGE = "runs"


async def run(context: Context, text: str) -> Reply:
    """Newest first."""
    incident, _ = await context.scope(text)
    return Reply(*views.listing(incident, await listed(context.tx.session, incident.id), context.link))
