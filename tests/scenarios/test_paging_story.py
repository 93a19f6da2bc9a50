"""A page from the alert to the end, in Slack and in PagerDuty at once; and what happens while PagerDuty is away."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.incidents.model import Page, PagerWord
from bot.kit.clock import utc_now
from tests.fakes.pagerduty import Hook, PagerDutyServer
from tests.scenarios.conftest import QUICK, Stage, alertmanager, staged, write_config

SECRET, NEXT = "webhook-secret-0123456789", "the-next-webhook-secret-01234"
TOCSIN = (
    "version: 1\nannouncement_channel: incidents\npager: pagerduty\n"
    "page_ack_minutes: {SEV1: 5, SEV2: 15}\npage_on_severity: escalate\npage_updates: true\n"
    "pagerduty:\n  routing_key: {file: checkout.key}\n  services: {search: {file: search.key}}\n"
    "  webhook_secrets: [{file: hook}, {file: hook.next}]\n"
    "  api_token: {file: token}\n  from_email: bot@example.com\n"
)


class Hands:
    """A clock whose hands can be moved on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


@pytest.fixture
async def pagerduty() -> AsyncIterator[PagerDutyServer]:
    made = await PagerDutyServer().start()
    yield made
    await made.stop()


def configured(folder: Path, pagerduty: PagerDutyServer, more: str = "", under: str = "") -> Path:
    made = write_config(
        folder, tocsin=TOCSIN + under + f"  events_url: {pagerduty.url}\n  api_url: {pagerduty.url}\n" + more
    )
    secrets = {"checkout.key": "r" * 32, "search.key": "s" * 32, "token": pagerduty.token}
    for name, text in {**secrets, "hook": SECRET, "hook.next": NEXT}.items():
        (made / name).write_text(text)
    return made


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def stage(database_url, tmp_path, pagerduty, app_manifest, hands) -> AsyncIterator[Stage]:
    folder = configured(tmp_path / "config", pagerduty)
    tempo = replace(QUICK, watch_seconds=0.2)
    async with staged(database_url, folder, app_manifest, clock=hands, tempo=tempo) as made:
        pagerduty.hooks = [Hook(f"{made.url}/pagers/pagerduty", [NEXT, "of-somebody-else"])]
        yield made


async def pages(stage: Stage) -> list[Page]:
    async with stage.bot.db.read() as session:
        return list(await session.scalars(sa.select(Page).order_by(Page.number)))


async def words(stage: Stage) -> Counter[str]:
    async with stage.bot.db.read() as session:
        return Counter(await session.scalars(sa.select(PagerWord.outcome)))


async def test_a_page_is_one_story_in_slack_and_in_pagerduty(stage: Stage, pagerduty: PagerDutyServer):
    sandbox = stage.sandbox
    alice = sandbox.actor("alice")
    await stage.alert(alertmanager(severity="high"))
    channel = await sandbox.expect_channel("inc-1-*")
    await alice.join(channel)
    await sandbox.expect_message(channel.id, "PagerDuty's incident 1 is triggered, with alice@example.com")
    await stage.quiet()
    (incident,) = pagerduty.incidents

    pagerduty.acknowledge(incident, "PALICE")
    told = await sandbox.expect_message(channel.id, "has acknowledged the page in pagerduty")
    assert alice.mention in told.text
    card = await sandbox.expect_message(channel.id, "acknowledged by @")
    assert "Acknowledge" not in [element["text"]["text"] for block in card.blocks if block["type"] == "actions"
                                 for element in block["elements"]]  # fmt: skip
    made = await stage.incident()
    assert made is not None
    assert made.acknowledged_at is not None

    assert (await alice.slash("/inc severity 1 every card fails", channel)).ok
    await sandbox.expect_message(channel.id, "PagerDuty's incident 1 is escalated to level 2, with bob@example.com")
    await stage.quiet()
    assert pagerduty.priorities[incident.priority] == "P1"
    assert any("Severity SEV2 → SEV1: every card fails" in note["content"] for note in incident.notes)

    assert (await alice.slash("/inc page search what do you see?", channel)).ok
    await sandbox.expect_message(channel.id, "PagerDuty's incident 2 is triggered")
    other = pagerduty.incidents[1]
    assert (pagerduty.services[other.routing_key], other.title) == ("search", f"INC-1 what do you see?: {made.title}")
    pagerduty.acknowledge(other, "PBOB")
    await sandbox.expect_message(channel.id, "@U02BOB has acknowledged the page in pagerduty")

    assert (await alice.slash("/inc escalate carol@example.com come and look", channel)).ok
    await sandbox.expect_message(channel.id, "carol@example.com is asked to join PagerDuty's incident 1")
    pagerduty.reply(incident, "PCAROL")
    await sandbox.expect_message(channel.id, "@U03CAROL joins (in pagerduty)")

    assert (await alice.slash("/inc status monitoring", channel)).ok
    assert (await alice.slash("/inc resolve rolled back", channel)).ok
    await sandbox.expect_message(channel.id, "is resolved after")
    await stage.quiet()
    assert [one.status for one in pagerduty.incidents] == ["resolved", "resolved"]
    assert incident.updates == ["INC-1: Status investigating → monitoring"]
    assert [page.state for page in await pages(stage)] == ["resolved", "resolved"]
    assert pagerduty.refused == []
    assert {status for _, status in pagerduty.told} == {202}
    kinds = await stage.kinds()
    assert kinds.count("page.acknowledged") == kinds.count("page.resolved") == 2
    assert kinds.count("page.escalated") == kinds.count("page.responder_asked") == 1
    calls = Counter(f"{method} {path.rstrip('0123456789')}" for method, path in pagerduty.seen)
    assert sum(calls.values()) <= 40, calls
    assert calls["POST /v2/enqueue"] == 4, calls


async def test_what_is_told_back_of_our_own_doing_changes_nothing(stage: Stage, pagerduty: PagerDutyServer):
    alice = stage.sandbox.actor("alice")
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    await stage.sandbox.expect_message(channel.id, "is triggered")
    await alice.join(channel)
    card = await stage.sandbox.expect_message(channel.id, "not acknowledged")
    await alice.click(card, "Acknowledge")
    await stage.sandbox.wait(lambda: pagerduty.incidents[0].status == "acknowledged")
    await stage.quiet()
    before = len(pagerduty.seen)
    # The same once more, as after a time-out on their side, and in the wrong order.
    for event in [*pagerduty.sent[::-1], *pagerduty.sent]:
        pagerduty._deliver(pagerduty.hooks[0], event)
    await stage.sandbox.wait(lambda: len(pagerduty.told) == 3 * len(pagerduty.sent))
    await stage.quiet()

    assert len(pagerduty.seen) == before
    assert (await words(stage)) == {"ours": len(pagerduty.sent)}
    assert (await stage.kinds()).count("page.acknowledged") == 1
    (page,) = await pages(stage)
    assert (page.state, page.acknowledged_by) == ("acknowledged", alice.id)


async def test_resolved_in_pagerduty_it_is_a_question_here(stage: Stage, pagerduty: PagerDutyServer):
    sandbox, alice = stage.sandbox, stage.sandbox.actor("alice")
    await stage.alert(alertmanager())
    channel = await sandbox.expect_channel("inc-1-*")
    await sandbox.expect_message(channel.id, "is triggered")
    await alice.join(channel)
    await stage.quiet()
    pagerduty.resolve(pagerduty.incidents[0], "PBOB")

    asked = await sandbox.expect_message(channel.id, "The page was resolved in pagerduty by @U02BOB. Is INC-1 over?")
    incident = await stage.incident()
    assert incident is not None
    assert incident.is_open
    await alice.click(asked, "Keep open")
    await stage.quiet()
    assert (await alice.slash("/inc resolve", channel)).ok
    await stage.quiet()
    assert (await alice.slash("/inc reopen it comes back", channel)).ok
    await sandbox.expect_message(channel.id, "PagerDuty's incident 2 is triggered")
    first, second = pagerduty.incidents
    assert (first.dedup_key, second.status) == (second.dedup_key, "triggered")


async def test_nobody_acknowledges_so_it_is_paged_again_then_escalated_then_said(
    stage: Stage, pagerduty: PagerDutyServer, hands: Hands
):
    await stage.alert(alertmanager())
    channel = await stage.sandbox.expect_channel("inc-1-*")
    await stage.sandbox.expect_message(channel.id, "is triggered")
    await stage.quiet()

    hands.ahead += timedelta(minutes=5, seconds=1)
    await stage.sandbox.expect_message(channel.id, "Nobody has acknowledged the page for 5 min")
    await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 2 is triggered")
    await stage.quiet()
    hands.ahead += timedelta(minutes=5, seconds=1)
    await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is escalated to level 2")
    hands.ahead += timedelta(minutes=5, seconds=1)
    await stage.sandbox.expect_message(channel.id, "tocsin.yaml names no fallback_pagers")
    hands.ahead += timedelta(hours=5)
    await stage.quiet(still=0.6)

    kinds = await stage.kinds()
    assert (kinds.count("page.unanswered"), kinds.count("page.sent"), kinds.count("page.escalated")) == (3, 2, 1)
    pagerduty.acknowledge(pagerduty.incidents[1], "PBOB")
    await stage.sandbox.wait(lambda: pagerduty.incidents[0].status == "acknowledged")


async def test_pagerduty_is_away_for_the_first_minutes_and_nobody_is_left_in_the_dark(
    database_url, tmp_path, pagerduty: PagerDutyServer, app_manifest, hands: Hands
):
    pagerduty.down = True
    folder = configured(tmp_path / "config", pagerduty)
    tempo = replace(QUICK, watch_seconds=0.2)
    async with staged(database_url, folder, app_manifest, clock=hands, tempo=tempo) as stage:
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.wait(lambda: len(pagerduty.seen) > 1)
        hands.ahead += timedelta(minutes=5)
        told = await stage.sandbox.expect_message(channel.id, "The page could not be sent for 5 min")
        assert "call somebody by other means" in told.rendered
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert answer.status == 200
            assert "which cannot be reached" in (await answer.json())["checks"]["pager"]
        async with stage.http.get(f"{stage.url}/metrics") as answer:
            assert 'tocsin_pages_open{state="sending"} 1.0' in await answer.text()
        pagerduty.down = False
        await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is triggered", within=20)
        await stage.quiet()

        (page,) = await pages(stage)
        assert (page.state, len(pagerduty.incidents)) == ("sent", 1)
        assert (await stage.kinds()).count("page.delayed") == 1
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert (await answer.json())["checks"]["pager"] == "ok"
