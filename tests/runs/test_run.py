"""Starting, cancelling and answering: who may, when it is refused, and what is written down."""

import asyncio

import pytest

from bot.incidents import lifecycle, roles
from bot.incidents.model import RoleName, Sev, Status
from bot.kit.clock import utc_now
from bot.kit.errors import UserError
from bot.kit.ids import new_id
from bot.runs import run as runs
from bot.runs.model import RunState, StepState
from bot.runs.params import ParamErrors
from tests.runs.conftest import ALICE, nothing_follows

QUIET = "steps:\n  - wait: {for: 0s}\n"


async def test_who_holds_no_role_is_refused_and_told_what_to_do(bench):
    with pytest.raises(UserError, match=r"responders of this incident only. Press \*Take command\* or say `/inc join`"):
        await bench.start(QUIET, by="UBOB")

    assert await bench.events("run.") == []


@pytest.mark.parametrize("role", [RoleName.COMMANDER, RoleName.RESPONDER])
async def test_a_role_lets_a_person_start_a_run(bench, role):
    async with bench.engine.transaction() as tx:
        await roles.assign(tx, nothing_follows, bench.incident, role, "UBOB", by="UBOB", now=utc_now())

    run_id = await bench.start(QUIET, by="UBOB")

    assert (await bench.run(run_id)).requested_by == "UBOB"


async def test_a_runbook_may_name_the_people_who_run_it(bench):
    book = "access: {run: [UCAROL, '@team-db']}\n" + QUIET

    with pytest.raises(UserError, match=r"Book may be run by @team-db or <@UCAROL> only\.$"):
        await bench.start(book)
    await bench.start(book, by="UCAROL")


async def test_wrong_values_are_told_by_parameter(bench):
    book = "params:\n  host: {}\n  days: {type: int, min: 3}\n" + QUIET

    with pytest.raises(ParamErrors) as caught:
        await bench.start(book, {"host": "--help", "days": "1"})

    assert set(caught.value.errors) == {"host", "days"}
    assert caught.value.errors["days"] == "must be at least 3"


async def test_nothing_is_run_for_an_incident_that_is_over(bench):
    async with bench.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, bench.incident.id, lock=True)
        incident.is_open, incident.status = False, Status.CLOSED

    with pytest.raises(UserError, match=f"{bench.incident.reference} is not open any more"):
        await bench.start(QUIET, incident=incident)


async def test_what_is_at_work_already_is_not_started_again_and_the_other_run_is_named(bench, other_incident):
    book = bench.runbook("params: {host: {}}\nconcurrency: {key: '{{ runbook.id }}:{{ params.host }}'}\n" + QUIET)
    first = await bench.start(book, {"host": "web-1"})

    with pytest.raises(UserError, match=r"at work on this already: run 1, started by <@UALICE>, is queued"):
        await bench.start(book, {"host": "web-1"})
    with pytest.raises(UserError, match=f"run 1 of {bench.incident.reference}, started by <@UALICE>"):
        await bench.start(book, {"host": "web-1"}, incident=other_incident)
    await bench.start(book, {"host": "web-2"})
    await bench.carry_out(first)
    again = await bench.start(book, {"host": "web-1"})

    assert (await bench.run(again)).number == 3


async def test_a_private_incident_is_not_named_to_others(bench):
    async with bench.engine.transaction() as tx:
        hidden = await lifecycle.declare(
            tx, nothing_follows, title="Secret", severity=Sev.SEV1, by=ALICE, now=utc_now(), private=True
        )
    await bench.start(QUIET, incident=hidden)

    with pytest.raises(UserError) as caught:
        await bench.start(QUIET)

    assert "INC-" not in str(caught.value)
    assert "a run of a private incident" in str(caught.value)


async def test_of_two_who_press_at_once_one_gets_the_run(bench):
    book = bench.runbook(QUIET)

    ended = await asyncio.gather(*(bench.start(book) for _ in range(4)), return_exceptions=True)

    assert sorted(type(end).__name__ for end in ended) == ["UserError"] * 3 + ["str"]


async def test_a_secret_parameter_is_the_name_of_a_secret_which_is_in_no_row(bench):
    book = (
        "params: {code: {type: secret, choices: [DOOR, GATE]}, host: {default: web-1}}\n"
        "steps:\n  - exec: {argv: [cat], stdin: 'the code is {{ params.code }}'}\n"
    )
    bench.environment = {"DOOR": "hunter-2000", "GATE": "gate-4711"}
    with pytest.raises(UserError, match="must be the name of a secret, one of DOOR, GATE"):
        await bench.start(book, {"code": "hunter-2000"})
    run_id = await bench.start(book, {"code": "DOOR"})

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert (await bench.rows(run_id))[0].output == "the code is [redacted]"
    assert run.params == {"code": "DOOR", "host": "web-1"}
    assert "hunter-2000" not in await bench.everything()


async def test_a_cancelled_run_that_has_not_begun_does_nothing(bench):
    plugin = bench.plugin("probe")
    run_id = await bench.start("steps:\n  - probe: {}\n")
    await bench.cancel(run_id)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.CANCELLED
    assert plugin.calls == 0
    assert await bench.rows(run_id) == []


async def test_a_run_is_cancelled_once_and_not_after_its_end(bench):
    run_id = await bench.start(QUIET)
    await bench.cancel(run_id)

    with pytest.raises(UserError, match="is being cancelled already"):
        await bench.cancel(run_id)
    await bench.carry_out(run_id)
    with pytest.raises(UserError, match=r"has ended already \(cancelled\)"):
        await bench.cancel(run_id)


async def asking(bench, book: str = "steps:\n  - id: change\n    touch: {}\n  - probe: {}\n", **start) -> str:
    """A run whose write was interrupted."""
    held = asyncio.Event()

    async def hold(context):
        await held.wait()

    bench.touch = bench.plugin("touch", hold, effect="write")
    bench.probe = bench.plugin("probe")
    run_id = await bench.start(book, **start)
    task = bench.under_way(run_id)
    await asyncio.wait_for(bench.touch.started.wait(), 5)
    await bench.crash(task)
    assert (await bench.carry_out(run_id)).state == RunState.ASKING
    return run_id


async def test_only_the_first_answer_counts(bench):
    run_id = await asking(bench)
    await bench.answer(run_id, runs.ACCEPT)

    with pytest.raises(UserError, match=r"does not ask anything \(any more\); it is queued"):
        await bench.answer(run_id, runs.REPEAT)

    assert len(await bench.events("run.answered")) == 1


async def test_of_two_answers_at_once_one_counts_even_if_both_had_read_the_run(bench):
    run_id = await asking(bench)
    both = asyncio.Barrier(1 if bench.engine.db.sqlite else 2)  # SQLite lets one in at a time anyway

    async def press(choice: str) -> None:
        async with bench.engine.transaction() as tx:
            known = await runs.find(tx.session, run_id)
            await both.wait()
            assert await runs.answer(tx, nothing_follows, run_id, choice, by=ALICE, now=utc_now()) is known

    ended = await asyncio.gather(press(runs.ACCEPT), press(runs.REPEAT), return_exceptions=True)

    assert [type(end) for end in ended].count(UserError) == 1
    assert (await bench.run(run_id)).round == 2


async def test_the_end_of_the_run_is_an_answer(bench):
    run_id = await asking(bench)

    await bench.answer(run_id, runs.ABANDON)

    run = await bench.carry_out(run_id)
    assert run.state == RunState.FAILED
    assert run.failure == {"step": "change", "message": "interrupted, and nobody knows whether it ended"}
    assert [event.kind for event in await bench.events("run.")][-2:] == ["run.answered", "run.ended"]
    assert bench.probe.calls == 0


async def test_a_run_that_asks_can_be_cancelled_and_asks_no_more(bench):
    run_id = await asking(bench)

    await bench.cancel(run_id)
    await bench.carry_out(run_id)

    async with bench.engine.db.read() as session:
        shown = await runs.shown(session, run_id)
    assert shown.run.state == RunState.CANCELLED
    assert shown.steps[0].state == StepState.UNKNOWN
    assert shown.run.ended_at is not None


async def test_waiting_for_an_answer_does_not_count_as_the_time_of_the_run(bench):
    run_id = await asking(bench, "timeout: 1m\nsteps:\n  - touch: {}\n  - probe: {}\n")
    now = utc_now()
    bench.clock = lambda: now.replace(year=now.year + 1)
    await bench.answer(run_id, runs.ACCEPT)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert (bench.touch.calls, bench.probe.calls) == (1, 1)


async def test_the_end_of_a_run_leaves_no_step_running(bench):
    run_id = await bench.start(QUIET)
    row = {"run_id": run_id, "attempt": 1, "name": "x", "type": "exec", "state": "running", "started_at": utc_now()}
    async with bench.engine.transaction() as tx:
        for position, effect in enumerate(("read", "write")):
            where = {"position": position, "path": f"steps.{position}", "step": f"steps-{position}"}
            tx.session.add(runs.RunStep(**row, **where, id=new_id(), effect=effect))
        await tx.session.flush()
        run = await runs.find_alone(tx.session, run_id)
        failure = {"step": "the run as a whole", "message": "no such step type"}
        await runs.end(tx, nothing_follows, run, RunState.FAILED, now=utc_now(), failure=failure)

    assert await bench.states(run_id) == [StepState.CANCELLED, StepState.UNKNOWN]


async def test_a_person_who_acts_on_a_run_does_not_deadlock_with_its_steps(bench):
    """Both lock the run and the incident, in different order; a step that lost would be asked about for nothing."""
    bench.plugin("probe")
    run_id = await bench.start("steps:\n" + "  - probe: {}\n" * 15)
    task = bench.under_way(run_id)
    for _ in range(15):
        async with bench.engine.transaction() as tx:
            await lifecycle.find(tx.session, bench.incident.id, lock=True)
            await asyncio.sleep(0.002)
            await runs.find(tx.session, run_id, lock=True)
    await asyncio.wait_for(task, 10)

    assert await bench.states(run_id) == ["succeeded"] * 15
