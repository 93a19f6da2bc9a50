"""Write something down: it goes to the timeline and from there into the post-mortem draft."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from bot.kit.text import clip, one_line
from bot.runs.step import PROSE, StepContext, StepResult, Text

EFFECT = "read"
# The text may quote the alert, so no later step may build anything from it.
RESULT = ("kind", "pin")
SHORT = "text"


class Params(BaseModel):
    """What to write down, and what it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Annotated[Text, PROSE, Field(min_length=1)] = Field(description="what to write; may quote the alert")
    kind: Literal["note", "finding", "action", "decision"] = Field(default="note", description="what it is")
    pin: StrictBool = Field(default=False, description="keep it in sight in the incident's channel")


async def run(context: StepContext, params: Params) -> StepResult:
    """Hand the note over; the run puts it on the timeline."""
    text = context.redact.text(params.text).strip()
    return StepResult(
        ok=True,
        summary=clip(one_line(text), 200),
        output=text,
        values={"text": text, "kind": params.kind, "pin": params.pin},
    )


def preview(params: Params) -> str:
    """The note itself."""
    return f"would note ({params.kind}): {clip(one_line(params.text), 300)}"
