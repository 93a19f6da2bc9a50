"""Governed runs as people live them: asked, approved, refused, cancelled, taken back, whatever dies in between."""

import asyncio
import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.runs.model import Approval, Run, RunFile, RunState, Vote
from bot.sandbox.state import Channel, Message
from tests.conftest import KINDS
from tests.scenarios.conftest import Stage, alertmanager
from tests.torture.players import alert
from tests.torture.world import world

# Every step writes its word into one file, so that a test can read what was really done, and in which order.
SAY = "exec: {argv: [python3, -c, 'import sys; open(sys.argv[1], \"a\").write(sys.argv[2] + chr(10))', LOG, %s]}"
CLEAN = f"""version: 1
id: clean
name: Free disk space
description: Deletes old files after a second person has said yes.
owner: team-platform
risk: high
access: {{run: ['@responders'], channels: any}}
params:
  host: {{source: alert.labels.instance}}
steps:
  - id: list
    name: List what would go
    exec: {{argv: [python3, -c, 'for n in range(300): print("file", n)'], parse: lines}}
    effect: read
    attach: true
  - id: drain
    name: Drain {{{{ params.host }}}}
    {SAY % "drain"}
    rollback:
      - name: Put {{{{ params.host }}}} back
        {SAY % "undrain"}
  - id: ask
    name: Ask before deleting
    approval:
      prompt: |
        Delete *{{{{ steps.list.lines | length }}}} files* on `{{{{ params.host }}}}`?
      expires: 20m
  - id: delete
    name: Delete on {{{{ params.host }}}}
    when: steps.ask.approved
    effect: destructive
    {SAY % "'delete {{ params.host }}'"}
  - note: {{kind: action, text: 'Deleted the old files of {{{{ params.host }}}}.'}}
"""
PAIR = f"""version: 1
id: pair
name: Fail over
owner: team-data
steps:
  - id: ask
    approval:
      prompt: 'Fail over to the replica?'
      count: 2
      require_reason: true
      inputs:
        minutes: {{type: int, min: 1, max: 60, label: Minutes of downtime}}
  - name: Fail over
    {SAY % "'failover {{ steps.ask.inputs.minutes }}'"}
"""
QUICK = f"""version: 1
id: quick
name: Ask in a hurry
owner: team
steps:
  - name: Drain
    {SAY % "drain"}
    rollback: [{{name: Undrain, {SAY % "undrain"}}}]
  - approval: {{prompt: 'Quickly?', expires: 1s}}
  - {SAY % "never"}
"""
RESTART = f"""version: 1
id: restart
name: Restart checkout
owner: team-platform
steps:
  - name: Drain
    {SAY % "drain"}
    rollback: [{{name: Back into rotation, {SAY % "undrain"}}}]
  - name: Restart
    exec: {{argv: [python3, -c, 'import sys; open(sys.argv[1], "a").write("restart" + chr(10)); sys.exit(1)', LOG]}}
    rollback: [{{name: Back to the release before, {SAY % "previous"}}}]
  - {SAY % "never"}
on_failure:
  - name: Say so
    {SAY % "told"}
"""
SLOW = f"""version: 1
id: slow
name: Change slowly
owner: team
params:
  seconds: {{type: int, default: 60}}
steps:
  - name: Drain
    {SAY % "drain"}
    rollback: [{{name: Back into rotation, {SAY % "undrain"}}}]
  - id: change
    name: Change it
    exec:
      argv:
        - python3
        - -c
        - import sys, time; open(sys.argv[1], "a").write("change" + chr(10)); time.sleep(int(sys.argv[2]))
        - LOG
        - '{{{{ params.seconds }}}}'
    timeout: 2m
    rollback: [{{name: Change it back, {SAY % "revert"}}}]
"""
LIVE = f"""version: 1
id: live
name: Restart one host
owner: team
params:
  host:
    type: choice
    pattern: 'web-[0-9]+'
    choices_from:
      exec: {{argv: [cat, HOSTS], parse: lines}}
      effect: read
      value: lines
  tier: {{type: choice, choices: [gold, silver], default: gold}}
  why: {{required: false, pattern: '.+'}}
steps:
  - name: Restart {{{{ params.host }}}}
    {SAY % "'{{ params.host }} {{ params.tier }}'"}
"""
BOOKS = {"clean": CLEAN, "pair": PAIR, "quick": QUICK, "restart": RESTART, "slow": SLOW, "live": LIVE}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "said"


@pytest.fixture
def config_folder(config_folder: Path, tmp_path: Path, log: Path) -> Path:
    write(config_folder, log, tmp_path / "hosts")
    return config_folder


def write(folder: Path, log: Path, hosts: Path) -> None:
    (folder / "runbooks").mkdir(exist_ok=True)
    for name, text in BOOKS.items():
        (folder / "runbooks" / f"{name}.yaml").write_text(text.replace("LOG", str(log)).replace("HOSTS", str(hosts)))


def said(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


async def opened(stage: Stage) -> tuple[Channel, Message]:
    """A SEV1 with its channel and card; alice commands it, bob and carol are responders."""
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    card = await stage.sandbox.expect_message(channel.id, "INC-1 · 5xx")
    for name in ("alice", "bob", "carol"):
        person = stage.sandbox.actor(name)
        await person.join(channel)
        await person.slash("/inc join", channel)
        await person.expect("You are a responder", channel)
    await stage.sandbox.actor("alice").click(card, "Take command")
    await stage.sandbox.expect_message(channel.id, "is commander")
    return channel, card


async def start(stage: Stage, channel: Channel, line: str, who: str = "alice") -> Message:
    """A run by command; its message."""
    before = stage.sandbox.workspace.next_ts()
    reply = await stage.sandbox.actor(who).slash(f"/inc runbook run {line}", channel)
    assert reply.ok
    return await stage.sandbox.expect_message(channel.id, "Started by", within=10, after=before)


async def question(stage: Stage, channel: Channel) -> Message:
    return await stage.sandbox.expect_message(channel.id, "asks before it goes on", within=10)


async def ends(stage: Stage, message: Message, word: str) -> None:
    await stage.sandbox.wait(lambda: word in message.rendered, 15, f"a run that {word}: {message.rendered}")


async def rows(stage: Stage, model) -> list:
    async with stage.bot.db.read() as session:
        return list(await session.scalars(sa.select(model)))


async def test_another_person_approves_and_nobody_else_counts(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    alice, bob, guest = (sandbox.actor(name) for name in ("alice", "bob", "guest"))
    await guest.join(channel)
    run = await start(stage, channel, "clean host=web-1")
    asked = await question(stage, channel)
    await ends(stage, run, "waits for approval")

    assert "Delete 300 files on web-1?" in asked.rendered.replace("*", "").replace("`", "")
    assert "Delete on web-1: would" in asked.rendered
    assert "May answer: @responders" in asked.rendered
    assert f"Asked for by {alice.mention}" in str(asked.blocks)
    assert "Until" in asked.rendered
    assert all(
        "confirm" in button for block in asked.blocks if block["type"] == "actions" for button in block["elements"]
    )
    # A file that a step attached hangs below the run, and nothing of it is kept here any more.
    shared = await sandbox.wait(lambda: [m for m in channel.messages if m.files], 10, "the list of files")
    assert [(m.thread_ts, m.files[0]["name"]) for m in shared] == [(run.ts, "run-1-list.txt")]
    await stage.quiet()
    assert [(file.content, file.shared_at is not None) for file in await rows(stage, RunFile)] == [(None, True)]

    await alice.click(asked, "Approve")
    await alice.expect("You asked for this run, so somebody else must say yes.", channel)
    await guest.click(asked, "Approve")
    await guest.expect("Guests cannot act", channel)
    outsider = sandbox.actor("carol")
    async with stage.bot.engine.transaction() as tx:
        await tx.session.execute(
            sa.text("update role set ended_at = assigned_at where person = :who").bindparams(who=outsider.id)
        )
    await outsider.click(asked, "Reject")
    await outsider.expect("may be approved by responders of this incident only", channel)
    assert await rows(stage, Vote) == []
    assert said(log) == ["drain"]

    live = asked.blocks
    sandbox.faults.duplicate()
    await asyncio.gather(bob.click(asked, "Approve"), bob.click(asked, "Approve"))
    await ends(stage, run, "succeeded")
    await bob.expect("You said yes. Run 1 goes on.", channel)
    await stage.quiet()
    assert said(log) == ["drain", "delete web-1"]
    assert len(await rows(stage, Vote)) == 1
    asked.blocks, answered = live, asked.blocks  # as somebody sees it whose Slack is slow
    await bob.click(asked, "Reject")
    await bob.expect("This question is closed: approved by", channel)
    asked.blocks = answered
    assert "was approved" in asked.rendered
    assert "Approve" not in str(asked.blocks)
    kinds = await stage.kinds()
    assert [kinds.count(kind) for kind in ("approval.asked", "approval.closed", "run.ended", "note.added")] == [
        1,
        1,
        1,
        1,
    ]
    # What was refused was told to the one who pressed, and to nobody else.
    assert not [m for m in channel.messages if "somebody else must say yes" in m.rendered]
    assert not [m for m in bob.ephemerals(channel) if "somebody else must say yes" in m.rendered]


async def test_two_must_say_yes_with_a_reason_and_a_value(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    bob, carol = sandbox.actor("bob"), sandbox.actor("carol")
    run = await start(stage, channel, "pair")
    asked = await question(stage, channel)
    assert "0 of 2 said yes" in asked.rendered
    assert "2 different people" in asked.rendered

    await bob.click(asked, "Approve…")
    form = await bob.modal(until=lambda view: view.body.get("submit"))
    assert "Fail over to the replica?" in form.rendered
    blank = await bob.submit(form, {"param.minutes": "5", "reason": "   "})
    assert blank.errors == {"reason": "Say why; this question wants a reason."}
    done = await bob.submit(form, {"param.minutes": "5", "reason": "the primary is dying"})
    assert done.closed
    await sandbox.wait(lambda: "1 of 2 said yes" in asked.rendered, 10, "the first yes")
    await bob.expect("You said yes; 1 more must.", channel)
    await bob.click(asked, "Approve…")
    again = await bob.modal(until=lambda view: view.body.get("submit"))
    await bob.submit(again, {"param.minutes": "6", "reason": "again"})
    await bob.expect("You said yes already.", channel)
    assert said(log) == []

    await carol.click(asked, "Approve…")
    late = await carol.modal(until=lambda view: view.body.get("submit"))
    await carol.submit(late, {"param.minutes": "7", "reason": "agreed"})
    await ends(stage, run, "succeeded")
    assert said(log) == ["failover 7"]
    await stage.quiet()
    assert "the primary is dying" in asked.rendered
    assert "agreed" in asked.rendered


async def test_one_no_ends_it_and_what_was_done_is_taken_back(stage: Stage, log: Path):
    channel, _ = await opened(stage)
    bob, carol = stage.sandbox.actor("bob"), stage.sandbox.actor("carol")
    run = await start(stage, channel, "clean host=web-1")
    asked = await question(stage, channel)
    await asyncio.gather(bob.click(asked, "Reject"), carol.click(asked, "Reject"))
    await ends(stage, run, "was rejected")
    await stage.quiet()

    assert said(log) == ["drain", "undrain"]
    assert len(await rows(stage, Vote)) == 1
    assert "was rejected" in asked.rendered
    assert "*Rollback*" in str(run.blocks)
    told = [m for who in (bob, carol) for m in who.ephemerals(channel) if "This question is closed" in m.rendered]
    assert len(told) == 1, "the second one is told that it came too late"


async def test_no_answer_in_time_is_a_no_and_a_later_click_changes_nothing(stage: Stage, log: Path):
    channel, _ = await opened(stage)
    run = await start(stage, channel, "quick")
    asked = await question(stage, channel)
    shown = Message(asked.channel, asked.ts, asked.user, asked.text, list(asked.blocks))
    await ends(stage, run, "was not approved in time")
    await stage.quiet()

    assert said(log) == ["drain", "undrain"]
    assert "nobody answered within 1 s, which is a no" in asked.rendered
    bob = stage.sandbox.actor("bob")
    asked.blocks = shown.blocks  # as somebody sees it whose Slack is slow
    await bob.click(asked, "Approve")
    await bob.expect("This question is closed: nobody answered", channel)
    assert [one.state for one in await rows(stage, Approval)] == ["expired"]


async def test_a_runbook_that_was_changed_after_the_question_is_not_approved(
    stage: Stage, config_folder: Path, log: Path
):
    channel, _ = await opened(stage)
    run = await start(stage, channel, "clean host=web-1")
    asked = await question(stage, channel)
    file = config_folder / "runbooks/clean.yaml"
    file.write_text(file.read_text() + "# a word more\n")
    await stage.bot.reread()
    bob = stage.sandbox.actor("bob")
    await bob.click(asked, "Approve")
    await bob.expect("Your answer does not count: the runbook was changed after the question was asked", channel)
    await ends(stage, run, "was not approved in time")
    await stage.quiet()

    assert said(log) == ["drain", "undrain"]
    assert "is not asked any more" in asked.rendered


async def test_a_cancelled_run_offers_to_take_back_what_it_did(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    run = await start(stage, channel, "slow seconds=60")
    await sandbox.wait(lambda: said(log) == ["drain", "change"], 10, "the change under way")
    await bob.click(run, "Cancel run")
    await ends(stage, run, "was cancelled")
    await stage.quiet()
    assert said(log) == ["drain", "change"]

    await asyncio.gather(alice.click(run, "Roll back"), bob.click(run, "Roll back"))
    await ends(stage, run, "was rolled back")
    await stage.quiet()
    assert said(log) == ["drain", "change", "revert", "undrain"]
    assert "Roll back" not in str([block for block in run.blocks if block["type"] == "actions"])
    told = [m for who in (alice, bob) for m in who.ephemerals(channel) if "nothing of run 1 to roll back" in m.rendered]
    assert len(told) == 1


async def test_a_run_that_fails_is_taken_back_in_reverse_and_says_so(stage: Stage, log: Path):
    channel, _ = await opened(stage)
    run = await start(stage, channel, "restart")
    await ends(stage, run, "failed and was rolled back")
    await stage.quiet()

    assert said(log) == ["drain", "restart", "previous", "undrain", "told"]
    text = run.rendered
    places = [
        text.index(word)
        for word in (
            "Restart",
            "Rollback",
            "Back to the release before",
            "Back into rotation",
            "After the failure",
            "Say so",
        )
    ]
    assert places == sorted(places)
    assert "exit code 1" in text
    assert [one.state for one in await rows(stage, Run)] == [RunState.ROLLED_BACK]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_bot_killed_in_a_write_asks_and_rolls_back_on_request(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, log: Path
):
    server = request.getfixturevalue("postgres_server") if kind == "postgres" else None
    way = "http" if kind == "postgres" else "socket"
    async with world(
        tmp_path / "world", tmp_path / "points", server=server, replicas=1, way=way, die=False, deep=0
    ) as made:
        write(tmp_path / "world/config", log, tmp_path / "hosts")
        (bot,) = made.replicas

        async def kill() -> None:
            dead = bot.process
            bot.kill()
            await made.sandbox.wait(lambda: bot.process is not dead, 20, "the next process")
            await made.ready()

        await kill()  # it reads the runbooks when it starts
        await made.post(alert("checkout", 0))
        channel = await made.sandbox.expect_channel("inc-*-checkout-*", within=20)
        await made.sandbox.wait(lambda: channel.pins, 20, "pinned card")
        alice = made.sandbox.actor("alice")
        await alice.join(channel)
        await alice.slash("/inc join", channel)
        await alice.expect("You are a responder", channel)
        await alice.slash("/inc runbook run slow seconds=61", channel)
        await made.sandbox.wait(lambda: said(log) == ["drain", "change"], 15, "the change under way")

        await kill()

        run = await made.sandbox.expect_message(channel.id, "Nobody knows whether it ended", within=30)
        assert [b["text"]["text"] for block in run.blocks if block["type"] == "actions" for b in block["elements"]] == [
            "Run again", "Treat as done", "Roll back",
        ]  # fmt: skip
        await alice.click(run, "Roll back")
        await made.sandbox.wait(lambda: "failed and was rolled back" in run.rendered, 20, "the end")
        assert said(log) == ["drain", "change", "revert", "undrain"]
        assert sum("Change slowly" in m.rendered and "Run 1" in m.rendered for m in channel.messages) == 1


async def test_choices_are_looked_up_when_the_form_opens_and_remembered_until_it_is_sent(
    stage: Stage, tmp_path: Path, log: Path
):
    sandbox = stage.sandbox
    _, card = await opened(stage)
    alice = sandbox.actor("alice")
    hosts = tmp_path / "hosts"
    hosts.write_text("web-1\nweb-2\nnot-one\n")

    async def form():
        await alice.click(card, "More…")
        shelf = await alice.modal(title="Runbooks", until=lambda view: "Restart one host" in view.rendered)
        await alice.click(shelf, "runbook.start:live")
        return await alice.modal(contains="Restart one host", until=lambda view: view.body.get("submit"))

    first = await form()
    assert "What it changes" in first.rendered
    assert "Restart …" in first.rendered
    hosts.write_text("web-3\n")
    done = await alice.submit(first, {"param.host": "web-2"})
    assert done.closed
    await sandbox.wait(lambda: said(log) == ["web-2 gold"], 10, "the run")
    assert alice.workspace.top(alice.id) is None, "both forms are closed"

    hosts.write_text("\n".join(f"web-{n}" for n in range(300)))
    many = await form()
    offered = await alice.suggest(many, "param.host", "web-29")
    assert [one["value"] for one in offered] == ["web-29", *(f"web-29{n}" for n in range(10))]
    assert len(await alice.suggest(many, "param.host", "")) == 100
    await alice.submit(many, {"param.host": offered[1]})
    await sandbox.wait(lambda: said(log)[-1] == "web-290 gold", 10, "the run")

    hosts.unlink()
    blind = await form()
    assert "The choices could not be had" in blind.rendered
    wrong = await alice.submit(blind, {"param.host": "--all"})
    assert "does not fit" in wrong.errors["param.host"]
    await alice.submit(blind, {"param.host": "web-77", "param.tier": "silver"})
    await sandbox.wait(lambda: said(log)[-1] == "web-77 silver", 10, "the run")


async def test_a_dry_run_from_the_form_changes_nothing_and_leaves_it_open(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    alice = sandbox.actor("alice")
    await alice.slash("/inc runbook clean", channel)
    form = await alice.modal(contains="Free disk space", until=lambda view: view.body.get("submit"))
    assert "Risk: high" in form.rendered
    assert "asks people first" in form.rendered
    assert "destructive" in form.rendered

    alice.enter(form, {"param.host": "a b"})
    await alice.click(form, "Dry run")
    await sandbox.wait(lambda: "does not fit" in form.rendered, 5, "the word about the field")
    assert "Host" in form.rendered
    alice.enter(form, {"param.host": "web-9"})
    await alice.click(form, "Dry run")
    await sandbox.wait(lambda: "The dry run begins" in form.rendered, 5, "the word that it begins")
    dry = await sandbox.expect_message(channel.id, "looked, and changed nothing", within=10)
    assert "as a dry run" in dry.rendered
    assert "would ask" in dry.rendered
    assert "web-9" in dry.rendered
    assert said(log) == []
    assert await rows(stage, Approval) == []

    assert (await alice.submit(form)).closed
    asked = await question(stage, channel)
    assert "web-9" in asked.rendered
    # PostgreSQL gives rows in the order in which they were last written, not made.
    begun = sorted(await rows(stage, Run), key=lambda run: run.number)
    assert [run.dry_run for run in begun] == [True, False]


async def test_the_commander_of_a_sev1_can_break_the_glass_and_everybody_sees_it(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    await bob.slash('/inc runbook run clean host=web-1 --break-glass "I am in a hurry"', channel)
    await bob.expect("Only the commander of a SEV1 may go without approvals.", channel)
    await alice.slash("/inc runbook run clean host=web-1 --break-glass", channel)
    await alice.expect("Say why approvals cannot be waited for", channel)
    run = await start(stage, channel, "clean host=web-1 —break-glass “nobody else is awake”")
    await ends(stage, run, "succeeded")
    await stage.quiet()

    assert said(log) == ["drain", "delete web-1"]
    told = await sandbox.expect_message(channel.id, "broke the glass: nobody else is awake")
    assert alice.id in told.text
    assert "without approvals: nobody else is awake" in run.rendered
    assert await rows(stage, Approval) == []


async def test_runs_are_started_listed_and_caught_up_with_by_command(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")

    async def tell(who, line: str, expected: str, place="#general") -> str:
        before = sandbox.workspace.next_ts()
        assert (await who.slash(line, place)).ok
        return (await who.expect(expected, place, after=before)).rendered

    assert "Free disk space" in await tell(alice, "/inc runbook", "Runbooks for INC-1", channel)
    await tell(alice, "/inc runbook INC-1", "Runbooks for INC-1")
    await tell(alice, "/inc runs", "This is not an incident channel")
    await tell(alice, "/inc runs", "No runbook was run for INC-1 yet", channel)
    await tell(alice, "/inc runbook run INC-1 restart", "is run from the channel of INC-1 alone")
    await tell(alice, "/inc runbook run clean", "This is not an incident channel")
    await tell(alice, "/inc runbook run INC-1 claen host=web-1", "Did you mean clean?")
    await tell(alice, "/inc runbook run INC-1 clean hots=web-1", "did you mean host?")
    await tell(alice, "/inc runbook run INC-1 clean web-1", "What is `web-1`?")
    await tell(alice, "/inc runbook run --dry-run", "Which runbook?", channel)
    await tell(alice, "/inc runbook run INC-1 clean", "Run 1 of Free disk space starts now: host=web-1.example.com")
    asked = await question(stage, channel)
    await stage.quiet()
    await tell(bob, "/inc run run restart", "Run 2 of Restart checkout starts now", channel)
    failed = await sandbox.expect_message(channel.id, "failed and was rolled back", within=10)
    await stage.quiet()

    listed = await tell(bob, "/inc runs", "Runs of INC-1", channel)
    assert "Run 1 Free disk space waits for approval" in listed.replace("*", "")
    assert "Run 2 Restart checkout failed and was rolled back" in listed.replace("*", "")
    shown = max(bob.ephemerals(channel), key=lambda m: m.ts)
    assert failed.ts.replace(".", "") in str(shown.blocks)
    caught = await tell(bob, "/inc catch-up INC-1", "Waits for an answer")
    assert "Delete" in caught
    assert "waits for approval" in caught
    assert "1 failed and was rolled back" in caught
    assert "is commander" in caught
    newest = max(bob.ephemerals("#general"), key=lambda m: m.ts)
    assert asked.ts.replace(".", "") in str(newest.blocks)
    assert "/inc catch-up" in (await bob.slash("/inc help", channel)).text


async def test_what_was_begun_before_there_was_a_channel_appears_in_it(stage: Stage, log: Path):
    sandbox = stage.sandbox
    alice, bob = sandbox.actor("alice"), sandbox.actor("bob")
    sandbox.faults.add("conversations.create", "500", times=4)
    await alice.slash("/inc new sev1 Disk is full")
    await alice.expect("INC-1 declared")
    await bob.slash("/inc join INC-1")
    await bob.expect("You are a responder")
    await alice.slash("/inc runbook run INC-1 clean host=web-1")
    await alice.expect("Run 1 of Free disk space starts now")

    channel = await sandbox.expect_channel("inc-1-*", within=30)
    asked = await question(stage, channel)
    run = await sandbox.expect_message(channel.id, "waits for approval")
    await sandbox.wait(lambda: [m for m in channel.messages if m.files], 10, "the list of files")
    await bob.join(channel)
    await bob.click(asked, "Approve")
    await ends(stage, run, "succeeded")
    await stage.quiet()
    assert said(log) == ["drain", "delete web-1"]
    assert sum("Run 1: Free disk space" in m.rendered for m in channel.messages) == 2


async def test_a_file_that_slack_refuses_fails_no_run(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    sandbox.faults.add("files.getUploadURLExternal", "error", error="file_uploads_disabled")
    run = await start(stage, channel, "clean host=web-1")
    await sandbox.expect_message(channel.id, "list.txt could not be shared: Slack refused", within=10)
    asked = await question(stage, channel)
    await sandbox.actor("bob").click(asked, "Approve")
    await ends(stage, run, "succeeded")


async def test_the_draft_tells_actions_findings_outcomes_and_approvals(stage: Stage, log: Path):
    sandbox = stage.sandbox
    channel, _ = await opened(stage)
    run = await start(stage, channel, "clean host=web-1")
    await sandbox.actor("bob").click(await question(stage, channel), "Approve")
    await ends(stage, run, "succeeded")
    failed = await start(stage, channel, "restart")
    await ends(stage, failed, "failed and was rolled back")
    await sandbox.actor("alice").slash("/inc postmortem", channel)
    shared = await sandbox.wait(
        lambda: [f for m in channel.messages for f in m.files if "postmortem" in f["name"]], 15, "the draft"
    )
    text = sandbox.workspace.files[shared[0]["id"]].data.decode()

    assert "Deleted the old files of web-1." in text
    assert "Free disk space" in text
    assert "rolled back" in text
    assert "Approved" in text
    assert not re.search(r"\bU0[A-Z0-9]{3,}", text), "a person's id"
