"""Wake somebody, or tell the pager what came of it."""

import asyncio
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bot.incidents.pager import ActResult
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clip, one_line
from bot.runs.step import PROSE, Cancelled, Pages, StepContext, StepResult, Text, refuse, unless_stopped

EFFECT = "write"
RESULT = ("incident_id", "status")
LONGEST = 2000
# Between two tries, where the pager does not say how long.
SHORTEST_WAIT, LONGEST_WAIT = 1.0, 60.0
WORDS = {
    "page": "page",
    "ack": "acknowledge the page of",
    "resolve": "resolve the page of",
    "escalate": "escalate the page of",
    "note": "write a note on the page of",
    "add_responder": "ask a responder to join",
    "change_event": "send a change event for",
}


class Params(BaseModel):
    """What to do, and whom it is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["page", "ack", "resolve", "escalate", "note", "add_responder", "change_event"] = Field(
        description="page, ack, resolve, escalate, note, add_responder or change_event"
    )
    service: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="another service than the incident's; it has a page of its own"
    )
    message: Annotated[Text | None, PROSE, Field(min_length=1)] = Field(
        default=None, description="for whoever reads it there; may quote the alert"
    )
    user: Annotated[Text, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="whom to ask: an e-mail address or the pager's id"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Params":
        if self.action in ("note", "change_event") and self.message is None:
            raise refuse(f"a {self.action} needs a message")
        if self.action in ("ack", "resolve") and self.message is not None:
            raise refuse(f"{self.action} takes no message; write a note")
        if (self.action == "add_responder") != (self.user is not None):
            raise refuse("user goes with add_responder, and add_responder with user")
        return self


async def run(context: StepContext, params: Params) -> StepResult:
    """Do it, and try again while the pager is away and there is time: each try looks first whether it was done."""
    if context.pager is None:
        raise PermanentError("there is no pager here")
    try:
        result = await unless_stopped(context, _tried(context, context.pager, params))
    except TemporaryError as error:
        if params.action == "page":  # somebody may count on it
            await context.pager.missed(key=_key(context), service=params.service, why=context.redact.text(str(error)))
        raise
    return StepResult(
        ok=result.outcome == "done",
        summary=context.redact.text(result.detail),
        values={"incident_id": result.incident_id, "status": result.status or result.outcome},
    )


def looks_first(params: Params) -> bool:
    """All but a change event has a key or a mark that is looked for."""
    return params.action != "change_event"


def preview(params: Params) -> str:
    """What would be asked of the pager."""
    told = f"would {WORDS[params.action]} {params.service or 'the service of the incident'}"
    if params.user:
        told += f" ({params.user})"
    return told + (f": {clip(one_line(params.message), 300)}" if params.message else "")


def _key(context: StepContext) -> str:
    return f"run:{context.run_id}:{context.step_key}"


async def _tried(context: StepContext, pager: Pages, params: Params) -> ActResult:
    loop = asyncio.get_running_loop()
    until = loop.time() + context.timeout
    message = clip(context.redact.text(params.message or ""), LONGEST)
    while True:
        try:
            return await pager.act(
                params.action,
                key=_key(context),
                service=params.service,
                message=message,
                user=params.user,
            )
        except TemporaryError as error:
            wait = min(max(error.after, SHORTEST_WAIT), LONGEST_WAIT)
            if not looks_first(params) or loop.time() + wait >= until:
                raise  # a change event cannot be looked up: sent again it would be there twice
            context.say(context.redact.text(f"{error}; trying again in {wait:.0f} s"))
        await asyncio.sleep(wait)
        if context.cancelled.is_set():
            raise Cancelled("stopped")
