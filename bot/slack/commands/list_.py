"""Show the open incidents, or all of them."""

from bot.incidents import access, lifecycle, roles
from bot.kit.errors import UserError
from bot.slack.context import Context, Reply
from bot.slack.views import incident as views

USAGE = "list [open|all]"


async def run(context: Context, text: str) -> Reply:
    """Newest first; private ones only to those who belong to them."""
    which = text.strip().lower() or "open"
    if which not in ("open", "active", "all"):
        raise UserError(f"`{context.word} list` shows the open incidents, `{context.word} list all` the last 50.")
    open_only = which != "all"
    seen = []
    for incident in await lifecycle.listed(context.tx.session, open_only=open_only):
        held = await roles.held(context.tx.session, incident.id) if incident.private else []
        seen += access.visible([incident], context.person.id, channel=context.channel, roles=held)
    return Reply(*views.listing(seen, open_only=open_only))
