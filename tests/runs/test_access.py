"""Who may do what with a run: denied unless a rule lets them, and asked again before each write."""

import pytest

from bot.incidents import roles
from bot.incidents.access import Person
from bot.incidents.model import RoleName
from bot.kit.clock import utc_now
from bot.kit.errors import UserError
from bot.runs import run as runs
from bot.runs.access import May, named
from bot.runs.model import RunState, Trigger
from bot.runs.step import StepResult

BOB = "UBOB"
BOOK = "access: {run: [%s]}\nsteps:\n  - change: {}\n  - change: {}\n"


async def give(bench, person: str, role: RoleName) -> None:
    async with bench.engine.transaction() as tx:
        incident = await tx.session.merge(bench.incident)
        await roles.assign(tx, bench.react, incident, role, person, by=person, now=utc_now())


@pytest.fixture
def write(bench):
    return bench.plugin("change", effect="write")


async def test_a_group_lets_its_members_run(bench, write):
    asked = runs.Asked(BOB, groups=frozenset({"@team-data"}))

    await bench.start(BOOK % "'@team-data'", asked=asked)


async def test_whoever_is_not_in_the_group_may_not(bench, write):
    with pytest.raises(UserError, match=r"Book may be run by @team-data only\."):
        await bench.start(BOOK % "'@team-data'", by=BOB)


async def test_only_the_commander_may_where_it_says_so(bench, write):
    await give(bench, BOB, RoleName.RESPONDER)
    with pytest.raises(UserError, match="by @commander only"):
        await bench.start(BOOK % "'@commander'", by=BOB)
    await give(bench, BOB, RoleName.COMMANDER)

    await bench.start(BOOK % "'@commander'", by=BOB)


@pytest.mark.parametrize(
    ("person", "why"),
    [
        (Person(BOB), "This runbook may be run by @team-data only."),
        (Person(BOB, guest=True), "Guests cannot act on incidents."),
        (Person(BOB, gone=True), "This account is deactivated"),
        (None, "is not known here any more"),
    ],
)
async def test_whoever_loses_the_right_in_the_middle_does_not_go_on_to_the_next_write(bench, write, person, why):
    groups = {BOB: frozenset({"@team-data"})}
    people = {BOB: Person(BOB)}

    async def find(user):
        return people[user]

    async def lose(context):
        groups[BOB], people[BOB] = frozenset(), person
        return StepResult(ok=True, summary="done")

    write.answers = [lose]
    run_id = await bench.start(BOOK % "'@team-data'", asked=runs.Asked(BOB, groups=groups[BOB]))
    interpreter = bench.interpreter()
    interpreter.may = May(bench.engine, find, lambda one: groups[one.id]).refusal

    await interpreter.run(run_id, 1)

    run = await bench.run(run_id)
    assert run.state == RunState.FAILED
    assert why in run.failure["message"]
    assert write.calls == 1


async def test_what_the_bot_started_by_itself_is_nobody_s_to_lose(bench, write):
    async def find(user):
        raise AssertionError

    run_id = await bench.start(BOOK % "'@team-data'", asked=runs.Asked("bot", Trigger.SCHEDULE))
    interpreter = bench.interpreter()
    interpreter.may = May(bench.engine, find, lambda one: frozenset()).refusal

    await interpreter.run(run_id, 1)

    assert (await bench.run(run_id)).state == RunState.SUCCEEDED


def test_everybody_whom_a_runbook_names_is_known(bench):
    book = bench.runbook(
        "access: {run: ['@a'], approve: ['@b', UX]}\nsteps:\n  - approval: {prompt: x, who: ['@c']}\n  - note: x\n"
    )

    assert named(book) == ["@a", "@b", "UX", "@c"]
