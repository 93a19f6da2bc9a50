"""Hosts, databases, clusters: whose they are, and what runbooks found about their drift, patches and backups last."""

from bot.runs import assets
from bot.slack.context import Context, Reply
from bot.slack.views import asset as views

USAGE = "assets [bad|name|kind|service|owner]"
ALIASES = ("asset",)
BAD = "bad"


async def run(context: Context, text: str) -> Reply:
    """All of them, those with which something is wrong, or those that a word fits."""
    word = text.strip().lower()
    found = await assets.known(context.tx.session, context.site.directory.catalog)
    if word and word != "all":
        found = [one for one in found if (one.bad if word == BAD else one.fits(word))]
    return Reply(*views.listing(found, about=word))
