"""Pause for a while; a restart of the bot does not start the pause anew."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.kit.clock import duration_text
from bot.runs.step import EXPRESSION, Cancelled, Duration, StepContext, StepResult, not_yet, refuse

EFFECT = "read"
RESULT = ("waited",)


class Params(BaseModel):
    """How long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    for_: Duration | None = Field(default=None, alias="for", description="how long to wait, for example 20s")
    until: Annotated[str | None, EXPRESSION, not_yet("waiting for a condition")] = Field(
        default=None, description="expression to wait for; not in this version"
    )
    every: Annotated[Duration | None, not_yet("waiting for a condition")] = Field(
        default=None, description="how often to look; not in this version"
    )
    check: Annotated[dict[str, Any] | None, not_yet("waiting for a condition")] = Field(
        default=None, description="the step that looks; not in this version"
    )

    @model_validator(mode="after")
    def _some_time(self) -> "Params":
        if self.for_ is None:
            raise refuse("say how long with for, for example {for: 20s}")
        return self


async def run(context: StepContext, params: Params) -> StepResult:
    """Wait for what is left of the pause, counted from when the step first started."""
    length = params.for_ or timedelta()
    since = context.started_at or context.clock()
    left = (since + length - context.clock()).total_seconds()
    # A clock that was set back must not make the pause longer than it was meant to be.
    left = min(max(0.0, left), length.total_seconds())
    try:
        await asyncio.wait_for(context.cancelled.wait(), min(left, context.timeout))
    except TimeoutError:
        if left > context.timeout:
            return StepResult(ok=False, summary=f"the time was over before the wait of {duration_text(length)}")
        return StepResult(ok=True, summary=f"waited {duration_text(length)}", values={"waited": length.total_seconds()})
    raise Cancelled("the wait was stopped")


def preview(params: Params) -> str:
    """How long it would be."""
    return f"would wait {duration_text(params.for_ or timedelta())}"
