"""Write down what is to be done after the incident, so that it ends up in the post-mortem and in somebody's hands."""

from bot.incidents.model import TaskKind
from bot.slack import todos
from bot.slack.context import Context, Reply

USAGE = "followup [list|done <n>|drop <n>|reopen <n>|export [n]] [prevent:|detect:|…] [text] [@owner] [due <day>]"
ALIASES = ("followups", "follow-up", "follow-ups")


async def run(context: Context, text: str) -> Reply:
    """As `task`; a first word such as `prevent:` says what it is good for."""
    return await todos.run(context, text, TaskKind.FOLLOWUP)
