"""What a process counts of itself: nothing that names a person, and nothing that breaks the page."""

import asyncio

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY, generate_latest

from bot.kit.db import Database
from bot.metrics import Metrics


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_two_bots_in_one_process_count_apart_and_nobody_counts_globally():
    one, two = Metrics(), Metrics()

    one.worked("open", "done")

    assert value(one, "tocsin_work_total", workflow="open", outcome="done") == 1
    assert value(two, "tocsin_work_total", workflow="open", outcome="done") is None
    assert not any(family.name.startswith("tocsin") for family in REGISTRY.collect())


def test_an_acknowledgement_is_counted_by_what_was_done_and_over_what_it_came():
    metrics = Metrics()

    metrics.acked("command", "socket", 0.2, True)
    metrics.acked("command", "socket", 4.0, False)
    metrics.acked("a word of a stranger", "http", 0.2, True)

    assert value(metrics, "tocsin_slack_ack_seconds_count", kind="command", transport="socket") == 2
    assert value(metrics, "tocsin_slack_ack_seconds_bucket", kind="command", transport="socket", le="3.0") == 1
    assert value(metrics, "tocsin_slack_ack_failures_total", kind="command", transport="socket") == 1
    assert value(metrics, "tocsin_slack_ack_failures_total", kind="other", transport="http") == 0


def test_a_delivery_to_a_connection_nobody_configured_makes_no_label_of_its_own():
    metrics = Metrics()

    metrics.delivered(None, 404, 0.1)

    assert value(metrics, "tocsin_alert_deliveries_total", connection="(unknown)", outcome="404") == 1
    assert value(metrics, "tocsin_alert_accept_seconds_count") == 0


def test_sockets_are_asked_when_the_page_is_written():
    metrics = Metrics()
    state = {"open": 2, "heard": 1.5}

    metrics.sockets(open=lambda: state["open"], heard=lambda: state["heard"])
    before = value(metrics, "tocsin_slack_sockets"), value(metrics, "tocsin_slack_socket_silence_seconds")
    state.update(open=0, heard=None)

    assert before == (2, 1.5)
    assert value(metrics, "tocsin_slack_sockets") == 0
    assert value(metrics, "tocsin_slack_socket_silence_seconds") is None


@pytest.mark.parametrize("answer", [None, float("nan"), ZeroDivisionError])
def test_a_number_that_cannot_be_had_hides_no_other(answer):
    metrics = Metrics()

    def ask():
        if answer is ZeroDivisionError:
            raise ZeroDivisionError
        return answer

    metrics.watch("tocsin_lease_age_seconds", ask)
    metrics.watch("tocsin_slack_sockets", lambda: 2)

    assert value(metrics, "tocsin_lease_age_seconds") is None
    assert value(metrics, "tocsin_slack_sockets") == 2


def test_what_may_be_counted_is_shown_as_zero_before_it_happens():
    metrics = Metrics()

    metrics.expect(workflow="open", connection="prometheus")

    assert value(metrics, "tocsin_work_total", workflow="open", outcome="parked") == 0
    assert value(metrics, "tocsin_alert_deliveries_total", connection="prometheus", outcome="503") == 0
    assert value(metrics, "tocsin_database_errors_total", reason="unavailable") == 0


def test_the_page_has_no_times_of_creation():
    metrics = Metrics()
    metrics.worked("open", "done")

    assert b"_created" not in generate_latest(metrics.registry)


async def test_a_loop_that_is_held_up_shows():
    metrics = Metrics()
    ticker = asyncio.ensure_future(metrics.watch_loop(every_seconds=0.01))
    while not value(metrics, "tocsin_loop_lag_seconds_count"):
        await asyncio.sleep(0.01)
    ticker.cancel()

    assert value(metrics, "tocsin_loop_lag_seconds_sum") >= 0


@pytest.fixture
async def metered(database_url):
    """A database, and the numbers it is measured with."""
    metrics = Metrics()
    database = Database(database_url, metrics)
    yield database, metrics
    await database.close()


async def test_the_time_of_statements_is_told_by_their_kind(metered):
    database, metrics = metered

    def count(kind):
        return value(metrics, "tocsin_database_statement_seconds_count", kind=kind) or 0

    async with database.read() as session:
        await session.execute(sa.text("select\n 1"))
    async with database.write() as session:
        await session.execute(sa.text("insert into counter (name, value) values ('x', 1)"))
        in_use = value(metrics, "tocsin_database_connections_in_use")
    async with database.read() as session:
        kept = await session.scalar(sa.text("select value from counter where name = 'x'"))

    assert kept == 1
    assert (count("write"), count("commit"), in_use) == (1, 1, 1)
    assert count("begin") == (3 if database.sqlite else 0)
    assert count("read") >= 2
    assert value(metrics, "tocsin_database_connections_in_use") == 0


async def test_a_statement_that_fails_is_counted_and_nothing_is_committed(metered):
    database, metrics = metered

    async def wrong() -> None:
        async with database.write() as session:
            await session.execute(sa.text("insert into counter (name, value) values ('x', 1)"))
            await session.execute(sa.text("select * from nowhere"))

    with pytest.raises(sa.exc.DBAPIError):
        await wrong()
    async with database.read() as session:
        kept = await session.scalar(sa.text("select value from counter where name = 'x'"))

    assert kept is None
    assert value(metrics, "tocsin_database_statement_seconds_count", kind="commit") is None
