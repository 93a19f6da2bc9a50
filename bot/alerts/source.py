"""The port of everything that sends alerts: what a source must do, and how it reads what it was sent."""

import json
import re
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from bot.alerts.model import Alert
from bot.kit.clock import parse_time
from bot.kit.errors import PermanentError, UserError
from bot.kit.shelf import Shelf
from bot.kit.text import clean, clip, one_line

SHELF, MUST_HAVE = "bot.sources", ("parse",)

BODY_LIMIT = 16 * 1024 * 1024  # aiohttp's 1 MiB would refuse a group of 1,300 alerts, which its sender then drops
DEPTH_LIMIT = 64
NODES_LIMIT = 250_000  # objects and lists in one body: each costs far more memory than the two bytes it may be sent as
MEMBERS_LIMIT = 1000  # gzip files in one body; `cat a.gz b.gz` is one, as gzip itself has it
PIECE = 64 * 1024
TITLE_LIMIT, LABEL_LIMIT, ANNOTATION_LIMIT, LABELS_LIMIT, LINK_LIMIT = 200, 1024, 4096, 64, 2000
NAME_LIMIT = 128
# A sender's clock may be wrong by minutes; a time further ahead than this is no time.
AHEAD = timedelta(days=1)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)  # nothing has been firing since before that; 1970 means "not set"

_LINK_ESCAPES = str.maketrans(
    {"<": "%3C", ">": "%3E", "|": "%7C", '"': "%22", "`": "%60", " ": "%20", "\t": "%09", "\n": "%0A", "\r": "%0D"}
)


class Source(Protocol):
    """A module in `bot/sources/`; its file name is what a connection calls its source."""

    def parse(self, payload: Any, *, received_at: datetime) -> list[Alert]:
        """The alerts in a decoded JSON body. Pure.

        Raises PermanentError with one line that says why when the body is not what this source sends.
        """
        ...


def decode(body: bytes) -> Any:
    """The JSON value in *body*; UserError when it is not JSON, or is deeper or of more parts than anything real."""
    try:
        payload = json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise UserError(f"the body is nested deeper than {DEPTH_LIMIT} levels") from None
    except UnicodeDecodeError:
        raise UserError("the body is not JSON: it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise UserError(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        # Python refuses whole numbers of more than 4,300 digits.
        raise UserError(f"the body is not JSON we can read: {clip(str(error).split(';')[0], 120)}") from None
    level, nodes = [payload], 0
    for _ in range(DEPTH_LIMIT):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        nodes += len(level)
        if nodes > NODES_LIMIT:
            raise UserError(f"the body holds more than {NODES_LIMIT:,} objects and lists")
        if not level:
            return payload
    raise UserError(f"the body is nested deeper than {DEPTH_LIMIT} levels")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def inflate(body: bytes, limit: int = BODY_LIMIT) -> bytes:
    """*body* without its gzip wrapping; UserError when it is broken or larger than *limit* inside.

    Never holds more than *limit* bytes of what comes out, however much there would be.
    """
    whole, found, at = memoryview(body), bytearray(), 0
    for _ in range(MEMBERS_LIMIT):
        reader = zlib.decompressobj(wbits=31)
        while not reader.eof:
            piece = whole[at : at + PIECE]
            if not piece:
                raise UserError("the body is not valid gzip: it ends too early")
            at += len(piece)
            try:
                found += reader.decompress(piece, limit + 1 - len(found))
            except zlib.error:
                raise UserError("the body is not valid gzip") from None
            if len(found) > limit:
                raise UserError(f"the body is larger than {limit // 1024 // 1024} MiB when unpacked")
        at -= len(reader.unused_data)
        if at == len(body):
            return bytes(found)
        if not gzipped(whole[at : at + 2]):
            raise UserError("the body is not valid gzip: something follows its end")
    raise UserError(f"the body is more than {MEMBERS_LIMIT} gzip files in one")


def gzipped(body: bytes | memoryview) -> bool:
    """Whether *body* is still packed: no JSON text starts like this."""
    return body[:2] == b"\x1f\x8b"


def read(source: str, body: bytes, headers: Mapping[str, str], sources: Shelf, received_at: datetime) -> dict[str, Any]:
    """What *source* makes of one request, as plain data for people and tests.

    Raises UserError with one line when it makes nothing of it.
    """
    if source not in sources:
        raise UserError(f"there is no source {clip(source, 60)!r}; there is: {', '.join(sources)}")
    encoding = next((value for name, value in headers.items() if name.lower() == "content-encoding"), "")
    if gzipped(body) or encoding.strip().lower() in ("gzip", "x-gzip"):
        body = inflate(body)
    if len(body) > BODY_LIMIT:
        raise UserError(f"the body is larger than {BODY_LIMIT // 1024 // 1024} MiB")
    try:
        alerts = cast(Source, sources[source]).parse(decode(body), received_at=received_at)
    except PermanentError as error:
        raise UserError(str(error)) from None
    return {"alerts": [plain(alert) for alert in alerts]}


def plain(alert: Alert) -> dict[str, Any]:
    """*alert* as JSON-able data."""
    return {
        "status": str(alert.status),
        "title": alert.title,
        "severity": str(alert.severity),
        "fingerprint": alert.fingerprint,
        "dedup_key": alert.dedup_key,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "starts_at": alert.starts_at.isoformat() if alert.starts_at else None,
        "ends_at": alert.ends_at.isoformat() if alert.ends_at else None,
        "url": alert.url,
        "runbook_url": alert.runbook_url,
        "description": alert.description,
    }


# What every source needs to read: each takes anything at all and never raises.


def text(value: Any, limit: int) -> str:
    """A JSON scalar as safe text of at most *limit* characters; anything else is empty."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 256 else ""
    if isinstance(value, float):
        return repr(value)
    # Cut twice: cleaning 16 MB of text to keep 200 characters of it would be wasted.
    return clip(clean(value[: limit * 4]), limit) if isinstance(value, str) else ""


def title(*candidates: Any) -> str:
    """The first candidate that says anything, on one line; empty when none does."""
    return next((found for value in candidates if (found := one_line(text(value, TITLE_LIMIT)))), "")


def labels(value: Any, limit: int = LABEL_LIMIT) -> dict[str, str]:
    """A JSON object as label names and values, bounded; nested values are left out."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, str] = {}
    for name, item in value.items():
        if len(found) == LABELS_LIMIT:
            break
        key = text(name, NAME_LIMIT).strip()
        if key and isinstance(item, str | int | float):
            found[key] = text(item, limit)
    return found


def link(value: Any) -> str | None:
    """*value* if a person can be sent there: an http(s) address of sensible length, written out as ASCII too."""
    if not isinstance(value, str) or len(value) > LINK_LIMIT:
        return None
    address = clean(value.strip()).translate(_LINK_ESCAPES)
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", address)
    except ValueError:
        return None
    # Written out, a character that is not ASCII takes three letters for each of its bytes.
    written = sum(1 if byte < 128 else 3 for byte in address.encode())
    return address if good and written <= LINK_LIMIT else None


def when(value: Any, received_at: datetime) -> datetime | None:
    """A time the sender gave; None when it is none, unset, or so far off that it cannot be meant."""
    found = parse_time(value) if isinstance(value, str) and len(value) <= 64 else None
    return found if found is not None and EARLIEST <= found <= received_at + AHEAD else None
