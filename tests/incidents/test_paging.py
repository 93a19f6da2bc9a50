"""A page's life at the port: asked for, sent with proof, acknowledged, resolved; told to the pager once, never lost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import col

from bot.catalog.config import General, PagerDutyAccess
from bot.engine import Engine, Retry
from bot.incidents import lifecycle, paging, roles, timeline
from bot.incidents.model import Incident, Page, RoleName, Sev, TimelineEvent
from bot.incidents.overdue import Overdue, trouble
from bot.incidents.pager import ActResult, PageRequest, PageResult, Seen, dedup_key, incident_of
from bot.incidents.paging import Paging, Rules
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.pagers.pagerduty import PagerDuty
from bot.reactions import react
from tests.fakes.pager import ActingPager, FakePager
from tests.fakes.pagerduty import PagerDutyServer

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
RULES = Rules({"SEV1": timedelta(minutes=5), "SEV2": timedelta(minutes=15)}, ("second",), timedelta(seconds=60))


class SeeingPager(ActingPager):
    """One that can also be asked how a page stands, and wants to know how the incident goes on."""

    sees = True
    follows = frozenset({"severity", "status_update"})
    seen: Any = None

    async def look(self, page: PageRequest) -> Seen | None:
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen


class World:
    """An incident, its pagers, and the work that follows from what happens, carried out here one by one."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.now = engine, NOW
        self.pager, self.second = SeeingPager(), FakePager()
        self.rules = RULES
        self.done: set[str] = set()
        self.incident_id = ""
        self.ticks = 0

    def clock(self) -> datetime:
        """Never the same twice: what happens later is later."""
        self.ticks += 1
        return self.now + timedelta(microseconds=self.ticks)

    @property
    def paging(self) -> Paging:
        return Paging(
            self.engine, react, self.pager, "first", "https://t.example.com", self.clock, self.rules,
            {"second": self.second},
        )  # fmt: skip

    @property
    def overdue(self) -> Overdue:
        return Overdue(self.engine, react, self.paging, self.clock)

    async def declare(self, severity: Sev = Sev.SEV1, **more: Any) -> Incident:
        async with self.engine.transaction() as tx:
            made = await lifecycle.declare(tx, react, title="Checkout is down", severity=severity, by="U1",
                                           now=self.clock(), **more)  # fmt: skip
        self.incident_id = made.id
        return made

    async def incident(self) -> Incident:
        async with self.engine.db.read() as session:
            return await lifecycle.find(session, self.incident_id)

    async def change(self, do: Any, *args: Any, **more: Any) -> Any:
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, self.incident_id, lock=True)
            return await do(tx, react, incident, *args, now=self.clock(), **more)

    async def events(self, start: str = "") -> list[TimelineEvent]:
        async with self.engine.db.read() as session:
            return [one for one in await timeline.whole(session, self.incident_id) if one.kind.startswith(start)]

    async def kinds(self, start: str = "page.") -> list[str]:
        return [event.kind for event in await self.events(start)]

    async def pages(self) -> list[Page]:
        async with self.engine.db.read() as session:
            return await paging.pages_of(session, self.incident_id)

    async def work(self) -> None:
        """Do everything about pages that follows from the timeline and from the clock, as often as there is more."""
        doing = {"page": "page", "page_again": "again", "sync_pages": "sync", "press": "press"}
        for _ in range(20):
            works = [work for event in await self.events() for work in react(event)]
            fresh = [work for work in works if work.workflow in doing and work.id not in self.done]
            for work in fresh:
                await getattr(self.paging, doing[work.workflow])(*work.args)
                self.done.add(work.id)
            due = [page for page in await self.pages() if page.due_at is not None and page.due_at <= self.clock()]
            for page in due:
                await self.overdue.overdue(page.id, page.due_at.isoformat())
            if not fresh and not due:
                return
        raise AssertionError("it never comes to rest")

    def acts(self) -> list[str]:
        return [getattr(asked, "kind", "wake") for asked in self.pager.asked]


def near(found: datetime, wanted: datetime) -> bool:
    return abs(found - wanted) < timedelta(milliseconds=10)


@pytest.fixture
async def world(database: Database):
    engine = Engine(database)
    engine._promise = lambda connection, work: None  # the test carries the work out itself
    yield World(engine)
    await engine.close()


# Sending ------------------------------------------------------------------------------------------------------------


async def test_a_page_is_a_row_before_it_is_sent_and_says_what_came_of_it(world):
    seen = Seen("triggered", "P1", None, "Alice")
    world.pager.answers = [TemporaryError("away"), PageResult("sent", "woke alice", "proof", seen)]
    await world.declare()
    with pytest.raises(TemporaryError):
        await world.work()
    (page,) = await world.pages()
    assert (page.state, page.pager) == ("sending", "first")
    assert near(page.due_at, NOW + timedelta(seconds=60))

    await world.work()

    (page,) = await world.pages()
    assert (page.state, page.external_id, page.assigned) == ("sent", "P1", "Alice")
    assert near(page.due_at, NOW + timedelta(minutes=5))
    assert page.dedup_key == f"tocsin-{world.incident_id}"
    assert await world.kinds() == ["page.sent"]


async def test_severities_that_nobody_listed_are_not_looked_after(world):
    await world.declare(Sev.SEV4)
    await world.work()

    (page,) = await world.pages()
    assert (page.state, page.due_at) == ("sent", None)


async def test_a_refusal_is_told_and_the_second_pager_is_raised_once(world):
    world.pager.answers = [PermanentError("no such key")]
    await world.declare()
    await world.work()
    await world.work()

    first, second = await world.pages()
    assert (first.state, second.state, second.pager) == ("failed", "sent", "second")
    assert await world.kinds() == ["page.failed", "page.asked", "page.sent"]
    (failed,) = await world.events("page.failed")
    assert failed.text == "no such key; second is tried instead"
    (asked,) = world.second.asked
    assert (asked.title, asked.dedup_key) == (
        "the pager failed: Checkout is down", f"tocsin-{world.incident_id}#2",
    )  # fmt: skip


async def test_without_a_second_pager_people_are_told_to_call_somebody(world):
    world.rules = replace(RULES, fallback=())
    world.pager.answers = [PermanentError("no such key")]
    await world.declare()
    await world.work()

    (failed,) = await world.events("page.failed")
    assert failed.text.endswith("call somebody by other means: tocsin.yaml names no fallback_pagers")


async def test_a_second_pager_that_fails_as_well_raises_no_third(world):
    world.pager.answers, world.second.answers = [PermanentError("a")], [PermanentError("b")]
    await world.declare()
    await world.work()

    assert [page.state for page in await world.pages()] == ["failed", "failed"]
    assert (await world.events("page.failed"))[1].text == "b; call somebody by other means"


async def test_a_pager_out_of_reach_raises_the_second_after_a_while_and_is_tried_on(world):
    world.pager.answers = [TemporaryError("away")] * 4
    await world.declare()
    with pytest.raises(TemporaryError):
        await world.work()
    for seconds in (30, 61, 200):
        world.now = NOW + timedelta(seconds=seconds)
        async with world.engine.db.read() as session:
            assert (await trouble(session, "first", world.now) or "").startswith("a page waits since")
        with pytest.raises(TemporaryError):
            await world.paging.page(world.incident_id, 1)
        for page in await world.pages():
            if page.due_at is not None and page.due_at <= world.now:
                await world.overdue.overdue(page.id, page.due_at.isoformat())
    await world.work()

    assert [(page.pager, page.state) for page in await world.pages()] == [("first", "sent"), ("second", "sent")]
    assert (await world.kinds()).count("page.delayed") == 1
    (told,) = await world.events("page.delayed")
    assert told.text.endswith("first cannot be reached; it is tried on and on, and second is tried instead")
    async with world.engine.db.read() as session:
        assert await trouble(session, "first", world.now) is None


async def test_down_for_an_hour_it_is_tried_on_and_sent_once_and_people_know_in_the_meantime(world):
    server = await PagerDutyServer().start()
    server.down = True
    access = PagerDutyAccess(
        SecretStr("r" * 32), {}, SecretStr(server.token), "bot@example.com", events_url=server.url, api_url=server.url
    )
    world.pager = PagerDuty(access, look=0.0)
    await world.declare()
    retry, tries, back = Retry(), 0, NOW + timedelta(hours=1)
    try:
        while world.now < back:
            tries += 1
            with pytest.raises(TemporaryError):
                await world.paging.page(world.incident_id, 1)
            world.now += timedelta(seconds=retry.wait(tries))
            for page in await world.pages():
                if page.due_at is not None and page.due_at <= world.now:
                    await world.overdue.overdue(page.id, page.due_at.isoformat())
        async with world.engine.db.read() as session:
            told = await trouble(session, "first", world.now)
        await world.change(paging.acknowledge, by="U1")
        server.down = False
        await world.work()
    finally:
        await world.pager.close()
        await server.stop()

    assert (told or "").startswith("a page waits since 1 h")
    assert tries < retry.attempts, "it would have been given up"
    assert [(page.pager, page.state) for page in await world.pages()] == [
        ("first", "acknowledged"),
        ("second", "acknowledged"),
    ]
    assert [(one.triggers, one.status) for one in server.incidents] == [(1, "acknowledged")]
    assert await world.kinds() == [
        "page.delayed", "page.asked", "page.acknowledged", "page.sent", "page.sent",
    ]  # fmt: skip


async def test_what_was_given_up_has_failed_and_raises_the_second(world):
    world.pager.answers = [TemporaryError("away")]
    await world.declare()
    with pytest.raises(TemporaryError):
        await world.work()
    for _ in range(2):
        async with world.engine.transaction() as tx:
            await world.paging.give_up(tx, world.incident_id, 1, "away")
    world.done.add(f"page:{world.incident_id}:1")
    await world.work()

    assert [page.state for page in await world.pages()] == ["failed", "sent"]
    assert (await world.kinds()).count("page.failed") == 1


async def test_nobody_is_woken_for_what_is_over_already(world):
    await world.declare()
    await world.change(lifecycle.resolve, by="U1")
    await world.work()

    (page,) = await world.pages()
    assert (page.state, world.pager.asked) == ("nobody", [])


async def test_a_private_incident_says_nothing_of_itself(world):
    await world.declare(private=True)
    await world.work()
    async with world.engine.transaction() as tx:
        await paging.wake(tx, react, world.incident_id, "the payroll is read", key="k", now=world.clock())
    await world.work()
    await world.change(lifecycle.set_severity, Sev.SEV2, by="U1", reason="the payroll")
    await world.work()

    for asked in world.pager.asked:
        assert "payroll" not in str(asked)
        assert "Checkout" not in str(asked)


# Acknowledging and the end ---------------------------------------------------------------------------------------


async def test_acknowledged_here_is_told_there_once(world):
    await world.declare()
    await world.work()
    assert len(await world.change(paging.acknowledge, by="UALICE")) == 1
    assert await world.change(paging.acknowledge, by="UBOB") == []
    for _ in range(2):
        await world.work()

    (page,) = await world.pages()
    assert (page.state, page.acknowledged_by, page.due_at) == ("acknowledged", "UALICE", None)
    assert near((await world.incident()).acknowledged_at, NOW)
    assert world.acts() == ["wake", "ack"]
    assert await world.kinds() == ["page.sent", "page.acknowledged"]


async def test_taken_while_it_could_not_be_sent_it_is_sent_and_acknowledged_at_once(world):
    world.pager.answers = [TemporaryError("away")]
    await world.declare()
    with pytest.raises(TemporaryError):
        await world.work()
    await world.change(paging.acknowledge, by="UALICE")
    await world.work()

    (page,) = await world.pages()
    assert (page.state, page.due_at) == ("acknowledged", None)
    await world.paging.sync(world.incident_id)  # what `late:1` promises
    assert world.acts() == ["wake", "wake", "ack"]


async def test_the_end_is_told_for_every_page_and_what_the_pager_refuses_is_said_once(world):
    await world.declare()
    async with world.engine.transaction() as tx:
        await paging.wake(
            tx, react, world.incident_id, "look", key="k", now=world.clock(), service="search", actor="U1"
        )
    await world.work()
    world.pager.answers = [ActResult("done", "it is resolved", proof="p"), PermanentError("there is no such page")]
    await world.change(lifecycle.resolve, by="U1")
    await world.work()
    await world.paging.sync(world.incident_id)

    assert [page.state for page in await world.pages()] == ["resolved", "resolved"]
    assert world.acts() == ["wake", "wake", "resolve", "resolve"]
    assert (await world.kinds())[-2:] == ["page.resolved", "page.refused"]


async def test_reopened_it_wakes_people_under_the_same_key(world):
    await world.declare()
    await world.work()
    await world.change(lifecycle.resolve, by="U1")
    await world.work()
    await world.change(lifecycle.reopen, by="U1", reason="it is back")
    await world.work()

    first, second = await world.pages()
    assert (first.dedup_key, first.state, second.state) == (second.dedup_key, "resolved", "sent")
    assert (await world.events("page.asked"))[0].text == "Paging the on-call: the incident was reopened"


async def test_reopened_before_the_pager_heard_of_the_end_nobody_is_woken_again(world):
    await world.declare()
    await world.work()
    await world.change(lifecycle.resolve, by="U1")
    await world.change(lifecycle.reopen, by="U1")
    await world.work()

    assert [page.state for page in await world.pages()] == ["sent"]
    assert world.acts() == ["wake"]


async def test_where_nobody_is_paged_reopening_says_nothing(world):
    world.pager.answers = [PageResult("nobody", "only the log")]
    await world.declare()
    await world.work()
    await world.change(lifecycle.resolve, by="U1")
    await world.change(lifecycle.reopen, by="U1")
    await world.work()

    assert await world.kinds() == ["page.nobody"]


# More people ---------------------------------------------------------------------------------------------------------


async def test_a_reason_wakes_people_once_and_with_a_key_of_its_own(world):
    await world.declare()
    await world.work()
    for _ in range(2):
        async with world.engine.transaction() as tx:
            await paging.wake(tx, react, world.incident_id, "the rollback failed", key="run:1", now=world.clock())
    await world.work()

    assert [page.dedup_key for page in await world.pages()] == [
        f"tocsin-{world.incident_id}", f"tocsin-{world.incident_id}#2",
    ]  # fmt: skip
    assert world.pager.asked[1].title == "the rollback failed: Checkout is down"


async def test_what_was_asked_for_after_the_end_is_not_over_with_it(world):
    await world.declare()
    await world.work()
    await world.change(lifecycle.resolve, by="U1")
    await world.work()
    world.now += timedelta(minutes=1)
    async with world.engine.transaction() as tx:
        await paging.wake(tx, react, world.incident_id, "the rollback failed", key="run:1", now=world.clock())
    await world.work()
    await world.paging.sync(world.incident_id)

    assert [page.state for page in await world.pages()] == ["resolved", "sent"]


async def test_another_service_has_one_key_and_paged_again_another(world):
    await world.declare(service="checkout")
    for key in ("a", "b"):
        async with world.engine.transaction() as tx:
            await paging.wake(
                tx, react, world.incident_id, "", key=key, now=world.clock(), service="search", actor="U1"
            )
    await world.work()

    assert [page.dedup_key for page in (await world.pages())[1:] or await world.pages()] == [
        dedup_key(world.incident_id, "search"), dedup_key(world.incident_id, "search", 3),
    ]  # fmt: skip


async def test_escalation_needs_an_open_page(world):
    world.pager.answers = [PermanentError("no")]
    world.rules = replace(RULES, fallback=())
    await world.declare()
    await world.work()

    with pytest.raises(UserError, match="Page first"):
        await world.change(paging.ask, "escalate", by="U1", once="r")


async def test_asked_for_more_people_the_pager_calls_them_once_and_says_with_whom_it_is(world):
    await world.declare()
    await world.work()
    seen = Seen("triggered", "P1", "https://p.example.com/P1", "Bob")
    world.pager.answers = [
        ActResult("done", "level 2", proof="p", seen=seen),
        ActResult("done", "bob is asked", proof="p"),
    ]
    await world.change(paging.ask, "escalate", by="U1", once="r1", message="it grows")
    await world.change(paging.ask, "add_responder", by="U1", once="r2", user="bob@example.com")
    for _ in range(2):
        await world.work()

    assert world.acts() == ["wake", "escalate", "add_responder"]
    assert (world.pager.asked[1].message, world.pager.asked[2].user) == ("it grows", "bob@example.com")
    (page,) = await world.pages()
    assert (page.assigned, page.url) == ("Bob", "https://p.example.com/P1")
    assert (await world.kinds())[1:] == ["page.escalated", "page.responder_asked"]


async def test_a_pager_that_only_wakes_says_that_it_cannot_do_more(world):
    world.pager = FakePager()
    await world.declare()
    await world.work()
    await world.change(paging.ask, "escalate", by="U1", once="r1")
    await world.change(lifecycle.resolve, by="U1")
    await world.work()

    (refused,) = await world.events("page.refused")
    assert refused.text == "Escalating did not work: the pager 'first' can only page"
    assert [page.state for page in await world.pages()] == ["resolved"]


@pytest.mark.parametrize(
    ("raised", "to", "acts"),
    [
        ("tell", Sev.SEV1, ["severity"]),
        ("tell", Sev.SEV3, ["severity"]),
        ("escalate", Sev.SEV1, ["severity", "escalate"]),
        ("escalate", Sev.SEV3, ["severity"]),
        ("nothing", Sev.SEV1, []),
    ],
)
async def test_another_severity_is_told_to_the_pager_as_the_rule_says(world, raised, to, acts):
    world.rules = replace(RULES, raised=raised)
    await world.declare(Sev.SEV2)
    await world.work()
    await world.change(lifecycle.set_severity, to, by="U1")
    await world.work()

    assert world.acts() == ["wake", *acts]


async def test_a_pager_that_does_not_follow_is_told_neither_severity_nor_status(world):
    world.pager.follows = frozenset()
    world.rules = replace(RULES, updates=True)
    await world.declare(Sev.SEV2)
    await world.work()
    await world.change(lifecycle.set_severity, Sev.SEV1, by="U1")
    await world.change(lifecycle.set_status, "monitoring", by="U1")
    await world.work()

    assert world.acts() == ["wake"]
    assert "page.refused" not in await world.kinds()


@pytest.mark.parametrize(("updates", "acts"), [(True, ["status_update"]), (False, [])])
async def test_a_status_goes_to_the_pager_by_rule(world, updates, acts):
    world.rules = replace(RULES, updates=updates)
    await world.declare()
    await world.work()
    await world.change(lifecycle.set_status, "monitoring", by="U1")
    await world.work()

    assert world.acts() == ["wake", *acts]


# Nobody answers -----------------------------------------------------------------------------------------------------


async def minutes(world, *many: float) -> None:
    for length in many:
        world.now = NOW + timedelta(minutes=length, seconds=1)
        await world.work()


async def test_nobody_answers_so_it_is_sent_again_then_escalated_then_said_each_once(world):
    await world.declare()
    await world.work()
    await minutes(world, 4.9)
    assert world.acts() == ["wake"]
    await minutes(world, 5, 5.1, 9.9, 10.1, 10.2, 15.2, 15.3, 100, 1000)

    assert world.acts() == ["wake", "wake", "escalate"]
    assert [page.pager for page in await world.pages()] == ["first", "first", "second"]
    assert [event.data["next"] for event in await world.events("page.unanswered")] == ["again", "escalate", "tell"]
    assert [event.text for event in await world.events("page.unanswered")] == [
        "Nobody has acknowledged the page for 5 min 1 s; paging again",
        "Nobody has acknowledged the page for 10 min 7 s; going one level up in the escalation policy",
        "Nobody has acknowledged the page for 15 min 13 s; second is tried instead",
    ]


async def test_doing_a_step_twice_does_it_once(world):
    await world.declare()
    await world.work()
    (page,) = await world.pages()
    world.now = NOW + timedelta(minutes=5, seconds=1)
    for _ in range(3):
        await world.overdue.overdue(page.id, page.due_at.isoformat())

    assert await world.kinds("page.unanswered") == ["page.unanswered"]


@pytest.mark.parametrize("end", ["acknowledged", "taken", "resolved"])
async def test_an_answer_or_the_end_stops_it(world, end):
    await world.declare()
    await world.work()
    await minutes(world, 5)
    if end == "resolved":
        await world.change(lifecycle.resolve, by="U1")
    else:
        if end == "taken":
            await world.change(roles.assign, RoleName.COMMANDER, "U1", by="U1")
        await world.change(paging.acknowledge, by="U1")
    await minutes(world, 6, 20, 60)

    assert (await world.kinds()).count("page.unanswered") == 1
    assert {page.state for page in await world.pages()} == {end if end == "resolved" else "acknowledged"}


async def test_what_the_pager_shows_counts_although_it_did_not_say_so(world):
    await world.declare()
    await world.work()
    world.pager.seen = Seen("acknowledged", "P1", None, "Alice", "Alice")
    await minutes(world, 5, 20)

    (page,) = await world.pages()
    assert (page.state, page.acknowledged_by) == ("acknowledged", "Alice")
    assert await world.kinds() == ["page.sent", "page.acknowledged"]
    assert world.acts() == ["wake"]


async def test_a_pager_that_cannot_be_looked_at_counts_as_no_answer(world):
    await world.declare()
    await world.work()
    world.pager.seen = TemporaryError("away")
    await minutes(world, 5)

    assert (await world.kinds()).count("page.unanswered") == 1


async def test_escalating_that_is_refused_is_said_and_the_next_step_comes(world):
    await world.declare()
    await world.work()
    await minutes(world, 5)
    world.pager.answers = [PermanentError("nobody is above it")]
    await minutes(world, 10.1, 15.2)

    assert [kind for kind in await world.kinds() if kind in ("page.unanswered", "page.refused")] == [
        *("page.unanswered", "page.unanswered", "page.refused", "page.unanswered"),
    ]
    assert (await world.pages())[-1].pager == "second"


# The rules and the names --------------------------------------------------------------------------------------------


def test_where_nothing_is_seen_of_the_pager_nobody_is_missed_unless_it_is_said():
    assert Rules.of(General(), sees=False).acknowledge == {}
    assert Rules.of(General(), sees=True).acknowledge["SEV1"] == timedelta(minutes=5)
    assert Rules.of(General(page_ack_minutes={"SEV3": 30}), sees=False).acknowledge == {"SEV3": timedelta(minutes=30)}


@pytest.mark.parametrize("service", [None, "search", "a:b#3"])
@pytest.mark.parametrize("number", [None, 7])
def test_a_key_says_which_incident_it_is_about(service, number):
    assert incident_of(dedup_key("0a" * 16, service, number)) == "0a" * 16


@pytest.mark.parametrize("key", [None, "", "tocsin-", "tocsin-" + "0a" * 17, "x-tocsin-" + "0a" * 16, "queue"])
def test_another_key_is_none_of_ours(key):
    assert incident_of(key) is None


async def test_a_page_that_was_sent_before_pages_had_a_life_can_be_read(world):
    await world.declare()
    async with world.engine.transaction() as tx:
        tx.session.add(
            Page(id="p", incident_id=world.incident_id, number=1, pager="first", outcome="sent", detail="x", at=NOW)
        )
    await world.paging.sync(world.incident_id)
    async with world.engine.db.read() as session:
        assert (await session.scalars(sa.select(Page).where(col(Page.id) == "p"))).one().state == "sent"
