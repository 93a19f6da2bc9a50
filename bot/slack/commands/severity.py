"""Change how bad it is, with the reason."""

from bot.incidents import lifecycle
from bot.kit.errors import UserError
from bot.slack.context import Context, Reply, severity, words

USAGE = "severity <1…5> [reason]"
ALIASES = ("sev",)


async def run(context: Context, text: str) -> Reply:
    """Up or down; everybody in the channel is told."""
    incident, rest = await context.scope(text)
    word, reason = words(rest)
    level = severity(word, bare=True)
    if level is None:
        raise UserError(
            f"Which severity? {incident.reference} is {incident.severity}; for example `{context.word} severity 2 "
            "payments fail in one region`. SEV1 is the worst, SEV5 the mildest."
        )
    await lifecycle.set_severity(
        context.tx,
        context.react,
        incident,
        level,
        by=context.person.id,
        now=context.now,
        reason=reason,
    )
    return Reply(f"{incident.reference} is {level} now.")
