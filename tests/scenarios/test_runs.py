"""Runbooks from their button to their end, and over the death of the bot in the middle."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.runs.model import Run, RunState
from tests.runs.conftest import processes
from tests.scenarios.conftest import Stage, alertmanager

HOSTILE = "<!channel> & *bold* ```code``` \\u202eRTL \\x00NUL é☃🔥"

TALK = f"""version: 1
id: talk
name: Watch the service
owner: team
offer: [{{match: {{services: [checkout]}}}}]
params:
  service: {{type: choice, choices: [checkout, search], source: alert.labels.service}}
  host: {{source: alert.labels.instance}}
secrets: [LB_TOKEN]
concurrency: {{key: 'talk:{{{{ params.service }}}}'}}
steps:
  - name: Look at {{{{ params.host }}}}
    effect: read
    exec:
      argv:
        - python3
        - -u
        - -c
        - |
          import os, time
          for n in range(600):
              print("tick", n, "{HOSTILE}", os.environ["TOKEN"]); time.sleep(0.1)
      env: {{TOKEN: '{{{{ secrets.LB_TOKEN }}}}'}}
"""
CHANGE = """version: 1
id: change
name: Change something
owner: team
offer: [{match: {services: [checkout]}}]
steps:
  - id: change
    name: Append a line
    exec:
      argv:
        - python3
        - -c
        - |
          import pathlib, time
          file = pathlib.Path("FILE")
          known = file.read_text() if file.exists() else ""
          file.write_text(known + "changed ")
          time.sleep(0 if known else 60)
  - when: steps.change.ok
    note: {kind: action, text: 'Changed it for {{ incident.reference }}'}
"""
PAUSE = """version: 1
id: pause
name: Wait a little
owner: team
offer: [{match: {services: [checkout]}}]
steps:
  - name: Drain
    wait: {for: 4s}
"""
SECRET = "lb-token-0123456789"


@pytest.fixture
def config_folder(config_folder: Path, tmp_path: Path) -> Path:
    folder = config_folder / "runbooks"
    folder.mkdir()
    with (config_folder / "tocsin.yaml").open("a") as file:
        file.write("runbook_secrets: [LB_TOKEN]\n")
    books = {"talk": TALK, "change": CHANGE.replace("FILE", str(tmp_path / "changed")), "pause": PAUSE}
    for name, text in books.items():
        (folder / f"{name}.yaml").write_text(text)
    return config_folder


async def opened(stage: Stage):
    """An incident with its channel and card, and alice and bob in it."""
    stage.environment["LB_TOKEN"] = SECRET
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    card = await stage.sandbox.expect_message(channel.id, "INC-1 · 5xx")
    people = [stage.sandbox.actor(name) for name in ("alice", "bob")]
    for person in people:
        await person.join(channel)
    return channel, card, *people


async def form_of(person, card, name: str):
    await person.click(card, name)
    return await person.modal(contains=name, until=lambda view: view.body.get("submit"))


async def test_a_run_from_its_button_to_its_end(stage: Stage):
    sandbox = stage.sandbox
    channel, card, alice, bob = await opened(stage)
    await bob.click(card, "Watch the service")
    refusal = await bob.modal(contains="may be run by responders of this incident only")
    assert "Take command" in refusal.rendered
    assert "/inc join" in refusal.rendered
    await bob.close(refusal)

    await bob.slash("/inc join", channel)
    await bob.expect("You are a responder", channel)
    form = await form_of(bob, card, "Watch the service")
    assert "checkout" in str(form.blocks)
    assert "web-1.example.com" in str(form.blocks)
    wrong = await bob.fill(form, **{"param.host": "--help me"})
    assert set(wrong.errors) == {"param.host"}
    sandbox.faults.duplicate()
    bob.enter(form, {"param.host": "web-2"})
    await asyncio.gather(bob.submit(form), bob.submit(form))

    message = await sandbox.expect_message(channel.id, "tick", within=10)
    assert "Run 1: Watch the service" in message.rendered
    assert "Look at web-2" in message.rendered
    assert "[redacted]" in message.rendered
    assert sum("Watch the service" in m.rendered for m in channel.messages if "Run " in m.rendered) == 1

    await alice.slash("/inc join", channel)
    await alice.expect("You are a responder", channel)
    form = await form_of(alice, card, "Watch the service")
    await alice.fill(form)
    told = await alice.expect("is at work on this already: run 1")
    assert bob.id in told.text

    await alice.click(message, "Cancel run")
    await sandbox.wait(lambda: "was cancelled" in message.rendered, 15, "the cancelled run")
    assert "Cancel run" not in str(message.blocks)
    async with stage.bot.db.read() as session:
        run = await session.scalar(sa.select(Run))
    assert run.state == RunState.CANCELLED
    assert processes(run.id) == []
    kinds = await stage.kinds()
    assert [kinds.count(kind) for kind in ("run.started", "run.step_started", "run.cancelled", "run.ended")] == [1] * 4
    assert SECRET not in str(channel.messages) + str([event.model_dump() for event in await stage.timeline()])


@pytest.mark.slow
async def test_runs_over_the_death_of_the_bot(stage: Stage, config_folder: Path, tmp_path: Path):
    sandbox = stage.sandbox
    channel, card, alice, bob = await opened(stage)
    await alice.click(card, "Take command")
    await sandbox.expect_message(channel.id, "is commander")
    form = await form_of(alice, card, "Wait a little")
    sandbox.faults.add("chat.postMessage", "500", times=2)  # Slack is away for a moment
    await alice.fill(form)
    await sandbox.wait(
        lambda: [k for k in channel.messages if "Wait a little* is running" in str(k.blocks)], 10, "run 1"
    )
    form = await form_of(alice, card, "Change something")
    await alice.fill(form)
    await sandbox.wait((tmp_path / "changed").exists, 10, "the change under way")
    stale = await form_of(alice, card, "Watch the service")

    for task in set(stage.bot.engine._running):  # at once, wherever it stands
        task.cancel()
    (config_folder / "runbooks/talk.yaml").write_text(TALK.replace("range(600)", "range(5)"))
    await stage.restart()

    pause = await sandbox.expect_message(channel.id, "Run 1: Wait a little", within=10)
    await sandbox.wait(lambda: "succeeded" in pause.rendered, 10, "the end of the wait")
    question = await sandbox.expect_message(channel.id, "Nobody knows whether it ended", within=10)
    assert processes(str(tmp_path / "changed")) == []
    await alice.fill(stale)
    assert "was changed meanwhile" in stale.rendered

    outsider = await bob.click(question, "Run again")
    assert outsider.error is None
    await bob.expect("may be run by responders of this incident only")
    await asyncio.gather(alice.click(question, "Run again"), alice.click(question, "Treat as done"))
    await alice.expect("does not ask anything (any more)")
    await sandbox.wait(lambda: "succeeded" in question.rendered, 10, "the end of the change")
    assert "Run again" not in str(question.blocks)

    text = (tmp_path / "changed").read_text()
    assert text in ("changed changed ", "changed ")
    await sandbox.expect_message(channel.id, "Changed it for INC-1")
    kinds = await stage.kinds()
    assert kinds.count("run.ended") == 2
    assert kinds.count("run.answered") == kinds.count("run.step_unknown") == 1
    waits = [event for event in await stage.timeline() if event.data.get("name") == "Drain"]
    assert [event.kind for event in waits] == ["run.step_started", "run.step_succeeded"]
    assert sum("Run 1: " in m.rendered for m in channel.messages) == 1
