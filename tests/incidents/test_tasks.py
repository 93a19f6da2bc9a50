from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine import Engine
from bot.incidents import lifecycle, tasks, timeline
from bot.incidents.model import Sev, Task, TaskKind
from bot.incidents.tasks import Wish
from bot.kit.clock import utc_now
from bot.kit.errors import UserError
from bot.reactions import react

TODAY = date(2026, 11, 25)


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        ("Ask the provider", Wish("Ask the provider")),
        ("Ask the provider <@U0BOB>", Wish("Ask the provider", "U0BOB")),
        ("<@U0BOB> ask the provider", Wish("ask the provider", "U0BOB")),
        ("Ask <@U0BOB> for the key", Wish("Ask <@U0BOB> for the key")),
        ("prevent: Alert on expiry <@U0BOB> due 2026-12-24", Wish("Alert on expiry", "U0BOB", "2026-12-24", "prevent")),
        ("Alert on expiry due in 2w <@U0BOB>", Wish("Alert on expiry", "U0BOB", "2026-12-09")),
        ("Alert on expiry by tomorrow", Wish("Alert on expiry", None, "2026-11-26")),
        ("Alert on expiry 2026-12-24", Wish("Alert on expiry", None, "2026-12-24")),
        ("Pay what is due", Wish("Pay what is due")),
        ("Docs: two\nlines\x00", Wish("two lines", None, None, "docs")),
    ],
    ids=range(10),
)
def test_owner_day_and_type_are_taken_out_of_the_text(text, wish):
    assert tasks.read(text, TODAY) == wish


@pytest.mark.parametrize("text", ["", "   ", "<@U0BOB>", "prevent:", "x due 2026-13-01", "x due 2026-02-30"])
def test_nothing_to_do_or_a_day_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(UserError, match="`"):
        tasks.read(text, TODAY)


async def test_a_task_is_added_done_and_taken_up_again_each_with_its_line(database):
    engine, now = Engine(database), utc_now()
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(tx, react, title="Slow", severity=Sev.SEV2, by="U1", now=now)
        first = await tasks.add(tx, react, incident, TaskKind.TASK, Wish("Call"), by="U1", now=now)
        second = await tasks.add(
            tx, react, incident, TaskKind.FOLLOWUP, Wish("Alert", "U2", "2026-12-24", "prevent"), by="U1", now=now
        )
        await tasks.finish(tx, react, first, by="U2", now=now, note="they know")
        with pytest.raises(UserError, match="T1 is done already"):
            await tasks.finish(tx, react, first, by="U2", now=now)
        await tasks.reopen(tx, react, first, by="U2", now=now)
        await tasks.drop(tx, react, second, by="U1", now=now)
    async with database.read() as session:
        events = await timeline.whole(session, incident.id)
        open_first = [task.label for task in await tasks.listed(session, incident.id)]
        followups = await tasks.listed(session, incident.id, TaskKind.FOLLOWUP)
        left = await tasks.open_count(session, incident.id)
        with pytest.raises(UserError, match="no T7"):
            await tasks.numbered(session, incident, 7)
    await engine.close()

    assert [(event.kind, event.text) for event in events[1:]] == [
        ("task.added", "Task T1: Call"),
        ("followup.added", "Follow-up T2: Alert (prevent) for <@U2> due 2026-12-24"),
        ("task.done", "Task T1 is done: Call (they know)"),
        ("task.reopened", "Task T1 is open again: Call"),
        ("followup.dropped", "Follow-up T2 is dropped: Alert"),
    ]
    assert (open_first, [one.state for one in followups], left) == (["T1", "T2"], ["dropped"], 1)
    assert isinstance(followups[0], Task)


PIECES = ["due ", "by ", "<@U0BOB>", "prevent:", "2026-12-24", "9999d", " ", "x"]


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_whatever_is_typed_is_a_task_or_told_how_to_write_one(text):
    try:
        wish = tasks.read(text, TODAY)
    except UserError:
        return
    assert 0 < len(wish.text) <= tasks.LONGEST
    assert "\n" not in wish.text
    assert wish.due is None or date.fromisoformat(wish.due)
