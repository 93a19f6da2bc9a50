"""What happens in an incident reaches other systems: all of it, in order, also when they were away; and the public."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.kit import signature
from tests.fakes.receiver import Receiver
from tests.fakes.statuspage import StatuspageServer
from tests.scenarios.conftest import QUICK, Stage, alertmanager, staged, write_config

SECRET = "a-secret-of-the-tests-0123456789-0123456789"
PAGE = "abcdef123456"
TEMPO = dataclasses.replace(QUICK, deliver_seconds=0.2, deliver_again_seconds=0.2)


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with Receiver() as made:
        yield made


@pytest.fixture
async def public() -> AsyncIterator[StatuspageServer]:
    async with StatuspageServer(SECRET, PAGE, components={"cmp1": "operational"}) as made:
        yield made


@pytest.fixture
def config_folder(tmp_path: Path, hook: Receiver, public: StatuspageServer) -> Path:
    folder = write_config(
        tmp_path / "config",
        sinks=(
            f"version: 1\nsinks:\n  archive:\n    kind: webhook\n    url: {hook.url}/events\n"
            "    secret: {file: secret}\n"
            f"  public:\n    kind: statuspage\n    api_url: {public.url}\n    page_id: {PAGE}\n"
            "    api_key: {file: secret}\n    components: {checkout: [cmp1]}\n"
        ),
    )
    (folder / "secret").write_text(SECRET)
    return folder


@pytest.fixture
async def stage(database_url, config_folder, app_manifest) -> AsyncIterator[Stage]:
    async with staged(database_url, config_folder, app_manifest, tempo=TEMPO) as made:
        yield made


async def until(true, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.05)


async def test_a_sink_that_was_away_is_told_everything_in_order_and_nobody_waits_for_it(stage: Stage, hook: Receiver):
    hook.usual = 503
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    await stage.sandbox.expect_message(channel.id, "INC-1 · 5xx")
    await stage.sandbox.actor("alice").join(channel.id)
    for text in ("one", "two", "three"):
        assert (await stage.sandbox.actor("alice").slash(f"/inc note {text}", channel.id)).ok
    await until(lambda: len(hook.got) > 1)
    hook.usual = 200
    taken = len(hook.got)
    await until(lambda: [got.json["data"]["text"] for got in hook.got[taken:]][-1:] == ["three"] or None)
    await stage.quiet()

    told = [got.json for got in hook.got[taken:] if got.json["subject"] == "INC-1"]
    ids = [event["id"] for event in told]
    assert told[0]["type"] == "tocsin.incident.opened"
    assert [event["data"]["text"] for event in told if event["type"] == "tocsin.note.added"] == ["one", "two", "three"]
    assert len(ids) == len(set(ids))
    assert [event["data"]["recorded_at"] for event in told] == sorted(event["data"]["recorded_at"] for event in told)
    assert set(ids) == {event.id for event in await stage.timeline()}
    last = hook.got[-1]
    assert signature.genuine([SECRET], last.headers, last.body, int(time.time()))
    async with stage.http.get(f"{stage.url}/metrics") as page:
        text = await page.text()
    assert 'tocsin_sink_deliveries_total{outcome="given_up",sink="archive"} 0.0' in text
    assert 'tocsin_sink_deliveries_total{outcome="again",sink="archive"} 0.0' not in text


async def test_what_a_person_publishes_stands_on_the_page_and_the_channel_is_told(
    stage: Stage, public: StatuspageServer
):
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    alice = stage.sandbox.actor("alice")
    await alice.join(channel.id)
    await stage.quiet()
    said = await alice.slash("/inc statuspage Card payments fail for some customers.", channel.id)
    assert said.ok, said
    form = await alice.modal(until=lambda view: view.body.get("submit"))
    assert "1 component of checkout" in str(form.body)
    assert "5xx of checkout" not in str(form.body)
    values = {"title": "Card payments fail", "component": "major_outage"}
    await alice.submit(form, values)
    told = await stage.sandbox.expect_message(channel.id, "Published on public (investigating)")
    await stage.quiet()

    (incident,) = public.incidents
    assert "https://stspg.example.com/p1" in told.rendered
    assert [update["body"] for update in incident["updates"]] == ["Card payments fail for some customers."]
    assert (incident["name"], incident["deliver_notifications"]) == ("Card payments fail", False)
    assert public.components == {"cmp1": "major_outage"}


async def test_nothing_private_leaves_and_it_is_not_published(stage: Stage, hook: Receiver, public: StatuspageServer):
    alice = stage.sandbox.actor("alice")
    await alice.slash("/inc new", "#general")
    form = await alice.modal(contains="Declare")
    await alice.submit(form, {"title": "Somebody reads the payroll", "private": ["private"]})
    channel = await stage.sandbox.expect_channel("inc-1*")
    await stage.quiet()
    await alice.slash("/inc statuspage It is nothing", channel.id)
    await alice.modal(contains="is private, so nothing about it is published")
    await stage.quiet()

    assert [got.json["type"] for got in hook.got] == []
    assert public.calls == []
