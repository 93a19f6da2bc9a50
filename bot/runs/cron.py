"""Cron expressions, read one way everywhere: five fields, weekdays by name, daylight saving as Debian's cron has it.

What runs at a set time runs once on the day on which the clock is put back, and right after the gap on the day on
which it is put forward; what runs by the minute or by the hour goes by the hours that really pass.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from bot.kit.text import nearest

# A numeric weekday is Monday for one cron and Tuesday for the next.
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_DAY = r"[a-z]{3}(?:-[a-z]{3})?(?:#[1-5])?"
_WEEKDAY = re.compile(rf"\*(?:/[1-9])?|{_DAY}(?:,{_DAY})*", re.IGNORECASE)
_FIELDS = ("minute", "hour", "day of the month", "month", "weekday")
_SHORTCUTS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@reboot")
_LONGEST = 200
# So many of the times that were missed are counted; where there are more, the newest is looked for in the near past.
_COUNTED = 500
_BACK = (timedelta(days=1), timedelta(days=32), timedelta(days=367))


@dataclass(frozen=True)
class Missed:
    """The newest of the times that went by, and how many there were at least."""

    last: datetime
    count: int


def wrong(cron: str, timezone: str) -> str | None:
    """What is wrong with a cron expression, or None."""
    if len(cron) > _LONGEST:
        return f"is longer than {_LONGEST} characters"
    parts = cron.split()
    if cron.strip().lower() in _SHORTCUTS:
        return f"write the five fields instead of {cron.strip()!r}: minute hour day month weekday, such as 30 2 * * *"
    if len(parts) != len(_FIELDS):
        return f"has {len(parts)} fields instead of five: minute hour day month weekday, such as 30 2 * * mon-fri"
    if told := _wrong_weekday(parts[4]):
        return told
    try:
        comes = CronSim(cron, datetime(2024, 1, 1, tzinfo=_zone(timezone) or UTC))
    except CronSimError as error:
        return _told(str(error), parts)
    return None if next(comes, None) is not None else "never comes: there is no such day"


def wrong_timezone(name: str) -> str | None:
    """Why *name* is not a time zone, or None."""
    return None if _zone(name) else f"{name!r} is not a time zone; write for example Europe/Berlin or UTC"


def times(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """The times after *after*, in UTC; both must have been found right."""
    zone = _zone(timezone) or UTC
    last = after.astimezone(UTC)
    # On a day with two hours of one name the parser may go back into the first of them.
    for local in CronSim(cron, after.astimezone(zone)):
        found = local.astimezone(UTC)
        if found > last:
            last = found
            yield found


def missed(cron: str, timezone: str, after: datetime, until: datetime) -> Missed | None:
    """What came after *after* and at or before *until*; None if nothing did."""
    found = list(islice(takewhile(lambda time: time <= until, times(cron, timezone, after)), _COUNTED))
    if not found:
        return None
    if len(found) < _COUNTED:
        return Missed(found[-1], len(found))
    for back in _BACK:  # far too many to look at each
        last, count = None, 0
        for time in takewhile(lambda time: time <= until, times(cron, timezone, max(after, until - back))):
            last, count = time, count + 1
        if last is not None:
            return Missed(last, max(count, _COUNTED))
    return Missed(found[-1], _COUNTED)


def shortest(cron: str, timezone: str, after: datetime, *, looked_at: int = 50) -> timedelta | None:
    """The shortest time between two of the next ones; None if there are no two."""
    found = list(islice(times(cron, timezone, after), looked_at))
    return min((later - sooner for sooner, later in pairwise(found)), default=None)


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder, or a name that leads out of the database
        return None


def _wrong_weekday(field: str) -> str | None:
    words = re.findall(r"[a-z]+", field.lower())
    if re.search(r"[0-9]", re.sub(r"[#/][0-9]+", "", field)):
        return f"names weekdays by number ({field}), which not every cron counts alike; write mon, tue, … or mon-fri"
    for word in words:
        if word not in _WEEKDAYS:
            meant = nearest(word[:3], list(_WEEKDAYS))
            return f"{word!r} is not a weekday" + (f"; did you mean {meant}?" if meant else f"; {', '.join(_WEEKDAYS)}")
    return None if _WEEKDAY.fullmatch(field) else f"{field!r} is not a weekday; write *, mon, mon-fri or mon,thu"


def _told(error: str, parts: list[str]) -> str:
    """The parser's word, with the field as it stands there."""
    names = {"Bad minute": 0, "Bad hour": 1, "Bad day-of-month": 2, "Bad month": 3, "Bad day-of-week": 4}
    place = names.get(error)
    return error if place is None else f"{parts[place]!r} cannot be the {_FIELDS[place]}"
