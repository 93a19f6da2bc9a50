"""Where monitoring systems send their alerts: `POST /alerts/{connection}`, answered once they are stored."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bot.alerts.model import Alert
from bot.alerts.source import BODY_LIMIT, LABELS_LIMIT, Source, decode, gzipped, inflate
from bot.catalog.config import Connection
from bot.incidents.intake import Incoming, Intake, Packed, Receipt, pack
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.shelf import Shelf
from bot.kit.text import clip, one_line
from bot.metrics import Metrics

log = structlog.get_logger()

BIG = 256 * 1024  # a body above this is read into alerts in a thread, so that others need not wait
SMALL, REPEATS, REMEMBERED = 8 * 1024, 1_000, timedelta(hours=1)  # of the bodies whose reading is remembered
JSON = {"Content-Type": "application/json; charset=utf-8"}
ENCODINGS = ("", "identity", "gzip", "x-gzip")

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True)
class Bounds:
    """What senders may cost: time for a body, memory for all that are here at once, alerts in one."""

    read_seconds: float = 30.0
    turn_seconds: float = 30.0  # how long a large or packed body waits until those before it are read into alerts
    held_bytes: int = 128 * 1024 * 1024
    alerts: int = 20_000  # storing so many takes seconds; many more would take longer than any sender waits


class _HungUpError(Exception):
    """The sender went away before its body was whole."""


class _TooLargeError(Exception):
    """More than one body may hold."""


class _Room:
    """The memory that bodies share from their first byte until their answer."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.held = 0
        self.reading = asyncio.Semaphore(1)


class _Place:
    """One body's part of the room; given back when it leaves."""

    def __init__(self, room: _Room) -> None:
        self.room = room
        self._held = 0

    def __enter__(self) -> "_Place":
        return self

    def take(self, size: int) -> None:
        if self.room.held + size > self.room.bounds.held_bytes:
            raise TemporaryError("too much is arriving at once")
        self.room.held += size
        self._held += size

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One at a time: a large body costs many times its size while it is read into alerts."""
        try:
            async with asyncio.timeout(self.room.bounds.turn_seconds):
                await self.room.reading.acquire()
        except TimeoutError:
            raise TemporaryError("too much is waiting to be read") from None
        try:
            yield
        finally:
            self.room.reading.release()

    def __exit__(self, *_: object) -> None:
        self.room.held -= self._held


@dataclass(frozen=True)
class _Read:
    """What a body says, how it is kept, and when it was read."""

    alerts: tuple[Alert, ...]
    packed: Packed
    at: datetime


class _Repeats:
    """The newest small bodies, read: a sender that repeats itself byte by byte says the same again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, _Read] = OrderedDict()

    def get(self, body: bytes, now: datetime) -> _Read | None:
        """What was read of the same *body* a while ago; a longer while may change what its times mean."""
        found = self._kept.get(body)
        if found is None or now - found.at > REMEMBERED:
            return None
        self._kept.move_to_end(body)
        return found

    def keep(self, body: bytes, read: _Read) -> _Read:
        """Remember what was *read* of *body*, if it is small."""
        if len(body) <= SMALL:
            self._kept[body] = read
            if len(self._kept) > REPEATS:
                self._kept.popitem(last=False)
        return read


@dataclass(frozen=True)
class _Door:
    """A connection, what reads its bodies, and the hashes of the tokens that open it."""

    connection: Connection
    source: Source
    hashes: tuple[bytes, ...]
    repeats: _Repeats = field(default_factory=_Repeats)


def routes(
    connections: Mapping[str, Connection],
    sources: Shelf,
    intake: Intake,
    clock: Clock,
    metrics: Metrics | None = None,
    bounds: Bounds | None = None,
) -> list[web.RouteDef]:
    """The routes of this module. UserError when a connection names a source that does not exist."""
    doors = {name: _door(connection, sources) for name, connection in connections.items()}
    metrics = metrics or Metrics()
    for name in doors:
        metrics.expect(connection=name)
    handler = _counted(_handler(doors, intake, clock, bounds or Bounds()), doors, metrics)
    return [web.post("/alerts/{connection}", handler)]


def _counted(handler: Handler, doors: Mapping[str, _Door], metrics: Metrics) -> Handler:
    async def receive(request: web.Request) -> web.Response:
        begun = time.perf_counter()
        response = await handler(request)
        name = request.match_info["connection"]
        metrics.delivered(name if name in doors else None, response.status, time.perf_counter() - begun)
        return response

    return receive


def _door(connection: Connection, sources: Shelf) -> _Door:
    if connection.source not in sources:
        known = ", ".join(sources)
        raise UserError(f"connection {connection.name!r}: there is no source {connection.source!r}; there is: {known}")
    hashes = tuple(_hash(token.get_secret_value()) for token in connection.tokens)
    module: ModuleType = sources[connection.source]
    return _Door(connection, cast(Source, module), hashes)


def _handler(doors: Mapping[str, _Door], intake: Intake, clock: Clock, bounds: Bounds) -> Handler:
    room = _Room(bounds)
    nobody = (_hash(secrets.token_hex()), _hash(secrets.token_hex()))

    async def receive(request: web.Request) -> web.Response:
        name = request.match_info["connection"]
        door = doors.get(name)
        # Both answers cost the same: the comparison happens whether there is such a connection or not.
        allowed = _allowed(request.headers.get("Authorization", ""), door.hashes if door else nobody)
        if door is None:
            return _refused(404, "there is no such connection")
        if not allowed:
            log.warning("alerts.unauthorized", connection=name, remote=request.remote)
            return _refused(401, "a token of this connection is needed", {"WWW-Authenticate": 'Bearer realm="tocsin"'})
        try:
            with _Place(room) as place:
                return await _accept(request, door, intake, clock(), place)
        except TemporaryError as error:
            log.warning("alerts.not_stored", connection=name, reason=str(error))
            return _refused(503, str(error), {"Retry-After": str(max(1, round(error.after)))})
        except Exception:
            # The edge: the sender must hear that it should try again, and a person must hear why.
            log.exception("alerts.failed", connection=name)
            return _refused(500, "Tocsin could not store this; its log says why")

    return receive


async def _accept(
    request: web.Request, door: _Door, intake: Intake, received_at: datetime, place: _Place
) -> web.Response:
    bounds, name = place.room.bounds, door.connection.name
    encoding = ",".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    if encoding not in ENCODINGS:
        return _refused(415, "send the body plain or with Content-Encoding: gzip, once")
    try:
        if request.content.is_eof() and (request.content_length or 0) <= BODY_LIMIT:
            body = request.content.read_nowait()  # it came along with its headers, as most do
            place.take(len(body))
        else:
            async with asyncio.timeout(bounds.read_seconds):
                body = await _body(request, place)
        if gzipped(body) or len(body) > BIG:  # what is packed may be large, whatever it looks like
            async with place.turn():
                read = await asyncio.to_thread(_read, door, body, received_at)
        else:
            read = door.repeats.get(body, received_at) or door.repeats.keep(body, _read(door, body, received_at))
        if len(read.alerts) > bounds.alerts:
            raise _TooLargeError(f"there are more than {bounds.alerts:,} alerts in the body")
    except TimeoutError:
        log.warning("alerts.too_slow", connection=name, remote=request.remote)
        return _refused(408, f"the body did not arrive within {bounds.read_seconds:g} seconds")
    except _HungUpError:
        log.info("alerts.hung_up", connection=name, remote=request.remote)
        return _refused(400, "the body ended too early")  # nobody hears it
    except _TooLargeError as error:
        log.warning("alerts.too_large", connection=name, reason=str(error))
        return _refused(413, str(error))
    except (UserError, PermanentError) as error:
        reason = clip(one_line(str(error)), 300)
        log.warning("alerts.not_understood", connection=name, reason=reason)
        return _refused(400, reason)
    receipt = await intake.accept(Incoming(name, door.connection.source, body, read.alerts, received_at, read.packed))
    if any(outcome != "repeat" for _, outcome, _ in receipt.results):
        _log(name, receipt)  # else nothing is new; what came when is in the table of deliveries
    answer = {
        "id": receipt.delivery_id,
        "alerts": [
            {"dedup_key": key, "outcome": outcome, "incident": incident} for key, outcome, incident in receipt.results
        ],
    }
    return web.Response(body=json.dumps(answer).encode(), status=202, headers=JSON)


def _read(door: _Door, body: bytes, received_at: datetime) -> _Read:
    """The alerts in *body*, with what the connection says of all of them."""
    plain = inflate(body) if gzipped(body) else body
    alerts = door.source.parse(decode(plain), received_at=received_at)
    if extra := door.connection.labels:
        # Identity was settled by the sender's labels; the operator's word about the sender wins over the sender's.
        alerts = [replace(alert, labels={**_fewer(alert.labels, extra), **extra}) for alert in alerts]
    return _Read(tuple(alerts), pack(body), received_at)


def _fewer(labels: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    return dict(list(labels.items())[: max(0, LABELS_LIMIT - len(extra))])


async def _body(request: web.Request, place: _Place) -> bytes:
    """The body, read piece by piece so that its size is bounded whatever its headers say."""
    too_large = _TooLargeError(f"the body is larger than {BODY_LIMIT // 1024 // 1024} MiB")
    if (request.content_length or 0) > BODY_LIMIT:
        raise too_large
    found = bytearray()
    try:
        async for piece in request.content.iter_any():
            if len(found) + len(piece) > BODY_LIMIT:
                raise too_large
            place.take(len(piece))
            found += piece
    except ConnectionError:
        raise _HungUpError from None
    except (HttpProcessingError, web.RequestPayloadError) as error:
        raise UserError(f"the body cannot be read: {type(error).__name__}") from None
    return bytes(found)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _allowed(header: str, hashes: tuple[bytes, ...]) -> bool:
    """Whether *header* holds one of the tokens, as Bearer or as the password of Basic; every one is compared."""
    given = _hash(_token(header))
    # Not any(): the time must not tell which one fitted.
    return sum(hmac.compare_digest(given, known) for known in hashes) > 0


def _token(header: str) -> str:
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(rest.encode("ascii"), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, UnicodeEncodeError):
        return ""
    return decoded.partition(":")[2]


def _log(connection: str, receipt: Receipt) -> None:
    tally = Tally(outcome for _, outcome, _ in receipt.results)
    incidents = sorted({incident for _, _, incident in receipt.results if incident})
    log.info(
        "alerts.stored",
        connection=connection,
        delivery=receipt.delivery_id,
        alerts=len(receipt.results),
        outcomes=dict(tally),
        incidents=incidents[:20],
    )


def _refused(status: int, reason: str, headers: Mapping[str, str] | None = None) -> web.Response:
    answer: dict[str, Any] = {"error": reason}
    return web.json_response(answer, status=status, headers=dict(headers or {}))
