"""Runbooks of the library through the interpreter, against services of this machine."""

import re
from collections.abc import Iterator

import pytest

from bot.catalog.targets import Connection, Reach, Secret, Targets
from bot.runs.model import RunState
from tests.runbooks.services import TOKEN, Services, services
from tests.runbooks.test_resolve import A, answer, server


@pytest.fixture
def world(library) -> Iterator[Services]:
    with services() as made:
        connection = {"url": made.url, "private": True}
        library.reach = Reach(
            Targets(
                connections={
                    "prometheus": Connection(kind="prometheus", **connection),
                    "loki": Connection(kind="loki", **connection),
                    "feature_flags": Connection(**connection),
                    "load_balancer": Connection(token=Secret(env="LB"), **connection),
                }
            ),
            environment={"LB": TOKEN},
        )
        yield made


def quick(text: str) -> str:
    """The same with the patience of a test."""
    return re.sub(r"attempts: \d+", "attempts: 3", re.sub(r"(delay|for): \d+[sm]", r"\1: 10ms", text))


async def test_a_flag_is_switched_off_and_the_errors_go_back(library, world):
    world.flags = {"show-recommendations": True}
    world.number = lambda query: 0.4 if "client" in query else 0.3 if world.flags["show-recommendations"] else 0.001

    run = await library.play(
        "flaky-dependency",
        {"service": "checkout", "dependency": "recommendations", "flag": "show-recommendations"},
        quick,
    )

    assert run.state == RunState.SUCCEEDED, run.failure
    assert world.switched == [False]
    assert run.outputs == {"failing": 0.4, "switched": True}
    assert "Switched show-recommendations off, as 40.0 % of the calls" in await library.said()


async def test_a_flag_that_does_not_help_is_switched_on_again(library, world):
    world.flags = {"show-recommendations": True}
    world.number = lambda query: 0.4

    run = await library.play(
        "flaky-dependency",
        {"service": "checkout", "dependency": "recommendations", "flag": "show-recommendations"},
        quick,
    )

    assert run.state == RunState.ROLLED_BACK
    assert world.switched == [False, True]


async def test_loki_is_asked_for_what_was_logged_around_the_start_of_the_alert(library, world):
    world.lines = [["1736154001000000000", "connection refused"], ["1736154002000000000", "timeout"]]

    run = await library.play("log-search", {"service": "checkout", "around": "2025-01-06T10:00:00+01:00"})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"in_journal": None, "in_loki": 2}
    [asked] = world.searched
    assert asked["query"] == '{service="checkout"} |~ `(?i)error|fail|fatal|panic|timeout|refused`'
    assert (asked["start"], asked["end"]) == ("1736153400", "1736154300")  # 10 minutes before, 5 after
    assert "Loki has 2 lines of checkout" in await library.said()
    assert "the first: connection refused" in await library.said()


async def test_a_fast_burn_of_the_error_budget_is_told(library, world):
    world.number = lambda query: 20.0 if "[1h]" in query or "[5m]" in query else 2.0

    run = await library.play("slo-burn", {"service": "checkout", "objective": 99.9})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"burn_1h": 20.0, "fast": True, "slow": False}
    assert "all of it is gone in 36.0 hours" in await library.said()


async def test_one_dns_server_that_fails_is_found(library):
    with server(A) as port, server(answer(code=2), "127.0.0.2", port):
        run = await library.play(
            "dns-failure", {"name": "shop.example.com", "servers": ["127.0.0.1", "127.0.0.2"], "port": port}
        )

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"verdict": "some servers fail", "failing": ["127.0.0.2"]}
    assert "Of the DNS servers 127.0.0.2 fail for shop.example.com (SERVFAIL)" in await library.said()


async def test_what_fills_the_disk_is_found_where_the_bot_runs(library):
    run = await library.play("disk-full", {"path": "/opt", "depth": 1})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert "/opt is" in await library.said()
