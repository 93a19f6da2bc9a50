"""A post-mortem that was asked for in a format is shared once, whatever goes wrong on the way."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Incident, Sev, TimelineEvent
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.shelf import Shelf
from bot.postmortems import files, press
from bot.postmortems.draft import draft
from bot.postmortems.files import Files
from tests.fakes.chat import FakeChat

CHANNEL = "C0INCIDENT"


def nothing_follows(event):
    return ()


class Room:
    """An incident with a channel, and what shares its post-mortem there."""

    def __init__(self, engine: Engine, incident: Incident) -> None:
        self.engine, self.incident, self.chat = engine, incident, FakeChat()
        self.exporters = Shelf(press.SHELF, must_have=press.NEEDS).find()
        self.files = Files(engine, nothing_follows, self.chat, utc_now, self.exporters)

    async def ask(self, exporter: str, *, once: str = "r1", revision: int | None = None) -> str:
        """Ask; the event to be carried out."""
        async with self.engine.transaction() as tx:
            await files.ask(
                tx, nothing_follows, self.incident, exporter, revision=revision, by="U1", now=utc_now(), once=once
            )
        return (await self.events("postmortem.export_requested"))[-1].id

    async def events(self, kind: str) -> list[TimelineEvent]:
        async with self.engine.db.read() as session:
            query = sa.select(TimelineEvent).where(col(TimelineEvent.kind) == kind)
            return list(await session.scalars(query.order_by(col(TimelineEvent.recorded_at))))

    async def export(self, event_id: str) -> None:
        await self.files.export(self.incident.id, event_id)

    @property
    def uploads(self):
        return self.chat.uploads[CHANNEL]


@pytest.fixture
async def room(database):
    engine = Engine(database)
    now = utc_now()
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(tx, nothing_follows, title="Down", severity=Sev.SEV2, by="U1", now=now)
        incident.channel = CHANNEL
        await lifecycle.resolve(tx, nothing_follows, incident, by="U1", now=now, note="rolled back")
    yield Room(engine, incident)
    await engine.close()


async def test_the_file_is_shared_in_the_channel_and_told_once(room):
    event = await room.ask("md")
    for _ in range(2):
        await room.export(event)

    (upload,) = room.uploads
    assert upload.name == "inc-1-postmortem-1.md"
    assert "INC-1: Down" in upload.content.decode()
    assert upload.comment == ":page_facing_up: Post-mortem of INC-1, revision 1, as md, for <@U1>."
    (told,) = await room.events("postmortem.exported")
    assert told.data == {"revision": 1, "exporter": "md", "place": "slack"}


async def test_a_chat_that_is_away_loses_nothing(room):
    event = await room.ask("md")
    room.chat.faults["upload"] = [TemporaryError("Slack is away")]

    with pytest.raises(TemporaryError):
        await room.export(event)
    assert await room.events("postmortem.exported") == []

    await room.export(event)
    assert len(room.uploads) == 1
    assert len(await room.events("postmortem.exported")) == 1


async def test_what_was_shared_although_the_answer_was_lost_is_found_and_not_shared_again(room):
    event = await room.ask("md")
    await room.export(event)
    again = await room.ask("md", once="r2")
    room.chat.faults["upload"] = [TemporaryError("the answer was lost")]
    with pytest.raises(TemporaryError):
        await room.export(again)

    await room.export(again)

    assert len(room.uploads) == 1
    assert len(await room.events("postmortem.exported")) == 2


async def test_a_chat_that_refuses_ends_it_with_its_reason(room):
    event = await room.ask("md")
    room.chat.faults["upload"] = [PermanentError("Slack says: file_too_large")]

    with pytest.raises(PermanentError, match="file_too_large"):
        await room.export(event)


async def test_a_revision_that_was_chosen_is_the_one_that_is_shared(room):
    await draft(room.engine, nothing_follows, room.incident.id, now=utc_now())
    async with room.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, room.incident.id)
        await lifecycle.note(tx, nothing_follows, incident, "one thing more", by="U1", now=utc_now())

    await room.export(await room.ask("md", revision=1))
    await room.export(await room.ask("md", once="r2"))

    assert [upload.name for upload in room.uploads] == ["inc-1-postmortem-1.md", "inc-1-postmortem-2.md"]
    assert "one thing more" not in room.uploads[0].content.decode()


async def test_exporting_changes_no_fact(room):
    first = await draft(room.engine, nothing_follows, room.incident.id, now=utc_now())
    await room.export(await room.ask("md"))

    assert (await draft(room.engine, nothing_follows, room.incident.id, now=utc_now())).revision == first.revision


async def test_an_incident_without_a_channel_is_told_how_else(room):
    room.incident.channel = None

    with pytest.raises(UserError, match="`tocsin postmortem export INC-1 --format pdf` writes one"):
        await room.ask("pdf")
