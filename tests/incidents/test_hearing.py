"""What a pager tells, in whatever order and however often: each word once, and nothing goes back."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
import sqlalchemy as sa

from bot.alerts.model import Alert, AlertStatus
from bot.engine import Engine
from bot.incidents import lifecycle, paging, roles, timeline
from bot.incidents.hearing import Hearing
from bot.incidents.intake import Incoming, Receipt
from bot.incidents.model import Incident, Page, PagerWord, Sev
from bot.incidents.pager import OWNERS, Word
from bot.incidents.paging import Rules
from bot.kit.db import Database
from bot.kit.errors import PermanentError
from bot.reactions import react
from tests.fakes.pager import ActingPager

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)
RULES = Rules({"SEV1": timedelta(minutes=5)})
PEOPLE = {"alice@example.com": "UALICE"}


@dataclass
class TellingPager(ActingPager):
    """One that tells, in words that a test gives it by name."""

    words: dict[str, Word | Exception | None] = field(default_factory=dict)

    def genuine(self, headers: Any, body: bytes) -> bool:
        return headers.get("X-Signed") == "yes"

    def name_of(self, payload: Any) -> str:
        if "name" not in payload:
            raise PermanentError("it has no name")
        return payload["name"]

    async def word(self, payload: Any) -> Word | None:
        word = self.words[payload["name"]]
        if isinstance(word, Exception):
            raise word
        return word


class Ear:
    """An incident whose page was sent, and what is told of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.pager, self.accepted = engine, TellingPager(), []
        self.alerts: dict[str, Any] = {}

    @property
    def hearing(self) -> Hearing:
        return Hearing(
            self.engine, react, {"first": self.pager}, RULES, lambda: NOW, self.accept, self.alerts, PEOPLE.get
        )

    async def accept(self, incoming: Incoming) -> Receipt:
        self.accepted.append(incoming)
        return Receipt("d", [])

    async def begin(self, *, severity: Sev = Sev.SEV1, pages: int = 1) -> Incident:
        async with self.engine.transaction() as tx:
            made = await lifecycle.declare(tx, react, title="Down", severity=severity, by="U1", now=NOW)
            for number in range(1, pages + 1):
                tx.session.add(
                    Page(
                        id=f"{made.id[:30]}{number:02}",
                        incident_id=made.id,
                        number=number,
                        pager="first",
                        outcome="sent",
                        detail="x",
                        at=NOW,
                        dedup_key=f"tocsin-{made.id}" + (f"#{number}" if number > 1 else ""),
                        due_at=NOW + timedelta(minutes=5),
                    )
                )
        self.incident_id = made.id
        return made

    async def hear(self, word: Word | Exception | None, name: str = "") -> str:
        name = name or getattr(word, "id", "w")
        self.pager.words[name] = word
        row, _ = await self.hearing.store("first", name, json.dumps({"name": name}).encode())
        await self.hearing.hear(row)
        async with self.engine.db.read() as session:
            return (await session.get(PagerWord, row)).outcome

    def word(self, said: str, minute: float = 0, **more: Any) -> Word:
        given = {"dedup_key": f"tocsin-{self.incident_id}", "external_id": "P1", "by": "Alice", **more}
        return Word(f"{said}:{minute}", said, NOW + timedelta(minutes=minute), **given)

    async def page(self, number: int = 1) -> Page:
        async with self.engine.db.read() as session:
            return await paging.numbered(session, self.incident_id, number)

    async def kinds(self, start: str = "page.") -> list[str]:
        async with self.engine.db.read() as session:
            events = await timeline.whole(session, self.incident_id)
        return [event.kind for event in events if event.kind.startswith(start)]

    async def said(self, kind: str) -> str:
        async with self.engine.db.read() as session:
            return next(one.text for one in await timeline.whole(session, self.incident_id) if one.kind == kind)


@pytest.fixture
async def ear(database: Database):
    engine = Engine(database)
    engine._promise = lambda connection, work: None
    made = Ear(engine)
    await made.begin()
    yield made
    await engine.close()


async def test_acknowledged_there_it_is_so_here_by_a_person_of_the_chat_if_they_are_known(ear):
    assert await ear.hear(ear.word("acknowledged", 1, address="alice@example.com")) == "applied"

    page = await ear.page()
    assert (page.state, page.acknowledged_by, page.external_id, page.due_at) == ("acknowledged", "UALICE", "P1", None)
    async with ear.engine.db.read() as session:
        incident = await lifecycle.find(session, ear.incident_id)
    assert incident.acknowledged_at == NOW + timedelta(minutes=1)
    assert await ear.said("page.acknowledged") == "<@UALICE> has acknowledged the page in first"


async def test_who_is_not_in_the_chat_is_told_by_their_name(ear):
    await ear.hear(ear.word("acknowledged", address="nobody@example.com"))

    assert (await ear.page()).acknowledged_by == "Alice"
    assert await ear.said("page.acknowledged") == "Alice has acknowledged the page in first"


async def test_the_same_word_again_is_heard_once(ear):
    word = ear.word("acknowledged")
    first, new = await ear.hearing.store("first", word.id, b"{}")
    again, news = await ear.hearing.store("first", word.id, b"{}")

    assert (first, new, news) == (again, True, False)


async def test_whoever_is_first_has_acknowledged_and_the_other_is_no_news(ear):
    async with ear.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, ear.incident_id, lock=True)
        await paging.acknowledge(tx, react, incident, by="UBOB", now=NOW)

    assert await ear.hear(ear.word("acknowledged", 0.1)) == "known"
    assert (await ear.page()).acknowledged_by == "UBOB"
    assert await ear.kinds() == ["page.acknowledged"]
    assert OWNERS["acknowledgement"] == "first"


async def test_our_own_doing_comes_back_and_changes_nothing(ear):
    async with ear.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, ear.incident_id, lock=True)
        await paging.acknowledge(tx, react, incident, by="UBOB", now=NOW)
    before = await ear.kinds("")

    for said in ("triggered", "acknowledged", "escalated", "noted", "responder_asked", "priority", "status_update"):
        assert await ear.hear(ear.word(said, 0.1, ours=True, text="x")) == "ours", said
    assert await ear.kinds("") == before


async def test_resolved_there_the_incident_goes_on_and_people_are_asked(ear):
    assert await ear.hear(ear.word("resolved", 3)) == "applied"

    page = await ear.page()
    async with ear.engine.db.read() as session:
        incident = await lifecycle.find(session, ear.incident_id)
    assert (page.state, page.due_at, incident.is_open) == ("resolved", None, True)
    assert OWNERS["resolution"] == "slack"
    assert paging._wanted(page, incident) is None


async def test_reopened_there_after_the_end_it_is_not_closed_again(ear):
    await ear.hear(ear.word("resolved", 1))
    async with ear.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, ear.incident_id, lock=True)
        await lifecycle.resolve(tx, react, incident, by="U1", now=NOW + timedelta(minutes=2))
    assert await ear.hear(ear.word("reopened", 3)) == "applied"

    page = await ear.page()
    async with ear.engine.db.read() as session:
        incident = await lifecycle.find(session, ear.incident_id)
    assert (page.state, paging._wanted(page, incident)) == ("sent", None)
    assert (await ear.said("page.reopened")).endswith("`/inc reopen` if it is not after all")


async def test_an_acknowledgement_that_is_taken_back_is_waited_for_again(ear):
    await ear.hear(ear.word("acknowledged", 1))
    assert await ear.hear(ear.word("unacknowledged", 2)) == "applied"

    page = await ear.page()
    assert (page.state, page.due_at) == ("sent", NOW + timedelta(minutes=5))


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
async def test_in_whatever_order_words_come_the_newest_holds(ear, order):
    words = [
        ear.word("acknowledged", 1),
        ear.word("unacknowledged", 2),
        ear.word("resolved", 3),
        ear.word("reassigned", 4, assigned="Bob"),
    ]
    for place in order:
        await ear.hear(words[place])

    page = await ear.page()
    assert (page.state, page.resolved_at, page.assigned) == ("resolved", NOW + timedelta(minutes=3), "Bob")


async def test_a_late_word_does_not_undo_a_newer_one(ear):
    await ear.hear(ear.word("unacknowledged", 2))
    assert await ear.hear(ear.word("acknowledged", 1)) == "late"

    assert (await ear.page()).state == "sent"


async def test_one_answer_stands_for_all_pages_of_a_service_and_is_told_for_the_others(ear):
    await ear.begin(pages=3)
    await ear.hear(ear.word("acknowledged", 1, dedup_key=f"tocsin-{ear.incident_id}#2", external_id="P2"))

    pages = [await ear.page(number) for number in (1, 2, 3)]
    async with ear.engine.db.read() as session:
        incident = await lifecycle.find(session, ear.incident_id)
    assert [page.state for page in pages] == ["acknowledged"] * 3
    assert [paging._wanted(page, incident) for page in pages] == ["acknowledged", None, "acknowledged"]


async def test_what_names_the_page_by_its_id_alone_is_known_by_it(ear):
    await ear.hear(ear.word("triggered", 0, url="https://p.example.com/P1"))
    assert await ear.hear(ear.word("noted", 1, dedup_key=None, text="Rolled back")) == "applied"

    assert await ear.said("page.noted") == "Alice notes in first: Rolled back"
    assert (await ear.page()).url == "https://p.example.com/P1"


async def test_a_page_that_was_reopened_belongs_to_the_newest_incident_there(ear):
    await ear.hear(ear.word("resolved", 1))
    async with ear.engine.transaction() as tx:
        await paging.wake(tx, react, ear.incident_id, "again", key="k", now=NOW, pager="first", again=False)
        await tx.session.execute(sa.update(Page).where(Page.number == 2).values(outcome="sent"))
    await ear.hear(ear.word("acknowledged", 2, external_id="P2"))

    assert [(await ear.page(number)).state for number in (1, 2)] == ["resolved", "acknowledged"]


ELSE = "The page has gone to somebody else in first by Alice: now with Bob"
TOLD = {
    "escalated": ({"assigned": "Bob"}, "page.escalated", "The page was escalated in first by Alice: now with Bob"),
    "reassigned": ({"assigned": "Bob"}, "page.reassigned", ELSE),
    "delegated": ({"assigned": "Bob"}, "page.reassigned", ELSE),
    "responder_asked": ({}, "page.responder_asked", "Alice is asked in first to join"),
    "responder_answered": ({"text": "accepted"}, "page.responder_answered", "Alice joins (in first)"),
    "responder_answered ": (
        *({"text": "declined"}, "page.responder_answered"),
        "Alice was asked to join, and says: declined (in first)",
    ),
    "status_update": ({"text": "a fix comes"}, "page.noted", "Alice tells everybody in first: a fix comes"),
    "priority": (
        *({"text": "P2"}, "page.updated"),
        "Alice has set the priority in first to P2; INC-1 stays SEV1: severity is said here",
    ),
}


@pytest.mark.parametrize("said", list(TOLD))
async def test_what_people_do_there_is_told_here(ear, said):
    more, kind, text = TOLD[said]
    assert await ear.hear(ear.word(said.strip(), 1, **more)) == "applied"

    assert await ear.said(kind) == text


async def test_who_joins_there_is_a_responder_here_if_they_are_known(ear):
    await ear.hear(ear.word("responder_answered", 1, text="accepted", address="ALICE@example.com".lower()))

    async with ear.engine.db.read() as session:
        held = await roles.held(session, ear.incident_id)
    assert [(role.name, role.person) for role in held] == [("responder", "UALICE")]


async def test_a_page_that_is_not_here_any_more_or_of_another_installation_is_unknown(ear):
    assert await ear.hear(ear.word("acknowledged", dedup_key="tocsin-" + "0a" * 16, external_id="P9")) == "unknown"


async def test_what_the_pager_has_by_itself_is_an_alert_only_where_that_is_wanted(ear):
    foreign = ear.word("triggered", 1, dedup_key="queue", external_id="P9")
    assert await ear.hear(foreign) == "foreign"
    assert ear.accepted == []

    ear.alerts = {"first": lambda payload, received_at: [Alert(AlertStatus.FIRING, "Queue", "P9", "queue")]}
    assert await ear.hear(replace(foreign, id="another")) == "alert"
    (incoming,) = ear.accepted
    assert (incoming.connection, incoming.alerts[0].title) == ("pager:first", "Queue")


async def test_what_cannot_be_understood_is_kept_with_the_reason(ear):
    assert await ear.hear(PermanentError("no incident in it"), "bad") == "refused"
    assert await ear.hear(None, "ping") == "ignored"

    async with ear.engine.db.read() as session:
        found = {row.outcome: row.detail for row in await session.scalars(sa.select(PagerWord))}
    assert found["refused"] == "no incident in it"


async def test_a_clock_ahead_of_ours_puts_nothing_into_the_future(ear):
    await ear.hear(ear.word("acknowledged", 600))

    async with ear.engine.db.read() as session:
        events = await timeline.whole(session, ear.incident_id)
    assert max(event.at for event in events) <= NOW
