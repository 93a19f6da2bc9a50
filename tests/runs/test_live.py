"""Choices are looked up when a form is opened; what cannot be had is said in a word, and never keeps a form waiting."""

import asyncio
import re
import time

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.runs import live as lives
from bot.runs.live import Live
from bot.runs.params import ParamErrors
from bot.runs.step import StepResult
from tests.conftest import new_database
from tests.runs.conftest import processes

BOOK = """
params:
  host:
    type: choice
    choices_from:
      look: {}
      value: %s
steps:
  - wait: {for: 0s}
"""


@pytest.fixture(scope="module", params=["sqlite"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """These rules do not depend on the database; SQLite is the quicker one."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


async def looked(bench, *answers, value: str = "seen", seconds: float = 2.5):
    plugin = bench.plugin("look", *answers)
    book = bench.runbook(BOOK % value)
    live = Live(bench.interpreter(), seconds=seconds)
    return live, book, plugin


def seen(*values) -> StepResult:
    return StepResult(ok=True, summary="fine", values={"seen": list(values)})


async def test_what_the_step_finds_are_the_choices_each_once_and_only_those_that_fit(bench):
    live, book, plugin = await looked(bench, seen("web-1", "web-2", "web-1", "--force", "a b", "", {"no": 1}, 7))
    found = await live.choices(book, bench.incident)

    assert found["host"].found == ("web-1", "web-2", "7")
    assert found["host"].trouble == ""
    assert plugin.contexts[0].attempt == 1
    assert not plugin.contexts[0].dry_run


async def test_letters_typed_one_after_the_other_make_one_look(bench):
    live, book, plugin = await looked(bench, seen("web-1"))
    for _ in range(5):
        assert (await live.look(book, bench.incident, "host")).found == ("web-1",)

    assert plugin.calls == 1


@pytest.mark.parametrize(
    ("answer", "value", "told"),
    [
        (StepResult(ok=False, summary="status 503"), "seen", "status 503"),
        (TemporaryError("the service is away"), "seen", "the service is away"),
        (PermanentError("there is no such connection"), "seen", "there is no such connection"),
        (ZeroDivisionError("x"), "seen", "the step type look broke"),
        (seen("a b"), "seen", "what was found does not fit"),
        (seen(), "seen", "nothing was found"),
        (seen("web-1"), "seen | length", "the look gave no list"),
        (seen("web-1"), "seen[0].nothing.more", "nothing"),
    ],
)
async def test_why_there_are_no_choices_is_said_in_a_word_and_tried_again_next_time(bench, answer, value, told):
    live, book, plugin = await looked(bench, answer, seen("web-9"), value=value)
    found = (await live.choices(book, bench.incident))["host"]

    assert found.found == ()
    assert told in found.trouble
    await live.look(book, bench.incident, "host")
    assert plugin.calls == 2


async def test_a_look_that_takes_too_long_is_given_up(bench):
    async def hang(context):
        await asyncio.sleep(30)

    live, book, _ = await looked(bench, hang, seconds=0.3)
    async with asyncio.timeout(10):  # and not thirty
        found = await live.choices(book, bench.incident)

    assert "took longer than 0.3 s" in found["host"].trouble


async def test_a_program_that_a_look_started_does_not_outlive_it(bench):
    token = f"31.{time.time_ns() % 10**12}"  # not that of the same test on the other database
    book = bench.runbook(
        "params: {host: {type: choice, choices_from: "
        f"{{exec: {{argv: [sleep, '{token}']}}, effect: read, value: lines}}}}}}\n"
        "steps:\n  - wait: {for: 0s}\n"
    )
    found = await Live(bench.interpreter(), seconds=1).choices(book, bench.incident)

    assert re.search("stopped after|took longer than", found["host"].trouble)
    await bench.until(lambda: not processes(token), within=30)


async def test_of_very_many_choices_so_many_are_offered_as_can_be_remembered(bench):
    live, book, _ = await looked(bench, seen(*(f"web-{n}" for n in range(812))))
    found = (await live.choices(book, bench.incident))["host"]

    assert len(found.found) == lives.MOST
    assert found.left_out == 312
    assert len(lives.mark(found.found)) < 2500


def test_only_what_was_offered_passes_when_the_form_is_sent():
    marks = {"host": lives.mark(["web-1", "web-2"])}
    lives.check(marks, {"host": "web-2", "other": "x"})
    lives.check(marks, {"host": None})
    with pytest.raises(ParamErrors, match="was not among the choices"):
        lives.check(marks, {"host": "web-3"})
    assert lives.offered(marks["host"], ["web-0", "web-1"]) == ["web-1"]
    assert lives.offered("", ["web-0"]) == []
