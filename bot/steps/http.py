"""Send one HTTP request to a service and check the answer."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from bot.catalog.targets import Kind
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import OURS, Answer, Guard, Stopped, fetch
from bot.kit.text import clip
from bot.runs.expressions import evaluate
from bot.runs.step import EXPRESSION, SECRETS, Cancelled, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = ("status", "headers", "json", "text", "ms")
SHOWN = 4000
# Whatever speaks HTTP and has no step type that says more.
KINDS: tuple[Kind, ...] = ("http", "loki", "prometheus", "kestra", "kubernetes")


def _headers(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if str(name).lower() in OURS:
            raise refuse(f"the header {name} cannot be set")
    return value


class Params(BaseModel):
    """The request, and what answer is expected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(default="GET", description="HTTP method")
    url: str = Field(description="whole address, http:// or https://; with a connection also a path below its address")
    connection: Text | None = Field(
        default=None,
        description="name of a connection in targets.yaml: its address, and credentials that go only there",
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
    def _somewhere(self) -> "Params":
        whole = self.url.startswith(("http://", "https://"))
        if self.connection is None and not whole:
            raise refuse("url must begin with http:// or https://; a path alone needs a connection")
        if self.connection is not None and not (whole or self.url.startswith("/")):
            raise refuse("url must be a path that begins with / where there is a connection")
        return self

    @model_validator(mode="after")
    def _one_body(self) -> "Params":
        if self.json_ is not None and self.form is not None:
            raise refuse("json and form cannot both be sent")
        return self


def effect(params: Params) -> Literal["read", "write"]:
    """GET and HEAD look, everything else changes something."""
    return "read" if params.method in ("GET", "HEAD") else "write"


def needs(params: Params) -> list[tuple[str, str]]:
    """The connection it goes through."""
    return [] if params.connection is None else [("connection", params.connection)]


async def run(context: StepContext, params: Params) -> StepResult:
    """Send it once, to an address that was checked; redirects are not followed."""
    url, private, ca, headers = params.url, False, None, dict(params.headers)
    if params.connection is not None:
        connection = context.reach.connection(params.connection, *KINDS)
        url = below(connection.url, params.url, params.connection)
        credentials = await context.reach.credentials(params.connection)
        context = replace(context, redact=context.redact.knowing(*credentials.secrets))
        headers = _joined(headers, credentials.headers, params.connection)
        private, ca = connection.private, None if connection.ca is None else context.reach.path(connection.ca)
    if params.idempotency_key is not None:
        headers["Idempotency-Key"] = params.idempotency_key
    try:
        answer = await fetch(
            params.method,
            url,
            allow=Guard(context.allow_private, context.resolve, private).addresses,
            headers=headers,
            params=params.query,
            json=params.json_,
            data=params.form,
            timeout=context.timeout,
            cancelled=context.cancelled,
            ca=ca,
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


def below(base: str, url: str, name: str) -> str:
    """The whole address of *url*, which must lie at or below *base*, the address of the connection called *name*: what
    lies elsewhere would get its credentials.
    """
    base = base.rstrip("/")
    whole = base + url if url.startswith("/") else url
    rest = whole.removeprefix(base)
    # Compared as text: parsers disagree about hosts, and what is equal up to here has the same one for all of them.
    if not whole.startswith(base) or (rest and rest[0] not in "/?"):
        raise PermanentError(
            f"the url leads away from the connection {name}, whose credentials stay there; give a path below its "
            "address, or leave the connection out"
        )
    path = re.split(r"[?#]", rest, maxsplit=1)[0]
    if any(unquote(part) in (".", "..") for part in re.split(r"[/\\]", path)):
        raise PermanentError("the url must not hold . or .. as a part of its path")
    return whole


def _joined(own: dict[str, str], connection: Mapping[str, str], name: str) -> dict[str, str]:
    taken = {header.lower() for header in connection}
    for header in own:
        if header.lower() in taken:
            raise PermanentError(f"the header {header} is set by the connection {name}; leave it out")
    return {**own, **connection}


def judge(params: Params, values: Mapping[str, Any]) -> str | None:
    """A status that is not 2xx is a failure, unless `expect` says what is expected."""
    status = values.get("status", 200)
    good = params.expect is not None or (isinstance(status, int) and 200 <= status < 300)
    return None if good else f"{params.method} {params.url} → {status}"


def preview(params: Params) -> str:
    """Method, address and the names of what is sent along."""
    told = f"would send: {params.method} {params.url}"
    if params.connection is not None:
        told += f" (to {params.connection})"
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
        if answer.status in (401, 403) and params.connection is not None:
            why += f"; check the credentials of {params.connection} in targets.yaml"
        raise PermanentError(name + why)
    return StepResult(False, f"{name}, expected {params.expect}", clip(text, SHOWN), values)


def _name(context: StepContext, params: Params) -> str:
    """The request without its query, which may hold what nobody should read."""
    where = "" if params.connection is None else f"{params.connection} "
    return context.redact.text(f"{params.method} {where}{params.url.partition('?')[0]}")
