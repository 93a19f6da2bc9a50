"""What follows from how a run ended: its alerts come in by the same door as everybody's, and are told once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.alerts.model import AlertRow, Delivery, Episode
from bot.alerts.routing import Routes
from bot.catalog.config import OWN
from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.intake import Intake
from bot.incidents.model import Incident, Sev
from bot.incidents.staleness import Staleness
from bot.incidents.telling import said
from bot.kit.db import Database
from bot.kit.ids import new_id
from bot.runs import run as runs
from bot.runs.aftermath import Aftermath
from bot.runs.auto import Policy
from bot.runs.model import AssetReport, RunState, Trigger
from bot.runs.raising import Finding, Firing
from bot.runs.runbook import load
from tests.runs.conftest import ALICE, nothing_follows
from tests.runs.test_runbook import SHELF

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BOOK = """version: 1
id: drift
name: Look for drift
owner: team
steps: [{note: looked}]
raises:
  - {id: drift, when: failed, title: drift}
"""


class World:
    """Runs that have ended, with what they found, and the intake that takes it."""

    def __init__(self, engine: Engine, incident: Incident) -> None:
        self.engine, self.incident, self.now = engine, incident, NOON
        self.intake = Intake(engine, nothing_follows, Routes, lambda: self.now)
        self.aftermath = Aftermath(engine, nothing_follows, self.intake.accept, lambda: self.now, Policy(failures=2))
        self.book = load(BOOK, "drift.yaml", SHELF)

    async def ended(
        self,
        *found: Finding,
        at: int = 0,
        state: RunState = RunState.SUCCEEDED,
        trigger: Trigger = Trigger.PERSON,
        judged: bool = True,
        incident: Incident | None = None,
        weigh: bool = True,
    ) -> str:
        """A run that ended *at* minutes after noon."""
        began = NOON + timedelta(minutes=at)
        self.now = began + timedelta(seconds=30)
        asked = runs.Asked(ALICE if trigger == Trigger.PERSON else "bot", trigger=trigger, key=new_id())
        async with self.engine.transaction() as tx:
            run = await runs.start(
                tx, nothing_follows, incident or self.incident, self.book, {}, asked=asked, now=began, run_id=new_id()
            )
            run.raised = [finding.model_dump() for finding in found] if judged else None
            failure = {"step": "Look", "message": "no route to host"} if state == RunState.FAILED else None
            await runs.end(tx, nothing_follows, run, state, now=self.now, failure=failure)
        if weigh:
            await self.aftermath.weigh(run.id)
        return run.id

    async def alerts(self) -> dict[str, str]:
        async with self.engine.db.read() as session:
            return {row.title: row.state for row in await session.scalars(sa.select(AlertRow))}

    async def events(self, *kinds: str, incident: str | None = None) -> list[str]:
        async with self.engine.db.read() as session:
            found = await timeline.whole(session, incident or self.incident.id)
        return [event.text for event in found if event.kind in kinds]


@pytest.fixture
async def world(database_url):
    if not SHELF.modules:
        SHELF.load()
    engine = Engine(Database(database_url))
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title="Look around", severity=Sev.SEV3, by=ALICE, now=NOON - timedelta(hours=1)
        )
    made = World(engine, incident)
    yield made
    await made.intake.stop()
    await engine.close()
    await engine.db.close()


def drift(*items: str, key: str = "prod", severity: str = "high", **more) -> Finding:
    firing = [Firing(item=item, title=f"{item} drifted", labels={"service": "infra"}) for item in items]
    return Finding(**{"rule": "drift", "key": key, "into": "incident", "severity": severity, "firing": firing, **more})


async def test_what_is_found_opens_an_incident_stays_one_and_resolves_when_it_is_gone(world):
    await world.ended(drift("web", "logs"), at=0)
    await world.ended(drift("web", "logs"), at=60)
    await world.ended(drift("logs"), at=120)
    between = await world.alerts()
    await world.ended(drift(), at=180)

    assert between == {"web drifted": "resolved", "logs drifted": "firing"}
    assert set((await world.alerts()).values()) == {"resolved"}
    async with world.engine.db.read() as session:
        opened = await session.scalar(sa.select(Incident).where(col(Incident.number) == 2))
        episodes = list(await session.scalars(sa.select(Episode)))
        bodies = list(await session.scalars(sa.select(Delivery.connection)))
    assert (opened.severity, opened.service) == ("SEV2", "infra")
    assert len(episodes) == 2
    assert set(bodies) == {OWN}
    assert await world.events("alert.resolved", "alerts.cleared", incident=opened.id) == [
        "Alert resolved: web drifted",
        "Alert resolved: logs drifted",
        "Every alert of this incident has resolved",
    ]
    assert await world.events("run.raised") == [
        "Run 1: “web drifted”: opened INC-2; “logs drifted”: joined INC-2",
        "Run 2: “web drifted”: still fires INC-2; “logs drifted”: still fires INC-2",
        "Run 3: “logs drifted”: still fires INC-2; “web drifted” does not hold any more",
        "Run 4: “logs drifted” does not hold any more",
    ]


async def test_it_fires_again_as_a_new_episode(world):
    for minute, items in enumerate((["web"], [], ["web"])):
        await world.ended(drift(*items), at=minute * 10)

    async with world.engine.db.read() as session:
        assert len(list(await session.scalars(sa.select(Episode)))) == 2
    assert await world.alerts() == {"web drifted": "firing"}


async def test_one_thing_says_nothing_of_another(world):
    await world.ended(drift("web", key="prod"))
    await world.ended(drift("web", key="stage"), at=10)
    await world.ended(drift(key="prod"), at=20)
    await world.ended(drift(rule="other", key="stage"), at=30)

    async with world.engine.db.read() as session:
        rows = await session.scalars(sa.select(AlertRow).order_by(col(AlertRow.dedup_key)))
        found = [(row.dedup_key, row.state) for row in rows]
    assert found == [("drift:drift:prod:web", "resolved"), ("drift:drift:stage:web", "firing")]


async def test_what_an_older_run_says_too_late_does_not_count(world):
    first = await world.ended(drift("web"), at=0, weigh=False)
    second = await world.ended(drift(), at=10, weigh=False)
    third = await world.ended(drift("web", "logs"), at=20)

    assert await world.alerts() == {"web drifted": "firing", "logs drifted": "firing"}
    await world.aftermath.weigh(second)
    await world.aftermath.weigh(first)
    await world.aftermath.weigh(third)
    assert await world.alerts() == {"web drifted": "firing", "logs drifted": "firing"}


async def test_saying_it_again_changes_and_tells_nothing(world):
    run = await world.ended(drift("web"))
    for _ in range(3):
        await world.aftermath.weigh(run)

    assert await world.events("run.raised") == ["Run 1: “web drifted”: opened INC-2"]
    async with world.engine.db.read() as session:
        assert len(list(await session.scalars(sa.select(Episode)))) == 1


async def test_only_news_is_told_in_the_channel(world):
    await world.ended(drift("web"), at=0)
    await world.ended(drift("web"), at=10)

    async with world.engine.db.read() as session:
        found = [e for e in await timeline.whole(session, world.incident.id) if e.kind == "run.raised"]
    assert [said(world.incident, event) is not None for event in found] == [True, False]


async def test_what_a_called_runbook_found_is_its_own_alert_and_each_key_is_told(world):
    firing = [Firing(item="", title="too old")]
    about = {"rule": "old", "runbook": "inner", "into": "alert", "severity": "high", "firing": firing}
    await world.ended(Finding(key="web-1", **about), Finding(key="web-2", **about))

    async with world.engine.db.read() as session:
        rows = list(await session.scalars(sa.select(AlertRow).where(col(AlertRow.connection) == OWN)))
        told = await timeline.whole(session, world.incident.id)
    mine = [row for row in rows if row.dedup_key.startswith("inner:old:")]
    assert sorted(row.labels["key"] for row in mine) == ["web-1", "web-2"]
    assert {row.labels["runbook"] for row in mine} == {"inner"}
    assert len([event for event in told if event.kind == "run.raised"]) == 2


async def test_a_finding_may_stay_on_the_timeline(world):
    await world.ended(drift("web", into="timeline"))

    assert await world.alerts() == {}
    assert await world.events("note.added") == ["web drifted"]


async def test_what_a_private_incident_finds_out_stays_in_it(world):
    async with world.engine.transaction() as tx:
        private = await lifecycle.declare(
            tx, nothing_follows, title="Leak", severity=Sev.SEV1, by=ALICE, now=NOON, private=True
        )
    await world.ended(drift("web"), incident=private)

    assert await world.alerts() == {}
    assert await world.events("note.added", incident=private.id) == ["web drifted"]


async def test_a_rule_that_could_not_be_computed_is_told_after_a_run_that_went_well(world):
    broken = drift(problem="steps.plan has no drfited")
    await world.ended(drift("web"), at=0)
    await world.ended(broken, at=10)
    await world.ended(broken, at=20, state=RunState.FAILED)

    assert await world.events("run.unjudged") == ["Run 2 cannot say whether “drift” holds: steps.plan has no drfited"]
    assert await world.alerts() == {"web drifted": "firing"}


async def test_a_run_that_was_given_up_can_still_say_that_it_failed(world):
    await world.ended(state=RunState.FAILED, judged=False)

    assert await world.alerts() == {"drift": "firing"}


async def test_what_a_runbook_raised_is_not_stale_before_it_looks_again(world):
    await world.ended(drift("web"))
    await Staleness(world.engine, nothing_follows).sweep((NOON + timedelta(days=9)).isoformat())

    assert await world.alerts() == {"web drifted": "firing"}


async def test_the_failure_after_which_it_stops_is_told_once_and_by_whoever_counts_first(world):
    first = await world.ended(state=RunState.FAILED, trigger=Trigger.AUTO, at=0)
    assert await world.events("automation.stopped") == []
    second = await world.ended(state=RunState.ROLLED_BACK, trigger=Trigger.AUTO, at=10)
    await asyncio.gather(*(world.aftermath.weigh(run) for run in (second, first, second)))

    (told,) = await world.events("automation.stopped")
    assert told.startswith("Look for drift has failed 2 times in a row when it started by itself")
    await world.ended(trigger=Trigger.PERSON, state=RunState.FAILED, at=20)
    assert await world.events("automation.resumed") == []
    await world.ended(trigger=Trigger.PERSON, at=30)
    await world.ended(trigger=Trigger.PERSON, at=40)
    assert await world.events("automation.resumed") == ["Look for drift may start by itself again: run 4 succeeded"]


def word(ok: str, text: str, asset: str = "db-1") -> Finding:
    firing = [Firing(item=asset, title=text, labels={"ok": ok})]
    return Finding(rule="backup", into="asset", severity="info", firing=firing)


async def reports(world) -> dict:
    async with world.engine.db.read() as session:
        return {row.asset: (row.kind, row.ok, row.text) for row in await session.scalars(sa.select(AssetReport))}


async def test_of_what_runs_say_of_an_asset_the_one_that_ended_last_counts_and_no_alert_is_made_of_it(world):
    await world.ended(word("no", "60 hours old"), at=0)
    late = await world.ended(word("unknown", "no route"), at=5, weigh=False)
    await world.ended(word("yes", "3 hours old"), at=10)
    await world.aftermath.weigh(late)

    assert await reports(world) == {"db-1": ("backup", True, "3 hours old")}
    assert await world.alerts() == {}
    filed: list[Finding] = []

    async def file(run, runbook, found) -> None:
        filed.append(found)

    world.aftermath.file = file
    await world.ended(word("no", "4 days old"), drift("web"), at=15)
    assert [found.into for found in filed] == ["incident"]


async def test_what_a_run_of_a_private_incident_found_out_about_an_asset_stays_there(world):
    async with world.engine.transaction() as tx:
        hidden = await lifecycle.declare(
            tx, nothing_follows, title="Secret", severity=Sev.SEV3, by=ALICE, now=NOON, private=True
        )
    await world.ended(word("no", "stolen"), incident=hidden)

    assert await reports(world) == {}
