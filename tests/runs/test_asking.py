"""A question is one message: posted once, drawn anew with each answer, and closed when it is answered or too late."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.incidents.access import Person
from bot.incidents.model import Incident
from bot.incidents.parts import Parts
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.asking import Asking
from bot.runs.model import Approval, ApprovalState, RunState
from bot.runs.show import Show
from tests.conftest import new_database
from tests.fakes.chat import FakeChat
from tests.runs.conftest import ALICE, nothing_follows

ASK = """
access: {approve: [UBOB, UCAROL]}
steps:
  - id: ask
    approval: {prompt: 'Restart it?', count: 2, expires: 20m}
  - name: Restart
    exec: {argv: [systemctl, restart, checkout]}
"""


@pytest.fixture(scope="module", params=["sqlite"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """These rules do not depend on the database; SQLite is the quicker one."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


@pytest.fixture
async def chat(bench):
    async with bench.engine.transaction() as tx:
        await tx.session.execute(
            sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(channel=bench.book)
        )
    return FakeChat()


@pytest.fixture
def asking(bench, chat):
    return Asking(bench.engine, nothing_follows, chat, lambda: bench.clock())


async def asked(bench) -> Approval:
    """A run that has come to its question."""
    run_id = await bench.start(ASK)
    assert (await bench.carry_out(run_id)).state == RunState.WAITING
    async with bench.engine.db.read() as session:
        return await session.scalar(sa.select(Approval).where(col(Approval.run_id) == run_id))


async def say(bench, approval: Approval, who: str, *, yes: bool = True) -> str:
    async with bench.engine.transaction() as tx:
        return await approvals.vote(
            tx, nothing_follows, approval.id, yes=yes, by=Person(who), now=bench.clock(), current=approval.sha256
        )


async def test_a_question_is_one_message_that_shows_the_answers_as_they_come(bench, chat, asking):
    approval = await asked(bench)
    for _ in range(2):
        await asking.show(approval.id)
    await say(bench, approval, "UBOB")
    await asking.show(approval.id)
    await say(bench, approval, "UCAROL")
    for _ in range(2):
        await asking.show(approval.id)

    (message,) = chat.posted()
    drawn = [(noun.approval.state, [vote.person for vote in noun.votes]) for noun in message.drawn]
    assert drawn == [("asked", []), ("asked", ["UBOB"]), ("approved", ["UBOB", "UCAROL"])]
    assert chat.calls == ["post", "edit", "edit"]
    assert message.message.approval.plan[0].startswith("Restart: ")


async def test_a_question_whose_post_was_lost_is_found_and_not_asked_twice(bench, chat, asking):
    approval = await asked(bench)
    chat.lost = TemporaryError("no answer")
    with pytest.raises(TemporaryError):
        await asking.show(approval.id)
    await asking.show(approval.id)

    assert len(chat.posted()) == 1


async def test_a_question_that_somebody_deleted_comes_back_as_long_as_it_is_open(bench, chat, asking):
    approval = await asked(bench)
    await asking.show(approval.id)
    chat.messages.clear()
    await say(bench, approval, "UBOB")
    await asking.show(approval.id)
    assert len(chat.posted()) == 1

    chat.messages.clear()
    await say(bench, approval, "UCAROL")
    await asking.show(approval.id)
    assert chat.posted() == []


async def test_a_question_that_nobody_saw_is_not_shown_once_it_is_closed(bench, chat, asking):
    approval = await asked(bench)
    await say(bench, approval, "UBOB", yes=False)
    await asking.show(approval.id)

    assert chat.calls == []


async def test_a_channel_that_is_gone_is_no_error_and_the_answer_is_no_in_time(bench, chat, asking):
    approval = await asked(bench)
    chat.faults["post"] = [PermanentError("channel_not_found")]
    await asking.show(approval.id)
    later = utc_now() + timedelta(minutes=21)
    await asking.expire((later - timedelta(minutes=3)).isoformat())
    async with bench.engine.db.read() as session:
        assert not await approvals.late(session, later - timedelta(minutes=3))
        assert await approvals.late(session, later)

    await asking.expire(later.isoformat())
    await asking.expire(later.isoformat())

    async with bench.engine.db.read() as session:
        noun = await approvals.shown(session, approval.id)
        assert not await approvals.late(session, later)
    assert noun.approval.state == ApprovalState.EXPIRED
    assert (await bench.carry_out(approval.run_id)).state == RunState.EXPIRED


async def test_what_was_begun_before_the_channel_is_promised_when_it_is_there(bench, chat, asking):
    approval = await asked(bench)
    async with bench.engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(channel=None))
    await asking.show(approval.id)
    show = Show(bench.engine, nothing_follows, chat, utc_now, bench.interpreter())
    await show.show(approval.run_id)
    assert chat.calls == []

    await show.show_all(bench.incident.id)

    async with bench.engine.db.read() as session:
        promised = {item.workflow: item.count for item in await bench.engine.backlog(session)}
        assert (
            await Parts(bench.engine, nothing_follows, utc_now).find(bench.incident.id, f"run:{approval.run_id}")
            is None
        )
    assert promised == {"show_run": 1, "show_approval": 1}


async def test_cancelling_a_run_closes_its_question(bench, chat, asking):
    approval = await asked(bench)
    await asking.show(approval.id)
    async with bench.engine.transaction() as tx:
        await runs.cancel(tx, nothing_follows, approval.run_id, by=ALICE, now=utc_now())
    await asking.show(approval.id)

    assert chat.posted()[0].message.approval.state == ApprovalState.VOID
