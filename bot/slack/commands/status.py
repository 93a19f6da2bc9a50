"""Show the incident, or say how far you are: investigating, identified, fixing, monitoring."""

from bot.incidents import lifecycle
from bot.incidents.model import ACTIVE, Status
from bot.incidents.opening import card_of
from bot.kit.errors import UserError
from bot.kit.text import clip, nearest
from bot.slack.context import Context, Reply, words
from bot.slack.views import incident as views

USAGE = "status [investigating|identified|fixing|monitoring]"
ALIASES = ("show", "overview")
# What else people call them.
SAME = {
    **dict.fromkeys(("investigate", "investigated", "investigation"), Status.INVESTIGATING),
    **dict.fromkeys(("identify", "identifying"), Status.IDENTIFIED),
    **dict.fromkeys(("fix", "repairing", "mitigating"), Status.FIXING),
    **dict.fromkeys(("fixed", "mitigate", "mitigated", "monitor", "monitored", "watching"), Status.MONITORING),
}
OVER = ("resolve", "resolved", "resolving", "close", "closed", "done", "over")


async def run(context: Context, text: str) -> Reply:
    """Without a word the overview; with one the change."""
    incident, rest = await context.scope(text)
    if not rest:
        return Reply(
            *views.overview(await card_of(context.tx.session, incident.id, context.offers, context.site.services))
        )
    said = words(rest)[0].lower()
    word = SAME.get(said, said)
    known = [str(status) for status in ACTIVE]
    if word in OVER:
        raise UserError(f"To resolve it: `{context.word} resolve [what ended it]`")
    if word not in known:
        near = nearest(word, [*known, *SAME])
        hint = f" Did you mean `{SAME.get(near, near)}`?" if near else f" There are: {', '.join(known)}."
        shown = clip(said.replace("`", "'"), 50)
        raise UserError(f"`{shown}` is not a status." + hint)
    await lifecycle.set_status(context.tx, context.react, incident, Status(word), by=context.person.id, now=context.now)
    return Reply(f"{incident.reference} is {word} now.")
