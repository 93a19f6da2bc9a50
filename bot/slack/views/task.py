"""How a task or a follow-up looks: when it is taken on, and in the list of an incident."""

from collections.abc import Mapping, Sequence

from bot.incidents import tasks
from bot.incidents.chat import Todo
from bot.incidents.model import Incident, Task, TaskState, Ticket
from bot.slack import ids
from bot.slack.views.blocks import Block, actions, button, context, link, people, section

MARK = {
    TaskState.OPEN: ":white_medium_square:",
    TaskState.DONE: ":white_check_mark:",
    TaskState.DROPPED: ":heavy_minus_sign:",
}
SHOWN = 20


def todo(noun: Todo) -> tuple[str, list[Block]]:
    """The message about something new to do."""
    text = f":ballot_box_with_check: {people(noun.text)}"
    row = [button("Done", ids.TASK_DONE, noun.task)]
    if noun.tracker is not None:
        row.append(button(f"Export to {noun.tracker}", ids.EXPORT, noun.task))
    return text, [section(text), actions(*row)]


def listing(
    incident: Incident, found: Sequence[Task], word: str, tickets: Mapping[str, Ticket] | None = None
) -> tuple[str, list[Block]]:
    """What there is to do, one to a line, with a button where it is open. *tickets* are by task."""
    if not found:
        text = f"There is nothing to do for {incident.reference}. `{word} task <text>` adds something."
        return text, [section(text)]
    left = sum(task.state == TaskState.OPEN for task in found)
    headline = f"{incident.reference}: {left} to do of {len(found)}"
    blocks: list[Block] = [section(f"*{headline}*")]
    for task in found[:SHOWN]:
        done = button("Done", ids.TASK_DONE, task.id) if task.state == TaskState.OPEN else None
        line = f"{MARK[TaskState(task.state)]} {people(tasks.headline(task), 2200)}"
        ticket = (tickets or {}).get(task.id)
        if ticket is not None and ticket.reference:
            line += f" · {link(ticket.url or '', ticket.reference)}"
        blocks.append(section(line, accessory=done))
    if len(found) > SHOWN:
        blocks.append(context(f"and {len(found) - SHOWN} more"))
    return headline, blocks
