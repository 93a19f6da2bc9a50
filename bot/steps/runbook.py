"""Carry out another runbook as a part of this run."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bot.runs.step import LITERAL, StepContext, StepResult

# What it does is what its steps do; each of them is treated by itself.
EFFECT = "read"
RESULT: tuple[str, ...] = ()


class Params(BaseModel):
    """Which runbook, with which parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: Annotated[str, LITERAL, Field(pattern=r"^[a-z][a-z0-9-]{1,59}$")] = Field(description="id of the runbook")
    params: dict[str, Any] = Field(default={}, description="its parameters, checked like those of a run")


async def run(context: StepContext, params: Params) -> StepResult:
    """Carry it out to its end; its outputs are the values of this step."""
    outputs = await context.call(params.use, params.params)
    told = ", ".join(f"{name}={value}" for name, value in outputs.items())
    return StepResult(ok=True, summary=f"{params.use} is done" + (f": {told}" if told else ""), values=outputs)


def preview(params: Params) -> str:
    """Which runbook."""
    return f"would carry out {params.use}"
