"""Become a responder of this incident."""

from bot.incidents import roles
from bot.incidents.model import RoleName
from bot.slack.context import Context, Reply

USAGE = "join"


async def run(context: Context, text: str) -> Reply:
    """Responders may run runbooks."""
    incident, _ = await context.scope(text)
    fresh = await roles.assign(
        context.tx,
        context.react,
        incident,
        RoleName.RESPONDER,
        context.person.id,
        by=context.person.id,
        now=context.now,
    )
    return Reply(f"You are a responder of {incident.reference}{' now' if fresh else ' already'}.")
