"""A post-mortem that was asked for in a format is shared once, whatever goes wrong on the way."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Incident, Sev, Ticket, TimelineEvent
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

    async def ask(self, exporter: str, *, once: str = "r1", revision: int | None = None, ticket: bool = False) -> str:
        """Ask; the event to be carried out."""
        async with self.engine.transaction() as tx:
            await files.ask(
                tx,
                nothing_follows,
                self.incident,
                exporter,
                revision=revision,
                by="U1",
                now=utc_now(),
                once=once,
                ticket=ticket,
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


class Desk:
    """A tracker that takes files; *faults* are raised first."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.attached: dict[tuple[str, str], bytes] = {}

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.attached[id_, name] = content


async def ticketed(room: Room, *faults: Exception, **fields) -> Desk:
    """A ticket of the incident, and the tracker it is in."""
    values = {"purpose": "incident", "state": "made", "remote_id": "10001", "reference": "OPS-7", **fields}
    values |= {"id": "t1", "incident_id": room.incident.id, "tracker": "jira", "key": "k"}
    async with room.engine.transaction() as tx:
        tx.session.add(Ticket(created_at=utc_now(), changed_at=utc_now(), **values))
    desk = Desk(*faults)
    room.files.trackers = {"jira": desk}
    return desk


async def test_it_is_attached_to_the_ticket_and_told_once_although_the_tracker_was_away(room):
    desk = await ticketed(room, TemporaryError("Jira is away"))
    event = await room.ask("md", ticket=True)

    with pytest.raises(TemporaryError):
        await room.export(event)
    for _ in range(2):
        await room.export(event)

    assert list(desk.attached) == [("10001", "inc-1-postmortem-1.md")]
    (told,) = await room.events("postmortem.exported")
    assert told.text == "Post-mortem, revision 1, attached to OPS-7 as md"
    assert room.uploads == []


@pytest.mark.parametrize(
    "fields", [{"purpose": "followup"}, {"state": "wanted", "remote_id": None}], ids=["follow-up", "not there yet"]
)
async def test_without_a_ticket_of_its_own_nothing_is_promised(room, fields):
    await ticketed(room, **fields)

    with pytest.raises(UserError, match="INC-1 has no ticket"):
        await room.ask("md", ticket=True)


async def test_a_private_post_mortem_goes_to_no_ticket(room):
    await ticketed(room)
    room.incident.private = True

    with pytest.raises(UserError, match="INC-1 is private"):
        await room.ask("md", ticket=True)
