"""Send one HTTP request to a service and check the answer."""

import asyncio
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from typing import Annotated, Any, Literal

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from yarl import URL

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clip
from bot.runs.expressions import evaluate
from bot.runs.step import EXPRESSION, SECRETS, Cancelled, StepContext, StepResult, Text, not_yet, refuse

EFFECT = "write"
RESULT = ("status", "headers", "json", "text", "ms")
LIMIT = 1024 * 1024
SHOWN = 4000
_TRY_AGAIN = frozenset({408, 425, 429})
_METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Headers that say where a request goes or how it is framed are ours alone.
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"})

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _headers(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if str(name).lower() in _OURS:
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
    request = asyncio.ensure_future(_answer(context, params))
    stop = asyncio.ensure_future(context.cancelled.wait())
    try:
        await asyncio.wait({request, stop}, timeout=context.timeout, return_when=asyncio.FIRST_COMPLETED)
        if request.done():
            return _judged(context, params, request.result())
        if stop.done():
            raise Cancelled("the request was stopped")
        raise TemporaryError(f"{_name(context, params)} gave no answer within {context.timeout:g} s")
    finally:
        request.cancel()
        stop.cancel()
        await asyncio.gather(request, stop, return_exceptions=True)


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


async def checked(context: StepContext, host: str, port: int) -> list[str]:
    """The addresses of *host*; refuses if any is not allowed, so no name server can slip one in among others."""
    try:
        found = await context.resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise TemporaryError(f"the name {host!r} cannot be resolved: {error}") from None
    if not found:
        raise TemporaryError(f"the name {host!r} has no address")
    for address in found:
        if reason := blocked(address, host, context.allow_private):
            raise PermanentError(f"{host} ({address}) {reason}")
    return found


def blocked(address: str, host: str, allow: Sequence[str]) -> str | None:
    """Why a request to *address* is refused, or None."""
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "is a link-local or metadata address; runbooks may never call these"
    if ip.is_global:
        return None
    for pattern in allow:
        try:
            if ip in ipaddress.ip_network(pattern, strict=False):
                return None
        except ValueError:
            if fnmatch(host.lower().rstrip("."), pattern.lower()):
                return None
    return "is not a public address; the bot's owner can allow it for runbooks"


def _inner(ip: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, where it does."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped or ip.sixtofour:
            return ip.ipv4_mapped or ip.sixtofour or ip
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


class _Fixed(AbstractResolver):
    """Answers with the addresses that were checked, so that a second look-up cannot give another one."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        return None


class _Answer(BaseModel):
    status: int
    headers: dict[str, str]
    body: str
    json_: Any
    ms: int


async def _answer(context: StepContext, params: Params) -> _Answer:
    try:
        url = URL(params.url)
        port = url.port
    except ValueError as error:
        raise PermanentError(f"the address cannot be read: {error}") from None
    if not url.host or port is None:
        raise PermanentError("the address has no host")
    addresses = await checked(context, url.host, port)
    headers = {**params.headers, "Accept-Encoding": "identity"}
    if params.idempotency_key is not None:
        headers["Idempotency-Key"] = params.idempotency_key
    began = time.monotonic()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_Fixed(addresses), use_dns_cache=False, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=min(10.0, context.timeout)),
                # A small answer that unpacks to gigabytes is read as it is, and refused below.
                auto_decompress=False,
            ) as session,
            session.request(
                params.method,
                url,
                headers=headers,
                params=params.query or None,
                json=params.json_,
                data=params.form,
                allow_redirects=False,
            ) as response,
        ):
            body = await _body(response)
            return _Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.headers.items()},
                body=body,
                json_=_json(body),
                ms=round((time.monotonic() - began) * 1000),
            )
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise PermanentError(f"{url.host} has no certificate that we trust: {clip(str(error), 200)}") from None
    except aiohttp.InvalidURL:
        raise PermanentError("the address cannot be read") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        told = clip(context.redact.text(str(error)), 200) or type(error).__name__
        raise TemporaryError(f"{_name(context, params)} failed: {told}") from None
    except ValueError as error:  # a newline in a header, for example
        raise PermanentError(f"the request cannot be sent: {clip(context.redact.text(str(error)), 200)}") from None


async def _body(response: aiohttp.ClientResponse) -> str:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise PermanentError("the answer is compressed although we asked for plain")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > LIMIT:
            raise PermanentError("the answer is larger than 1 MiB")
    try:
        return body.decode(response.charset or "utf-8", "replace")
    except LookupError:
        return body.decode("utf-8", "replace")


def _json(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _judged(context: StepContext, params: Params, answer: _Answer) -> StepResult:
    text = context.redact.text(answer.body)
    values: dict[str, JsonValue] = {
        "status": answer.status,
        "headers": context.redact.value(answer.headers),
        "json": context.redact.value(answer.json_),
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
    if answer.status in _TRY_AGAIN or answer.status >= 500:
        raise TemporaryError(f"{name}: {clip(text, 200)}", after=_after(answer.headers, context))
    if params.expect is None:
        why = "; redirects are not followed" if 300 <= answer.status < 400 else f": {clip(text, 200)}"
        raise PermanentError(name + why)
    return StepResult(False, f"{name}, expected {params.expect}", clip(text, SHOWN), values)


def _after(headers: Mapping[str, str], context: StepContext) -> float:
    """How long the other side asks us to wait, at most five minutes."""
    asked = headers.get("retry-after", "")
    if asked.isdecimal() and len(asked) < 10:
        return min(float(asked), 300.0)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return 5.0
    return min(max(0.0, (_aware(until) - context.clock()).total_seconds()), 300.0)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _name(context: StepContext, params: Params) -> str:
    """The request without its query, which may hold what nobody should read."""
    return context.redact.text(f"{params.method} {params.url.partition('?')[0]}")
