"""What may go wrong with a pager: each time people hear of it, and somebody is woken all the same."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.pagerduty import Hook, PagerDutyServer, signed
from tests.fakes.smtp import MailServer
from tests.scenarios.conftest import QUICK, Stage, alertmanager, staged
from tests.scenarios.test_paging_story import SECRET, Hands, configured, pages, words

LETTERS = (
    "fallback_pagers: [email]\nemail:\n  host: 127.0.0.1\n  port: {port}\n  tls: none\n"
    "  from: tocsin@example.com\n  to: [oncall@example.com]\n"
)


@pytest.fixture
async def pagerduty() -> AsyncIterator[PagerDutyServer]:
    made = await PagerDutyServer().start()
    yield made
    await made.stop()


@pytest.fixture
async def mail() -> AsyncIterator[MailServer]:
    async with MailServer() as made:
        yield made


@pytest.fixture
def play(database_url, tmp_path, pagerduty, mail, app_manifest):
    """A stage with PagerDuty and, to stand in for it, e-mail."""
    hands = Hands()

    @asynccontextmanager
    async def made(under: str = "", **tempo: float) -> AsyncIterator[tuple[Stage, Hands]]:
        folder = configured(tmp_path / "config", pagerduty, LETTERS.format(port=mail.port), under)
        quick = replace(QUICK, watch_seconds=0.2, **tempo)
        async with staged(database_url, folder, app_manifest, clock=hands, tempo=quick) as stage:
            pagerduty.hooks = [Hook(f"{stage.url}/pagers/pagerduty", [SECRET])]
            yield stage, hands

    return made


async def test_away_for_the_first_minutes_it_ends_with_a_page_and_a_letter(play, pagerduty, mail):
    pagerduty.down = True
    async with play() as (stage, hands):
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.wait(lambda: len(pagerduty.seen) > 1)
        hands.ahead += timedelta(minutes=2)
        told = await stage.sandbox.expect_message(channel.id, "The page could not be sent for 2 min")
        assert "pagerduty cannot be reached; it is tried on and on, and email is tried instead" in told.rendered
        await stage.sandbox.wait(lambda: mail.letters)
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert answer.status == 200
            assert "which cannot be reached" in (await answer.json())["checks"]["pager"]
        async with stage.http.get(f"{stage.url}/metrics") as answer:
            text = await answer.text()
            assert 'tocsin_pages_open{state="sending"}' in text
            assert 'tocsin_pages_open{state="sending"} 0.0' not in text
        hands.ahead += timedelta(minutes=3)
        pagerduty.down = False
        await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is triggered", within=20)
        await stage.quiet()

        first, letter = await pages(stage)
        assert (first.state, letter.state, letter.pager) == ("sent", "sent", "email")
        assert (len(pagerduty.incidents), len(mail.letters)) == (1, 1)
        assert b"INC-1" in mail.letters[0].content
        assert (await stage.kinds()).count("page.delayed") == 1
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert (await answer.json())["checks"]["pager"] == "ok"
        pagerduty.acknowledge(pagerduty.incidents[0], "PALICE")
        await stage.sandbox.expect_message(channel.id, "has acknowledged the page in pagerduty")
        assert [page.state for page in await pages(stage)] == ["acknowledged", "acknowledged"]


async def test_asked_to_wait_for_minutes_it_waits_and_pages_once(play, pagerduty, mail):
    pagerduty.limited = True
    async with play() as (stage, hands):
        await stage.alert(alertmanager())
        await stage.sandbox.wait(lambda: len(pagerduty.seen) > 1, within=10)
        hands.ahead += timedelta(minutes=2)
        await stage.sandbox.wait(lambda: mail.letters)
        pagerduty.limited = False
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is triggered", within=20)

        assert [(one.triggers, one.status) for one in pagerduty.incidents] == [(1, "triggered")]


async def test_a_routing_key_that_is_gone_is_told_and_a_letter_goes_out(play, pagerduty, mail):
    pagerduty.services.clear()
    async with play() as (stage, _):
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        told = await stage.sandbox.expect_message(channel.id, "PagerDuty refused the page")
        assert "email is tried instead" in told.rendered
        await stage.sandbox.wait(lambda: mail.letters)
        await stage.quiet()

        assert [page.state for page in await pages(stage)] == ["failed", "sent"]
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert "the newest page by pagerduty failed" in (await answer.json())["checks"]["pager"]


async def test_a_revoked_token_stops_no_page_and_what_needs_it_is_told(play, pagerduty, mail):
    async with play(probe_seconds=0.5) as (stage, _):
        pagerduty.token = "another-token-0123456789"
        alice = stage.sandbox.actor("alice")
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.expect_message(channel.id, "PagerDuty has taken the page")
        await alice.join(channel)
        assert (await alice.slash("/inc escalate", channel)).modal
        assert (await alice.slash("/inc escalate bob@example.com", channel)).ok
        told = await stage.sandbox.expect_message(channel.id, "Asking for that responder did not work")

        assert "the api_token is not valid" in told.rendered
        assert "another-token" not in told.rendered
        assert mail.letters == []
        told = await stage.sandbox.expect_message("incidents", "The pager pagerduty may not wake anybody")
        assert "the api_token is not valid" in told.rendered
        async with stage.http.get(f"{stage.url}/readyz") as answer:
            assert "the api_token is not valid" in (await answer.json())["checks"]["pager"]
        pagerduty.token = "t" * 20
        await stage.sandbox.expect_message("incidents", "The pager pagerduty answers as it should again")


async def test_forged_unknown_and_foreign_words_change_nothing(play, pagerduty):
    async with play() as (stage, _):
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.expect_message(channel.id, "is triggered")
        await stage.quiet()
        before, heard = await stage.kinds(), await words(stage)
        (incident,) = pagerduty.incidents
        forged = b'{"event": {"id": "X", "event_type": "incident.resolved", "data": {"type": "incident"}}}'
        async with stage.http.post(
            f"{stage.url}/pagers/pagerduty", data=forged, headers=signed(forged, "not-the-secret-0123456789")
        ) as answer:
            assert answer.status == 401
        pagerduty.raised("Disk of somebody else")
        incident.dedup_key, incident.id = "tocsin-" + "0a" * 16, "PELSEWHERE"
        pagerduty.acknowledge(incident, "PALICE")
        await stage.sandbox.wait(lambda: len(pagerduty.told) == 3)
        await stage.quiet()

        assert (await words(stage)) - heard == {"foreign": 1, "unknown": 1}
        assert await stage.kinds() == before


async def test_what_pagerduty_has_by_itself_is_an_incident_here_with_its_own_for_a_page(play, pagerduty):
    async with play("  alerts: true\n") as (stage, _):
        alice = stage.sandbox.actor("alice")
        foreign = pagerduty.raised("Disk of the warehouse is full")
        channel = await stage.sandbox.expect_channel("inc-1-*")
        await stage.sandbox.expect_message(channel.id, "pagerduty raised this itself")
        await alice.join(channel)
        assert len(pagerduty.incidents) == 1
        assert (await alice.slash("/inc ack", channel)).ok
        await stage.sandbox.wait(lambda: foreign.status == "acknowledged")
        await stage.quiet()
        assert (await alice.slash("/inc resolve cleaned up", channel)).ok
        await stage.sandbox.wait(lambda: foreign.status == "resolved")
        await stage.quiet()

        (page,) = await pages(stage)
        assert (page.state, page.external_id) == ("resolved", foreign.id)
        assert "POST /v2/enqueue 202" not in pagerduty.log
        assert pagerduty.refused == []


async def test_people_are_called_by_the_form_too(play, pagerduty):
    async with play() as (stage, _):
        alice = stage.sandbox.actor("alice")
        await stage.alert(alertmanager())
        channel = await stage.sandbox.expect_channel("inc-1-*")
        card = await stage.sandbox.expect_message(channel.id, "not acknowledged")
        await alice.join(channel)
        await alice.click(card, "Page…")
        form = await alice.modal(contains="Whom to wake")
        assert (await alice.fill(form, whom="service:search", text="what do you see?")).errors is None
        await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 2 is triggered")

        form = (await alice.slash("/inc escalate")).modal
        assert (await alice.fill(form, incident="INC-1", person=stage.sandbox.actor("carol").id)).errors is None
        await stage.sandbox.expect_message(channel.id, "carol@example.com is asked to join PagerDuty's incident 1")
        form = (await alice.slash("/inc escalate", channel)).modal
        assert (await alice.fill(form)).errors is None
        await stage.sandbox.expect_message(channel.id, "PagerDuty's incident 1 is escalated to level 2")
        await stage.quiet()
        assert pagerduty.services[pagerduty.incidents[1].routing_key] == "search"
        assert pagerduty.refused == []
