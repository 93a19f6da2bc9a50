"""Opening an incident at the port: stopped before or after any call, it goes on and makes each thing once."""

import asyncio
import inspect
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from bot.alerts.model import AlertRow
from bot.catalog.services import Catalog, Directory
from bot.engine import Engine, migrate
from bot.incidents import lifecycle, opening, timeline
from bot.incidents.chat import Look, Notice
from bot.incidents.model import Incident, Part, Sev
from bot.incidents.opening import Opening
from bot.incidents.parts import give_up
from bot.incidents.services import Services
from bot.incidents.telling import Telling
from bot.kit.db import Database
from bot.kit.errors import PermanentError, TemporaryError
from tests.fakes.chat import FakeChat

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
MAKES = ("create_channel", "set_topic", "invite", "bookmark", "post", "pin")


class Mortal:
    """A chat whose bot dies at the *n*-th call, before it is made or after."""

    def __init__(self, chat: FakeChat, n: int, *, after: bool) -> None:
        self.chat, self.left, self.after = chat, n, after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.chat, name)
        if not inspect.iscoroutinefunction(method):
            return method  # it asks nobody

        async def call(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self.after:
                raise asyncio.CancelledError
            answer = await method(*args, **options)
            if self.left == 0:
                raise asyncio.CancelledError
            return answer

        return call


@pytest.fixture
async def engine(database: Database):
    """An engine that keeps promises and does not start: the workflow is called by hand."""
    await asyncio.to_thread(migrate, database)
    made = Engine(database)
    yield made
    await made.close()


def workflow(engine: Engine, chat: Any, **look: Any) -> Opening:
    return Opening(
        engine, lambda event: [], chat, Look(invite=("U2",), **look), lambda incident, alerts: [], lambda: NOW
    )


async def test_the_owners_of_the_service_are_brought_in_where_they_are_wanted(engine):
    catalog = {
        "services": {"pay": {"owner": "payments"}, "search": {}},
        "teams": {"payments": {"members": ["alice@example.com", "U7"]}},
        "people": {"alice@example.com": "UALICE"},
    }
    chat = FakeChat()
    flow = Opening(
        engine, lambda event: [], chat, Look(invite=("U2", "owners")), lambda incident, alerts: [], lambda: NOW,
        services=Services(Directory(Catalog.model_validate(catalog)), lambda: NOW),
    )  # fmt: skip
    for service, private, wanted in (
        ("pay", False, ["U1", "U2", "UALICE", "U7"]),
        ("search", False, ["U1", "U2"]),
        (None, False, ["U1", "U2"]),
        ("pay", True, ["U1"]),  # whoever declares a private incident decides alone who hears of it
    ):
        incident = await declared(engine, private=private)
        async with engine.transaction() as tx:
            (await lifecycle.find(tx.session, incident.id)).service = service
        await flow.open(incident.id)
        assert chat.invited[f"C{len(chat.channels)}"] == wanted


async def test_whoever_is_on_call_for_the_service_is_brought_in_where_they_are_wanted(engine):
    chat = FakeChat()
    on_call = {"pay": ["bob@example.com"]}
    flow = Opening(
        engine, lambda event: [], chat, Look(invite=("oncall", "U2")), lambda incident, alerts: [], lambda: NOW,
        on_call=lambda service: on_call.get(service or "", []),
    )  # fmt: skip
    for service, wanted in (("pay", ["U1", "bob@example.com", "U2"]), (None, ["U1", "U2"])):
        incident = await declared(engine)
        async with engine.transaction() as tx:
            (await lifecycle.find(tx.session, incident.id)).service = service
        await flow.open(incident.id)
        assert chat.invited[f"C{len(chat.channels)}"] == wanted


async def declared(engine: Engine, *, private: bool = False, title: str = "Checkout is slow") -> Incident:
    async with engine.transaction() as tx:
        # Each chat of these tests counts its channels from C1.
        await tx.session.execute(sa.update(Incident).values(channel=None))
        incident = await lifecycle.declare(
            tx, lambda event: [], title=title, severity=Sev.SEV2, by="U1", now=NOW, private=private
        )
        alert = AlertRow(
            id=incident.id, connection="c", source="s", fingerprint=incident.id, dedup_key="d", title="A",
            severity="critical", state="firing", annotations={"runbook_url": "https://r.example/a"}, starts_at=NOW,
            first_seen_at=NOW, last_seen_at=NOW, episode_id="e", incident_id=incident.id,
        )  # fmt: skip
        tx.session.add(alert)
    return incident


async def kinds(engine: Engine, incident: Incident) -> list[str]:
    async with engine.db.read() as session:
        return [event.kind for event in await timeline.whole(session, incident.id)]


@pytest.mark.slow
async def test_stopped_before_or_after_any_call_it_goes_on_and_makes_each_thing_once(engine: Engine):
    for n in range(1, 9):
        for after in (False, True):
            chat = FakeChat()
            incident = await declared(engine)
            with pytest.raises(asyncio.CancelledError):
                await workflow(engine, Mortal(chat, n, after=after)).open(incident.id)
            await workflow(engine, chat).open(incident.id)

            where = f"call {n}, {'after' if after else 'before'}"
            assert len(chat.channels) == 1, where
            assert len(chat.posted("C1")) == len(chat.posted("C0")) == 1, where
            assert len(chat.bookmarks["C1"]) == 1, where
            assert set(chat.pins["C1"]) == set(chat.messages["C1"]), where
            assert set(chat.invited["C1"]) == {"U1", "U2"}, where
            assert chat.topics["C1"].startswith(incident.reference), where
            assert (await kinds(engine, incident)).count("channel.opened") == 1, where


async def test_a_smooth_opening_makes_each_call_once_and_a_second_one_makes_none(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine)
    await workflow(engine, chat).open(incident.id)
    assert sorted(call for call in chat.calls if call != "announcement_channel") == sorted([*MAKES, "post"])
    chat.calls.clear()
    await workflow(engine, chat).open(incident.id)

    assert chat.calls == []


async def test_a_part_that_is_refused_stops_no_other_and_a_word_for_now_is_tried_again(engine: Engine):
    for broken in ("set_topic", "invite", "bookmark", "pin", "announcement_channel"):
        chat = FakeChat()
        chat.faults[broken] = [PermanentError("Slack says no")]
        incident = await declared(engine)
        await workflow(engine, chat).open(incident.id)
        async with engine.db.read() as session:
            failed = (await opening.card_of(session, incident.id, lambda i, a: [])).failed
        assert [part.error for part in failed] == ["Slack says no"]
        assert chat.posted("C1")[0].message.failed, broken
        assert set(MAKES) - {broken} <= set(chat.calls)
        await workflow(engine, chat).open(incident.id)
        assert not chat.posted("C1")[0].message.failed
        assert (await kinds(engine, incident)).count("part.mended") == 1

        chat = FakeChat()
        chat.faults[broken] = [TemporaryError("Slack is away")]
        incident = await declared(engine)
        with pytest.raises(TemporaryError):
            await workflow(engine, chat).open(incident.id)
        await workflow(engine, chat).open(incident.id)
        assert len(chat.posted("C1")) == len(chat.posted("C0")) == 1


async def test_a_private_incident_is_announced_nowhere_and_brings_in_its_declarer_alone(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine, private=True, title="Secret")
    await workflow(engine, chat).open(incident.id)

    assert chat.posted("C0") == []
    assert chat.invited["C1"] == ["U1"]
    assert chat.channels["C1"].name == incident.reference.lower()


async def test_a_declined_suggestion_never_gets_a_channel(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine)
    async with engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).values(status="declined", is_open=False))
    await workflow(engine, chat).open(incident.id)

    assert chat.channels == {}


async def test_what_was_noted_before_there_was_a_channel_is_told_in_it_once(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine)
    async with engine.transaction() as tx:
        await lifecycle.note(tx, lambda event: [], incident, "first sight", by="U1", now=NOW)
    event = next(e for e in await _timeline(engine, incident) if e.kind == "note.added")
    work = workflow(engine, chat)
    await Telling(engine, lambda event: [], chat, lambda: NOW).notify(incident.id, event.id)
    assert chat.posted("C1") == []
    await work.open(incident.id)
    await Telling(engine, lambda event: [], chat, lambda: NOW).notify(incident.id, event.id)
    await work.open(incident.id)

    notes = [posted for posted in chat.posted("C1") if isinstance(posted.message, Notice)]
    assert [posted.message.text for posted in notes] == ["<@U1>: first sight"]


async def test_a_message_that_is_gone_or_refused_ends_quietly_and_stands_on_no_card(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine)
    work = workflow(engine, chat)
    await work.open(incident.id)
    chat.messages["C1"].clear()
    chat.faults["post"] = [PermanentError("is_archived")]
    async with engine.transaction() as tx:
        await lifecycle.note(tx, lambda event: [], incident, "into the void", by="U1", now=NOW)
        await timeline.touch(tx.session, incident.id)
    event = next(e for e in await _timeline(engine, incident) if e.kind == "note.added")
    await work.refresh(incident.id)
    await Telling(engine, lambda event: [], chat, lambda: NOW).notify(incident.id, event.id)

    async with engine.db.read() as session:
        assert (await opening.card_of(session, incident.id, lambda i, a: [])).failed == []
        states = {part.name: part.state for part in await session.scalars(sa.select(Part))}
    assert states[f"notice:{event.id}"] == "failed"


async def test_an_older_drawing_that_came_later_is_drawn_over(engine: Engine):
    chat = FakeChat()
    incident = await declared(engine)
    one, other = workflow(engine, chat), workflow(engine, chat)
    await one.open(incident.id)
    ts = next(iter(chat.messages["C1"]))
    async with engine.transaction() as tx:
        await timeline.touch(tx.session, incident.id)
    real, held = chat.edit, asyncio.Event()

    class Slow:
        """Another process: its edit of the card arrives after everybody else's."""

        def __getattr__(self, name: str) -> Any:
            return getattr(chat, name)

        async def edit(self, channel: str, message_id: str, message: Any) -> None:
            if channel == "C1" and not held.is_set():
                await held.wait()
            await real(channel, message_id, message)

    one.chat = Slow()
    late = asyncio.ensure_future(one.refresh(incident.id))
    await asyncio.sleep(0.3)
    async with engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).values(severity="SEV1"))
        await timeline.touch(tx.session, incident.id)
    await other.refresh(incident.id)
    held.set()
    await late

    assert chat.messages["C1"][ts].message.incident.severity == "SEV1"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Checkout is slow", "inc-7-checkout-is-slow"),
        ("Überlast: Straße & Ærø!", "inc-7-uberlast-strasse-aero"),
        ("家が火事", "inc-7"),
        ("---", "inc-7"),
        ("x" * 300, "inc-7-" + "x" * 71),
    ],
)
def test_a_channel_name_is_made_of_what_slack_takes(title: str, name: str):
    incident = Incident(
        id="f" * 32, number=7, title=title, severity="SEV1", status="investigating", detected_at=NOW, opened_at=NOW
    )
    names = opening.channel_names(incident, "inc")

    assert names[0] == name
    assert len(set(names)) == len(names)
    assert all(len(each) <= 80 for each in names)


async def _timeline(engine: Engine, incident: Incident) -> list[Any]:
    async with engine.db.read() as session:
        return await timeline.whole(session, incident.id)


async def test_a_channel_that_was_made_and_not_yet_written_down_is_furnished_after_all(engine: Engine):
    incident, chat = await declared(engine), FakeChat()
    work = workflow(engine, chat)
    await work._channel(incident)
    async with engine.transaction() as tx:  # killed between the two commits: only the part knows
        await tx.session.execute(sa.update(Incident).where(Incident.id == incident.id).values(channel=None))

    await work.open(incident.id)

    async with engine.db.read() as session:
        channel = await session.scalar(sa.select(Incident.channel).where(Incident.id == incident.id))
        parts = set(await session.scalars(sa.select(Part.name).where(Part.incident_id == incident.id)))
    assert channel
    assert {"channel", "topic", "card", "pin"} <= parts


async def test_what_was_given_up_is_offered_again_on_the_card(engine: Engine):
    incident = await declared(engine)
    work = workflow(engine, FakeChat())
    await work.parts.begin(incident.id, ["channel"])
    async with engine.transaction() as tx:
        await give_up(tx, incident.id, "Slack did not answer")

    async with engine.db.read() as session:
        card = await opening.card_of(session, incident.id, lambda incident, alerts: [])
    assert [(part.name, part.error) for part in card.failed] == [("channel", "Slack did not answer")]


async def test_an_announcement_that_would_look_the_same_is_not_drawn_again_but_the_card_is(engine: Engine):
    class Plain(FakeChat):
        def looks(self, message: Any) -> str:
            return str(message.card.incident.severity)

    chat = Plain()
    incident = await declared(engine)
    opening = workflow(engine, chat)
    await opening.open(incident.id)
    chat.calls.clear()

    async def change(**values: Any) -> list[str]:
        async with engine.transaction() as tx:
            await timeline.touch(tx.session, incident.id)
            if values:
                await tx.session.execute(sa.update(Incident).where(Incident.id == incident.id).values(**values))
        chat.calls.clear()
        await opening.refresh(incident.id)
        return sorted(chat.calls)

    assert await change() == ["edit"]  # an alert joined: the card alone
    assert await change(severity="SEV1") == ["edit", "edit", "set_topic"]
    async with engine.db.read() as session:
        assert set(await session.scalars(sa.text("select shown from part where name in ('card', 'announcement')"))) == {
            (await session.get(Incident, incident.id)).revision
        }


async def test_cards_are_drawn_less_often_while_somebody_waits_for_an_answer(engine: Engine):
    async def drawings(within: float) -> int:
        opening, done = workflow(engine, FakeChat()), 0

        async def draw() -> None:
            nonlocal done
            await opening._turn()
            done += 1

        waiting = [asyncio.ensure_future(draw()) for _ in range(40)]
        await asyncio.sleep(within)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return done

    calm = await drawings(2.2)
    with engine.courtesy.asked():
        restless = await drawings(2.2)

    assert 18 <= calm <= 22  # ten at once, then five a second
    assert restless < calm
    assert restless >= 3  # and still they come
