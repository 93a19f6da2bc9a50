"""Draft, in review, completed or waived; with an owner, a day, and a reminder once for each window."""

import asyncio
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.postmortems import review as reviews
from bot.postmortems.draft import Edit, draft, revise
from bot.postmortems.merge import END, PEOPLE, TIMELINE
from bot.postmortems.model import Origin, Review
from bot.postmortems.plan import Plan, working_day, working_days
from bot.postmortems.review import Change, Reminders, day, window
from tests.postmortems.story import START, at
from tests.postmortems.test_draft import INCIDENT, events, keep, nothing

OWNER = "U0COMMAND"
FRIDAY, MONDAY = date(2026, 3, 6), date(2026, 3, 9)
SOON = timedelta(hours=2)


@pytest.fixture
async def engine(database: Database):
    engine = Engine(database)
    async with engine.transaction() as tx:
        await keep(tx.session)
    await draft(engine, nothing, INCIDENT, now=at(60), plan=Plan(days={"SEV1": 3, "SEV2": 5}))
    yield engine
    await engine.close()


async def do(engine: Engine, what: str, *said: object, by: str = "U0READER1") -> object:
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, INCIDENT, lock=True)
        return await getattr(Change(tx, nothing, incident, by, at(70)), what)(*said)


async def edit(engine: Engine, old: str, new: str) -> None:
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, INCIDENT, lock=True)
        newest = await reviews.Change(tx, nothing, incident, OWNER, at(71))._document()
        text = Edit(newest.text.replace(old, new), Origin.FILE)
        await revise(tx, nothing, incident, text, by=OWNER, now=at(71), actor=OWNER)


async def stands(engine: Engine) -> Review:
    async with engine.db.read() as session:
        found = await reviews.of(session, INCIDENT)
    assert found is not None
    return found


async def test_the_first_draft_belongs_to_the_commander_and_is_due_by_severity_in_working_days(engine):
    review = await stands(engine)

    assert START.date() == date(2026, 3, 2)  # a Monday; SEV2 has five days
    assert (review.state, review.owner, review.due) == ("draft", OWNER, "2026-03-09")


async def test_it_is_handed_in_and_completed_by_who_saw_the_revision(engine, database):
    await do(engine, "hand_in")
    assert (await stands(engine)).state == "in_review"

    await do(engine, "complete", 1)

    review = await stands(engine)
    assert (review.state, review.reviewed, review.decided_by) == ("completed", 1, "U0READER1")
    (event,) = await events(database, "postmortem.completed")
    assert event.data == {"revision": 1}


async def test_a_yes_to_an_older_revision_is_no_yes(engine):
    await do(engine, "hand_in")
    await edit(engine, "_What limited the harm?_", "The canary.")

    with pytest.raises(UserError, match="a newer revision: you have seen 1, it is 2 now"):
        await do(engine, "complete", 1)

    assert (await stands(engine)).state == "in_review"


async def test_changes_are_asked_for_with_a_reason_and_it_is_a_draft_again(engine, database):
    await do(engine, "hand_in")
    with pytest.raises(UserError, match="what is to be changed"):
        await do(engine, "send_back", "  ")
    await do(engine, "send_back", "Say what users saw")

    assert (await stands(engine)).state == "draft"
    (event,) = await events(database, "postmortem.review_returned")
    assert event.text.endswith("Say what users saw")


@pytest.mark.parametrize("what", ["hand_in", "complete"])
async def test_a_document_with_conflicts_is_neither_handed_in_nor_completed(engine, what):
    if what == "complete":
        await do(engine, "hand_in")
    await edit(engine, "_What limited the harm?_", f"{PEOPLE}\na\n{TIMELINE}\nb\n{END}")

    with pytest.raises(UserError, match="1 conflict in it waits"):
        await do(engine, what)


async def test_what_is_not_in_review_cannot_be_completed_or_sent_back(engine):
    with pytest.raises(UserError, match="not in review yet"):
        await do(engine, "complete")
    with pytest.raises(UserError, match="not in review"):
        await do(engine, "send_back", "why")


async def test_it_is_waived_with_a_reason_and_then_only_reopened(engine, database):
    with pytest.raises(UserError, match="Say why"):
        await do(engine, "waive", "")
    await do(engine, "waive", "the same as INC-3")
    for what, said in (("hand_in", ()), ("own", ("U1",)), ("plan", ("5d",)), ("waive", ("again",))):
        with pytest.raises(UserError, match="is waived"):
            await do(engine, what, *said)

    await do(engine, "reopen")

    assert (await stands(engine)).state == "draft"
    assert [event.kind for event in await events(database, "postmortem.reopened")] == ["postmortem.reopened"]
    with pytest.raises(UserError, match="not over"):
        await do(engine, "reopen")


async def test_an_incident_that_is_open_again_is_not_completed(engine):
    await do(engine, "hand_in")
    async with engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, INCIDENT, lock=True)
        incident.is_open = True
        tx.session.add(incident)

    with pytest.raises(UserError, match="still open"):
        await do(engine, "complete", 1)


async def test_the_owner_and_the_day_are_changed(engine, database):
    await do(engine, "own", "U0WRITER1")
    with pytest.raises(UserError, match="owns it already"):
        await do(engine, "own", "U0WRITER1")
    assert await do(engine, "plan", "2026-03-20") == "2026-03-20"

    review = await stands(engine)
    assert (review.owner, review.due) == ("U0WRITER1", "2026-03-20")
    (event,) = await events(database, "postmortem.owned")
    assert event.data == {"owner": "U0WRITER1", "previous": OWNER}


async def tick(engine: Engine, when: date) -> None:
    moment = datetime(when.year, when.month, when.day, 9, tzinfo=START.tzinfo)
    await Reminders(engine, nothing, lambda: moment).tick()


async def test_people_are_reminded_once_for_each_window_whichever_process_ticks(engine, database):
    for days in range(12):
        when = FRIDAY + timedelta(days=days)
        await asyncio.gather(tick(engine, when), tick(engine, when))

    told = [event.data["window"] for event in await events(database, "postmortem.reminded")]
    assert told == ["soon", "today", "late-0", "late-5"]


async def test_a_new_day_begins_the_reminders_anew(engine, database):
    await tick(engine, MONDAY)
    await do(engine, "plan", "2026-03-10")
    await tick(engine, date(2026, 3, 10))

    assert [event.data["window"] for event in await events(database, "postmortem.reminded")] == ["today", "today"]


@pytest.mark.parametrize("what", ["complete", "waive"])
async def test_nobody_is_reminded_of_what_is_over(engine, database, what):
    await do(engine, "hand_in")
    await do(engine, what, *([1] if what == "complete" else ["why"]))
    await tick(engine, MONDAY)

    assert await events(database, "postmortem.reminded") == []


@pytest.mark.parametrize(
    ("today", "expected"),
    [
        (date(2026, 3, 5), None),
        (FRIDAY, "soon"),
        (date(2026, 3, 8), "soon"),
        (MONDAY, "today"),
        (date(2026, 3, 10), "late-0"),
        (date(2026, 3, 13), "late-0"),
        (date(2026, 3, 16), "late-5"),
        (date(2026, 4, 6), "late-20"),
        (date(2026, 4, 7), None),
    ],
    ids=str,
)
def test_the_windows_count_working_days(today, expected):
    assert window(MONDAY, today) == expected


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.integers(1, 90))
def test_working_days_forth_and_back_agree(since, days):
    due = working_day(since, days)

    assert due.weekday() < 5
    assert working_days(since, due) == days


@pytest.mark.parametrize(
    ("word", "expected"), [("2026-03-20", date(2026, 3, 20)), ("1d", MONDAY), ("in 2w", date(2026, 3, 20))]
)
def test_a_day_is_read(word, expected):
    assert day(word, FRIDAY) == expected


@pytest.mark.parametrize("word", ["", "soon", "2026-13-40", "2026-03-01", "9999999d", "-5d"])
def test_what_is_no_day_or_over_is_refused(word):
    with pytest.raises(UserError, match=r"That is no day|is over already"):
        day(word, FRIDAY)
