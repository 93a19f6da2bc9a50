"""When the engine has forgotten what it did, nothing is done a second time: our own rows remember."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.engine import Work
from bot.incidents.model import Incident, Page, Request, TimelineEvent
from bot.kit.clock import utc_now
from bot.postmortems.model import Postmortem
from bot.reactions import leaving_out
from bot.runs.model import Run, RunStep
from tests.scenarios.conftest import Stage, alertmanager

LOOK = """version: 1
id: look
name: Look around
owner: team
offer: [{match: {services: [checkout]}}]
steps:
  - name: Write it down
    note: {text: Looked around}
"""


@pytest.fixture
def config_folder(config_folder: Path) -> Path:
    (config_folder / "runbooks").mkdir()
    (config_folder / "runbooks/look.yaml").write_text(LOOK)
    return config_folder


async def promised(stage: Stage) -> set[str]:
    table = "workflow_status" if stage.bot.db.sqlite else "dbos.workflow_status"
    async with stage.bot.db.read() as session:
        return set(await session.scalars(sa.text(f"select workflow_uuid from {table}")))


async def record(stage: Stage) -> dict[str, list[dict]]:
    """Every row of what is the record, and every message that people see."""
    found = {}
    async with stage.bot.db.read() as session:
        for model in (Incident, TimelineEvent, Run, RunStep, Page, Postmortem, Request):
            rows = await session.scalars(sa.select(model).order_by(model.id))
            found[model.__name__] = [row.model_dump(exclude={"revision"}) for row in rows]
    for channel in stage.sandbox.workspace.channels.values():
        found[channel.name] = [{"text": message.rendered} for message in channel.messages]
    return found


async def played(stage: Stage) -> None:
    """An incident from its alert to its draft, with a run, a note, and a suggestion that was accepted."""
    sandbox = stage.sandbox
    await stage.alert(alertmanager())
    channel = await sandbox.expect_channel("inc-1-*")
    card = await sandbox.expect_message(channel.id, "INC-1 · 5xx")
    alice = sandbox.actor("alice")
    await alice.join(channel)
    await alice.click(card, "Take command")
    await sandbox.expect_message(channel.id, "is commander")
    await alice.click(card, "Look around")
    form = await alice.modal(contains="Look around", until=lambda view: view.body.get("submit"))
    await alice.fill(form)
    run = await sandbox.expect_message(channel.id, "Run 1: Look around", within=10)
    await sandbox.wait(lambda: "succeeded" in run.rendered, 10, "the end of the run")
    await alice.slash("/inc note It was the deploy", channel)
    await alice.slash("/inc resolve Rolled back", channel)
    await sandbox.expect_message(channel.id, "Post-mortem draft of INC-1")
    await stage.alert(alertmanager("Slow", severity="warning", service="search", fingerprint="f2"))
    question = await sandbox.expect_message("incidents", "INC-2")
    await alice.click(question, "Open incident")
    await sandbox.expect_channel("inc-2-*")
    await stage.quiet()


async def test_what_was_done_is_not_done_again_after_its_history_is_gone(stage: Stage):
    await played(stage)
    done, before = await promised(stage), await record(stage)
    calls = len(stage.sandbox.workspace.calls)

    gone = await stage.bot.engine.prune(utc_now() + timedelta(hours=1))
    forgotten = await promised(stage)

    # Worse than anything that happens: whatever followed from anything is promised once more, under its old id.
    again: list[Work] = []
    async with stage.bot.db.read() as session:
        for event in await session.scalars(sa.select(TimelineEvent).order_by(TimelineEvent.recorded_at)):
            # All but this: what the pager said before there was a channel was not told there, and would be now.
            # It is promised where the row of the page is added, which happens once.
            # This pager cannot be told anything, and there is no tracker.
            follows = leaving_out("sync_pages", "press", "tickets", "followups")(event)
            again += [w for w in follows if not (w.workflow == "notify" and event.kind.startswith("page."))]
    async with stage.bot.engine.transaction() as tx:
        tx.enqueue(*again)
    # And what comes in from outside comes in once more.
    await stage.alert(alertmanager())
    await stage.alert(alertmanager("Slow", severity="warning", service="search", fingerprint="f2"))
    inbox = stage.bot._joined.inbox
    async with stage.bot.db.read() as session:
        requests = list(await session.scalars(sa.select(Request)))
    for request in requests:
        await inbox._insert(request, time.monotonic() + 60)
    await stage.quiet()

    assert gone == len(done)
    workflows = {"open", "page", "refresh", "notify", "run", "show_run", "show_runs", "draft", "automate", "aftermath"}
    assert {work.workflow for work in again} == workflows
    assert forgotten == set()
    # Of drawings that wait, one is promised for all.
    once = {work.id for work in again if not work.merges}
    assert once <= done
    # What was begun before there was a channel is drawn once more as well: `show_runs` promises that itself.
    there = {id_ for id_ in await promised(stage) if not id_.startswith("show_run:late:")}
    assert once <= there <= {work.id for work in again}
    after = await record(stage)
    for name, rows in before.items():
        assert after[name] == rows
    assert len(requests) >= 5
    writing = {"chat.postMessage", "chat.update", "chat.postEphemeral", "conversations.create", "pins.add"}
    assert [call.method for call in list(stage.sandbox.workspace.calls)[calls:] if call.method in writing] == []


async def test_the_clock_prunes_once_an_hour_whoever_asks(stage: Stage):
    bot = stage.bot
    await played(stage)
    before = await record(stage)
    table = "workflow_status" if bot.db.sqlite else "dbos.workflow_status"
    async with bot.db.write() as session:
        week = 8 * 86_400_000
        old = f"update {table} set created_at = created_at - {week}, completed_at = completed_at - {week}"
        await session.execute(sa.text(old))
    (job,) = [job for job in bot._joined.clockwork.get_jobs() if job.id == "history.prune"]
    now = utc_now()
    bot.clock = lambda: now

    await job.func()
    await job.func()
    await stage.quiet()

    assert await promised(stage) == {f"prune:{now:%Y%m%d%H}"}
    assert await record(stage) == before
