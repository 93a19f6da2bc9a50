"""Check that something is so; if it is not, the run fails here and says why."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bot.runs.expressions import evaluate
from bot.runs.step import EXPRESSION, PROSE, StepContext, StepResult, Text

EFFECT = "read"
RESULT = ("held",)


class Params(BaseModel):
    """What must hold, and what to say when it does not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    that: Annotated[str | list[str], EXPRESSION, Field(min_length=1)] = Field(
        description="expression without braces, or a list of them that must all be true"
    )
    message: Annotated[Text, PROSE] = Field(description="what to tell people when it does not hold")


async def run(context: StepContext, params: Params) -> StepResult:
    """Compute every condition; the first that is not true decides."""
    conditions = [params.that] if isinstance(params.that, str) else params.that
    for condition in conditions:
        if not evaluate(condition, context.values):
            told = context.redact.text(params.message)
            return StepResult(ok=False, summary=told, output=f"not true: {condition}", values={"held": False})
    return StepResult(ok=True, summary=f"holds: {' and '.join(conditions)}", values={"held": True})


def preview(params: Params) -> str:
    """The conditions."""
    conditions = [params.that] if isinstance(params.that, str) else params.that
    return f"would check: {' and '.join(conditions)}"
