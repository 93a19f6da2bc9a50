"""A pager that would not let us in is found out before an incident needs it, and only a change is told."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.engine import Engine
from bot.incidents import logbook, timeline
from bot.incidents.probing import LOOKS, Probing, failing
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError
from bot.reactions import react
from tests.fakes.pager import FakePager

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)


class Patient(FakePager):
    """One that says how it is, as a test plans it; well when nothing is planned."""

    async def probe(self) -> None:
        self._answer("probe", None)


@pytest.fixture
async def engine(database: Database):
    made = Engine(database)
    made._promise = lambda connection, work: promised.extend(item.id for item in work)
    promised.clear()
    yield made
    await made.close()


promised: list[str] = []


def probing(engine: Engine, pager: object) -> Probing:
    async def opened(tx, *, now):
        return await logbook.opened(tx, now=now)

    probing.now += timedelta(seconds=1)
    moment = probing.now
    return Probing(engine, react, {"first": pager, "second": FakePager()}, lambda: moment, opened, pause=0)


probing.now = NOW


async def told(engine: Engine) -> list[str]:
    async with engine.db.read() as session:
        events = await timeline.whole(session, logbook.ID)
    return [event.text for event in events if event.kind.startswith("pager.")]


async def test_a_refused_token_is_told_once_until_it_is_well_again(engine):
    pager = Patient(answers=[None, PermanentError("the token is not valid"), PermanentError("the same")])
    for _ in range(3):
        await probing(engine, pager).probe("first")
    async with engine.db.read() as session:
        assert await failing(session) == {"first": "the token is not valid"}
    for _ in range(2):
        await probing(engine, pager).probe("first")

    assert await told(engine) == [
        "The pager first may not wake anybody, or not say who was woken: the token is not valid",
        "The pager first answers as it should again",
    ]
    async with engine.db.read() as session:
        assert await failing(session) == {}


async def test_one_lost_answer_is_no_trouble_and_silence_is(engine):
    pager = Patient(answers=[TemporaryError("away")] * (LOOKS - 1))
    await probing(engine, pager).probe("first")
    assert await told(engine) == []

    pager.answers = [TemporaryError("away")] * LOOKS
    await probing(engine, pager).probe("first")
    assert len(await told(engine)) == 1


async def test_whoever_cannot_be_asked_is_not(engine):
    made = probing(engine, Patient())
    await made.tick()
    await made.tick()
    await made.probe("second")
    await made.probe("third")

    assert len(set(promised)) == 1
    assert promised[0].startswith("probe:first:")
    assert await told(engine) == []
