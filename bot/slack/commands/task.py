"""Take something on while the incident lasts; list it and end it."""

from bot.incidents.model import TaskKind
from bot.slack import todos
from bot.slack.context import Context, Reply

USAGE = "task [list|done <n>|drop <n>|reopen <n>] [text] [@owner] [due <day>]"
ALIASES = ("tasks", "todo")


async def run(context: Context, text: str) -> Reply:
    """With a text it is new; with a word and a number it changes; with nothing all is listed."""
    return await todos.run(context, text, TaskKind.TASK)
