"""Times as people say them: `18:00`, `tomorrow 9:00`, `fri 17:00`, `2026-03-01 09:00`, `2h`."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from bot.kit.clock import parse_duration
from bot.kit.errors import UserError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
LONGEST = timedelta(days=31)

_CLOCK = re.compile(r"([01]?\d|2[0-3])(?::([0-5]\d))?\s*(am|pm)?")
_HINT = "Write a time as `18:00`, `tomorrow 9:00`, `fri 17:00`, `2026-03-01 09:00` or `2h`."


def zone(name: str | None) -> ZoneInfo:
    """A person's time zone; UTC where it is not known."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def moment(text: str, now: datetime, where: ZoneInfo, *, after: datetime | None = None) -> datetime:
    """The time that *text* means to somebody in *where*, to come after *now*; UserError otherwise.

    With *after* the end of what begins then: a length counts from it, and a time of day is the next one after it.
    """
    said, begin = " ".join(text.lower().split()), after or now
    found = _length(said, begin) or _moment(said, now.astimezone(where), begin.astimezone(where), where)
    if found is None:
        raise UserError(f"`{said[:50].replace('`', '') or 'nothing'}` is no time. {_HINT}")
    at = found.astimezone(UTC).replace(microsecond=0)
    if at <= now:
        raise UserError(f"{found:%d %b %H:%M %Z} is over already. {_HINT}")
    if at <= begin:
        raise UserError(f"{found:%d %b %H:%M %Z} is before it begins. {_HINT}")
    if at - now > LONGEST:
        raise UserError(f"{found:%d %b %Y} is more than {LONGEST.days} days away.")
    return at


def _length(said: str, now: datetime) -> datetime | None:
    try:
        return now + parse_duration(said.replace(" ", ""))
    except (ValueError, OverflowError):
        return None


def _moment(said: str, here: datetime, begin: datetime, where: ZoneInfo) -> datetime | None:
    day, _, clock = said.rpartition(" ")
    if not day and re.fullmatch(r"[a-z]+|\d{4}-\d\d-\d\d", said):
        day, clock = said, "0:00"
    if clock in ("am", "pm"):
        day, _, hour = day.rpartition(" ")
        clock = f"{hour} {clock}"
    time = _clock(clock)
    if time is None:
        return None
    date = _date(day, here if day else begin)
    if date is None:
        return None
    at = datetime(date.year, date.month, date.day, *time, tzinfo=where)
    if not day and at <= begin:  # the next one to come
        at += timedelta(days=1)
    return at


def _clock(text: str) -> tuple[int, int] | None:
    found = _CLOCK.fullmatch(text)
    if not found or (found[2] is None and found[3] is None):
        return None
    hour, minute = int(found[1]), int(found[2] or 0)
    if found[3]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found[3] == "pm" else 0)
    return hour, minute


def _date(day: str, here: datetime) -> datetime | None:
    day = day.removeprefix("on ").removesuffix(" at").strip()
    if day in ("", "today"):
        return here
    if day == "tomorrow":
        return here + timedelta(days=1)
    if day[:3] in DAYS and day.isalpha():
        return here + timedelta(days=(DAYS.index(day[:3]) - here.weekday() - 1) % 7 + 1)
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=here.tzinfo)
    except ValueError:
        return None
