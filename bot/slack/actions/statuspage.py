"""The form that publishes on a status page."""

from collections.abc import Mapping
from typing import Any

from bot.incidents import statuspage
from bot.kit.errors import UserError
from bot.slack import ids
from bot.slack.context import Context, Reply


async def publish(context: Context, form: Mapping[str, Any]) -> Reply:
    """A person's words, for everybody to read."""
    incident = await context.incident(form["about"]["incident"])
    values = form["values"]
    page = context.status_pages.get(str(values.get("page")))
    if page is None:
        raise UserError("This status page is not in sinks.yaml any more.")
    await statuspage.request(
        context.tx,
        context.react,
        incident,
        page,
        title=str(values.get("title") or ""),
        text=str(values.get("text") or ""),
        status=str(values.get("status")),
        component=str(values.get("component")),
        notify="notify" in (values.get("notify") or ()),
        by=context.person.id,
        now=context.now,
        once=context.request.id,
    )
    return Reply(f"{page.name} is told; the channel hears when it stands there.")


BUTTONS: dict[str, Any] = {}
FORMS = {ids.STATUSPAGE_FORM: publish}
