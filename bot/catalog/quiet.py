"""Hours in which nothing starts by itself."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _moment(value: Any) -> Any:
    if isinstance(value, time):
        return value
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", value) if isinstance(value, str) else None
    if not found:
        raise ValueError("write a time of day as 22:00")
    return time(int(found[1]), int(found[2]))


Moment = Annotated[time, BeforeValidator(_moment)]


class QuietHours(BaseModel):
    """From one time of day to another, over midnight where the second is the earlier one; of the *days* it begins on.

    Two times that are the same mean a whole day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    begin: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    timezone: str = "UTC"
    days: tuple[str, ...] = DAYS

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("is not a time zone; write for example Europe/Berlin") from None
        return name

    @field_validator("days")
    @classmethod
    def _days(cls, named: tuple[str, ...]) -> tuple[str, ...]:
        if not named or not set(named) <= set(DAYS):
            raise ValueError(f"name days as {', '.join(DAYS)}")
        return named

    def until(self, now: datetime) -> datetime | None:
        """When they end, if *now* lies in them."""
        zone = ZoneInfo(self.timezone)
        today = now.astimezone(zone).date()
        for day in (today, today - timedelta(days=1)):
            if DAYS[day.weekday()] not in self.days:
                continue
            last = day if self.begin < self.end else day + timedelta(days=1)
            # Compared in UTC: two times of one zone are compared by what the clock on the wall says.
            begins = datetime.combine(day, self.begin, zone).astimezone(UTC)
            ends = datetime.combine(last, self.end, zone).astimezone(UTC)
            if begins <= now < ends:
                return ends
        return None


def quiet_until(hours: Iterable[QuietHours], now: datetime) -> datetime | None:
    """When it is not quiet any more, if it is *now*."""
    return max((ends for one in hours if (ends := one.until(now))), default=None)
