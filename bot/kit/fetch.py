"""One HTTP request to a place that was checked first: nothing else may be reached, and nothing can fill the memory.

Redirects are not followed, no cookie and no proxy of the environment is used, names are resolved once and the
connection goes to the addresses that were checked. TLS is always verified.
"""

import asyncio
import ipaddress
import json as jsons
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.text import clip

LIMIT = 1024 * 1024
CONNECT_SECONDS = 10.0
LONGEST_WAIT = 300.0
# Headers that say where a request goes or how it is framed are ours alone.
OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding", "upgrade"})

# Python knows more, some of which take quadratic time.
_ENCODINGS = frozenset(
    {
        "us-ascii",
        "iso-8859-1",
        "iso-8859-15",
        "windows-1252",
        "utf-16",
        "shift_jis",
        "euc-jp",
        "euc-kr",
        "gb18030",
        "big5",
    }
)
_TRY_AGAIN = frozenset({408, 425, 429})
_METADATA = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)
# Addresses whose last four bytes are an IPv4 address that a translator or the kernel may go to.
_HOLDING_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96")))
# Networks of one site that `is_global` takes for public ones.
_SITE = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Allow = Callable[[str, int], Awaitable[list[str]]]


class Stopped(BotError):  # noqa: N818  (an end that was asked for, not an error)
    """The request was given up because its caller was cancelled."""


@dataclass(frozen=True)
class Guard:
    """Which addresses may be called: public ones, and those that *allow_private* lists as networks (`10.0.0.0/8`) or
    names of hosts (`*.internal.example.com`); with *private*, any of a private network. Metadata services never.
    """

    allow_private: Sequence[str]
    resolve: Allow
    private: bool = False

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of *host*; refuses if any is not allowed, so no name server can slip one in among others."""
        try:
            found = await self.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise TemporaryError(f"the name {host!r} cannot be resolved: {error}") from None
        if not found:
            raise TemporaryError(f"the name {host!r} has no address")
        for address in found:
            if reason := blocked(address, host, ("*",) if self.private else self.allow_private):
                raise PermanentError(f"{host} ({address}) {reason}")
        return found


def blocked(address: str, host: str, allow: Sequence[str]) -> str | None:
    """Why a request to *address* is refused, or None."""
    ip = _inner(ipaddress.ip_address(address.partition("%")[0]))
    if ip in _METADATA or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return "is a link-local or metadata address; runbooks may never call these"
    if ip.is_global and not any(ip in network for network in _SITE):
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
        if any(ip in network for network in _HOLDING_IPV4) and int(ip) > 1:  # :: and ::1 are themselves
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip


@dataclass(frozen=True)
class Answer:
    """What came back. Names of *headers* are in lower case; *truncated* means that *body* is only its beginning."""

    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool
    ms: int

    @property
    def passing(self) -> bool:
        """Whether the status says that trying again may help."""
        return self.status in _TRY_AGAIN or self.status >= 500

    def text(self) -> str:
        """The body in the encoding that the answer names, if it is a usual one, else UTF-8."""
        told = re.search(r"charset=[\"']?([a-z0-9_-]{1,20})", self.headers.get("content-type", "").lower())
        return self.body.decode(told[1] if told and told[1] in _ENCODINGS else "utf-8", "replace")

    def json(self) -> Any:
        """The body read as JSON; None where it is none."""
        try:
            return jsons.loads(self.text())
        except (ValueError, RecursionError):
            return None

    def after(self, now: datetime) -> float:
        """How many seconds the other side asks us to wait, at most five minutes."""
        asked = self.headers.get("retry-after", "")
        if re.fullmatch(r"[0-9]{1,9}", asked):
            return min(float(asked), LONGEST_WAIT)
        try:
            until = parsedate_to_datetime(asked)
        except ValueError:
            return 5.0
        aware = until if until.tzinfo else until.replace(tzinfo=UTC)
        return min(max(0.0, (aware - now).total_seconds()), LONGEST_WAIT)


async def fetch(
    method: str,
    url: str,
    *,
    allow: Allow,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    json: Any = None,
    data: Mapping[str, str] | str | bytes | None = None,
    timeout: float,  # noqa: ASYNC109  (what runs out is said in our words)
    cancelled: asyncio.Event,
    ca: Path | None = None,
    limit: int = LIMIT,
) -> Answer:
    """Send one request to an address that *allow*(host, port) gives, and read at most *limit* bytes of the answer.

    *ca* holds the authorities to trust in place of the system's. TemporaryError: no answer, or none in time.
    PermanentError: an address that is refused or cannot be read, a certificate that is not trusted. Stopped:
    *cancelled* was set. Errors name the method and the address without its query, never a header.
    """
    name = f"{method} {url.partition('?')[0]}"
    sent = {**(headers or {}), "Accept-Encoding": "identity"}
    request = asyncio.ensure_future(_answer(name, method, url, allow, sent, params, json, data, timeout, ca, limit))
    stop = asyncio.ensure_future(cancelled.wait())
    try:
        await asyncio.wait({request, stop}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if request.done():
            return request.result()
        if stop.done():
            raise Stopped("the request was stopped")
        raise TemporaryError(f"{name} gave no answer within {timeout:g} s")
    finally:
        request.cancel()
        stop.cancel()
        await asyncio.gather(request, stop, return_exceptions=True)


async def _answer(
    name: str,
    method: str,
    url: str,
    allow: Allow,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None,
    json: Any,
    data: Any,
    seconds: float,
    ca: Path | None,
    limit: int,
) -> Answer:
    where = _read(url)
    for header, value in headers.items():
        if header.lower() in OURS - {"accept-encoding"}:
            raise PermanentError(f"the header {header} cannot be set")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header) or re.search(r"[\0\r\n]", value):
            raise PermanentError(
                f"the header {header!r} cannot be sent: its name or its value holds what no header may"
            )
    addresses = await allow(str(where.host), int(where.port or 0))
    trust: bool | ssl.SSLContext = True if ca is None else await asyncio.to_thread(_trust, ca)
    began = time.monotonic()
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_Fixed(addresses), use_dns_cache=False, force_close=True, ssl=trust
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=min(CONNECT_SECONDS, seconds)),
                # A small answer that unpacks to gigabytes is read as it is, and refused below.
                auto_decompress=False,
            ) as session,
            session.request(
                method, where, headers=headers, params=params or None, json=json, data=data, allow_redirects=False
            ) as response,
        ):
            body, truncated = await _body(response, limit)
            return Answer(
                status=response.status,
                headers={header.lower(): value for header, value in response.headers.items()},
                body=body,
                truncated=truncated,
                ms=round((time.monotonic() - began) * 1000),
            )
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise PermanentError(f"{where.host} has no certificate that we trust: {clip(str(error), 200)}") from None
    except aiohttp.InvalidURL:
        raise PermanentError("the address cannot be read") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise TemporaryError(f"{name} failed: {clip(str(error), 200) or type(error).__name__}") from None
    except ValueError as error:
        raise PermanentError(f"the request cannot be sent: {clip(str(error), 200)}") from None


def _read(url: str) -> URL:
    try:
        found = URL(url)
        port = found.port
    except ValueError as error:
        raise PermanentError(f"the address cannot be read: {error}") from None
    if found.scheme not in ("http", "https"):
        raise PermanentError("the address must begin with http:// or https://")
    if not found.host or port is None:
        raise PermanentError("the address has no host")
    if found.raw_user is not None or found.raw_password is not None:
        raise PermanentError("an address must not hold a user or a password; send them in a header")
    return found


def _trust(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise PermanentError(f"no certificate authority can be read from {ca}: {clip(str(error), 200)}") from None


async def _body(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise PermanentError("the answer is compressed although we asked for plain")
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > limit:
            return bytes(body[:limit]), True
    return bytes(body), False


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
