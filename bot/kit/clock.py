"""The time, in one place, so that tests can set it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_WHOLE = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+")
_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def utc_now() -> datetime:
    """The one place that reads the wall clock; always aware, always UTC."""
    return datetime.now(UTC)  # noqa: TID251


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``5m`` or ``1h30m``; raise ValueError with an example otherwise."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration; write for example 500ms, 30s, 5m or 1h30m")
    return timedelta(seconds=sum(int(n) * _UNIT[unit] for n, unit in _PART.findall(text)))


def plain_duration(length: timedelta) -> str:
    """*length* as `parse_duration` reads it: ``15m``, ``1h30m``."""
    left, parts = round(length.total_seconds() * 1000), []
    for name, seconds in reversed(_UNIT.items()):
        many, left = divmod(left, round(seconds * 1000))
        parts += [f"{many}{name}"] if many else []
    return "".join(parts) or "0s"


def duration_text(length: timedelta) -> str:
    """``1 h 5 min``, ``4 min 10 s`` or ``3 s``: two units at most, for people."""
    seconds = int(length.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts = [
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    ]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return sign + " ".join(f"{n} {unit}" for i, (n, unit) in enumerate(parts[:2]) if n or i == 0)


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time as aware UTC (nanoseconds cut to microseconds), or None if it is not one.

    Go's zero time (year 1) means "not set" in every payload that carries it, so it is None as well.
    """
    try:
        found = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.strip()))
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        found = found.astimezone(UTC)
    except OverflowError:
        return None
    return found if found.year > 1 else None
