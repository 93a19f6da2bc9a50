"""`/inc page`, `/inc escalate` and `/inc ack`: whom what was typed calls, and what it is answered."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from bot.catalog.services import Catalog, Directory
from bot.engine import Engine
from bot.incidents import lifecycle, paging, timeline
from bot.incidents.access import Person
from bot.incidents.model import Page, Sev
from bot.incidents.services import Services
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.runs.books import Books
from bot.slack.commands import ack, escalate, page
from bot.slack.context import Asked, Context, Site
from tests.runs.conftest import nothing_follows

SERVICES = ("checkout", "search")
PEOPLE = {"UBOB": Person("UBOB", "bob", "bob@example.com"), "UCAROL": Person("UCAROL", "carol", "carol@example.com"),
          "UDAN": Person("UDAN", "dan")}  # fmt: skip
CATALOG = Catalog.model_validate({"people": {"carol.pd@example.com": "UCAROL"}})


class Desk:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.asked = engine, 0

    async def begin(self, *, paged: bool = True) -> None:
        async with self.engine.transaction() as tx:
            made = await lifecycle.declare(
                tx, nothing_follows, title="Down", severity=Sev.SEV1, by="UALICE", now=utc_now()
            )
            made.channel, self.id = "CINC", made.id
            if paged:
                tx.session.add(
                    Page(id="p", incident_id=made.id, number=1, pager="pd", outcome="sent", detail="x", at=utc_now())
                )

    async def say(self, command, text: str, *, channel: str | None = "CINC") -> str:
        self.asked += 1
        request = SimpleNamespace(id=f"r{self.asked}", name="page", channel=channel)
        site = Site(services=Services(Directory(CATALOG), utc_now), known=PEOPLE.get)
        async with self.engine.transaction() as tx:
            context = Context(
                tx=tx, react=nothing_follows, request=request, person=Person("UALICE"), now=utc_now(), books=Books({}),
                services=SERVICES, site=site,
            )  # fmt: skip
            return (await command.run(context, text)).text

    async def events(self, start: str) -> list[dict]:
        async with self.engine.db.read() as session:
            return [one.data for one in await timeline.whole(session, self.id) if one.kind.startswith(start)]


@pytest.fixture
async def desk(sqlite_template, tmp_path):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = Engine(Database(f"sqlite:///{path}"))
    made = Desk(engine)
    yield made
    await engine.close()
    await engine.db.close()


@pytest.mark.parametrize(
    ("text", "service", "why"),
    [
        ("look at this", None, "look at this"),
        ("search it waits", "search", "it waits"),
        ("search", "search", ""),
        ("INC-1 search it waits", "search", "it waits"),
        ("someone please", None, "someone please"),
    ],
)
async def test_a_page_goes_to_the_service_that_is_named_first_else_to_the_incidents_own(desk, text, service, why):
    await desk.begin()
    await desk.say(page, text)

    (asked,) = await desk.events("page.asked")
    assert (asked["service"], asked["why"], asked["number"]) == (service, why, 2)


@pytest.mark.parametrize(
    ("target", "user"),
    [
        ("<@UBOB>", "bob@example.com"),
        ("<@UCAROL>", "carol.pd@example.com"),
        ("erin@example.com", "erin@example.com"),
        ("policy:Database", "policy:Database"),
    ],
)
@pytest.mark.parametrize("command", [page, escalate], ids=["page", "escalate"])
async def test_a_person_or_a_policy_is_asked_to_join_by_what_the_pager_knows_them_by(desk, command, target, user):
    await desk.begin()
    await desk.say(command, f"{target} come and look")

    (asked,) = await desk.events("help.asked")
    assert (asked["act"], asked["user"], asked["message"]) == ("add_responder", user, "come and look")


async def test_escalating_goes_up_and_to_a_service_it_is_a_page(desk):
    await desk.begin()
    await desk.say(escalate, "nobody moves")
    await desk.say(escalate, "search it waits")

    assert [asked["act"] for asked in await desk.events("help.asked")] == ["escalate"]
    assert [asked["service"] for asked in await desk.events("page.asked")] == ["search"]


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        (page, "serach", "Did you mean `search`?"),
        (page, "<@UDAN> come", "Slack does not tell the e-mail address of <@UDAN>"),
        (page, "<@UNOBODY> come", "Slack does not tell the e-mail address"),
        (escalate, "now", "Page first"),
        (escalate, "bob@example.com", "Page first"),
    ],
)
async def test_what_cannot_be_done_is_said_at_once(desk, command, text, told):
    await desk.begin(paged=False)
    with pytest.raises(UserError) as caught:
        await desk.say(command, text)

    assert told in str(caught.value)
    assert await desk.events("help") == await desk.events("page") == []


async def test_nobody_is_called_to_what_is_over(desk):
    await desk.begin()
    async with desk.engine.transaction() as tx:
        incident = await lifecycle.find(tx.session, desk.id, lock=True)
        await lifecycle.resolve(tx, nothing_follows, incident, by="UALICE", now=utc_now())
    for command in (page, escalate, ack):
        with pytest.raises(UserError, match="not open any more"):
            await desk.say(command, "x" if command is not ack else "")


async def test_acknowledging_is_said_once(desk):
    await desk.begin()
    assert await desk.say(ack, "") == "You have acknowledged INC-1; nobody else is woken for it."
    with pytest.raises(UserError, match="acknowledged already"):
        await desk.say(ack, "")
    async with desk.engine.db.read() as session:
        (row,) = await paging.pages_of(session, desk.id)
    assert row.acknowledged_by == "UALICE"


async def test_without_a_page_the_incident_is_acknowledged_all_the_same(desk):
    await desk.begin(paged=False)
    assert await desk.say(ack, "INC-1", channel=None) == ("You have acknowledged INC-1. No page of it waits for that.")
    async with desk.engine.db.read() as session:
        assert await session.scalar(sa.text("select acknowledged_at is not null from incident"))


@pytest.mark.parametrize(("text", "opens"), [("", True), ("INC-3", True), ("INC-3 search", False), ("why", False)])
def test_a_form_opens_where_nothing_was_said(text, opens):
    for command in (page, escalate):
        assert (command.form(Asked("U1", "C1", "i", Books({}), services=SERVICES), text) is not None) is opens


def test_a_form_without_an_incident_asks_for_it_and_offers_every_service():
    (first, whom, *_) = page.form(Asked("U1", "C1", None, Books({}), services=SERVICES), "INC-3").view["blocks"]

    assert (first["block_id"], first["element"]["initial_value"]) == ("incident", "INC-3")
    assert [one["value"] for one in whom["element"]["options"]] == [
        "oncall", "level", "service:checkout", "service:search",
    ]  # fmt: skip
