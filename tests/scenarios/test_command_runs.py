"""A run that an operator starts on the command line is carried out by the bot that is running."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.scenarios.conftest import Stage

LOOK = """version: 1
id: look
name: Look around
owner: team
params:
  word: {default: hello}
steps:
  - id: said
    exec: {argv: [echo, '{{ params.word }}'], parse: lines}
    effect: read
    outputs: {first: lines | first}
  - id: ask
    approval: {prompt: 'Go on with {{ steps.said.first }}?', not_requester: false}
outputs: {word: steps.said.first}
"""


@pytest.fixture
def config_folder(config_folder: Path) -> Path:
    (config_folder / "runbooks").mkdir()
    (config_folder / "runbooks/look.yaml").write_text(LOOK)
    return config_folder


async def test_the_running_bot_carries_it_out_and_it_is_shown_with_its_approval(
    stage: Stage, tocsin, monkeypatch, database_url, config_folder
):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database_url)
    monkeypatch.setenv("TOCSIN_CONFIG", str(config_folder))
    monkeypatch.setenv("ALERTS_TOKEN", stage.environment["ALERTS_TOKEN"])
    _, channel = await stage.declare()

    async def command(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(tocsin, *arguments)

    async def shown() -> dict:
        return json.loads((await command("runbooks", "show", "INC-1", "1", "--json"))[1])

    code, out, err = await command("runbooks", "run", "look", "--incident", "INC-1", "--param", "word=hi")
    assert (code, out) == (0, "1\n"), err
    async with asyncio.timeout(20):
        while (found := await shown())["state"] != "waiting_approval":
            await asyncio.sleep(0.1)
    await stage.sandbox.expect_message(channel.id, "Look around")

    assert found["trigger"] == "command"
    assert found["steps"][0]["outputs"] == {"first": "hi"}
    assert [(one["prompt"], one["state"]) for one in found["approvals"]] == [("Go on with hi?", "asked")]
    assert "asked @responders: Go on with hi?" in (await command("runbooks", "show", "INC-1", "1"))[1]
