"""A run that writes waits for its change request, ends with it, and writes nothing without."""

from datetime import timedelta

import pytest

from bot.catalog.tracking import ChangeRule
from bot.incidents import lifecycle, tickets
from bot.incidents.model import Sev
from bot.incidents.tickets import Tickets
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs import run as runs
from bot.runs.change import Clearing, met
from bot.runs.model import RunState
from bot.runs.step import StepResult
from tests.fakes.tracker import ChangingTracker, FakeTracker
from tests.incidents.test_tickets import tracking
from tests.runs.conftest import ALICE, nothing_follows

WRITES = "steps:\n  - id: look\n    look: {}\n  - id: one\n    write: {}\n  - id: two\n    write: {}\n"


@pytest.fixture
def world(bench):
    """A bench whose runs need a change; what its steps did, and a tracker that says yes or no."""
    bench.tracker = ChangingTracker()
    bench.rule = ChangeRule(tracker="ops")
    bench.look = bench.plugin("look", effect="read")
    bench.write = bench.plugin("write", effect="write")
    before = bench.interpreter

    def clearing():
        return Clearing(
            bench.engine, nothing_follows, lambda: bench.clock(), tracking(changes=(bench.rule,)),
            {"ops": bench.tracker}, 0.01,
        )  # fmt: skip

    def interpreter():
        made = before()
        made.clearance = clearing()
        return made

    bench.clearing, bench.interpreter = clearing, interpreter
    return bench


async def ended(world, run):
    """The aftermath, and the work it promises."""
    await world.clearing().conclude(run)
    work = Tickets(
        world.engine, nothing_follows, utc_now, tracking(changes=(world.rule,)), {"ops": world.tracker}
    )  # fmt: skip
    async with world.engine.db.read() as session:
        rows = await tickets.of(session, run.incident_id)
    for row in rows:
        await work.settle(row.id)
    return rows


async def test_nothing_is_written_before_the_change_is_approved_and_one_is_enough(world):
    world.tracker.verdicts = [None, None, True]
    run = await world.carry_out(await world.start(WRITES))
    await ended(world, run)
    await ended(world, run)

    assert (run.state, world.look.calls, world.write.calls) == (RunState.SUCCEEDED, 1, 2)
    ((wish, kind),) = world.tracker.proposed
    assert (wish.key, kind) == (f"tocsin-{world.incident.reference}-R{run.number}", "normal")
    assert (world.tracker.begun, world.tracker.calls.count("verdict")) == (["c1"], 3)
    assert world.tracker.concluded == [("c1", True, f"Run {run.number} ended: succeeded")]
    assert [event.kind for event in await world.events("change.")] == [
        "change.opened", "change.approved", "change.closed",
    ]  # fmt: skip


async def test_a_change_that_is_rejected_ends_the_run_with_nothing_written(world):
    world.tracker.verdicts = [None, False]
    run = await world.carry_out(await world.start(WRITES))
    await ended(world, run)

    assert (run.state, world.write.calls) == (RunState.FAILED, 0)
    assert run.failure["message"] == "CHG1 was rejected in ops"
    assert world.tracker.concluded[0][1] is False


async def test_a_change_that_cannot_be_asked_for_is_a_no(world):
    world.tracker.faults["propose"] = [PermanentError("ops refused it (HTTP 403)")]
    run = await world.carry_out(await world.start(WRITES))

    assert (run.state, world.write.calls) == (RunState.FAILED, 0)
    assert run.failure["message"] == "no change request, so nothing is changed: ops refused it (HTTP 403)"


async def test_a_tracker_without_change_requests_lets_nothing_run(world):
    world.tracker = FakeTracker()
    run = await world.carry_out(await world.start(WRITES))

    assert (run.state, world.write.calls) == (RunState.FAILED, 0)
    assert "ops has no change requests" in run.failure["message"]


async def test_a_tracker_that_is_away_is_asked_again(world):
    world.tracker.faults["propose"] = [TemporaryError("away"), TemporaryError("away")]
    world.tracker.verdicts = [True]
    run = await world.carry_out(await world.start(WRITES))

    assert (run.state, len(world.tracker.proposed)) == (RunState.SUCCEEDED, 1)


async def test_an_approval_that_does_not_come_in_time_is_a_no(world):
    now = {"at": utc_now()}
    world.clock = lambda: now["at"]
    run_id = await world.start(WRITES)
    task = world.under_way(run_id)
    await world.until(lambda: world.tracker.calls.count("verdict") > 1)
    now["at"] += timedelta(hours=5)
    await task
    run = await world.run(run_id)

    assert (run.state, world.write.calls) == (RunState.FAILED, 0)
    assert "CHG1 was not approved within 4 h" in run.failure["message"]


async def test_waiting_for_a_change_is_not_the_runs_own_time_not_even_over_a_restart(world):
    now = {"at": utc_now()}
    world.clock = lambda: now["at"]
    run_id = await world.start("timeout: 10m\n" + WRITES)
    task = world.under_way(run_id)
    await world.until(lambda: world.tracker.calls.count("verdict") > 1)
    now["at"] += timedelta(hours=1)
    await world.crash(task)
    task = world.under_way(run_id)
    await world.until(lambda: world.tracker.calls.count("verdict") > 3)
    now["at"] += timedelta(hours=1)
    world.tracker.verdicts = [True]
    await task
    run = await world.run(run_id)

    assert (run.state, len(world.tracker.proposed)) == (RunState.SUCCEEDED, 1)


async def test_a_run_that_is_cancelled_while_it_waits_writes_nothing(world):
    run_id = await world.start(WRITES)
    task = world.under_way(run_id)
    await world.until(lambda: world.tracker.calls.count("verdict") > 1)
    await world.cancel(run_id)
    await task
    run = await world.run(run_id)

    assert (run.state, world.write.calls) == (RunState.CANCELLED, 0)


async def test_without_waiting_the_change_is_opened_and_the_run_goes_on(world):
    world.rule = ChangeRule(tracker="ops", wait=False, type="standard")
    run = await world.carry_out(await world.start(WRITES))

    assert (run.state, world.tracker.proposed[0][1]) == (RunState.SUCCEEDED, "standard")
    assert "verdict" not in world.tracker.calls


async def test_what_only_reads_or_tries_needs_no_change(world):
    read = await world.carry_out(await world.start("steps:\n  - look: {}\n"))
    await world.carry_out(await world.start(WRITES, dry_run=True))
    await ended(world, read)

    assert world.tracker.calls == []


async def test_steps_side_by_side_ask_for_one_change(world):
    world.write.answers = [StepResult(ok=True, summary="x") for _ in range(4)]
    world.tracker.verdicts = [None, True]
    run = await world.carry_out(
        await world.start("steps:\n  - write: {}\n    foreach: '[1, 2, 3, 4]'\n    parallel: 4\n")
    )

    assert (run.state, world.write.calls, len(world.tracker.proposed)) == (RunState.SUCCEEDED, 4, 1)


async def test_of_a_private_incident_nothing_leaves_but_its_reference(world):
    secret = "payroll"
    async with world.engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title=secret, severity=Sev.SEV2, by=ALICE, now=utc_now(), private=True
        )
    world.tracker.verdicts = [True]
    text = "params: {why: {}}\n" + WRITES
    run = await world.carry_out(await world.start(text, {"why": secret}, incident=incident))

    assert run.state == RunState.SUCCEEDED
    assert secret not in str(world.tracker.proposed)
    assert incident.reference in world.tracker.proposed[0][0].title


async def test_broken_glass_does_not_wait(world):
    run_id = await world.start(WRITES)
    async with world.engine.transaction() as tx:
        run = await runs.find(tx.session, run_id, lock=True)
        run.break_glass = "the building burns"
        tx.session.add(run)
    run = await world.carry_out(run_id)

    assert (run.state, len(world.tracker.proposed)) == (RunState.SUCCEEDED, 1)
    assert "verdict" not in world.tracker.calls


@pytest.mark.parametrize(
    ("rule", "is_met"),
    [
        ({}, True),
        ({"runbook": ("another",)}, False),
        ({"risk": ("high",)}, False),
        ({"risk": ("low", "medium")}, True),
        ({"service": ("checkout",)}, False),
    ],
    ids=range(5),
)
def test_a_rule_for_changes_is_met_by_all_that_it_names(bench, rule, is_met):
    book = bench.runbook("steps:\n  - note: {text: x}\n")

    assert met(ChangeRule(tracker="ops", **rule), bench.incident, book) is is_met
