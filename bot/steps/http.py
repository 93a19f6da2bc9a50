"""Send one HTTP request to a service and check the answer."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import OURS, Answer, Guard, Stopped, fetch
from bot.kit.text import clip
from bot.runs.expressions import evaluate
from bot.runs.step import EXPRESSION, SECRETS, Cancelled, StepContext, StepResult, Text, not_yet, refuse

EFFECT = "write"
RESULT = ("status", "headers", "json", "text", "ms")
SHOWN = 4000


def _headers(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if str(name).lower() in OURS:
            raise refuse(f"the header {name} cannot be set")
    return value


def _url(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        raise refuse("must begin with http:// or https://")
    return value


class Params(BaseModel):
    """The request, and what answer is expected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(default="GET", description="HTTP method")
    url: Annotated[str, BeforeValidator(_url)] = Field(description="whole address, http:// or https://")
    connection: Annotated[str | None, not_yet("a named connection")] = Field(
        default=None, description="base URL and credentials by name; not in this version"
    )
    headers: Annotated[dict[str, Text], BeforeValidator(_headers), SECRETS] = Field(
        default={}, description="request headers; the place for credentials"
    )
    query: dict[str, Text] = Field(default={}, description="query parameters, encoded for you")
    json_: Any = Field(default=None, alias="json", description="body, sent as JSON")
    form: dict[str, Text] | None = Field(default=None, description="body, sent as a form")
    expect: Annotated[str | None, EXPRESSION] = Field(
        default=None, description="expression that must be true; sees status, headers, json, text, ms"
    )
    idempotency_key: Text | None = Field(default=None, description="sent as Idempotency-Key, so a repeat does nothing")

    @model_validator(mode="after")
    def _one_body(self) -> "Params":
        if self.json_ is not None and self.form is not None:
            raise refuse("json and form cannot both be sent")
        return self


def effect(params: Params) -> Literal["read", "write"]:
    """GET and HEAD look, everything else changes something."""
    return "read" if params.method in ("GET", "HEAD") else "write"


async def run(context: StepContext, params: Params) -> StepResult:
    """Send it once, to an address that was checked; redirects are not followed."""
    headers = dict(params.headers)
    if params.idempotency_key is not None:
        headers["Idempotency-Key"] = params.idempotency_key
    try:
        answer = await fetch(
            params.method,
            params.url,
            allow=Guard(context.allow_private, context.resolve).addresses,
            headers=headers,
            params=params.query,
            json=params.json_,
            data=params.form,
            timeout=context.timeout,
            cancelled=context.cancelled,
        )
    except Stopped as stopped:
        raise Cancelled(str(stopped)) from None
    except TemporaryError as error:
        raise TemporaryError(context.redact.text(str(error)), after=error.after) from None
    except PermanentError as error:
        raise PermanentError(context.redact.text(str(error))) from None
    if answer.truncated:
        raise PermanentError("the answer is larger than 1 MiB")
    return _judged(context, params, answer)


def judge(params: Params, values: Mapping[str, Any]) -> str | None:
    """A status that is not 2xx is a failure, unless `expect` says what is expected."""
    status = values.get("status", 200)
    good = params.expect is not None or (isinstance(status, int) and 200 <= status < 300)
    return None if good else f"{params.method} {params.url} → {status}"


def preview(params: Params) -> str:
    """Method, address and the names of what is sent along."""
    told = f"would send: {params.method} {params.url}"
    if params.query:
        told += f" (query {', '.join(params.query)})"
    if params.headers:
        told += f" (headers {', '.join(params.headers)})"
    if params.json_ is not None:
        told += f" with {clip(json.dumps(params.json_, ensure_ascii=False), 500)}"
    if params.form is not None:
        told += f" with the form {', '.join(params.form)}"
    return told


def _judged(context: StepContext, params: Params, answer: Answer) -> StepResult:
    text = context.redact.text(answer.text())
    values: dict[str, JsonValue] = {
        "status": answer.status,
        "headers": context.redact.value(answer.headers),
        "json": context.redact.value(answer.json()),
        "text": text,
        "ms": answer.ms,
    }
    name = f"{_name(context, params)} → {answer.status}"
    if params.expect is None:
        ok = 200 <= answer.status < 300
    else:
        ok = bool(evaluate(params.expect, {**context.values, **values}))
    if ok:
        return StepResult(True, f"{name} in {answer.ms} ms", clip(text, SHOWN), values)
    if answer.passing:
        raise TemporaryError(f"{name}: {clip(text, 200)}", after=answer.after(context.clock()))
    if params.expect is None:
        why = "; redirects are not followed" if 300 <= answer.status < 400 else f": {clip(text, 200)}"
        raise PermanentError(name + why)
    return StepResult(False, f"{name}, expected {params.expect}", clip(text, SHOWN), values)


def _name(context: StepContext, params: Params) -> str:
    """The request without its query, which may hold what nobody should read."""
    return context.redact.text(f"{params.method} {params.url.partition('?')[0]}")
