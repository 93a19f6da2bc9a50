"""What runbooks find becomes tickets by rule, closed when it is gone and opened again when it is back."""

from datetime import timedelta

import pytest

from bot.catalog.tracking import FindingRule
from bot.engine import Engine
from bot.incidents import lifecycle, tickets
from bot.incidents.model import Sev
from bot.incidents.tickets import Tickets
from bot.kit.clock import utc_now
from bot.runs.filing import Filing, met
from bot.runs.model import Run, RunState
from bot.runs.raising import Finding, Firing
from tests.fakes.tracker import FakeTracker
from tests.incidents.test_tickets import tracking

NOW = utc_now()


def finding(*items: str, key: str = "network", **more) -> Finding:
    firing = [Firing(item=item, title=f"{item} is not as it is written", labels={"stack": key}) for item in items]
    return Finding(**{"rule": "drift", "key": key, "into": "timeline", "severity": "high", "firing": firing, **more})


class World:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.tracker, self.now = engine, FakeTracker(), NOW
        made = tracking(findings=(FindingRule(tracker="ops", runbook=("find-drift",)),))
        self.filing = Filing(engine, self.clock, made)
        self.work = Tickets(engine, lambda event: [], self.clock, made, {"ops": self.tracker})

    def clock(self):
        self.now += timedelta(milliseconds=1)
        return self.now

    async def found(self, found: Finding, runbook: str = "find-drift") -> None:
        found = found.model_copy(update={"key": f"{self.incident.id}/{found.key}"})  # the database is shared
        run = Run(
            id="r", incident_id=self.incident.id, number=7, runbook=runbook, sha256="", definition={},
            requested_by="bot", concurrency_key="", state=RunState.SUCCEEDED, requested_at=NOW,
        )  # fmt: skip
        for _ in range(2):  # done again, it changes nothing
            await self.filing.file(run, runbook, found)
            async with self.engine.db.read() as session:
                rows = await tickets.of(session, self.incident.id)
            for row in rows:
                await self.work.settle(row.id)

    def standing(self) -> list[tuple[str, bool]]:
        return sorted((issue.title, issue.done) for issue in self.tracker.issues.values())


@pytest.fixture
async def world(database):
    engine = Engine(database)
    made = World(engine)
    async with engine.transaction() as tx:
        made.incident = await lifecycle.declare(tx, lambda event: [], title="Look", severity=Sev.SEV5, by="U1", now=NOW)
    yield made
    await engine.close()


async def test_each_thing_that_is_found_has_one_ticket_that_lives_as_long_as_it_holds(world):
    a, b = "sg-1 is not as it is written", "sg-2 is not as it is written"
    await world.found(finding("sg-1", "sg-2"))
    assert world.standing() == [(a, False), (b, False)]
    await world.found(finding("sg-1"))
    assert world.standing() == [(a, False), (b, True)]
    await world.found(finding("sg-1", "sg-2"))
    assert world.standing() == [(a, False), (b, False)]
    await world.found(finding())
    assert world.standing() == [(a, True), (b, True)]

    assert len(world.tracker.wishes) == 2
    wish = world.tracker.wishes[0]
    assert (wish.severity, wish.purpose) == ("SEV2", "finding")
    assert f"Found by the runbook find-drift, run 7 of {world.incident.reference}.\nstack: network" in wish.body


async def test_a_rule_speaks_of_its_own_key_alone(world):
    await world.found(finding("sg-1", key="network"))
    await world.found(finding(key="database"))

    assert [done for _, done in world.standing()] == [False]


async def test_who_closes_a_ticket_that_still_holds_is_not_contradicted(world):
    await world.found(finding("sg-1"))
    world.tracker.set("1", "Won't Do", True)
    await world.found(finding("sg-1"))

    assert world.tracker.moves == []


async def test_a_rule_that_cannot_be_computed_or_does_not_fit_opens_nothing(world):
    await world.found(finding("sg-1", problem="json.drifted is not there"))
    await world.found(finding("sg-1"), runbook="another")

    assert world.tracker.wishes == []


async def test_what_a_private_incident_found_stays_in_it(world):
    async with world.engine.transaction() as tx:
        world.incident = await lifecycle.declare(
            tx, lambda event: [], title="x", severity=Sev.SEV2, by="U1", now=NOW, private=True
        )
    await world.found(finding("sg-1"))

    assert world.tracker.wishes == []


@pytest.mark.parametrize(
    ("rule", "is_met"),
    [
        (FindingRule(tracker="ops"), True),
        (FindingRule(tracker="ops", rule=("drift",), severity=("high",)), True),
        (FindingRule(tracker="ops", rule=("failed",)), False),
        (FindingRule(tracker="ops", severity=("critical",)), False),
    ],
    ids=range(4),
)
def test_a_rule_for_findings_is_met_by_all_that_it_names(rule, is_met):
    assert met(rule, "find-drift", finding("x")) is is_met
