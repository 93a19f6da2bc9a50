"""Pause for a while, or until something is so; a restart of the bot does not start the pause anew."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from bot.kit.clock import duration_text
from bot.kit.errors import TemporaryError
from bot.kit.text import clip, one_line
from bot.runs.expressions import ExpressionError, evaluate
from bot.runs.step import EXPRESSION, LITERAL, Cancelled, Duration, StepContext, StepResult, refuse

EFFECT = "read"
# `check` is what the step that looks gave last.
RESULT = ("waited", "checks", "check")
EVERY, SHORTEST = timedelta(seconds=10), timedelta(milliseconds=100)
# For the first look, even if the time was over before a restart.
LOOK_SECONDS = 5.0


class Params(BaseModel):
    """How long, or for what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    for_: Duration | None = Field(
        default=None, alias="for", description="how long to wait, for example 20s; with until, how long at most"
    )
    until: Annotated[str | None, EXPRESSION] = Field(
        default=None, description="expression to wait for; sees the results of check, and waited and checks"
    )
    every: Duration | None = Field(default=None, description="how often to look; 10s if not said")
    check: Annotated[dict[str, Any] | None, LITERAL] = Field(
        default=None, description="a step that looks, carried out before each look at until; must only read"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Params":
        if self.for_ is None and self.until is None:
            raise refuse("say how long with for, for example {for: 20s}, or for what with until and check")
        if (self.until is None) != (self.check is None):
            raise refuse("until and check belong together: a step that looks, and what it must have found")
        if self.every is not None and self.until is None:
            raise refuse("every says how often to look: it needs until and check")
        if self.every is not None and self.every < SHORTEST:
            raise refuse("every must be 100ms or more")
        return self


async def run(context: StepContext, params: Params) -> StepResult:
    """Wait for what is left of the pause, counted from when the step first started; or look, again and again."""
    if params.until is not None:
        return await _until(context, params, params.until)
    length = params.for_ or timedelta()
    left = _left(context, length)
    if await _stopped(context, min(left, context.timeout)):
        raise Cancelled("the wait was stopped")
    if left > context.timeout:
        return StepResult(ok=False, summary=f"the time was over before the wait of {duration_text(length)}")
    return StepResult(ok=True, summary=f"waited {duration_text(length)}", values={"waited": length.total_seconds()})


def preview(params: Params) -> str:
    """How long it would be, or what for."""
    if params.until is None:
        return f"would wait {duration_text(params.for_ or timedelta())}"
    most = f", at most {duration_text(params.for_)}" if params.for_ else ""
    return f"would look every {(params.every or EVERY).total_seconds():g} s until {params.until}{most}"


async def _until(context: StepContext, params: Params, until: str) -> StepResult:
    loop = asyncio.get_running_loop()
    left = context.timeout if params.for_ is None else min(_left(context, params.for_), context.timeout)
    every, end, checks = (params.every or EVERY).total_seconds(), loop.time() + left, 0
    found: Mapping[str, JsonValue] = {}
    while True:
        began, told, so = loop.time(), "", False
        checks += 1
        try:
            most = max(end - began, min(LOOK_SECONDS, context.timeout) if checks == 1 else 0.0)
            found = await _looked(context, most)
            so = bool(evaluate(until, {**context.values, **found, "waited": _waited(context), "checks": checks}))
        except (TemporaryError, ExpressionError, TimeoutError) as error:
            # What is waited for may well be what does not answer yet, or not with what is looked for.
            told = context.redact.text(str(error)) or "it took too long"
        values: dict[str, JsonValue] = {"waited": _waited(context), "checks": checks, "check": dict(found)}
        if so:
            waited = duration_text(timedelta(seconds=_waited(context)))
            return StepResult(ok=True, summary=f"so after {waited}, at look {checks}: {until}", values=values)
        context.say(f"look {checks}: {told or 'not yet'}")
        if await _stopped(context, min(began + every, end) - loop.time()):
            raise Cancelled("the wait was stopped")
        if loop.time() >= end:
            why = f"; the last look: {told}" if told else ""
            summary = clip(one_line(f"still not so at look {checks}: {until}{why}"), 300)
            return StepResult(ok=False, summary=summary, values={**values, "waited": _waited(context)})


async def _looked(context: StepContext, most: float) -> Mapping[str, JsonValue]:
    """What the step that looks gives; it is given up on after *most* seconds, or if the run is cancelled."""
    look, stop = asyncio.ensure_future(context.check()), asyncio.ensure_future(context.cancelled.wait())
    try:
        await asyncio.wait({look, stop}, timeout=most, return_when=asyncio.FIRST_COMPLETED)
        if look.done():
            return look.result()
        if stop.done():
            raise Cancelled("the wait was stopped")
        raise TemporaryError("the look itself was not over in time")
    finally:
        look.cancel()
        stop.cancel()
        await asyncio.gather(look, stop, return_exceptions=True)


def _left(context: StepContext, length: timedelta) -> float:
    since = context.started_at or context.clock()
    left = (since + length - context.clock()).total_seconds()
    # A clock that was set back must not make the pause longer than it was meant to be.
    return min(max(0.0, left), length.total_seconds())


def _waited(context: StepContext) -> float:
    now = context.clock()
    return max(0.0, round((now - (context.started_at or now)).total_seconds(), 1))


async def _stopped(context: StepContext, seconds: float) -> bool:
    """Pause; whether the run was cancelled meanwhile."""
    try:
        await asyncio.wait_for(context.cancelled.wait(), max(0.0, seconds))
    except TimeoutError:
        return False
    return True
