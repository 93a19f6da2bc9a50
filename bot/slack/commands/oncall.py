"""Who is on call: for a service, a team or an on-call of the catalog, or for all."""

from bot.incidents import oncall, shifts
from bot.incidents.oncall import Duty
from bot.slack import naming
from bot.slack.context import Context, Reply
from bot.slack.views import oncall as views

USAGE = "oncall [service]"
ALIASES = ("on-call",)


async def run(context: Context, text: str) -> Reply:
    """From what is stored: it answers while the pager is away, and says how old the answer is."""
    directory, about = context.site.directory, text.strip()
    if not about:
        here = await context.here()
        known = here.service if here is not None else None
        about = known if known is not None and directory.of_service(known) else ""
    places = naming.places(directory, about) if about else directory.places()
    found = await oncall.known(context.tx.session, directory, places, context.now)

    def called(duty: Duty) -> tuple[str, bool]:
        told = shifts.called(context.site.find, directory, duty)
        return told, told.startswith("<@")

    return Reply(*views.on_call(found, called, context.now, about=about))
