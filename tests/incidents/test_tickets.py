"""Tickets: opened by rule or by a person, kept in step both ways, and never in a loop."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import sqlalchemy as sa

from bot.catalog.config import Retention
from bot.catalog.targets import Reach, Secret
from bot.catalog.tracking import Access, Entry, File, Followups, Rule, StatusMap, Tracking, Truth
from bot.engine import Engine
from bot.incidents import lifecycle, tasks, tickets, timeline
from bot.incidents.model import Incident, Sev, Status, Task, TaskKind, Ticket, TrackerWord
from bot.incidents.retention import Pruning
from bot.incidents.tasks import Wish
from bot.incidents.tickets import Tickets
from bot.incidents.tracker import Gone, Heard, Issue
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.reactions import react
from tests.fakes.tracker import FakeTracker

START = utc_now()


def tracking(*rules: Rule, truth: Truth | None = None, status: StatusMap | None = None, **more) -> Tracking:
    entry = Entry(
        kind="jira",
        url="https://t.example.com",
        token=Secret(env="TOKEN"),
        truth=truth or Truth(),
        status=status or StatusMap(),
    )
    file = File(trackers={"ops": entry}, tickets=rules, **more)
    return Tracking(file, {"ops": Access("ops", entry, None, Reach())})


@dataclass
class Bench:
    """An incident, a tracker, and the work between the two, done when a test says so."""

    engine: Engine
    tracker: FakeTracker = field(default_factory=FakeTracker)
    tracking: Tracking = field(default_factory=lambda: tracking(Rule(tracker="ops")))
    incident: Incident | None = None
    now: object = START

    def __post_init__(self):
        self.work = Tickets(
            self.engine, react, self.clock, self.tracking, {"ops": self.tracker}, "https://bot.example.com",
            lambda person: {"U1": "Alice"}.get(person, person),
        )  # fmt: skip

    def clock(self):
        self.now += timedelta(milliseconds=1)
        return self.now

    async def declare(self, **more):
        async with self.engine.transaction() as tx:
            given = {"title": "Checkout is slow", "severity": Sev.SEV2, "by": "U1", "now": self.clock(), **more}
            self.incident = await lifecycle.declare(tx, react, **given)

    async def do(self, what, *args, **more):
        """Something happens to the incident, and what follows from it is done."""
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, self.incident.id, lock=True)
            made = await what(tx, react, incident, *args, by="U1", now=self.clock(), **more)
        await self.settle()
        return made

    async def settle(self):
        await self.work.consider(self.incident.id)
        for ticket in await self.tickets():
            await self.work.settle(ticket.id)

    async def hear(self, id_: str, delivery: str, by: str = "Kim"):
        async with self.engine.transaction() as tx:
            outcome = await tickets.keep(tx, "ops", Heard(id_, delivery, "updated", by), "hash", now=self.clock())
        async with self.engine.db.read() as session:
            query = sa.select(TrackerWord.id).order_by(TrackerWord.received_at)
            words = list(await session.scalars(query))
        for word in words:
            await self.work.hear(word)
        await self.settle()
        return outcome

    async def tickets(self) -> list[Ticket]:
        async with self.engine.db.read() as session:
            return await tickets.of(session, self.incident.id)

    async def events(self, *kinds: str):
        async with self.engine.db.read() as session:
            return [e for e in await timeline.whole(session, self.incident.id) if not kinds or e.kind in kinds]

    async def status(self) -> str:
        async with self.engine.db.read() as session:
            return (await lifecycle.find(session, self.incident.id)).status


@pytest.fixture
async def engine(database):
    made = Engine(database)
    yield made
    await made.close()


async def test_an_incident_gets_its_ticket_by_rule_and_only_one(engine):
    bench = Bench(engine)
    await bench.declare(summary="Cards fail, says <@U1>", service="checkout")

    await bench.settle()
    await bench.settle()

    (wish,) = bench.tracker.wishes
    assert (wish.key, wish.title, wish.severity) == ("tocsin-INC-1", "INC-1: Checkout is slow", "SEV2")
    assert wish.body == (
        "Severity: SEV2\nStatus: investigating\nService: checkout\n\nCards fail, says Alice\n\n"
        "Opened by Tocsin (tocsin-INC-1)."
    )
    (event,) = await bench.events("ticket.opened")
    assert (event.text, event.data["url"]) == ("Ticket T-1 opened in ops", "https://t.example.com/T-1")
    assert bench.tracker.calls == ["create"]


@pytest.mark.parametrize(
    ("rule", "gets"),
    [
        (Rule(tracker="ops", severity=("SEV1",)), False),
        (Rule(tracker="ops", severity=("SEV1", "SEV2")), True),
        (Rule(tracker="ops", service=("search",)), False),
        (Rule(tracker="ops", service=("checkout",)), True),
        (Rule(tracker="ops", kind=("drill",)), False),
        (Rule(tracker="ops", kind=()), True),
    ],
    ids=["severity", "one of the severities", "service", "its service", "kind", "any kind"],
)
def test_a_rule_is_met_by_all_that_it_names(rule, gets):
    incident = Incident(
        id="i", number=1, title="t", severity="SEV2", status="investigating", service="checkout",
        detected_at=START, opened_at=START,
    )  # fmt: skip

    assert tickets.met(rule, incident) is gets
    incident.status = Status.TRIAGE
    assert not tickets.met(rule, incident)


async def test_an_incident_that_becomes_worse_gets_its_ticket_then(engine):
    bench = Bench(engine, tracking=tracking(Rule(tracker="ops", severity=("SEV1",))))
    await bench.declare()
    await bench.settle()
    before = len(bench.tracker.wishes)

    await bench.do(lifecycle.set_severity, Sev.SEV1)

    assert (before, [wish.severity for wish in bench.tracker.wishes]) == (0, ["SEV1"])
    assert bench.tracker.ranks == []


async def test_of_a_private_incident_nothing_leaves_but_its_reference(engine):
    bench = Bench(engine, tracking=tracking(Rule(tracker="ops", private=True), followups=Followups(tracker="ops")))
    secret = "Somebody reads the payroll"
    await bench.declare(title=secret, summary=secret, service=secret, private=True)
    await bench.settle()
    await bench.do(tasks.add, TaskKind.FOLLOWUP, Wish(secret))
    await bench.work.followups(bench.incident.id)
    await bench.settle()
    await bench.do(lifecycle.set_severity, Sev.SEV1, reason=secret)
    await bench.do(lifecycle.resolve, note=secret)

    assert len(bench.tracker.wishes) == 2
    assert [text for _, text, _ in bench.tracker.comments] == ["The severity has changed", "Resolved"]
    assert secret not in str((bench.tracker.wishes, bench.tracker.comments, bench.tracker.moves))


async def test_private_incidents_have_no_ticket_unless_a_rule_says_so(engine):
    bench = Bench(engine)
    await bench.declare(private=True)
    await bench.settle()

    assert await bench.tickets() == []


async def test_what_happens_here_is_told_and_brought_there_once(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    await bench.do(lifecycle.set_severity, Sev.SEV1, reason="all regions")
    await bench.do(lifecycle.set_status, Status.FIXING)
    await bench.do(lifecycle.resolve, note="Rolled back by <@U1>")
    await bench.settle()
    await bench.do(lifecycle.reopen, reason="it is back")

    assert [text for _, text, _ in bench.tracker.comments] == [
        "Severity SEV2 → SEV1: all regions", "Resolved: Rolled back by Alice", "Reopened: it is back",
    ]  # fmt: skip
    assert bench.tracker.ranks == [("1", "SEV1")]
    assert [(move.done, move.note) for _, move in bench.tracker.moves] == [
        (True, "Rolled back by Alice"),
        (False, "Rolled back by Alice"),
    ]
    assert [event.text for event in await bench.events("ticket.moved")] == [
        "T-1 in ops: Open → Closed",
        "T-1 in ops: Closed → Open",
    ]


async def test_our_own_change_that_comes_back_changes_nothing(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    await bench.do(lifecycle.resolve)
    before = [event.id for event in await bench.events()]
    moves = len(bench.tracker.moves)

    assert await bench.hear("1", "w1") == "stored"
    assert await bench.hear("1", "w1") == "repeat"
    assert await bench.hear("1", "w2") == "stored"

    assert [event.id for event in await bench.events()] == before
    assert len(bench.tracker.moves) == moves


async def test_a_ticket_that_is_closed_there_resolves_the_incident_and_is_not_closed_again(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    bench.tracker.set("1", "Done", True)

    await bench.hear("1", "w1")
    await bench.hear("1", "w1")

    (resolved,) = await bench.events("incident.resolved")
    assert (resolved.text, resolved.actor) == ("Resolved: T-1 is Done in ops by Kim", "bot")
    (heard,) = await bench.events("ticket.heard")
    assert (heard.text, heard.data["news"]) == ("T-1 in ops: Open → Done by Kim; INC-1 is resolved by that", False)
    assert bench.tracker.moves == []
    bench.tracker.set("1", "To Do", False)
    await bench.hear("1", "w3")
    assert await bench.status() == "investigating"
    assert bench.tracker.moves == []


async def test_words_that_come_late_or_out_of_order_do_no_harm(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    bench.tracker.set("1", "Done", True)
    await bench.hear("1", "the second")
    await bench.hear("1", "the first, of when it was in progress")

    assert await bench.status() == "documenting"
    assert len(await bench.events("incident.resolved", "incident.reopened")) == 1


async def test_a_change_there_does_not_undo_one_of_ours_that_is_still_on_its_way(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, bench.incident.id, lock=True)
        await lifecycle.resolve(tx, react, incident, by="U1", now=bench.clock())
    bench.tracker.set("1", "In Progress", False)

    await bench.hear("1", "w1")

    assert await bench.status() == "documenting"
    assert bench.tracker.issues["1"].done


async def test_odd_characters_of_a_tracker_are_kept_by_any_database_and_still_no_loop(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    bench.tracker.set("1", "Do\x00ne\ud800 \u202e", True)

    assert await bench.hear("1", "w\udcff1", by="K\x00im\ud800") == "stored"
    assert await bench.hear("1", "w\udcff1", by="K\x00im\ud800") == "repeat"
    assert await bench.hear("1", "w2") == "stored"
    assert await bench.hear("1\x00\ud800 7", "w3") is None

    (heard,) = await bench.events("ticket.heard")
    assert heard.text == "T-1 in ops: Open → Done by Kim; INC-1 is resolved by that"


async def test_with_the_last_word_here_the_incident_stays_open_and_people_hear_why(engine):
    bench = Bench(engine, tracking=tracking(Rule(tracker="ops"), truth=Truth(resolution="tocsin")))
    await bench.declare()
    await bench.settle()
    bench.tracker.set("1", "Done", True)
    await bench.hear("1", "w1")

    assert await bench.status() == "investigating"
    (heard,) = await bench.events("ticket.heard")
    assert heard.data["news"]
    assert heard.text.endswith("INC-1 stays open, since Tocsin has the last word on that")
    await bench.do(lifecycle.resolve)
    await bench.do(lifecycle.reopen)
    assert [move.done for _, move in bench.tracker.moves] == [False]


async def test_with_the_last_word_there_nothing_is_moved_by_us(engine):
    truth = Truth(resolution="tracker", status="tracker")
    bench = Bench(engine, tracking=tracking(Rule(tracker="ops"), truth=truth))
    await bench.declare()
    await bench.settle()
    await bench.do(lifecycle.resolve)

    assert bench.tracker.moves == []


async def test_statuses_follow_their_map_both_ways_and_come_to_rest(engine):
    status = StatusMap(
        out={"fixing": "Working", "identified": "Working"}, back={"Working": "fixing", "Checking": "monitoring"}
    )
    bench = Bench(engine, tracking=tracking(Rule(tracker="ops"), truth=Truth(status="both"), status=status))
    await bench.declare()
    await bench.settle()
    await bench.do(lifecycle.set_status, Status.IDENTIFIED)
    await bench.hear("1", "w1")
    first = (await bench.status(), bench.tracker.issues["1"].status)
    bench.tracker.set("1", "Checking", False)
    await bench.hear("1", "w2")
    second = (await bench.status(), bench.tracker.issues["1"].status)
    await bench.do(lifecycle.set_status, Status.FIXING)

    assert (first, second) == (("identified", "Working"), ("monitoring", "Checking"))
    assert [move.status for _, move in bench.tracker.moves] == ["Working", "Working"]


async def test_a_ticket_that_cannot_be_opened_is_told_once_and_can_be_tried_again(engine):
    bench = Bench(engine)
    bench.tracker.faults["create"] = [PermanentError("ops refused it (HTTP 401)")] * 2
    await bench.declare()
    await bench.settle()
    await bench.settle()

    (failed,) = await bench.events("ticket.failed")
    assert failed.text == (
        "A ticket in ops could not be opened: ops refused it (HTTP 401). `/inc ticket ops` tries again."
    )
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, bench.incident.id, lock=True)
        assert await tickets.want(tx, incident, "ops", "tocsin-INC-1", now=bench.clock(), by="U1")
    bench.tracker.faults.clear()
    await bench.settle()
    (ticket,) = await bench.tickets()
    assert (ticket.state, ticket.error, ticket.reference) == ("made", None, "T-1")


async def test_a_move_that_is_refused_is_told_once_and_tried_again_with_the_next_change(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    bench.tracker.faults["move"] = [PermanentError("no transition leads there")] * 2
    await bench.do(lifecycle.resolve)
    await bench.settle()
    failed = await bench.events("ticket.failed")
    await bench.settle()
    (ticket,) = await bench.tickets()

    assert [event.text for event in failed] == ["T-1 could not be brought up to date: no transition leads there."]
    assert (ticket.error, bench.tracker.issues["1"].done) == (None, True)


async def test_what_may_pass_is_left_to_the_engine_to_try_again(engine):
    bench = Bench(engine)
    bench.tracker.faults["create"] = [TemporaryError("away", after=1)]
    await bench.declare()

    with pytest.raises(TemporaryError):
        await bench.settle()
    await bench.settle()

    assert len(bench.tracker.wishes) == 1
    assert await bench.events("ticket.failed") == []


async def test_giving_up_after_hours_leaves_a_word_and_a_way_to_try_again(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.work.consider(bench.incident.id)
    (ticket,) = await bench.tickets()
    async with engine.transaction() as tx:
        await bench.work.give_up(tx, ticket.id, "ops failed (HTTP 503)")

    (failed,) = await bench.events("ticket.failed")
    assert "`/inc ticket ops` tries again" in failed.text
    assert (await bench.tickets())[0].state == "failed"


async def test_a_ticket_that_was_deleted_there_is_gone_and_not_followed_any_more(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    bench.tracker.issues.clear()
    bench.tracker.faults["move"] = [Gone("it is not there")]
    await bench.hear("1", "w1")
    calls = len(bench.tracker.calls)
    await bench.do(lifecycle.resolve)

    assert [event.text for event in await bench.events("ticket.failed")] == [
        "T-1 is gone from ops, and is not followed any more"
    ]
    assert len(bench.tracker.calls) == calls
    assert await bench.hear("7", "w2") is None


async def test_follow_ups_go_out_with_the_post_mortem_once_and_what_is_done_there_is_done_here(engine):
    bench = Bench(engine, tracking=tracking(followups=Followups(tracker="ops")))
    await bench.declare()
    await bench.do(tasks.add, TaskKind.FOLLOWUP, Wish("Alert sooner", "U1", "2026-12-24", "detect"))
    await bench.do(tasks.add, TaskKind.TASK, Wish("Not exported"))
    for _ in range(2):
        await bench.work.followups(bench.incident.id)
        await bench.settle()

    (wish,) = bench.tracker.wishes
    assert (wish.key, wish.title, wish.due, wish.purpose) == (
        "tocsin-INC-1-T1",
        "Alert sooner",
        "2026-12-24",
        "followup",
    )
    assert wish.body.startswith("Follow-up T1 of INC-1: Checkout is slow\nOwner: Alice\nGood for: detect\n")
    bench.tracker.set("1", "Done", True)
    await bench.hear("1", "w1")
    async with engine.db.read() as session:
        task = (await session.scalars(sa.select(Task).where(Task.number == 1))).one()
    assert (task.state, bench.tracker.moves) == ("done", [])
    (done,) = await bench.events("followup.done")
    assert done.text == "Follow-up T1 is done, as T-1 is Done in ops by Kim: Alert sooner"
    bench.tracker.set("1", "Open", False)
    await bench.hear("1", "w2")
    async with engine.transaction() as tx:
        await tasks.drop(tx, react, await tasks.find(tx.session, task.id), by="U1", now=bench.clock())
    await bench.settle()
    assert [(move.done, move.dropped) for _, move in bench.tracker.moves] == [(True, True)]


async def test_a_ticket_that_is_there_is_linked_and_moved_nowhere_by_that(engine):
    bench = Bench(engine, tracking=tracking())
    bench.tracker.issues["9"] = Issue("9", "T-9", "https://t.example.com/T-9", "Closed", True)
    await bench.declare()
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, bench.incident.id, lock=True)
        await tickets.want(tx, incident, "ops", "tocsin-INC-1", now=bench.clock(), by="U1", asked="T-9")
        await tickets.want(tx, incident, "ops", "tocsin-INC-1", now=bench.clock(), by="U1", asked="T-404")
    await bench.settle()

    (linked,) = await bench.events("ticket.linked")
    assert (linked.text, linked.actor) == ("Ticket T-9 linked in ops", "U1")
    assert bench.tracker.moves == []
    assert len(await bench.events("ticket.failed")) == 1


async def test_which_webhooks_came_is_forgotten_with_other_deliveries_and_tickets_stay(engine):
    bench = Bench(engine)
    await bench.declare()
    await bench.settle()
    await bench.hear("1", "w1")
    await Pruning(engine, Retention()).prune((START + timedelta(days=91)).isoformat())

    async with engine.db.read() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(TrackerWord)) == 0
    assert len(await bench.tickets()) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ("ops", None)),
        ("ops", ("ops", None)),
        ("link https://t.example.com/browse/T-1", ("ops", "https://t.example.com/browse/T-1")),
        ("link T-1 ops", ("ops", "T-1")),
    ],
    ids=range(4),
)
def test_the_only_tracker_need_not_be_named(text, found):
    assert tickets.named(tracking(), text) == found


@pytest.mark.parametrize(("text", "word"), [("nonsense", "no tracker `nonsense`"), ("link", "Which ticket")])
def test_what_names_no_tracker_is_answered_with_those_there_are(text, word):
    with pytest.raises(UserError, match=word):
        tickets.named(tracking(), text)
    with pytest.raises(UserError, match=r"trackers\.yaml"):
        tickets.named(Tracking(), text)
