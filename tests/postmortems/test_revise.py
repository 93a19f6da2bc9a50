"""People edit the document; the timeline goes on; nothing of either is lost."""

import pytest

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.postmortems import draft as drafts
from bot.postmortems.draft import Edit, draft, revise
from bot.postmortems.merge import conflicts
from bot.postmortems.model import Origin, Postmortem
from bot.postmortems.plan import Plan
from bot.postmortems.sections import body, replaced, sections
from tests.postmortems.story import at
from tests.postmortems.test_draft import INCIDENT, events, keep, nothing

ANSWER = "A lock was held by a pipeline that nobody could see."
QUESTION = "_What would have shown this in half the time?_"


@pytest.fixture
async def engine(database: Database):
    engine = Engine(database)
    yield engine
    await engine.close()


async def drafted(engine: Engine) -> Postmortem:
    async with engine.transaction() as tx:
        await keep(tx.session)
    return await draft(engine, nothing, INCIDENT, now=at(60))


async def edited(engine: Engine, edit: Edit, by: str = "U0WRITER1") -> tuple[Postmortem, int]:
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, INCIDENT, lock=True)
        return await revise(tx, nothing, incident, edit, by=by, now=at(70), actor=by)


async def noted(engine: Engine, text: str, minutes: float = 80) -> None:
    async with engine.transaction() as tx:
        await timeline.record(tx, nothing, INCIDENT, "note.added", text, now=at(minutes), actor="U0HELPER1")


async def test_what_a_person_wrote_stays_when_the_draft_is_written_anew(engine, database):
    first = await drafted(engine)
    await edited(engine, Edit(first.text.replace(QUESTION, ANSWER), Origin.FILE))
    await noted(engine, "One more thing")

    third = await draft(engine, nothing, INCIDENT, now=at(90))

    assert third.revision == 3
    assert ANSWER in third.text
    assert "One more thing" in third.text
    assert (third.author, third.origin, conflicts(third.text)) == ("bot", "timeline", 0)


async def test_a_revision_keeps_its_author_and_the_timeline_says_who_edited(engine, database):
    first = await drafted(engine)
    second, _ = await edited(engine, Edit(first.text.replace(QUESTION, ANSWER), Origin.SECTION, section="detection"))

    assert (second.revision, second.author, second.origin) == (2, "U0WRITER1", "section")
    (event,) = await events(database, "postmortem.edited")
    assert event.data == {"revision": 2, "origin": "section", "section": "detection", "by": "U0WRITER1"}
    async with database.read() as session:
        assert [one.revision for one in await drafts.listed(session, INCIDENT)] == [1, 2]


async def test_drafting_without_news_gives_the_edited_revision_and_adds_none(engine, database):
    first = await drafted(engine)
    second, _ = await edited(engine, Edit(first.text.replace(QUESTION, ANSWER), Origin.FILE))

    again = await draft(engine, nothing, INCIDENT, now=at(90))

    assert (again.revision, again.text) == (2, second.text)


async def test_an_import_that_changes_nothing_is_no_revision(engine):
    first = await drafted(engine)
    same, count = await edited(engine, Edit(first.text.replace("\n", "\r\n"), Origin.FILE))

    assert (same.revision, count) == (1, 0)


async def test_two_people_who_began_from_one_revision_both_keep_their_words(engine):
    first = await drafted(engine)
    await edited(engine, Edit(first.text.replace(QUESTION, ANSWER), Origin.FILE, revision=1))
    other = first.text.replace("_What limited the harm?_", "The canary was small.")

    third, count = await edited(engine, Edit(other, Origin.FILE, revision=1), by="U0WRITER2")

    assert count == 0
    assert ANSWER in third.text
    assert "The canary was small." in third.text


async def test_two_people_who_answer_the_same_question_see_both_answers(engine, database):
    first = await drafted(engine)
    await edited(engine, Edit(first.text.replace(QUESTION, ANSWER), Origin.FILE, revision=1))

    third, count = await edited(engine, Edit(first.text.replace(QUESTION, "A graph."), Origin.FILE, revision=1))

    assert count == conflicts(third.text) == 1
    assert ANSWER in third.text
    assert "A graph." in third.text
    newest = (await events(database, "postmortem.edited"))[-1]
    assert newest.data["conflicts"] == 1
    assert "1 conflict is marked" in newest.text


async def test_a_line_of_the_timeline_that_a_person_changed_is_a_conflict_when_it_changes(engine):
    first = await drafted(engine)
    line = next(line for line in first.text.split("\n") if line.startswith("**Raw timeline.**"))
    await edited(engine, Edit(first.text.replace(line, "**Raw timeline.** See the archive."), Origin.FILE))
    await noted(engine, "One more thing")

    third = await draft(engine, nothing, INCIDENT, now=at(90))

    assert conflicts(third.text) == 1
    assert "See the archive." in third.text


@pytest.mark.parametrize(("text", "revision", "word"), [(" \n\n", None, "no text"), ("# x", 9, "no revision 9")])
async def test_what_cannot_be_kept_is_refused_with_the_reason(engine, text, revision, word):
    await drafted(engine)

    with pytest.raises(UserError, match=word):
        await edited(engine, Edit(text, Origin.FILE, revision))


async def test_there_is_nothing_to_edit_before_the_first_draft(engine):
    async with engine.transaction() as tx:
        await keep(tx.session)

    with pytest.raises(UserError, match="no post-mortem yet"):
        await edited(engine, Edit("# x", Origin.FILE))


async def test_a_document_that_people_edited_keeps_its_template(engine):
    first = await drafted(engine)
    light = await draft(engine, nothing, INCIDENT, now=at(61), template="lightweight")
    assert (first.template, light.template) == ("full", "lightweight")
    await edited(engine, Edit(light.text.replace("_What else?_", "Two locks."), Origin.FILE))

    with pytest.raises(UserError, match="stays with the template 'lightweight'"):
        await draft(engine, nothing, INCIDENT, now=at(90), template="full")


async def test_the_severity_chooses_the_template(engine):
    async with engine.transaction() as tx:
        await keep(tx.session)
    plan = Plan(templates={"SEV2": "lightweight"})

    assert (await draft(engine, nothing, INCIDENT, now=at(60), plan=plan)).template == "lightweight"


async def test_a_section_is_replaced_and_the_rest_stays(engine):
    text = (await drafted(engine)).text

    made = replaced(text, "mitigators", "The canary was small.\n\n<!-- section: summary -->")

    assert body(made, "mitigators") == "The canary was small."
    assert [one.name for one in sections(made)] == [one.name for one in sections(text)]
    assert {one.name for one in sections(text) if body(made, one.name) != body(text, one.name)} == {"mitigators"}


def test_a_text_without_markers_has_no_sections():
    assert sections("# A title\n") == []
    assert sections("") == []


def test_a_section_that_is_not_there_names_those_there_are():
    with pytest.raises(UserError, match="Did you mean `impact`"):
        body("<!-- section: impact -->\n## Impact\n\nNone.\n", "impakt")
