"""What a run may do with the pager, and what is written down about it."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.incidents.model import Incident, Page
from bot.incidents.pager import ActResult, PageResult
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs.pages import IncidentPages
from tests.fakes.pager import ActingPager, FakePager


def pages(bench, pager) -> IncidentPages:
    return IncidentPages(bench.engine, bench.react, pager, "fake", utc_now, bench.incident.id, "https://t.example.com")


@pytest.fixture(autouse=True)
async def _service(bench):
    await change(bench, service="checkout")


async def change(bench, **values) -> None:
    async with bench.engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(**values))


async def rows(bench) -> list[Page]:
    async with bench.engine.db.read() as session:
        query = sa.select(Page).where(col(Page.incident_id) == bench.incident.id).order_by(col(Page.number))
        return list(await session.scalars(query))


async def test_what_is_asked_is_about_the_page_of_the_incident(bench):
    pager = ActingPager()
    result = await pages(bench, pager).act("note", key="run:1:a", message="Rolled back")

    (asked,) = pager.asked
    assert (asked.kind, asked.key, asked.message, asked.named) == ("note", "run:1:a", "Rolled back", False)
    assert (asked.page.dedup_key, asked.page.service) == (f"tocsin-{bench.incident.id}", "checkout")
    assert asked.page.reference == bench.incident.reference
    assert result.incident_id == "P1"
    assert await rows(bench) == []


async def test_another_service_has_a_page_of_its_own(bench):
    pager = ActingPager()
    await pages(bench, pager).act("page", key="run:1:a", service="search")
    await pages(bench, pager).act("ack", key="run:1:b", service="checkout")

    other, own = pager.asked
    assert (other.page.dedup_key, other.page.service) == (f"tocsin-{bench.incident.id}:search", "search")
    assert other.named
    assert (own.page.dedup_key, own.named) == (f"tocsin-{bench.incident.id}", False)


async def test_a_page_is_on_the_timeline_and_on_the_card_once(bench):
    pager = ActingPager()
    for _ in range(2):
        await pages(bench, pager).act("page", key="run:1:a")
    await pages(bench, pager).act("page", key="run:1:b")

    assert [(page.number, page.outcome, page.detail) for page in await rows(bench)] == [
        (2, "sent", "did page"),
        (3, "sent", "did page"),
    ]
    assert [event.kind for event in await bench.events("page.")] == ["page.sent", "page.sent"]


async def test_a_page_that_failed_is_told_and_the_next_try_mends_it(bench):
    pager = ActingPager(answers=[PermanentError("no such key")])
    with pytest.raises(PermanentError, match="no such key"):
        await pages(bench, pager).act("page", key="run:1:a")
    await pages(bench, pager).act("page", key="run:1:a")

    assert [page.outcome for page in await rows(bench)] == ["sent"]
    assert [event.kind for event in await bench.events("page.")] == ["page.failed", "page.sent"]


async def test_a_pager_that_is_away_is_no_outcome_yet(bench):
    with pytest.raises(TemporaryError):
        await pages(bench, ActingPager(answers=[TemporaryError("away")])).act("page", key="run:1:a")

    assert await rows(bench) == []


async def test_a_pager_that_can_only_page_pages(bench):
    pager = FakePager()
    result = await pages(bench, pager).act("page", key="run:1:a")

    assert (result.outcome, result.proof) == ("done", "proof-1")
    with pytest.raises(PermanentError, match="the pager 'fake' can only page"):
        await pages(bench, pager).act("ack", key="run:1:b")


async def test_nobody_woken_is_said_and_is_no_success(bench):
    pager = FakePager(answers=[PageResult("nobody", "Nobody was paged"), PageResult("failed", "the line is dead")])

    result = await pages(bench, pager).act("page", key="run:1:a")
    with pytest.raises(PermanentError, match="the line is dead"):
        await pages(bench, pager).act("page", key="run:1:b")

    assert result == ActResult("nobody", "Nobody was paged")
    assert [page.outcome for page in await rows(bench)] == ["nobody", "failed"]


async def test_what_is_private_reaches_no_pager(bench):
    await change(bench, private=True, title="Somebody reads the payroll")
    pager = ActingPager()
    for kind in ("page", "escalate", "add_responder"):
        await pages(bench, pager).act(kind, key=f"run:1:{kind}", message="payroll", user="bob@example.com")
    for kind in ("note", "change_event"):
        with pytest.raises(PermanentError, match="is private"):
            await pages(bench, pager).act(kind, key=f"run:1:{kind}", message="payroll")

    assert len(pager.asked) == 3
    assert "payroll" not in repr(pager.asked)


async def test_a_page_that_took_too_long_is_on_the_timeline_as_failed_until_another_try_sends_it(bench):
    pager = ActingPager()
    for _ in range(2):
        await pages(bench, pager).missed(key="run:1:a", service=None, why="it was not done within 5 s")
    failed = [page.outcome for page in await rows(bench)]
    await pages(bench, pager).act("page", key="run:1:a")

    assert (failed, [page.outcome for page in await rows(bench)]) == (["failed"], ["sent"])
    assert [(event.kind, event.text) for event in await bench.events("page.")] == [
        ("page.failed", "it was not done within 5 s"),
        ("page.sent", "did page"),
    ]
