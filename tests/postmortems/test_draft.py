"""Revisions: one for each time the timeline had more to say."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from bot.engine import Engine, Work
from bot.exporters import md
from bot.incidents import timeline
from bot.incidents.model import TimelineEvent
from bot.kit.db import Database
from bot.kit.errors import PermanentError
from bot.postmortems.draft import draft, newest, stored
from bot.postmortems.facts import Facts, gather
from bot.postmortems.render import render
from tests.postmortems.story import at, checkout

INCIDENT = "a" * 32


def nothing(event: TimelineEvent) -> list[Work]:
    return []


@pytest.fixture
async def engine(database: Database):
    """The engine without `start`: its transactions are real, and no workflow runs."""
    engine = Engine(database)
    yield engine
    await engine.close()


async def keep(session: AsyncSession) -> None:
    story = checkout()
    session.add(story.incident)
    await session.flush()
    session.add_all([*story.events, *story.roles])
    await session.flush()


async def events(database: Database, kind: str) -> list[TimelineEvent]:
    async with database.read() as session:
        return [event for event in await timeline.whole(session, INCIDENT) if event.kind == kind]


async def test_the_first_draft_is_revision_one_and_stands_on_the_timeline(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    document = await draft(engine, nothing, INCIDENT, now=at(60))

    assert document.revision == 1
    (event,) = await events(database, "postmortem.drafted")
    assert (event.data, event.actor) == ({"revision": 1}, "bot")


async def test_drafting_again_without_news_adds_nothing(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    first = await draft(engine, nothing, INCIDENT, now=at(60))
    second = await draft(engine, nothing, INCIDENT, now=at(600))

    assert (second.id, second.text) == (first.id, first.text)
    assert len(await events(database, "postmortem.drafted")) == 1


async def test_news_on_the_timeline_make_a_new_revision_and_leave_the_old_one(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    first = await draft(engine, nothing, INCIDENT, now=at(60))
    async with engine.transaction() as tx:
        await timeline.record(tx, nothing, INCIDENT, "note.added", "One more thing", now=at(70), actor="U0HELPER1")
    second = await draft(engine, nothing, INCIDENT, now=at(80))

    assert second.revision == 2
    assert "One more thing" in second.text
    async with database.read() as session:
        last = await newest(session, INCIDENT)
        old = await stored(session, INCIDENT, 1)
        assert last is not None
        assert last.text == second.text
        assert old is not None
        assert old.text == first.text
        assert await stored(session, INCIDENT, 3) is None
    assert len(await events(database, "postmortem.drafted")) == 2


async def test_a_stored_revision_holds_the_facts_it_was_made_of(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    await draft(engine, nothing, INCIDENT, now=at(60))

    async with database.read() as session:
        document = await newest(session, INCIDENT)
    assert document is not None
    assert Facts.from_json(document.facts).moment("resolved").at == at(52)


async def test_exporting_gives_the_stored_bytes_every_time(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    document = await draft(engine, nothing, INCIDENT, now=at(60))
    async with database.read() as session:
        again = await newest(session, INCIDENT)

    assert again is not None
    assert md.export(again) == md.export(document) == document.text.encode()


async def test_what_comes_back_from_the_database_gives_the_document_of_the_story(engine: Engine):
    async with engine.transaction() as tx:
        await keep(tx.session)
    document = await draft(engine, nothing, INCIDENT, now=at(60))

    story = checkout()
    assert document.text == render(gather(story.incident, story.events, story.roles))


async def test_two_drafts_at_once_are_one_revision(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)

    async def again() -> int:
        return (await draft(engine, nothing, INCIDENT, now=at(60))).revision

    assert await asyncio.gather(again(), again(), again()) == [1, 1, 1]
    assert len(await events(database, "postmortem.drafted")) == 1


async def test_an_incident_that_does_not_exist_has_no_draft(engine: Engine, database: Database):
    with pytest.raises(PermanentError, match="no incident"):
        await draft(engine, nothing, "b" * 32, now=at(60))

    async with database.read() as session:
        assert await newest(session, "b" * 32) is None


async def test_while_a_draft_is_told_others_can_write_and_what_they_wrote_is_in_it(engine: Engine, database: Database):
    async with engine.transaction() as tx:
        await keep(tx.session)
    drafting = asyncio.ensure_future(draft(engine, nothing, INCIDENT, now=at(60)))
    for n in range(3):
        await asyncio.sleep(0)
        async with asyncio.timeout(5), engine.transaction() as tx:
            await timeline.record(
                tx, nothing, INCIDENT, "note.added", f"Meanwhile {n}", now=at(61 + n), actor="U0HELPER1"
            )
    document = await drafting
    last = await draft(engine, nothing, INCIDENT, now=at(80))

    assert document.revision <= last.revision
    assert all(f"Meanwhile {n}" in last.text for n in range(3))
