"""Error budgets: what is asked, how it is told, and that nobody waits for it."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.catalog.services import Catalog, Service, Slo
from bot.engine import Engine
from bot.incidents import budget
from bot.incidents.budget import Budgets, queries, spent
from bot.kit.errors import PermanentError, TemporaryError

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ERRORS = {"objective": 99.9, "window": "30d", "errors": "sum(rate(e[$window])) / sum(rate(t[$window]))"}


class Prometheus:
    """Answers by query, and counts what it is asked."""

    def __init__(self, **answers: float | None) -> None:
        self.answers, self.asked = answers, []
        self.fault: Exception | None = None

    async def ask(self, connection: str, query: str) -> float | None:
        self.asked.append((connection, query))
        if self.fault is not None:
            raise self.fault
        return self.answers["recent" if "[1h]" in query else "window"]


def services(**slos: dict) -> dict[str, Service]:
    found = Catalog.model_validate({"services": {name: {"slo": slo} for name, slo in slos.items()}})
    return dict(found.services)


class Desk:
    def __init__(self, engine: Engine, prometheus: Prometheus, **slos: dict) -> None:
        self.engine, self.prometheus, self.services, self.now = engine, prometheus, services(**slos), NOW

    async def look(self) -> dict[str, budget.Spent]:
        await Budgets(self.engine, lambda: self.now, self.services, self.prometheus.ask).look()
        return await self.known()

    async def known(self) -> dict[str, budget.Spent]:
        async with self.engine.db.read() as session:
            return await budget.of_services(session, self.services, self.now)


@pytest.fixture
async def engine(database):
    made = Engine(database)
    yield made
    await made.close()


def test_the_window_and_the_last_hour_are_filled_into_the_query():
    slo = Slo.model_validate(ERRORS)
    both = Slo.model_validate({"objective": 99, "window": "36h", "good": "g[$window]", "total": "t[$window]"})

    assert queries(slo) == ("sum(rate(e[30d])) / sum(rate(t[30d]))", "sum(rate(e[1h])) / sum(rate(t[1h]))")
    assert queries(both) == ("1 - ((g[1d12h]) / (t[1d12h]))", "1 - ((g[1h]) / (t[1h]))")


async def test_what_is_left_and_how_fast_it_goes_is_known_after_a_look(engine):
    desk = Desk(engine, Prometheus(window=0.0004, recent=0.003), pay=ERRORS)
    assert (await desk.known())["pay"].problem == "not asked yet"

    found = (await desk.look())["pay"]

    assert found.left == pytest.approx(0.6)
    assert found.burn == pytest.approx(3)
    assert found.problem is None


async def test_more_may_be_spent_than_there_was(engine):
    found = (await Desk(engine, Prometheus(window=0.002, recent=0.0), pay=ERRORS).look())["pay"]

    assert found.left == pytest.approx(-1)


async def test_a_query_that_gives_no_number_is_unknown_and_said_so(engine):
    found = (await Desk(engine, Prometheus(window=None, recent=None), pay=ERRORS).look())["pay"]

    assert (found.left, found.burn, found.problem) == (None, None, "the query gives no number")


async def test_while_prometheus_is_away_the_last_word_holds_for_an_hour_and_is_unknown_then(engine):
    desk = Desk(engine, Prometheus(window=0.0004, recent=0.0), pay=ERRORS)
    await desk.look()
    desk.prometheus.fault = TemporaryError("prometheus cannot be reached")
    desk.now += timedelta(minutes=30)
    assert (await desk.look())["pay"].left == pytest.approx(0.6)

    desk.now += timedelta(minutes=31)
    found = (await desk.look())["pay"]
    assert (found.left, found.problem) == (None, "prometheus cannot be reached")


async def test_one_that_is_away_is_asked_once_in_a_round_however_many_services_there_are(engine):
    desk = Desk(engine, Prometheus(window=0.0, recent=0.0), a=ERRORS, b=ERRORS, c={**ERRORS, "connection": "other"})
    desk.prometheus.fault = TemporaryError("away")
    found = await desk.look()

    assert [connection for connection, _ in desk.prometheus.asked] == ["prometheus", "other"]
    assert {one.problem for one in found.values()} == {"away"}


async def test_a_query_that_is_refused_is_told_of_its_service_alone(engine):
    desk = Desk(engine, Prometheus(window=0.0, recent=0.0), a=ERRORS, b=ERRORS)
    desk.prometheus.fault = PermanentError("prometheus cannot read the query: parse error")
    await desk.look()

    assert len(desk.prometheus.asked) == 2


def test_a_service_without_a_row_is_not_known_yet():
    assert spent(Slo.model_validate(ERRORS), None, NOW).left is None
