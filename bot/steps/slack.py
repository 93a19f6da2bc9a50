"""Say something in the incident's channel, or in another one."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from bot.kit.errors import PermanentError
from bot.kit.text import clean, clip, inert, one_line
from bot.runs.redact import MASK
from bot.runs.step import PROSE, Quoted, StepContext, StepResult, Text, refuse, unless_stopped

EFFECT = "write"
RESULT = ("ts", "permalink")
LIMIT = 12_000


def _harmless(before: str, value: Any) -> str:
    """A value within the author's own text: nothing in it can mention, link or format."""
    return inert("" if value is None else str(value))


class Params(BaseModel):
    """What to say, and where."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[Text, PROSE, Quoted(_harmless), Field(min_length=1)] = Field(
        description="Slack's mrkdwn; what is filled in is shown as it stands, and may quote the alert"
    )
    channel: Annotated[Text, Field(pattern=r"^#?[^\s#<>@]{1,80}$")] | None = Field(
        default=None, description="name or id of another channel than the incident's; never from a private incident"
    )
    thread: StrictBool = Field(default=False, description="below the run's message")
    broadcast: StrictBool = Field(default=False, description="below the run's message and in the channel as well")

    @model_validator(mode="after")
    def _fits(self) -> "Params":
        if self.channel is not None and (self.thread or self.broadcast):
            raise refuse("the run's message is in the incident's channel: thread and broadcast go with no channel")
        return self


async def run(context: StepContext, params: Params) -> StepResult:
    """Post it once, however often this step is begun."""
    if context.room is None:
        raise PermanentError("there is no channel to speak in here")
    text = clip(_hidden(context, params.text), LIMIT)
    if not text.strip():
        raise PermanentError("there is nothing to say: the text is empty when it is filled in")
    posting = context.room.post(
        text,
        channel=params.channel,
        thread=params.thread or params.broadcast,
        broadcast=params.broadcast,
        key=f"run:{context.run_id}:{context.step_key}",
    )
    said = await unless_stopped(context, posting)
    where = f" in {params.channel}" if params.channel else ""
    return StepResult(
        ok=True,
        summary=f"said{where}: {_plain(text, 200)}",
        values={"ts": said["ts"], "permalink": said["permalink"]},
    )


def looks_first(params: Params) -> bool:
    """It is said under a key of this step, which is looked for."""
    return True


def preview(params: Params) -> str:
    """What would be said, and where."""
    return f"would say{f' in {params.channel}' if params.channel else ''}: {_plain(params.text, 300)}"


def _hidden(context: StepContext, text: str) -> str:
    """*text* without secrets. The redactor also takes the marks out that make values harmless, so not without need."""
    hidden = context.redact.text(text)
    return hidden if hidden.count(MASK) > text.count(MASK) else text


def _plain(text: str, limit: int) -> str:
    """The text as people read it, for places that make it harmless in their own way."""
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, sign)
    return clip(one_line(clean(text)), limit)
