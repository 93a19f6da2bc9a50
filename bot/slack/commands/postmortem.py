"""Write the post-mortem draft from the timeline and share it in the channel."""

from bot.incidents import lifecycle
from bot.slack.context import Context, Reply

USAGE = "postmortem"
ALIASES = ("pm", "retro")


async def run(context: Context, text: str) -> Reply:
    """A new revision, if the timeline has grown."""
    incident, _ = await context.scope(text)
    await lifecycle.request_draft(
        context.tx, context.react, incident, by=context.person.id, now=context.now, once=context.request.id
    )
    return Reply(f"The post-mortem draft of {incident.reference} is being written; it will be shared in its channel.")
