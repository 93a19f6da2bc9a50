"""What `/inc task` and `/inc followup` have in common: add, list, done, drop, reopen."""

import re

from bot.incidents import tasks, tickets
from bot.incidents.model import Incident, Task, TaskKind
from bot.kit.errors import UserError
from bot.slack.context import Context, Reply, words
from bot.slack.views import task as views

_NUMBER = re.compile(r"[Tt#]?(\d{1,6})")
_VERBS = ("done", "drop", "dropped", "reopen")


async def run(context: Context, text: str, kind: TaskKind) -> Reply:
    """Do what *text* says; what is no word of ours is a new task."""
    incident, rest = await context.scope(text)
    verb, more = words(rest)
    number, note = words(more)
    if verb.lower() in ("", "list", "open", "all") and not more:
        found = await tasks.listed(context.tx.session, incident.id, kind if verb else None)
        there = {one.task_id: one for one in await tickets.of(context.tx.session, incident.id) if one.task_id}
        return Reply(*views.listing(incident, found, context.word, there))
    if verb.lower() in _VERBS and (named := _NUMBER.fullmatch(number)):
        task = await tasks.numbered(context.tx.session, incident, int(named[1]))
        return await change(context, task, verb.lower(), note)
    if verb.lower() == "export" and kind == TaskKind.FOLLOWUP and (not more or _NUMBER.fullmatch(more)):
        return await _export(context, incident, more)
    wish = tasks.read(rest, context.now.date())
    if wish.type is not None and kind == TaskKind.TASK:
        raise UserError(f"A type belongs to a follow-up: `{context.word} followup {wish.type}: {wish.text}`")
    task = await tasks.add(
        context.tx,
        context.react,
        incident,
        kind,
        wish,
        by=context.person.id,
        now=context.now,
        task_id=context.derived("task"),
        tracker=context.tracking.file.followups.tracker if context.tracking.file.followups else None,
    )
    return Reply(
        f"{task.label} is on the list of {incident.reference}. `{context.word} {kind} done {task.number}` ends it."
    )


async def _export(context: Context, incident: Incident, number: str) -> Reply:
    """One follow-up, or all that are open."""
    by, now = context.person.id, context.now
    if number:
        task = await tasks.numbered(context.tx.session, incident, int(number.lstrip("Tt#")))
        return await export(context, incident, task)
    count = await tickets.export_all(context.tx, context.tracking, incident, by=by, now=now)
    return Reply(
        f"{count} follow-up{'s' if count != 1 else ''} of {incident.reference} go out; the channel hears of it."
    )


async def export(context: Context, incident: Incident, task: Task) -> Reply:
    """Have a ticket for a follow-up."""
    if task.kind != TaskKind.FOLLOWUP:
        raise UserError(f"{task.label} is a task for now; only follow-ups are exported.")
    fresh = await tickets.export(context.tx, context.tracking, incident, task, by=context.person.id, now=context.now)
    if fresh:
        return Reply(f"{task.label} goes out; the channel hears of it.")
    there = next((one for one in await tickets.of(context.tx.session, incident.id) if one.task_id == task.id), None)
    where = f": {there.url}" if there is not None and there.url else ", or is on its way"
    return Reply(f"{task.label} has a ticket already{where}")


async def change(context: Context, task: Task, verb: str, note: str = "") -> Reply:
    """Bring *task* to its end, or back."""
    by, now = context.person.id, context.now
    match verb:
        case "done":
            await tasks.finish(context.tx, context.react, task, by=by, now=now, note=note)
        case "reopen":
            await tasks.reopen(context.tx, context.react, task, by=by, now=now)
        case _:
            await tasks.drop(context.tx, context.react, task, by=by, now=now, note=note)
    return Reply(f"{task.label} is {task.state}: {task.text}")
