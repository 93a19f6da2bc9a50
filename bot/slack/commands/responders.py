"""Who is here: who holds a role, who was paged, and who answered."""

import sqlalchemy as sa
from sqlmodel import col

from bot.incidents import roles
from bot.incidents.model import Page
from bot.slack.context import Context, Reply
from bot.slack.views import oncall as views

USAGE = "responders"
ALIASES = ("who",)


async def run(context: Context, text: str) -> Reply:
    """Commander first."""
    incident, _ = await context.scope(text)
    order = ("commander", "comms", "scribe", "responder")
    held = await roles.held(context.tx.session, incident.id)
    here = [views.Here(role.person, role.name, role.assigned_at) for role in held]
    here.sort(key=lambda one: order.index(one.role) if one.role in order else len(order))
    query = sa.select(Page).where(col(Page.incident_id) == incident.id).order_by(col(Page.number))
    return Reply(*views.responders(incident, here, list(await context.tx.session.scalars(query))))
