"""Open a ticket for the incident in an issue tracker, link one that is there, or list them."""

from bot.incidents import tickets
from bot.incidents.model import Incident, Ticket, TicketState
from bot.kit.errors import UserError
from bot.slack.context import Context, Reply
from bot.slack.views.blocks import link, safe

USAGE = "ticket [tracker] | ticket link <url or number> [tracker] | ticket list"
ALIASES = ("tickets",)


async def run(context: Context, text: str) -> Reply:
    """What failed before is tried again."""
    incident, rest = await context.scope(text)
    there = [one for one in await tickets.of(context.tx.session, incident.id) if one.purpose == "incident"]
    if rest.lower() == "list" or (not rest and there and not any(one.error for one in there)):
        return Reply(_listed(incident, there, context.word))
    tracker, asked = tickets.named(context.tracking, rest)
    same = next((one for one in there if one.tracker == tracker and one.asked == asked), None)
    if same is not None and same.state == TicketState.MADE:
        if same.error is None:
            raise UserError(f"{incident.reference} has {same.reference} in {tracker} already: {same.url}")
        await tickets.promise(context.tx, same)
        return Reply(f"Trying again to bring {same.reference} up to date; the card shows how it goes.")
    key = tickets.incident_key(context.tracking, incident)
    by, now = context.person.id, context.now
    fresh = await tickets.want(context.tx, incident, tracker, key, now=now, by=by, asked=asked)
    if not fresh:
        return Reply(f"The ticket in {tracker} is on its way.")
    what = "The ticket is being linked" if asked else f"A ticket in {tracker} is being opened"
    return Reply(f"{what}; the channel hears of it.")


def _listed(incident: Incident, there: list[Ticket], word: str) -> str:
    if not there:
        return f"{incident.reference} has no ticket. `{word} ticket` opens one, `{word} ticket link <url>` links one."
    lines = []
    for one in there[:20]:
        name = link(one.url or "", one.reference) if one.reference else "no ticket yet"
        lines.append(
            f"{name} in {safe(one.tracker, 80)}: {safe(one.status or one.state, 80)}"
            + (f" :warning: {safe(one.error, 300)}" if one.error else "")
        )
    return "\n".join(lines)
