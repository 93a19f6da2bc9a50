"""Show the open incidents, or all of them."""

from bot.incidents import lifecycle
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
    listed = await lifecycle.listed(context.tx.session, open_only=open_only)
    seen = [incident for incident in listed if await context.sees(incident)]
    return Reply(*views.listing(seen, open_only=open_only))
