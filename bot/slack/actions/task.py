"""The buttons of tasks and follow-ups."""

from bot.incidents import tasks
from bot.slack import ids, todos
from bot.slack.context import Context, Reply


async def done(context: Context, value: str) -> Reply:
    """It is done."""
    found = await tasks.find(context.tx.session, value)
    await context.incident(found.incident_id)  # who may not see the incident may not end its tasks
    return await todos.change(context, await tasks.find(context.tx.session, value), "done")


async def export(context: Context, value: str) -> Reply:
    """It goes to the tracker for follow-ups."""
    found = await tasks.find(context.tx.session, value)
    incident = await context.incident(found.incident_id)
    return await todos.export(context, incident, found)


BUTTONS = {ids.TASK_DONE: done, ids.EXPORT: export}
