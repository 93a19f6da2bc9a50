"""What somebody who comes late should know: how it stands, what happened, what runs, who is asked."""

from bot.incidents.opening import card_of
from bot.runs.overview import CatchUp, lately, listed, questions
from bot.slack.context import Context, Reply
from bot.slack.views import catchup as views

USAGE = "catch-up"
ALIASES = ("catchup",)


async def run(context: Context, text: str) -> Reply:
    """For whoever asks alone."""
    incident, _ = await context.scope(text)
    session = context.tx.session
    noun = CatchUp(
        card=await card_of(session, incident.id, context.offers, context.site.services),
        runs=await listed(session, incident.id),
        questions=await questions(session, incident.id),
        events=await lately(session, incident.id),
    )
    return Reply(*views.catch_up(noun, context.link, context.now))
