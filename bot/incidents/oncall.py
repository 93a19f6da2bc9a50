"""Who is on call: what a pager must offer for it, what it said last, and who stands in for whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel, col

from bot.catalog.services import Directory, Place
from bot.kit.clock import Clock
from bot.kit.db import Json

# What was said longer ago than this lets nobody in any more, though it is still shown.
TRUSTED = timedelta(hours=24)
WAITING, DONE, FAILED = "waiting", "done", "failed"


class Contact(BaseModel):
    """A way to reach somebody: `email`, `phone`, `sms` or `push`."""

    model_config = ConfigDict(frozen=True)

    kind: str
    address: str
    label: str = ""


class Duty(BaseModel):
    """Somebody on call. *until* is None where there is no end; *schedule* put them there, *ref* is the pager's id.

    *level* 1 is who is woken first. *contacts_at* is when the pager told how to reach them.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    email: str | None = None
    level: int = 1
    since: datetime | None = None
    until: datetime | None = None
    schedule: str | None = None
    ref: str | None = None
    contacts: tuple[Contact, ...] = ()
    contacts_at: datetime | None = None

    @property
    def who(self) -> str:
        """What tells them from others, and what the chat may know them by."""
        return (self.email or self.ref or self.name).lower()

    def at(self, moment: datetime) -> bool:
        """Whether they are on call at *moment*, as far as is known."""
        return self.until is None or moment < self.until


@dataclass(frozen=True)
class Shift:
    """Who is on call at a place, and what the pager calls it."""

    title: str
    duties: tuple[Duty, ...] = ()


@runtime_checkable
class Duties(Protocol):
    """A pager that knows who is on call. TemporaryError where asking again may help, PermanentError where not."""

    async def duties(self, places: Sequence[Place]) -> Mapping[Place, Shift]:
        """Who is on call at each of *places* now; a place at which nobody is has no duties."""
        ...

    async def contacts(self, ref: str) -> Sequence[Contact]:
        """How the pager reaches somebody, by its id for them."""
        ...

    async def cover(self, schedule: str, email: str, start: datetime, end: datetime) -> str:
        """Put somebody on call in the place of whoever would be; what was done, for people. Again changes nothing."""
        ...


class Roster(SQLModel, table=True):
    """What is known of one place. *checked_at* is when it was last told, *problem* why it was not since.

    *shift* counts the changes of who is woken first.
    """

    __tablename__ = "roster"

    place: str = Field(primary_key=True)
    title: str = ""
    duties: list[dict[str, Any]] = Field(default_factory=list, sa_type=Json)
    checked_at: datetime | None = None
    problem: str | None = None
    shift: int = 0

    @property
    def people(self) -> tuple[Duty, ...]:
        """Who is on call."""
        return tuple(Duty.model_validate(duty) for duty in self.duties)


class Cover(SQLModel, table=True):
    """Somebody stands in at a place, called *name*, for a while. `state` is waiting (for the pager), done or failed."""

    __tablename__ = "cover"

    id: str = Field(primary_key=True, max_length=32)
    place: str = Field(index=True)
    person: str
    email: str | None = None
    name: str
    starts_at: datetime
    ends_at: datetime
    by: str
    made_at: datetime
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Standing:
    """How a place stands, for people. *said* is whether anybody has ever told; *cover* who stands in now."""

    place: Place
    name: str
    duties: tuple[Duty, ...] = ()
    said: bool = True
    checked_at: datetime | None = None
    problem: str | None = None
    cover: Cover | None = None

    @property
    def first(self) -> tuple[Duty, ...]:
        """Who is woken first."""
        return first(self.duties)


def first(duties: Sequence[Duty]) -> tuple[Duty, ...]:
    """Those of the lowest level."""
    least = min((duty.level for duty in duties), default=1)
    return tuple(duty for duty in duties if duty.level == least)


def standing(
    directory: Directory, place: Place, roster: Roster | None, covers: Iterable[Cover], now: datetime
) -> Standing:
    """How *place* stands at *now*: a list is what catalog.yaml says and who stands in, all else what the pager said."""
    name = directory.name(place)
    if place.kind == "list":
        cover = standing_in(place, covers, now)
        people = directory.catalog.oncall[place.id].people if place.id in directory.catalog.oncall else ()
        duties = [Duty(name=who, **({"email": who} if "@" in who else {"ref": who})) for who in people]
        if cover is not None:
            duties = [Duty(name=cover.person, email=cover.email, ref=cover.person, until=cover.ends_at)]
        return Standing(place, name or place.id, tuple(duties), cover=cover, checked_at=now)
    if roster is None:
        return Standing(place, name or place.id, said=False)
    title = name or roster.title or place.id
    return Standing(place, title, roster.people, roster.checked_at is not None, roster.checked_at, roster.problem)


def standing_in(place: Place, covers: Iterable[Cover], now: datetime) -> Cover | None:
    """Who stands in at a list now; of several whoever was asked last."""
    mine = [
        cover
        for cover in covers
        if cover.place == place.key and cover.state == DONE and cover.starts_at <= now < cover.ends_at
    ]
    return max(mine, key=lambda cover: (cover.made_at, cover.id), default=None)


async def known(session: AsyncSession, directory: Directory, places: Sequence[Place], now: datetime) -> list[Standing]:
    """How *places* stand, from the database alone."""
    keys = [place.key for place in places]
    rosters = {row.place: row for row in await session.scalars(sa.select(Roster).where(col(Roster.place).in_(keys)))}
    covers = await current(session, now)
    return [standing(directory, place, rosters.get(place.key), covers, now) for place in places]


async def current(session: AsyncSession, now: datetime) -> list[Cover]:
    """Who stands in, or will."""
    return list(await session.scalars(sa.select(Cover).where(col(Cover.ends_at) > now)))


@dataclass
class Board:
    """Who is on call, from memory: for questions at every click. As of the last look, and by the clock of now."""

    directory: Directory
    clock: Clock
    rosters: Mapping[str, Roster] = field(default_factory=dict)
    covers: Sequence[Cover] = ()

    async def learn(self, session: AsyncSession) -> None:
        """Take up what the database knows."""
        now = self.clock()
        self.rosters = {row.place: row for row in await session.scalars(sa.select(Roster))}
        self.covers = await current(session, now)

    def at(self, place: Place) -> frozenset[str]:
        """Who is woken first there now, as ids and e-mail addresses in lower case. Old word lets nobody in."""
        names = {name for duty in self._first(place) for name in (duty.email, duty.ref) if name}
        return frozenset(name.lower() for who in names for name in (who, self.directory.person(who)))

    def of_service(self, service: str | None) -> tuple[str, ...]:
        """Who is woken first for *service*, as the chat finds them."""
        places = self.directory.of_service(service or "")
        found = (duty.email or duty.ref for place in places for duty in self._first(place))
        return tuple(dict.fromkeys(self.directory.person(who) for who in found if who))

    def _first(self, place: Place) -> list[Duty]:
        now = self.clock()
        found = standing(self.directory, place, self.rosters.get(place.key), self.covers, now)
        if found.checked_at is None or now - found.checked_at > TRUSTED:
            return []
        return [duty for duty in found.first if duty.at(now)]

    def members(self) -> dict[str, frozenset[str]]:
        """The same for every name that `oncall` has."""
        return {name: self.at(self.directory.named(name)) for name in self.directory.catalog.oncall}
