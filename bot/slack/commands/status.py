"""Show the incident, or say how far you are: investigating, identified, fixing, monitoring."""

from bot.incidents import lifecycle
from bot.incidents.model import ACTIVE, Status
from bot.incidents.opening import card_of
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.slack.context import Context, Reply
from bot.slack.views import incident as views

USAGE = "status [investigating|identified|fixing|monitoring]"
ALIASES = ("show", "overview")


async def run(context: Context, text: str) -> Reply:
    """Without a word the overview; with one the change."""
    incident, rest = await context.scope(text)
    if not rest:
        return Reply(*views.overview(await card_of(context.tx.session, incident.id, context.library.offers)))
    word = rest.split()[0].lower()
    word = {"mitigated": "monitoring", "mitigate": "monitoring", "investigate": "investigating"}.get(word, word)
    known = [str(status) for status in ACTIVE]
    if word in ("resolved", "closed"):
        raise UserError(f"To resolve it: `{context.word} resolve [what ended it]`")
    if word not in known:
        near = nearest(word, known)
        raise UserError(
            f"`{word}` is not a status." + (f" Did you mean `{near}`?" if near else f" There are: {', '.join(known)}.")
        )
    await lifecycle.set_status(context.tx, context.react, incident, Status(word), by=context.person.id, now=context.now)
    return Reply(f"{incident.reference} is {word} now.")
