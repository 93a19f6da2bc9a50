"""A pager in memory that knows who is on call, and fails as a test plans it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bot.catalog.services import Place
from bot.incidents.oncall import Contact, Duty, Shift


@dataclass
class FakeDuties:
    """Implements `bot.incidents.oncall.Duties`. *there* is who is on call; *fault* befalls every call."""

    there: dict[Place, list[Duty]] = field(default_factory=dict)
    titles: dict[Place, str] = field(default_factory=dict)
    reach: dict[str, list[Contact]] = field(default_factory=dict)
    covers: list[tuple[str, str, datetime, datetime]] = field(default_factory=list)
    fault: Exception | None = None
    calls: list[str] = field(default_factory=list)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.fault is not None:
            raise self.fault

    async def duties(self, places: Sequence[Place]) -> Mapping[Place, Shift]:
        self._called("duties")
        return {place: Shift(self.titles.get(place, ""), tuple(self.there.get(place, ()))) for place in places}

    async def contacts(self, ref: str) -> Sequence[Contact]:
        self._called(f"contacts:{ref}")
        return self.reach.get(ref, [])

    async def cover(self, schedule: str, email: str, start: datetime, end: datetime) -> str:
        self._called("cover")
        if (schedule, email, start, end) not in self.covers:
            self.covers.append((schedule, email, start, end))
        return "the pager made the override POV1"
