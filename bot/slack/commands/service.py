"""A service of the catalog: what it is, who has it and is on call, what it needs, and how it stands."""

import sqlalchemy as sa
from sqlmodel import col

from bot.catalog.services import Directory
from bot.incidents import access, oncall, roles, shifts
from bot.incidents.model import LOGBOOK, Incident
from bot.incidents.oncall import Standing
from bot.runs import assets
from bot.runs.model import Run
from bot.slack import naming
from bot.slack.context import Context, Reply
from bot.slack.views import service as views
from bot.slack.views.asset import line
from bot.slack.views.blocks import people, safe

USAGE = "service [name]"
ALIASES = ("services",)
RUNS = 30


async def run(context: Context, text: str) -> Reply:
    """With a name, or in the channel of an incident that has one, that service; else all."""
    directory, name = context.site.directory, text.strip()
    if not name:
        here = await context.here()
        known = here.service if here is not None else None
        if known is None or known not in directory.catalog.services:
            return Reply(*views.listing(directory))
        name = known
    name = naming.service(directory, name)
    about = await context.site.services.about(context.tx.session, name)
    assert about is not None  # noqa: S101 - it was found in the same catalog
    places = directory.of_service(name)
    standings = await oncall.known(context.tx.session, directory, places, context.now)
    return Reply(
        *views.whole(
            views.Whole(
                about,
                team=_owner(directory, about.service.owner),
                on_call=[_on_call(context, one) for one in standings],
                needed_by=[one for one, other in directory.catalog.services.items() if name in other.dependencies],
                incidents=await _incidents(context, name),
                runs=await _runs(context, name),
                offered=about.service.runbooks,
                assets=[line(one) for one in await assets.known(context.tx.session, directory.catalog, service=name)],
            )
        )
    )


def _owner(directory: Directory, owner: str | None) -> str:
    team = directory.catalog.teams.get(owner or "")
    if owner is None or team is None:
        return safe(owner or "", 100)
    more = [f"#{safe(team.channel.lstrip('#'), 80)}"] if team.channel else []
    more += [f"@{safe(team.group, 80)}"] if team.group else []
    return safe(owner, 100) + (f" ({', '.join(more)})" if more else "")


def _on_call(context: Context, found: Standing) -> str:
    called = [shifts.called(context.site.find, context.site.directory, duty) for duty in found.first]
    who = people(", ".join(called), 300) or ("nobody" if found.said else "not known yet")
    old = " (as last told)" if found.problem else ""
    return f"{who} _{safe(found.name, 60)}_{old}"


async def _incidents(context: Context, service: str) -> list[Incident]:
    query = sa.select(Incident).where(
        col(Incident.service) == service, col(Incident.is_open).is_(True), col(Incident.number) != LOGBOOK
    )
    found = await context.tx.session.scalars(query.order_by(col(Incident.severity), col(Incident.number)).limit(50))
    return [incident for incident in list(found) if await context.sees(incident)]


async def _runs(context: Context, service: str) -> list[tuple[Run, Incident]]:
    query = (
        sa.select(Run, Incident)
        .join(Incident, col(Incident.id) == col(Run.incident_id))
        .where(col(Incident.service) == service)
        .order_by(col(Run.requested_at).desc())
        .limit(RUNS)
    )
    found = (await context.tx.session.execute(query)).all()
    seen = []
    for run_, incident in found:
        held = await roles.held(context.tx.session, incident.id) if incident.private else []
        if access.may_see(incident, context.person.id, channel=context.channel, roles=held):
            seen.append((run_, incident))
    return seen[: views.SHOWN]
