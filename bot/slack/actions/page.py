"""The buttons and the form about pages."""

from collections.abc import Mapping
from typing import Any

from bot.incidents import lifecycle
from bot.kit.errors import UserError
from bot.slack import calling, ids
from bot.slack.context import REFERENCE, Asked, Context, Form, Reply
from bot.slack.views import page as views


def form(asked: Asked, value: str) -> Form:
    """Ask whom."""
    return Form(views.form(asked.services, incident_id=value))


async def sent(context: Context, form: Mapping[str, Any]) -> Reply:
    """The form was sent."""
    values, about = form["values"], form["about"]
    incident_id = about.get("incident")
    if not incident_id:
        named = REFERENCE.fullmatch(str(values.get("incident") or "").strip())
        if named is None:
            raise UserError("Which incident? Write its number, such as INC-3.")
        incident_id = (await lifecycle.by_number(context.tx.session, int(named[1]))).id
    incident = await context.incident(incident_id)
    text = str(values.get("text") or "").strip()
    if person := values.get("person"):
        return await calling.call(context, incident, f"<@{person}>", text)
    whom = str(values.get("whom") or views.ONCALL)
    service = whom.removeprefix(views.SERVICE) if whom.startswith(views.SERVICE) else ""
    if service and service not in context.services:
        raise UserError(f"There is no service {service} any more; nobody was paged.")
    return await calling.call(context, incident, service, text, up=whom == views.LEVEL)


OPENS = {ids.PAGE: form}
BUTTONS = {ids.ACKNOWLEDGE: calling.acknowledge}
FORMS = {ids.PAGE_FORM: sent}
