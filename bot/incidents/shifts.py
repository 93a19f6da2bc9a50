"""Shifts: the pager is asked who is on call, a change is announced once, and who stands in is put there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.catalog.services import Directory, Place
from bot.engine import LINES, Engine, Tx, Work
from bot.incidents import logbook, oncall, timeline
from bot.incidents.chat import Chat, Notice
from bot.incidents.logbook import Logbook
from bot.incidents.model import LOGBOOK, Incident, Kind
from bot.incidents.oncall import DONE, FAILED, WAITING, Contact, Cover, Duties, Duty, Roster, Shift
from bot.incidents.parts import Parts
from bot.incidents.parts import Result as Made
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import BotError, PermanentError
from bot.kit.text import clip, one_line

log = structlog.get_logger()

EVERY = 60.0
CONTACTS, ASKED = timedelta(hours=24), 20
DAY, SHOWN = timedelta(hours=24), 10
BOT = "bot"
Find = Callable[[str], str | None]


@dataclass(frozen=True)
class Handover:
    """What is said when who is on call has changed. People are ids of the chat, or names where it has none."""

    place: str
    leaving: Sequence[str]
    coming: Sequence[str]
    until: datetime | None
    open: Sequence[Incident] = ()
    opened: int = 0
    resolved: int = 0
    services: Sequence[str] = ()


@dataclass
class Shifts:
    """The tick, and the workflows `oncall`, `handover` and `cover`. Without *pager* there are lists alone.

    *name* turns an e-mail address or an id into the chat's own id, None where nobody there has it.
    """

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    directory: Directory
    logbook: Logbook
    pager: Duties | None = None
    find: Find = field(default=lambda who: None)
    every_seconds: float = EVERY

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)

    async def tick(self) -> None:
        """Every process ticks; the id makes it one look."""
        if not self.directory.places():
            return
        now = self.clock()
        async with self.engine.transaction() as tx:
            tx.enqueue(_look(f"{now.timestamp() // self.every_seconds:.0f}"))

    # -- looking ----------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask who is on call everywhere, and write it down. While the pager is away what it said before stays."""
        places = self.directory.places()
        paged = [place for place in places if place.kind != "list"]
        async with self.engine.db.read() as session:
            before = {row.place: row for row in await session.scalars(sa.select(Roster))}
        told: dict[Place, Shift] = {}
        problem = None
        if paged and self.pager is None:
            problem = f"the pager {self.directory.pager!r} cannot say who is on call"
        elif paged and self.pager is not None:
            try:
                told = await self._reached(self.pager, dict(await self.pager.duties(paged)), before)
            except BotError as error:
                problem = clip(one_line(str(error)), 300)
                log.warning("oncall.not_told", reason=problem)
        now = self.clock()
        async with self.engine.transaction() as tx:
            await tx.session.execute(sa.delete(Roster).where(col(Roster.place).not_in([place.key for place in places])))
            covers = await oncall.current(tx.session, now)
            for place in sorted(places):
                if place.kind == "list":
                    found = oncall.standing(self.directory, place, None, covers, now)
                    await self._write(tx, place, Shift(found.name, found.duties), now)
                elif problem is None:
                    await self._write(tx, place, told.get(place, Shift("")), now)
                else:
                    await self._unsaid(tx, place, problem)

    async def _reached(
        self, pager: Duties, told: Mapping[Place, Shift], before: Mapping[str, Roster]
    ) -> dict[Place, Shift]:
        """The same with how to reach people, which is asked once a day: of some now, of the rest the next time."""
        now = self.clock()
        known = {duty.ref: _ways(duty) for row in before.values() for duty in row.people if duty.ref}
        people = dict.fromkeys(duty.ref for shift in told.values() for duty in shift.duties if duty.ref)
        late = [ref for ref in people if (at := known.get(ref, _NO_WAYS)["contacts_at"]) is None or now - at > CONTACTS]
        for ref in late[:ASKED]:
            found: tuple[Contact, ...] = ()
            try:
                found = tuple(await pager.contacts(ref))
            except PermanentError as error:  # who is on call counts without it
                log.warning("oncall.no_contacts", person=ref, reason=str(error))
            known[ref] = {"contacts": found, "contacts_at": now}
        return {
            place: Shift(
                shift.title,
                tuple(duty.model_copy(update=known.get(duty.ref or "", _NO_WAYS)) for duty in shift.duties),
            )
            for place, shift in told.items()
        }

    async def _write(self, tx: Tx, place: Place, shift: Shift, now: datetime) -> None:
        """What is known now. Whoever is woken first has changed: that is a hand-over, and announced."""
        row = await _row(tx, place)
        fresh = row.checked_at is None
        was, comes = oncall.first(row.people), oncall.first(shift.duties)
        coming = {duty.who for duty in comes}
        changed = coming != {duty.who for duty in was}
        row.title = clip(one_line(shift.title), 200) or row.title
        row.duties = [duty.model_dump(mode="json") for duty in shift.duties]
        row.checked_at, row.problem = now, None
        if fresh or not changed:
            return
        row.shift += 1
        leaving = [self._called(duty) for duty in was if duty.who not in coming]
        ends = min((duty.until for duty in comes if duty.until), default=None)
        args = (place.kind, place.id, row.shift, leaving, [self._called(duty) for duty in comes])
        times = (now.isoformat(), ends.isoformat() if ends else None)
        line = f"oncall:{place.key}"
        tx.enqueue(Work("handover", f"handover:{place.key}:{row.shift}", (*args, *times), LINES, line))

    async def _unsaid(self, tx: Tx, place: Place, problem: str) -> None:
        row = await _row(tx, place)
        row.problem = problem

    def _called(self, duty: Duty) -> str:
        """How the chat calls them: as a mention if it can."""
        return called(self.find, self.directory, duty)

    # -- announcing -------------------------------------------------------------------------------------------------

    async def announce(
        self,
        kind: Any,
        id_: str,
        shift: int,
        leaving: Sequence[str],
        coming: Sequence[str],
        at: str,
        until: str | None,
    ) -> None:
        """Tell the operations log, and the channels of the teams that it is about, who leaves and who comes."""
        place, moment = Place(kind, id_), datetime.fromisoformat(at)
        async with self.engine.db.read() as session:
            row = await session.get(Roster, place.key)
            name = self.directory.name(place) or (row.title if row else "") or place.id
            services = self.directory.services_at(place)
            noun = await _handover(session, name, services, leaving, coming, until, moment)
        async with self.engine.transaction() as tx:
            incident = await self.logbook.open(tx, now=moment)
            await timeline.record(
                tx, self.react, incident.id, "oncall.changed", _text(noun), now=self.clock(), at=moment, actor=BOT,
                data={"place": place.key, "name": name, "leaving": list(leaving), "coming": list(coming)},
                once=f"{place.key}:{shift}",
            )  # fmt: skip
        for channel in self._channels(place):
            await self._say(f"handover:{place.key}:{shift}:{channel}", channel, noun, since=moment)

    def _channels(self, place: Place) -> list[str]:
        """Where a hand-over is announced: with the teams, else where the services are talked about."""
        catalog = self.directory.catalog
        teams = [catalog.teams[name].channel for name in self.directory.teams_at(place)]
        services = [catalog.services[name].channel for name in self.directory.services_at(place)]
        found = [channel for channel in teams if channel] or [channel for channel in services if channel]
        return list(dict.fromkeys(found))

    async def _say(self, name: str, where: str, message: object, *, since: datetime) -> None:
        """Say it once. A channel that is not there is no reason not to tell the next one."""

        async def make() -> Made:
            place = await self.chat.place(where) if not _person(where) else where
            return {"channel": place, "ts": await self.chat.post(place, message, key=name)}

        async def find() -> Made | None:
            if _person(where):  # what was said to a person cannot be looked up; twice is better than never
                return None
            place = await self.chat.place(where)
            ts = await self.chat.find_post(place, name, since=since)
            return {"channel": place, "ts": ts} if ts else None

        part = (await self.parts.begin(logbook.ID, [name]))[name]
        await self.parts.make(part, make, find, quiet=True)

    # -- standing in ------------------------------------------------------------------------------------------------

    async def cover(self, cover_id: str) -> None:
        """Have the pager put somebody there, and tell them and whoever asked what came of it."""
        async with self.engine.db.read() as session:
            cover = await session.get(Cover, cover_id)
        if cover is None:
            return
        if cover.state == WAITING:
            state, detail = await self._put(cover)
            async with self.engine.transaction() as tx:
                there = await tx.session.get(Cover, cover_id, with_for_update=True)
                if there is not None and there.state == WAITING:
                    there.state, there.detail = state, detail
                    now = self.clock()
                    await note(tx, self.react, await self.logbook.open(tx, now=now), there, now=now)
                cover = there or cover
        told = f"{stands_in(cover)}. {cover.detail}".strip()
        if cover.state == FAILED:
            told = f":warning: <@{cover.person}> does *not* stand in at {cover.name}: {cover.detail}"
        for who in dict.fromkeys([cover.by, cover.person]):
            await self._say(f"cover:{cover.id}:{who}", who, Notice(told, ":telephone_receiver:"), since=cover.made_at)

    async def _put(self, cover: Cover) -> tuple[str, str]:
        if cover.ends_at <= self.clock():
            return FAILED, "the time was over before the pager could be told"
        if self.pager is None or cover.email is None:
            return FAILED, f"the pager {self.directory.pager!r} cannot put anybody on call"
        try:
            await self.engine.still_mine()
            kind, _, schedule = cover.place.partition(":")
            if kind != "schedule":
                raise PermanentError("only a schedule can be covered")
            return DONE, await self.pager.cover(schedule, cover.email, cover.starts_at, cover.ends_at)
        except PermanentError as error:
            return FAILED, clip(one_line(str(error)), 300)


async def note(tx: Tx, react: React, incident: Incident, cover: Cover, *, now: datetime) -> None:
    """Put on record in the operations log that somebody stands in or could not be put there; look again who does."""
    text, kind = f"{stands_in(cover)}, as <@{cover.by}> asked", "oncall.covered"
    if cover.state == FAILED:
        text, kind = f"<@{cover.person}> does not stand in at {cover.name}: {cover.detail}", "oncall.not_covered"
    data = {
        "place": cover.place,
        "name": cover.name,
        "person": cover.person,
        "from": cover.starts_at.isoformat(),
        "until": cover.ends_at.isoformat(),
    }
    await timeline.record(tx, react, incident.id, kind, text, now=now, actor=cover.by, data=data, once=cover.id)
    tx.enqueue(_look(f"cover:{cover.id}"))


def stands_in(cover: Cover) -> str:
    """In words: who, where and how long."""
    span = f"{cover.starts_at:%d %b %H:%M} to {cover.ends_at:%d %b %H:%M} UTC"
    return f"<@{cover.person}> stands in at {cover.name} from {span}"


def called(find: Find, directory: Directory, duty: Duty) -> str:
    """How the chat calls somebody: a mention if it knows them, else their name and address."""
    for who in (duty.email, duty.ref):
        if who and (found := find(directory.person(who))):
            return f"<@{found}>"
    return duty.name if duty.email is None or duty.email == duty.name else f"{duty.name} ({duty.email})"


def _look(window: str) -> Work:
    return Work("oncall", f"oncall:{window}", (), LINES, "oncall", merges=True)


async def _row(tx: Tx, place: Place) -> Roster:
    """The row of *place*, locked: of several processes one sees the change."""
    connection = await tx.session.connection()
    insert = insert_for(connection, Roster).values(place=place.key, title="", duties=[], shift=0)
    await connection.execute(insert.on_conflict_do_nothing(index_elements=["place"]))
    query = sa.select(Roster).where(col(Roster.place) == place.key).with_for_update()
    return (await tx.session.scalars(query.execution_options(populate_existing=True))).one()


async def _handover(
    session: AsyncSession,
    name: str,
    services: Sequence[str],
    leaving: Sequence[str],
    coming: Sequence[str],
    until: str | None,
    at: datetime,
) -> Handover:
    """What whoever comes should know. Private incidents are not told of."""
    mine = [
        col(Incident.number) != LOGBOOK,
        col(Incident.private).is_(False),
        col(Incident.kind) == Kind.STANDARD,
        *([col(Incident.service).in_(services)] if services else []),
    ]
    query = sa.select(Incident).where(*mine, col(Incident.is_open).is_(True))
    opened = sa.select(sa.func.count()).where(*mine, col(Incident.opened_at) > at - DAY)
    resolved = sa.select(sa.func.count()).where(*mine, col(Incident.resolved_at) > at - DAY)
    return Handover(
        place=name,
        leaving=leaving,
        coming=coming,
        until=datetime.fromisoformat(until) if until else None,
        open=list(await session.scalars(query.order_by(col(Incident.severity), col(Incident.number)).limit(SHOWN + 1))),
        opened=int(await session.scalar(opened) or 0),
        resolved=int(await session.scalar(resolved) or 0),
        services=services,
    )


def _text(noun: Handover) -> str:
    coming = ", ".join(noun.coming) or "nobody"
    gone = f", after {', '.join(noun.leaving)}" if noun.leaving else ""
    return f"On call at {noun.place}: {coming}{gone}"


_NO_WAYS: dict[str, Any] = {"contacts": (), "contacts_at": None}


def _ways(duty: Duty) -> dict[str, Any]:
    return {"contacts": duty.contacts, "contacts_at": duty.contacts_at}


def _person(where: str) -> bool:
    return where.startswith(("U", "W")) and where.isupper() and where.isalnum()
