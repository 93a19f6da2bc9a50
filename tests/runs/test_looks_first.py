"""Steps that look whether they were done before they do anything: killed anywhere, they go on unasked, and once."""

import asyncio
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.catalog.targets import Connection, Reach, Targets
from bot.incidents.chat import Remark
from bot.incidents.model import Incident
from bot.kit.clock import utc_now
from bot.kit.errors import TemporaryError
from bot.runs.model import RunState
from bot.runs.pages import IncidentPages
from bot.runs.room import IncidentRoom
from tests.fakes.chat import FakeChat
from tests.fakes.kestra import Flow, KestraServer
from tests.fakes.pager import ActingPager
from tests.runs.test_interpreter_crash import DyingEngine, Killed, forever

KESTRA = "steps:\n  - kestra: {namespace: ops, flow: restart}\n    timeout: 6s\n"


@pytest.fixture
def world(bench):
    """A chat, a pager and what else a step may use; each interpreter of the bench gets them."""
    made = SimpleNamespace(chat=FakeChat(), pager=ActingPager(), reach=Reach())
    plain = bench.interpreter

    def interpreter():
        found = plain()
        found.rooms = lambda run, incident: IncidentRoom(
            bench.engine, bench.react, made.chat, utc_now, incident.id, run.id, look_seconds=0.01
        )
        found.pages = lambda run, incident: IncidentPages(
            bench.engine, bench.react, made.pager, "fake", utc_now, incident.id
        )
        found._attempts.reach = made.reach
        return found

    bench.interpreter = interpreter
    return made


@pytest.fixture
async def kestra(world):
    server = await KestraServer().start()
    server.flows["ops/restart"] = Flow(states=("CREATED", *["RUNNING"] * 3, "SUCCESS"))
    connection = Connection.model_validate(
        {
            "kind": "kestra", "url": server.url, "private": True, "username": "bot@example.com",
            "password": {"env": "KESTRA_PASSWORD"},
        }
    )  # fmt: skip
    known = Targets(connections={"kestra": connection})
    world.reach = Reach(known, environment={"KESTRA_PASSWORD": "kestra-password"})
    yield server
    await server.stop()


def looking(plugin, does: bool = True):
    plugin.looks_first = lambda params: does
    return plugin


async def crashed(bench, plugin, book: str = "steps:\n  - change: {}\n") -> str:
    run_id = await bench.start(book)
    task = bench.under_way(run_id)
    await asyncio.wait_for(plugin.started.wait(), 5)
    await bench.crash(task)
    return run_id


async def test_an_interrupted_write_that_looks_first_goes_on_as_the_same_attempt_and_knows_it(bench):
    write = looking(bench.plugin("change", forever, effect="write"))
    run_id = await crashed(bench, write)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert [(one.attempt, one.again) for one in write.contexts] == [(1, False), (1, True)]
    assert await bench.states(run_id) == ["succeeded"]
    assert await bench.events("run.step_unknown") == []


async def test_one_that_does_not_look_with_these_parameters_asks(bench):
    write = looking(bench.plugin("change", forever, effect="write"), does=False)
    run_id = await crashed(bench, write)

    assert (await bench.carry_out(run_id)).state == RunState.ASKING
    assert write.calls == 1


async def test_of_a_run_that_was_cancelled_before_the_crash_nothing_is_made_again(bench):
    write = looking(bench.plugin("change", forever, effect="write"))
    run_id = await crashed(bench, write)
    await bench.cancel(run_id)

    assert (await bench.carry_out(run_id)).state == RunState.CANCELLED
    assert write.calls == 1
    assert await bench.states(run_id) == ["unknown"]


async def test_it_is_taken_back_like_any_other_when_the_run_fails_later(bench):
    write = looking(bench.plugin("change", forever, effect="write"))
    bench.plugin("look", TemporaryError("away"), TemporaryError("away"), TemporaryError("away"))
    undo = bench.plugin("undo", effect="write")
    book = "steps:\n  - change: {}\n    rollback: [{undo: {}}]\n  - look: {}\n"
    run_id = await crashed(bench, write, book)

    assert (await bench.carry_out(run_id)).state == RunState.ROLLED_BACK
    assert (write.calls, undo.calls) == (2, 1)


async def killed_at_each_commit(bench, database, book: str, most: int = 12):
    """Runs of *book*, each killed at another commit and carried out again; all must end well without a question."""
    for dies_at in range(1, most):
        bench.engine = engine = DyingEngine(database)
        run_id = await bench.start(book)
        engine.commits, engine.dies_at = 0, dies_at
        try:
            await bench.interpreter().run(run_id, 1)
        except Killed:
            await bench.carry_out(run_id)
        yield await bench.run(run_id), dies_at
        if engine.dies_at != -1:
            return  # it has fewer commits
    raise AssertionError("it has more commits than were tried")


async def test_a_kill_at_any_commit_says_it_once(bench, database, world):
    async with bench.engine.transaction() as tx:
        home = sa.update(Incident).where(col(Incident.id) == bench.incident.id)
        await tx.session.execute(home.values(channel="C1", channel_name="inc-1"))
    count = 0
    async for run, dies_at in killed_at_each_commit(bench, database, "steps:\n  - slack: {text: Restarted}\n"):
        count += 1
        assert run.state == RunState.SUCCEEDED, dies_at
        assert [posted.message for posted in world.chat.posted("C1")] == [Remark("Restarted")] * count, dies_at
    assert count > 5


async def test_a_kill_at_any_commit_pages_under_one_key(bench, database, world):
    book = "steps:\n  - pagerduty: {action: note, message: Restarted}\n  - pagerduty: {action: page}\n"
    async for run, dies_at in killed_at_each_commit(bench, database, book):
        assert run.state == RunState.SUCCEEDED, dies_at
        asked = [action for action in world.pager.asked if run.id in action.key]
        assert {(one.kind, one.key) for one in asked} == {
            ("note", f"run:{run.id}:steps.0"),
            ("page", f"run:{run.id}:steps.1"),
        }
        assert len(await bench.events("page.sent")) == dies_at


async def test_a_change_event_has_no_key_so_somebody_is_asked(bench, database, world):
    bench.engine = engine = DyingEngine(database)
    run_id = await bench.start("steps:\n  - pagerduty: {action: change_event, message: Deployed}\n")
    engine.commits, engine.dies_at = 0, 2
    with pytest.raises(Killed):
        await bench.interpreter().run(run_id, 1)

    assert (await bench.carry_out(run_id)).state == RunState.ASKING
    assert len(world.pager.asked) == 1


@pytest.mark.parametrize("lag", [0, 2], ids=["shown at once", "shown late"])
async def test_a_flow_that_was_started_before_the_kill_is_followed_and_not_started_again(bench, kestra, lag):
    kestra.lag = lag
    run_id = await bench.start(KESTRA)
    task = bench.under_way(run_id)
    await asyncio.wait_for(kestra.started.wait(), 5)
    await bench.crash(task)
    kestra.fault("GET", "/executions/search", status=503)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED
    assert [execution.state for execution in kestra.executions] == ["SUCCESS"]


async def test_a_kill_before_the_flow_was_started_starts_it_once(bench, kestra):
    kestra.fault("GET", "/executions/search", seconds=30)
    run_id = await bench.start(KESTRA)
    task = bench.under_way(run_id)
    await bench.until(lambda: kestra.seen)
    await bench.crash(task)

    assert (await bench.carry_out(run_id)).state == RunState.SUCCEEDED
    assert len(kestra.executions) == 1


async def test_a_resume_that_was_interrupted_might_resume_a_later_pause_so_somebody_is_asked(bench, kestra):
    kestra.fault("GET", "/executions/exec1", seconds=30)
    run_id = await bench.start("steps:\n  - kestra: {action: resume, execution: exec1}\n")
    task = bench.under_way(run_id)
    await bench.until(lambda: kestra.seen)
    await bench.crash(task)

    assert (await bench.carry_out(run_id)).state == RunState.ASKING
