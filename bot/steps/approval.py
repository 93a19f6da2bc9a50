"""Ask people whether the run may go on; without enough of them saying yes in time, it ends."""

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from bot.kit.clock import duration_text
from bot.kit.text import clip, one_line
from bot.runs.params import Param
from bot.runs.step import LITERAL, Duration, Question, StepContext, StepResult, Text

EFFECT = "read"
RESULT = ("approved", "by", "reason", "inputs", "at")
SHORT = "prompt"


class Params(BaseModel):
    """What to ask, whom, and how long to wait for an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[Text, Field(min_length=1)] = Field(description="the question, in full")
    who: list[Text] | None = Field(
        default=None, description="who may answer: @responders, @team, user ids; else access.approve of the runbook"
    )
    count: int = Field(default=1, ge=1, le=5, description="how many different people must say yes")
    not_requester: StrictBool = Field(default=True, description="whoever asked for the run cannot say yes")
    expires: Duration = Field(default=timedelta(minutes=30), description="after this time the answer is no")
    require_reason: StrictBool = Field(default=False, description="whether an answer needs a reason")
    inputs: Annotated[dict[str, Param], LITERAL] = Field(
        default={}, description="values that the answer fills in, declared like parameters"
    )


async def run(context: StepContext, params: Params) -> StepResult:
    """Ask and wait. Only a yes comes back here: a no, or none in time, ends the run."""
    question = Question(
        prompt=context.redact.text(params.prompt).strip(),
        who=None if params.who is None else tuple(params.who),
        count=params.count,
        not_requester=params.not_requester,
        expires=params.expires,
        require_reason=params.require_reason,
        inputs={name: param.model_dump(mode="json") for name, param in params.inputs.items()},
    )
    answer = await context.ask(question)
    return StepResult(
        ok=True,
        summary=f"approved by {', '.join(answer.by)}" + (f": {answer.reason}" if answer.reason else ""),
        values={
            "approved": True,
            "by": ", ".join(answer.by),
            "reason": answer.reason,
            "inputs": dict(answer.inputs),
            "at": answer.at.isoformat(),
        },
    )


def preview(params: Params) -> str:
    """Who would be asked what."""
    who = "the approvers of the runbook" if params.who is None else " or ".join(params.who)
    many = f"{params.count} of " if params.count > 1 else ""
    return f"would ask {many}{who} for up to {duration_text(params.expires)}: {clip(one_line(params.prompt), 300)}"
