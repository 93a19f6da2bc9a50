"""What a run says: once, in the right place, and nowhere else for a private incident."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.incidents.chat import Channel, Remark
from bot.incidents.model import Incident, Part
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.runs.room import IncidentRoom
from tests.fakes.chat import FakeChat

OTHER = Channel("C9", "ops")


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat(channels={"C9": OTHER})


@pytest.fixture
async def room(bench, chat) -> IncidentRoom:
    await change(bench, channel=f"C{bench.incident.number}", channel_name="inc-1")
    return made(bench, chat)


def made(bench, chat) -> IncidentRoom:
    return IncidentRoom(bench.engine, bench.react, chat, utc_now, bench.incident.id, "run1", look_seconds=0.01)


async def change(bench, **values) -> None:
    async with bench.engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(**values))


async def run_message(bench, ts: str) -> None:
    async with bench.engine.transaction() as tx:
        tx.session.add(
            Part(
                incident_id=bench.incident.id,
                name="run:run1",
                state="done",
                result={"ts": ts},
                changed_at=utc_now(),
            )
        )


async def say(room, text="hello", *, channel=None, thread=False, broadcast=False, key="run:run1:say"):
    return await room.post(text, channel=channel, thread=thread, broadcast=broadcast, key=key)


def home(bench) -> str:
    return f"C{bench.incident.number}"


async def test_it_is_said_in_the_incidents_channel_with_a_link_to_it(bench, chat, room):
    said = await say(room, "*done* &amp; dusted")

    (posted,) = chat.posted()
    assert posted.message == Remark("*done* &amp; dusted")
    assert said["permalink"] == f"https://chat.example.com/{home(bench)}/{said['ts']}"


async def test_it_is_said_once_under_one_key_and_again_under_another(bench, chat, room):
    first = await say(room)
    again = await say(made(bench, chat))
    other = await say(room, key="run:run1:other")

    assert first == again
    assert first["ts"] != other["ts"]
    assert len(chat.posted()) == 2


async def test_after_a_lost_answer_it_is_looked_for_and_not_said_twice(bench, chat, room):
    chat.lost = TemporaryError("lost")
    with pytest.raises(TemporaryError):
        await say(room)

    said = await say(made(bench, chat))

    assert len(chat.posted()) == 1
    assert said["ts"] in chat.messages[home(bench)]


async def test_below_the_runs_message_it_is_found_again_there(bench, chat, room):
    await run_message(bench, "7.0")
    chat.lost = TemporaryError("lost")
    with pytest.raises(TemporaryError):
        await say(room, thread=True)
    await say(made(bench, chat), thread=True)

    (posted,) = chat.posted()
    assert (posted.thread, posted.broadcast) == ("7.0", False)


async def test_it_can_be_shown_in_the_channel_as_well(bench, chat, room):
    await run_message(bench, "7.0")
    await say(room, thread=True, broadcast=True)

    assert (chat.posted()[0].thread, chat.posted()[0].broadcast) == ("7.0", True)


async def test_without_a_message_of_the_run_it_stands_by_itself_and_stays_there(bench, chat, room):
    chat.lost = TemporaryError("lost")
    with pytest.raises(TemporaryError):
        await say(room, thread=True, broadcast=True)
    await run_message(bench, "7.0")
    await say(made(bench, chat), thread=True, broadcast=True)

    assert [(posted.thread, posted.broadcast) for posted in chat.posted()] == [(None, False)]


@pytest.mark.parametrize("name", ["#ops", "ops", "C9"])
async def test_another_channel_can_be_named(bench, chat, room, name):
    await say(room, channel=name)

    assert len(chat.posted("C9")) == 1


async def test_a_channel_that_is_not_there_is_refused(bench, chat, room):
    with pytest.raises(PermanentError, match="no channel #nowhere"):
        await say(room, channel="#nowhere")
    assert chat.posted() == []


async def test_a_private_incident_says_nothing_outside_its_channel(bench, chat, room):
    await change(bench, private=True)

    with pytest.raises(PermanentError, match="is private"):
        await say(room, channel="#ops")
    await say(room, channel="#inc-1", key="run:run1:own")

    assert [posted.key for posted in chat.posted(home(bench))] == [f"{bench.incident.id}:remark:run:run1:own"]
    assert chat.posted("C9") == []


async def test_an_incident_that_became_private_is_silent_even_on_the_second_try(bench, chat, room):
    chat.faults["post"] = [TemporaryError("away")]
    with pytest.raises(TemporaryError):
        await say(room, channel="#ops")
    await change(bench, private=True)

    with pytest.raises(PermanentError, match="is private"):
        await say(made(bench, chat), channel="#ops")
    assert chat.posted() == []


async def test_without_a_channel_it_waits_for_one(bench, chat):
    with pytest.raises(TemporaryError, match="has no channel yet"):
        await say(made(bench, chat))


async def test_a_refusal_is_told_with_its_reason_and_may_work_later(bench, chat, room):
    chat.faults["post"] = [PermanentError("the channel is archived; unarchive it")]
    with pytest.raises(PermanentError, match="archived"):
        await say(room)

    assert (await say(room))["ts"]


async def test_a_link_that_cannot_be_had_does_not_undo_it(bench, chat, room):
    chat.faults["permalink"] = [PermanentError("no")]

    assert (await say(room))["permalink"] == ""
    assert len(chat.posted()) == 1
