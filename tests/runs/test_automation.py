"""Deciding and starting in one transaction, one decision about a runbook at a time, and each only once."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.alerts.model import Alert, AlertStatus, Severity
from bot.alerts.routing import Routes
from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.intake import Incoming, Intake
from bot.incidents.model import Incident
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.runs.auto import Policy
from bot.runs.automation import Automation
from bot.runs.books import Books
from bot.runs.model import Decision, Run
from bot.runs.runbook import load
from tests.runs.conftest import ALICE, nothing_follows
from tests.runs.test_auto import BOOK
from tests.runs.test_runbook import SHELF


class World:
    """Alerts that come to incidents, and a look at what starts because of them."""

    def __init__(self, engine: Engine, react=nothing_follows, book: str = BOOK) -> None:
        self.engine = engine
        self.intake = Intake(engine, nothing_follows, Routes, utc_now)
        shelf = SHELF if SHELF.modules else SHELF.load()
        books = Books({"restart": load(book, "restart.yaml", shelf)})
        self.automation = Automation(engine, react, utc_now, books, Policy(on=True, doubts={"am": None}))

    async def alerts(self, service: str, *hosts: str) -> str:
        """Alerts of one service, which share an incident; its id."""
        now = utc_now()
        made = tuple(
            Alert(
                AlertStatus.FIRING,
                f"{host} is stuck",
                f"{service}-{host}",
                f"{service}-{host}",
                severity=Severity.CRITICAL,
                labels={"alertname": "Stuck", "team": "web", "service": service, "instance": host},
                starts_at=now - timedelta(minutes=1, seconds=-n / 100),
            )
            for n, host in enumerate(hosts)
        )
        await self.intake.accept(Incoming("am", "alertmanager", b"{}", made, now))
        async with self.engine.db.read() as session:
            found = await session.scalar(sa.select(Incident).where(col(Incident.service) == service))
        return found.id

    async def decided(self) -> list[str]:
        async with self.engine.db.read() as session:
            return sorted(await session.scalars(sa.select(Decision.decision)))

    async def runs(self) -> list[Run]:
        async with self.engine.db.read() as session:
            return list(await session.scalars(sa.select(Run)))

    async def withheld(self, incident: str) -> list[str]:
        async with self.engine.db.read() as session:
            events = await timeline.whole(session, incident)
        return [event.data["why"] for event in events if event.kind == "runbook.withheld"]


@pytest.fixture
async def engine(database_url):
    made = Engine(Database(database_url))
    yield made
    await made.close()
    await made.db.close()


async def test_several_that_look_at_once_start_it_once_and_never_more_often_than_it_may(engine):
    world = World(engine)
    incidents = [await world.alerts(f"service-{n}", f"web-{n}") for n in range(5)]

    await asyncio.gather(*(world.automation.consider(one) for one in incidents * 3))

    assert await world.decided() == ["cap", "cap", "cap", "started", "started"]
    assert len(await world.runs()) == 2


async def test_a_storm_starts_what_it_may_and_says_once_why_not_more(engine):
    world = World(engine)
    incident = await world.alerts("checkout", *(f"web-{n}" for n in range(60)))

    await world.automation.consider(incident)
    await world.automation.consider(incident)

    assert await world.decided() == ["cap"] * 58 + ["started"] * 2
    assert await world.withheld(incident) == ["cap"]


async def test_what_was_held_is_not_taken_up_again_when_something_else_happens(engine):
    world = World(engine, book=BOOK.replace("max_per_hour: 2", "max_per_hour: 1"))
    incident = await world.alerts("checkout", "web-1", "web-2")
    await world.automation.consider(incident)
    async with engine.db.write() as session:  # an hour later
        long_ago = utc_now() - timedelta(hours=2)
        await session.execute(sa.update(Run).values(requested_at=long_ago, ended_at=long_ago, state="succeeded"))

    await world.alerts("checkout", "web-3")
    await world.automation.consider(incident)

    assert sorted(run.params["host"] for run in await world.runs()) == ["web-1", "web-3"]


async def test_a_start_that_cannot_be_recorded_leaves_no_decision_behind(engine):
    def breaks(event):
        if event.kind == "run.started":
            raise RuntimeError("the disk is full")
        return []

    world = World(engine, react=breaks)
    incident = await world.alerts("checkout", "web-1")

    with pytest.raises(RuntimeError):
        await world.automation.consider(incident)
    assert (await world.decided(), await world.runs()) == ([], [])
    world.automation.react = nothing_follows
    await world.automation.consider(incident)
    assert await world.decided() == ["started"]


async def test_nothing_starts_for_an_incident_that_is_over_or_an_alert_that_is(engine):
    world = World(engine)
    incident = await world.alerts("checkout", "web-1")
    async with engine.transaction() as tx:
        found = await lifecycle.find(tx.session, incident)
        await lifecycle.resolve(tx, nothing_follows, found, by=ALICE, now=utc_now())
    await world.automation.consider(incident)

    other = await world.alerts("search", "web-2")
    over = Alert(AlertStatus.RESOLVED, "x", "search-web-2", "search-web-2", ends_at=utc_now())
    await world.intake.accept(Incoming("am", "alertmanager", b"{}", (over,), utc_now()))
    await world.automation.consider(other)

    assert (await world.decided(), await world.runs()) == ([], [])
