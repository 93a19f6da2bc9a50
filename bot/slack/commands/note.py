"""Write something on the timeline."""

from bot.incidents import lifecycle
from bot.slack.context import Context, Reply

USAGE = "note <text>"
ALIASES = ("timeline",)


async def run(context: Context, text: str) -> Reply:
    """It is kept as written, with the time and who wrote it; `action:`, `finding:` or `decision:` says what it is."""
    incident, rest = await context.scope(text)
    kind = await lifecycle.note(context.tx, context.react, incident, rest, by=context.person.id, now=context.now)
    what = "Noted" if kind == "note" else f"Noted as {kind}"
    return Reply(f"{what} on the timeline of {incident.reference}.")
