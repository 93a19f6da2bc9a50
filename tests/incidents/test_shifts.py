"""Who is on call: looked up, kept while the pager is away, announced once when it changes, and covered."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.catalog.services import Catalog, Directory, Place
from bot.engine import Engine, Work
from bot.incidents import lifecycle, logbook, oncall, timeline
from bot.incidents.chat import Channel
from bot.incidents.logbook import Logbook
from bot.incidents.model import Sev, TimelineEvent
from bot.incidents.oncall import DONE, WAITING, Board, Contact, Cover, Duty, Roster
from bot.incidents.shifts import Handover, Shifts
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.ids import new_id
from tests.fakes.chat import FakeChat
from tests.fakes.duties import FakeDuties

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DB = Place("schedule", "PSDB")
PRIMARY = Place("list", "primary")
CATALOG = {
    "services": {"orders": {"owner": "data"}, "web": {"owner": "web"}},
    "teams": {
        "data": {"members": ["alice@example.com"], "oncall": "database", "channel": "team-data"},
        "web": {"oncall": "primary", "channel": "nowhere"},
    },
    "oncall": {"primary": ["carol@example.com", "UDAVE"], "database": {"schedule": "PSDB"}},
    "people": {"dora@example.com": "UDORA"},
}
KNOWN = {"alice@example.com": "UALICE", "bob@example.com": "UBOB", "carol@example.com": "UCAROL", "UDAVE": "UDAVE"}


def duty(name: str, *, level: int = 1, until: datetime | None = NOW + timedelta(hours=8), **more) -> Duty:
    return Duty(
        name=name.title(), email=f"{name}@example.com", level=level, until=until, ref=f"P{name.upper()}", **more
    )


class Keeper(Engine):
    """Keeps what is promised, for the test to carry out."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.promised: list[Work] = []

    def _promise(self, connection: sa.Connection, work: Iterable[Work]) -> None:
        self.promised += work

    def handovers(self) -> list[Work]:
        found = [work for work in self.promised if work.workflow == "handover"]
        self.promised.clear()
        return found


@dataclass
class Desk:
    """One process: its engine does not work by itself, the test does what was promised."""

    engine: Keeper
    pager: FakeDuties = field(default_factory=FakeDuties)
    chat: FakeChat = field(default_factory=lambda: FakeChat(channels={"CD": Channel("CD", "team-data")}))
    catalog: dict = field(default_factory=lambda: CATALOG)
    now: datetime = NOW

    def clock(self) -> datetime:
        return self.now

    @property
    def directory(self) -> Directory:
        return Directory(Catalog.model_validate(self.catalog), "pagerduty")

    def shifts(self, *, paged: bool = True) -> Shifts:
        def react(event: TimelineEvent) -> list[Work]:
            return []

        log = Logbook(self.engine, react, self.chat, self.clock, None)
        pager = self.pager if paged else None
        find = lambda who: KNOWN.get(who) or (who if who == "UDORA" else None)  # noqa: E731
        return Shifts(self.engine, react, self.chat, self.clock, self.directory, log, pager, find)

    async def look(self, *, paged: bool = True) -> list[tuple]:
        """Look, and carry out what it promised; the hand-overs it promised."""
        shifts = self.shifts(paged=paged)
        await shifts.look()
        given = self.engine.handovers()
        for work in given:
            await shifts.announce(*work.args)
        return [work.args for work in given]

    async def standing(self, *places: Place) -> list[oncall.Standing]:
        async with self.engine.db.read() as session:
            return await oncall.known(session, self.directory, list(places), self.now)

    async def events(self) -> list[TimelineEvent]:
        async with self.engine.db.read() as session:
            return await timeline.whole(session, logbook.ID)

    async def covered(self, place: Place, person: str, email: str | None, hours: float, *, state=DONE, **more) -> str:
        made = Cover(
            id=new_id(), place=place.key, person=person, email=email, name="primary", starts_at=self.now,
            ends_at=self.now + timedelta(hours=hours), by="UALICE", made_at=self.now, state=state, **more,
        )  # fmt: skip
        async with self.engine.transaction() as tx:
            tx.session.add(made)
        return made.id


@pytest.fixture
async def desk(database):
    made = Desk(Keeper(database))
    made.pager.there[DB] = [duty("alice")]
    yield made
    await made.engine.close()


async def test_who_is_on_call_is_kept_with_how_to_reach_them(desk):
    desk.pager.reach["PALICE"] = [Contact(kind="phone", address="+1 5550100")]
    desk.pager.titles[DB] = "Database first"
    await desk.look()

    found, listed = await desk.standing(DB, PRIMARY)

    assert [one.email for one in found.duties] == ["alice@example.com"]
    assert found.duties[0].contacts == (Contact(kind="phone", address="+1 5550100"),)
    assert (found.name, found.checked_at, found.problem) == ("database", NOW, None)
    assert [one.who for one in listed.duties] == ["carol@example.com", "udave"]


async def test_how_to_reach_somebody_is_asked_once_a_day_and_need_not_be_told(desk):
    await desk.look()
    await desk.look()
    assert desk.pager.calls.count("contacts:PALICE") == 1

    desk.now += timedelta(hours=25)
    await desk.look()
    assert desk.pager.calls.count("contacts:PALICE") == 2


@pytest.mark.parametrize(
    "fault", [TemporaryError("PagerDuty cannot be reached"), PermanentError("the api_token is not valid")]
)
async def test_while_the_pager_is_away_what_it_said_before_stays_with_its_age_and_the_reason(desk, fault):
    await desk.look()
    desk.pager.fault = fault
    desk.now += timedelta(hours=1)
    assert await desk.look() == []

    (found,) = await desk.standing(DB)

    assert [one.name for one in found.duties] == ["Alice"]
    assert (found.checked_at, found.problem) == (NOW, str(fault))


async def test_a_pager_that_was_never_reached_is_not_taken_for_nobody_on_call(desk):
    desk.pager.fault = TemporaryError("PagerDuty cannot be reached")
    await desk.look()
    (found,) = await desk.standing(DB)
    assert (found.said, found.problem) == (False, "PagerDuty cannot be reached")

    desk.pager.fault, desk.pager.there[DB] = None, []
    assert await desk.look() == []
    (found,) = await desk.standing(DB)
    assert (found.said, found.duties) == (True, ())


async def test_a_pager_that_cannot_say_it_is_named(desk):
    await desk.look(paged=False)
    (found,) = await desk.standing(DB)

    assert found.problem == "the pager 'pagerduty' cannot say who is on call"


async def test_a_change_of_who_is_woken_first_is_announced_once_with_what_is_open(desk):
    async with desk.engine.transaction() as tx:
        for title, service, private in (("Slow", "orders", False), ("Secret", "orders", True), ("Else", "web", False)):
            await lifecycle.declare(
                tx, lambda event: [], title=title, severity=Sev.SEV2, by="UALICE", now=NOW, service=service,
                private=private,
            )  # fmt: skip
    assert await desk.look() == []  # the first look is no change
    desk.pager.there[DB] = [duty("bob"), duty("alice", level=2)]
    assert len(await desk.look()) == 1
    assert await desk.look() == []

    (posted,) = desk.chat.posted("CD")
    noun = posted.message
    assert isinstance(noun, Handover)
    assert (noun.place, list(noun.leaving), list(noun.coming)) == ("database", ["<@UALICE>"], ["<@UBOB>"])
    assert [incident.title for incident in noun.open] == ["Slow"]
    assert (noun.opened, noun.resolved, noun.until) == (1, 0, NOW + timedelta(hours=8))
    (event,) = [event for event in await desk.events() if event.kind == "oncall.changed"]
    assert event.text == "On call at database: <@UBOB>, after <@UALICE>"


async def test_only_the_time_or_a_later_level_is_no_hand_over(desk):
    await desk.look()
    desk.pager.there[DB] = [duty("alice", until=NOW + timedelta(days=1)), duty("bob", level=2)]

    assert await desk.look() == []


async def test_a_schedule_that_nobody_is_left_on_is_announced_as_such(desk):
    await desk.look()
    desk.pager.there[DB] = []
    await desk.look()

    (posted,) = desk.chat.posted("CD")
    assert list(posted.message.coming) == []
    assert (await desk.events())[-1].text == "On call at database: nobody, after <@UALICE>"


async def test_a_change_while_the_pager_was_away_is_announced_when_it_is_back(desk):
    await desk.look()
    desk.pager.there[DB], desk.pager.fault = [duty("bob")], TemporaryError("away")
    assert await desk.look() == []
    desk.pager.fault = None

    assert len(await desk.look()) == 1


async def test_two_processes_that_see_one_change_announce_it_once(desk):
    await desk.look()
    desk.pager.there[DB] = [duty("bob")]
    first, second = desk.shifts(), desk.shifts()
    await asyncio.gather(first.look(), second.look())
    (work,) = desk.engine.handovers()
    await first.announce(*work.args)
    await second.announce(*work.args)  # the engine may carry it out again after a crash

    assert len(desk.chat.posted("CD")) == 1
    assert len([event for event in await desk.events() if event.kind == "oncall.changed"]) == 1


async def test_an_announcement_whose_answer_was_lost_is_not_made_again(desk):
    await desk.look()
    desk.pager.there[DB] = [duty("bob")]
    desk.chat.lost = TemporaryError("the answer was lost")
    shifts = desk.shifts()
    await shifts.look()
    (work,) = desk.engine.handovers()
    with pytest.raises(TemporaryError):
        await shifts.announce(*work.args)
    await shifts.announce(*work.args)

    assert len(desk.chat.posted("CD")) == 1


async def test_a_channel_that_is_not_there_keeps_nobody_from_the_record(desk):
    await desk.look()
    await desk.covered(PRIMARY, "UBOB", "bob@example.com", 2)
    await desk.look()

    assert desk.chat.posted() == []
    assert (await desk.events())[-1].text == "On call at primary: <@UBOB>, after <@UCAROL>, <@UDAVE>"


async def test_who_stands_in_at_a_list_is_on_call_for_that_time_alone(desk):
    await desk.look()
    await desk.covered(PRIMARY, "UBOB", "bob@example.com", 2)
    (found,) = await desk.standing(PRIMARY)
    assert [one.who for one in found.duties] == ["bob@example.com"]
    assert len(await desk.look()) == 1

    desk.now += timedelta(hours=3)
    (found,) = await desk.standing(PRIMARY)
    assert [one.who for one in found.duties] == ["carol@example.com", "udave"]
    assert [list(args[4]) for args in await desk.look()] == [["<@UCAROL>", "<@UDAVE>"]]


async def test_of_several_who_stand_in_the_last_one_asked_for_counts(desk):
    await desk.covered(PRIMARY, "UBOB", None, 5)
    desk.now += timedelta(minutes=1)
    await desk.covered(PRIMARY, "UALICE", None, 1)
    (found,) = await desk.standing(PRIMARY)
    assert found.cover.person == "UALICE"

    desk.now += timedelta(hours=2)
    (found,) = await desk.standing(PRIMARY)
    assert found.cover.person == "UBOB"


async def test_who_stands_in_on_a_schedule_is_put_there_by_the_pager_and_hears_of_it(desk):
    cover = await desk.covered(DB, "UBOB", "bob@example.com", 2, state=WAITING)
    await desk.shifts().cover(cover)
    await desk.shifts().cover(cover)

    assert desk.pager.covers == [("PSDB", "bob@example.com", NOW, NOW + timedelta(hours=2))]
    assert desk.pager.calls.count("cover") == 1
    assert "the pager made the override POV1" in desk.chat.posted("UBOB")[0].message.text
    assert len(desk.chat.posted("UALICE")) == len(desk.chat.posted("UBOB")) == 1
    assert (await desk.events())[-1].kind == "oncall.covered"


async def test_what_the_pager_refuses_is_told_to_whoever_asked_with_the_reason(desk):
    cover = await desk.covered(DB, "UBOB", "bob@example.com", 2, state=WAITING)
    desk.pager.fault = PermanentError("PagerDuty has no user with the address bob@example.com")
    await desk.shifts().cover(cover)

    assert "does *not* stand in" in desk.chat.posted("UALICE")[0].message.text
    assert "no user with the address" in desk.chat.posted("UALICE")[0].message.text
    assert (await desk.events())[-1].kind == "oncall.not_covered"


async def test_a_wish_that_the_pager_hears_of_too_late_is_not_carried_out(desk):
    cover = await desk.covered(DB, "UBOB", "bob@example.com", 2, state=WAITING)
    desk.pager.fault = TemporaryError("away")
    with pytest.raises(TemporaryError):
        await desk.shifts().cover(cover)
    desk.pager.fault = None
    desk.now += timedelta(hours=3)
    await desk.shifts().cover(cover)

    assert desk.pager.covers == []
    assert "the time was over" in desk.chat.posted("UALICE")[0].message.text


async def test_a_place_that_catalog_yaml_has_no_more_is_forgotten(desk):
    await desk.look()
    desk.catalog = {**CATALOG, "oncall": {"primary": ["carol@example.com"]}, "teams": {}}
    await desk.look()

    async with desk.engine.db.read() as session:
        assert list(await session.scalars(sa.select(col(Roster.place)))) == ["list:primary"]


# From memory, for the groups of runbooks ---------------------------------------------------------------------------


async def board(desk: Desk) -> Board:
    made = Board(desk.directory, desk.clock)
    async with desk.engine.db.read() as session:
        await made.learn(session)
    return made


async def test_the_board_knows_who_is_woken_first_by_id_and_address(desk):
    desk.pager.there[DB] = [duty("alice"), duty("bob", level=2), duty("dora")]
    await desk.look()

    members = (await board(desk)).members()

    assert members["database"] == {"alice@example.com", "palice", "dora@example.com", "pdora", "udora"}
    assert members["primary"] == {"carol@example.com", "udave"}


async def test_the_board_knows_who_is_on_call_for_a_service_as_the_chat_finds_them(desk):
    desk.pager.there[DB] = [duty("dora"), duty("bob", level=2)]
    await desk.look()
    known = await board(desk)

    assert known.of_service("orders") == ("UDORA",)
    assert known.of_service("web") == ("carol@example.com", "UDAVE")
    assert known.of_service(None) == known.of_service("nothing") == ()
    desk.now += timedelta(hours=9)
    assert known.of_service("orders") == ()


async def test_a_shift_that_is_over_lets_nobody_in_though_the_pager_is_away(desk):
    await desk.look()
    known = await board(desk)
    desk.now += timedelta(hours=9)

    assert known.members()["database"] == frozenset()


async def test_word_of_more_than_a_day_ago_lets_nobody_in(desk):
    desk.pager.there[DB] = [duty("alice", until=None)]
    await desk.look()
    known = await board(desk)
    assert known.members()["database"]
    desk.now += timedelta(hours=25)

    assert known.members()["database"] == frozenset()


async def test_who_stands_in_is_let_in_and_who_is_covered_is_not(desk):
    await desk.covered(PRIMARY, "UBOB", "bob@example.com", 2)
    known = await board(desk)
    assert known.members()["primary"] == {"bob@example.com", "ubob"}
    desk.now += timedelta(hours=2)

    assert known.members()["primary"] == {"carol@example.com", "udave"}


async def test_a_name_in_the_pager_that_looks_like_an_address_lets_nobody_in(desk):
    desk.pager.there[DB] = [Duty(name="alice@example.com", ref="PMALLORY", email="mallory@example.com")]
    await desk.look()

    assert (await board(desk)).members()["database"] == {"mallory@example.com", "pmallory"}


async def test_where_nobody_is_named_the_tick_promises_nothing(desk):
    await desk.shifts().tick()
    assert [work.workflow for work in desk.engine.promised] == ["oncall"]
    desk.engine.promised.clear()
    desk.catalog = {}
    await desk.shifts().tick()

    assert desk.engine.promised == []
