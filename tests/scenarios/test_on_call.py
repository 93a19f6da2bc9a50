"""Who is on call, through the whole bot: asked of PagerDuty, answered while it is away, covered and handed over."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.pagerduty_oncall import OnCallServer
from tests.scenarios.conftest import QUICK, Stage, staged, write_config

CATALOG = """version: 1
services:
  orders: {owner: data}
teams:
  data: {oncall: database, channel: general}
oncall:
  database: {schedule: PSDB}
"""


@pytest.fixture
async def pagerduty() -> AsyncIterator[OnCallServer]:
    made = await OnCallServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def stage(database_url, tmp_path: Path, app_manifest, pagerduty: OnCallServer) -> AsyncIterator[Stage]:
    folder = write_config(
        tmp_path / "config",
        catalog=CATALOG,
        tocsin=(
            "version: 1\nannouncement_channel: incidents\npager: pagerduty\npagerduty:\n"
            "  routing_key: {file: key}\n  api_token: {file: token}\n  from_email: bot@example.com\n"
            f"  events_url: {pagerduty.url}\n  api_url: {pagerduty.url}\n"
        ),
    )
    (folder / "key").write_text("r" * 32)
    (folder / "token").write_text(pagerduty.token)
    pagerduty.on_call("PALICE")
    async with staged(database_url, folder, app_manifest, tempo=replace(QUICK, oncall_seconds=0.6)) as made:
        yield made


async def told(stage: Stage, line: str, expected: str, who: str = "alice", within: float = 10.0) -> str:
    """Say it until the answer has *expected* in it."""
    actor = stage.sandbox.actor(who)
    async with asyncio.timeout(within):
        while True:
            before = stage.sandbox.workspace.next_ts()
            await actor.slash(line, "#general")
            shown = (await actor.expect("On call", "#general", after=before)).rendered
            if expected in shown:
                return shown
            await asyncio.sleep(0.2)


async def test_who_is_on_call_is_known_while_pagerduty_is_away_and_a_cover_is_handed_over(stage, pagerduty):
    alice, bob = stage.sandbox.actor("alice"), stage.sandbox.actor("bob")
    shown = await told(stage, "/inc oncall orders", "phone +1 5550100")
    assert "database" in shown

    pagerduty.fault("/", status=503, for_good=True)
    assert "phone +1 5550100" in await told(stage, "/inc oncall orders", "PagerDuty failed at the on-call (HTTP 503)")
    pagerduty.faults.clear()
    await told(stage, "/inc oncall orders", "until")

    await alice.slash(f"/inc cover database <@{bob.id}> until 2h", "#general")
    handed = await stage.sandbox.expect_message("#general", "On call at database")
    assert f"<@{bob.id}>" in handed.text
    assert "Thank you" in str(handed.blocks)
    assert [one.user for one in pagerduty.overrides["PSDB"]] == ["PBOB"]
    await told(stage, "/inc oncall database", "SMS +49 5550101")
    assert pagerduty.refused == []
    kinds = [event.kind for event in await stage.timeline() if event.kind.startswith("oncall.")]
    assert sorted(kinds) == ["oncall.changed", "oncall.covered"]
