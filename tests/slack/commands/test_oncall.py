"""`/inc oncall`, `/inc cover` and `/inc responders`: who is on call, who stands in, who is here."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from bot.catalog.services import Catalog, Directory, Place
from bot.engine import Engine
from bot.incidents import lifecycle, logbook, roles, timeline
from bot.incidents.access import Person
from bot.incidents.model import Page, RoleName, Sev
from bot.incidents.oncall import Contact, Cover, Duty, Roster
from bot.incidents.services import Services
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.runs.books import Books
from bot.slack.commands import cover, oncall, responders
from bot.slack.context import Context, Site
from tests.runs.conftest import nothing_follows

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CATALOG = {
    "services": {
        "orders": {"owner": "data"},
        "web": {"owner": "web"},
        "cron": {},
        "pay": {"pager": {"pagerduty": {"policy": "PPAY"}}},
    },
    "teams": {
        "data": {"members": ["erin@example.com"], "oncall": "database"},
        "web": {"oncall": "primary"},
    },
    "oncall": {"primary": ["carol@example.com"], "database": {"schedule": "PSDB"}, "empty": []},
    "people": {"bob.pd@example.com": "UBOB"},
}
PEOPLE = {
    name: Person(f"U{name.upper()}", name, f"{name}@example.com", zone="Europe/Berlin")
    for name in ("alice", "bob", "carol", "erin", "mallory")
} | {"robot": Person("UROBOT", "robot", "robot@example.com", bot=True), "quiet": Person("UQUIET", "quiet")}
ALICE = Duty(
    name="Alice Example", email="alice@example.com", ref="PALICE", until=NOW + timedelta(hours=5), schedule="PSDB",
    contacts=(Contact(kind="phone", address="+1 5550100", label="Mobile"),),
)  # fmt: skip


class Desk:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.directory = Directory(Catalog.model_validate(CATALOG), "pagerduty")
        self.says = True
        self.work: list = []

    def find(self, who: str) -> str | None:
        return next((one.id for one in PEOPLE.values() if who in (one.id, one.email)), None)

    async def say(self, command, text: str = "", *, by: str = "alice", channel: str | None = None) -> str:
        request = SimpleNamespace(id=f"r{len(self.work)}{text}", name="oncall", channel=channel)
        known = {one.id: one for one in PEOPLE.values()}
        async with self.engine.transaction() as tx:
            context = Context(
                tx=tx, react=nothing_follows, request=request, person=PEOPLE[by], now=NOW, books=Books({}),
                site=Site(Services(self.directory, lambda: NOW), self.says, self.find, known.get),
            )  # fmt: skip
            reply = await command.run(context, text)
            self.work += tx.work
            tx.work = []
        return "\n".join([reply.text, *(str(block) for block in reply.blocks)])

    async def told(self, place: str, *duties: Duty, title: str = "", at: datetime = NOW, problem: str | None = None):
        row = Roster(
            place=place, title=title, duties=[one.model_dump(mode="json") for one in duties], checked_at=at,
            problem=problem,
        )  # fmt: skip
        async with self.engine.transaction() as tx:
            await tx.session.merge(row)

    async def covers(self) -> list[Cover]:
        async with self.engine.db.read() as session:
            return list(await session.scalars(sa.select(Cover)))


@pytest.fixture
async def desk(sqlite_template, tmp_path):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = Engine(Database(f"sqlite:///{path}"))
    made = Desk(engine)
    await made.told("schedule:PSDB", ALICE, title="Database first")
    yield made
    await engine.close()
    await engine.db.close()


# Who is on call ----------------------------------------------------------------------------------------------------


async def test_for_a_service_it_is_said_who_until_when_and_how_to_reach_them(desk):
    shown = await desk.say(oncall, "orders")

    assert "<@UALICE>" in shown
    assert "phone +1 5550100" in shown
    assert f"<!date^{int(ALICE.until.timestamp())}" in shown
    assert "As of" not in shown


@pytest.mark.parametrize("text", ["database", "@oncall:database", "Orders", "data", "PSDB", "psdb"])
async def test_a_place_is_found_by_the_name_of_on_call_service_team_or_schedule(desk, text):
    assert "<@UALICE>" in await desk.say(oncall, text)


async def test_without_a_name_every_place_is_shown(desk):
    shown = await desk.say(oncall)

    assert "<@UALICE>" in shown
    assert "<@UCAROL>" in shown
    assert "*empty*\\n:warning: *nobody is on call*" in shown
    assert "not known yet" in shown  # the policy that nobody has told of


async def test_in_the_channel_of_an_incident_it_is_about_its_service(desk):
    async with desk.engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title="x", severity=Sev.SEV2, by="UBOB", now=NOW, service="orders"
        )
        incident.channel = "C1"

    shown = await desk.say(oncall, channel="C1")

    assert "<@UALICE>" in shown
    assert "<@UCAROL>" not in shown


async def test_while_the_pager_is_away_it_is_said_how_old_the_answer_is_and_why(desk):
    await desk.told("schedule:PSDB", ALICE, at=NOW - timedelta(hours=2), problem="PagerDuty cannot be reached")

    shown = await desk.say(oncall, "orders")

    assert "<@UALICE>" in shown
    assert "As of 2 h ago: PagerDuty cannot be reached" in shown


async def test_a_shift_that_ended_since_is_said_to_be_over(desk):
    over = ALICE.model_copy(update={"until": NOW - timedelta(minutes=1)})
    await desk.told("schedule:PSDB", over, at=NOW - timedelta(hours=2), problem="away")

    assert "(over: somebody else by now)" in await desk.say(oncall, "orders")


async def test_a_schedule_without_anyone_is_said_plainly(desk):
    await desk.told("schedule:PSDB")

    assert ":warning: *nobody is on call*" in await desk.say(oncall, "orders")


async def test_somebody_who_is_not_in_slack_is_named_and_said_not_to_be(desk):
    await desk.told("schedule:PSDB", Duty(name="Zed <!channel>", email="zed@example.com", ref="PZED"))

    shown = await desk.say(oncall, "orders")

    assert "(zed@example.com)" in shown
    assert "not found in Slack" in shown
    assert "<!channel>" not in shown


async def test_the_catalog_says_who_somebody_is_in_slack(desk):
    await desk.told("schedule:PSDB", Duty(name="Bob", email="bob.pd@example.com", ref="PBOB"))

    assert "<@UBOB>" in await desk.say(oncall, "orders")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ordrs", "Did you mean `orders`?"),
        ("databse", "Did you mean `database`?"),
        ("zzz", "There is: `cron`, `data`, `database`"),
        ("<!channel>", "is called `&lt;!channel&gt;`"),
    ],
)
async def test_a_name_that_nobody_has_is_answered_with_the_nearest(desk, text, told):
    with pytest.raises(UserError) as refused:
        await desk.say(oncall, text)
    assert told in str(refused.value)


async def test_a_service_that_nobody_is_on_call_for_is_said_to_be_one(desk):
    assert "Nobody is on call for cron" in await desk.say(oncall, "cron")


# Standing in -------------------------------------------------------------------------------------------------------


async def test_who_is_on_a_list_hands_it_on_for_a_while(desk):
    shown = await desk.say(cover, "primary <@UBOB> until 18:00", by="carol")

    (made,) = await desk.covers()
    assert shown.startswith("<@UBOB> stands in at `primary` until <!date^")
    assert (made.place, made.person, made.state) == ("list:primary", "UBOB", "done")
    assert (made.starts_at, made.ends_at) == (NOW, datetime(2026, 3, 2, 17, tzinfo=UTC))  # in Berlin, where carol is
    async with desk.engine.db.read() as session:
        (event,) = await timeline.whole(session, logbook.ID)
    assert (event.kind, event.actor) == ("oncall.covered", "UCAROL")
    assert [work.workflow for work in desk.work if work.workflow != "logbook"] == ["oncall"]
    assert "<@UBOB>" in await desk.say(oncall, "primary")


async def test_a_schedule_is_covered_by_the_pager_under_the_address_that_it_knows(desk):
    shown = await desk.say(cover, "orders <@UBOB> from tomorrow 9:00 until tomorrow 17:00")

    (made,) = await desk.covers()
    assert shown.startswith("The pager is asked to put <@UBOB> on call at `database` from <!date^")
    assert (made.place, made.email, made.state) == ("schedule:PSDB", "bob.pd@example.com", "waiting")
    assert (made.starts_at, made.ends_at) == (
        datetime(2026, 3, 3, 8, tzinfo=UTC),
        datetime(2026, 3, 3, 16, tzinfo=UTC),
    )
    assert [work.id for work in desk.work] == [f"cover:{made.id}"]


async def test_of_a_policy_the_one_schedule_of_its_first_level_is_covered(desk):
    await desk.told("policy:PPAY", ALICE, Duty(name="Erin", ref="PERIN", email="erin@example.com", level=2))
    await desk.say(cover, "pay me until 2h")

    (made,) = await desk.covers()
    assert (made.place, made.person) == ("schedule:PSDB", "UALICE")

    await desk.told("policy:PPAY", ALICE.model_copy(update={"schedule": None}))
    with pytest.raises(UserError, match="no schedule says who is woken first"):
        await desk.say(cover, "pay me until 3h")


@pytest.mark.parametrize("by", ["alice", "erin"])
async def test_who_is_on_call_and_the_members_of_the_team_may_say_who_stands_in(desk, by):
    await desk.say(cover, "database <@UBOB> until 2h", by=by)

    assert len(await desk.covers()) == 1


@pytest.mark.parametrize(("by", "where"), [("mallory", "database"), ("mallory", "primary"), ("alice", "primary")])
async def test_nobody_else_can_put_themselves_or_others_on_call(desk, by, where):
    with pytest.raises(UserError, match=f"Only who is on call at `{where}`"):
        await desk.say(cover, f"{where} me until 2h", by=by)

    assert await desk.covers() == []


async def test_whoever_was_on_call_once_may_not(desk):
    await desk.told("schedule:PSDB", ALICE.model_copy(update={"until": NOW - timedelta(minutes=1)}))

    with pytest.raises(UserError, match="Only who is on call"):
        await desk.say(cover, "database me until 2h")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Say who stands in, where and until when"),
        ("primary", "Say who stands in"),
        ("primary bob until 18:00", "Say who stands in"),
        ("primary <@UBOB>", "Say who stands in"),
        ("primary <@UBOB> until soon", "`soon` is no time"),
        ("primary <@UBOB> from 20:00 until 18:00 today", "is no time"),
        ("primary <@UBOB> from tomorrow 9:00 until today 18:00", "is before it begins"),
        ("primary <@UROBOT> until 18:00", "cannot be on call"),
        ("prmary <@UBOB> until 18:00", "Did you mean `primary`?"),
        ("cron <@UBOB> until 18:00", "Nobody is on call for `cron`"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_a_word(desk, text, told):
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        await desk.say(cover, text, by="carol")
    assert await desk.covers() == []


async def test_a_pager_that_cannot_do_it_is_named(desk):
    desk.says = False
    with pytest.raises(UserError, match="The pager `pagerduty` cannot put anybody on call"):
        await desk.say(cover, "database me until 2h")


async def test_somebody_whose_address_is_not_known_cannot_be_told_to_the_pager(desk):
    with pytest.raises(UserError, match="The e-mail address of <@UQUIET> is not known"):
        await desk.say(cover, "database <@UQUIET> until 2h")


# Who is here -------------------------------------------------------------------------------------------------------


async def test_responders_are_shown_commander_first_with_who_was_paged_and_answered(desk):
    async with desk.engine.transaction() as tx:
        incident = await lifecycle.declare(tx, nothing_follows, title="x", severity=Sev.SEV2, by="UBOB", now=NOW)
        incident.channel = "C1"
        for name, who in ((RoleName.RESPONDER, "UCAROL"), (RoleName.COMMANDER, "UALICE")):
            await roles.assign(tx, nothing_follows, incident, name, who, by=who, now=NOW)
        for number, more in enumerate(
            ({"acknowledged_at": NOW, "acknowledged_by": "UERIN"}, {"assigned": "<!here>"}), 1
        ):
            tx.session.add(
                Page(
                    id=f"p{number}", incident_id=incident.id, number=number, pager="pagerduty", outcome="sent",
                    detail="", at=NOW, **more,
                )
            )  # fmt: skip

    shown = await desk.say(responders, channel="C1")

    assert shown.index("<@UALICE> · commander") < shown.index("<@UCAROL> · responder")
    assert shown.index("acknowledged by <@UERIN>") < shown.index("with &lt;!here&gt;, not acknowledged")


async def test_where_nobody_is_yet_it_says_what_to_do(desk):
    async with desk.engine.transaction() as tx:
        (await lifecycle.declare(tx, nothing_follows, title="x", severity=Sev.SEV2, by="UBOB", now=NOW)).channel = "C1"

    shown = await desk.say(responders, channel="C1")

    assert "/inc join" in shown
    assert "Nobody was paged." in shown


def test_the_place_of_a_cover_is_what_catalog_yaml_says():
    directory = Directory(Catalog.model_validate(CATALOG), "pagerduty")
    assert directory.of_service("orders") == [Place("schedule", "PSDB")]
    assert replace(directory, pager="log").of_service("pay") == []
