"""`/inc service`, and what a card says of an incident's service."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bot.catalog.services import Catalog, Directory
from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.access import Person
from bot.incidents.budget import Budget
from bot.incidents.model import Incident, Sev, Status
from bot.incidents.oncall import Duty, Roster
from bot.incidents.opening import card_of
from bot.incidents.services import Services
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.kit.ids import new_id
from bot.runs.books import Books
from bot.runs.model import AssetReport, Run
from bot.sandbox import blocks as kit
from bot.slack.commands import assets, service
from bot.slack.context import Context, Site
from bot.slack.views import incident as incident_views
from tests.runs.conftest import nothing_follows

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
CATALOG = {
    "services": {
        "checkout": {
            "owner": "payments",
            "description": "Takes <!channel> the money",
            "tier": 1,
            "dependencies": ["ledger", "search"],
            "dashboards": {"Overview & more": "https://grafana.example.com/d/1"},
            "links": {"Code": "https://git.example.com/checkout"},
            "runbooks": ["restart-service"],
            "oncall": "database",
            "slo": {"objective": 99.9, "errors": "e[$window]"},
        },
        "ledger": {"owner": "payments"},
        "search": {},
    },
    "teams": {"payments": {"members": ["alice@example.com"], "channel": "payments", "group": "payments"}},
    "oncall": {"database": {"schedule": "PSDB"}},
}


class Desk:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.catalog = engine, CATALOG
        self.number = 0

    @property
    def services(self) -> Services:
        return Services(Directory(Catalog.model_validate(self.catalog), "pagerduty"), lambda: NOW)

    async def say(self, text: str = "", *, channel: str | None = None, by: str = "UBOB", command=service) -> str:
        request = SimpleNamespace(id="r", name="service", channel=channel)
        async with self.engine.transaction() as tx:
            context = Context(
                tx=tx, react=nothing_follows, request=request, person=Person(by), now=NOW, books=Books({}),
                site=Site(self.services, True, {"alice@example.com": "UALICE"}.get),
            )  # fmt: skip
            reply = await command.run(context, text)
        assert not kit.validate_blocks(list(reply.blocks), "message")
        return "\n".join([reply.text, *(str(block) for block in reply.blocks)])

    async def incident(self, service_: str | None, title: str = "Slow", *, private: bool = False) -> Incident:
        async with self.engine.transaction() as tx:
            made = await lifecycle.declare(
                tx, nothing_follows, title=title, severity=Sev.SEV2, by="UALICE", now=NOW, service=service_,
                private=private,
            )  # fmt: skip
            made.channel = f"C{made.number}"
        return made

    async def add(self, row: object) -> None:
        async with self.engine.transaction() as tx:
            tx.session.add(row)

    async def card(self, incident: Incident) -> str:
        async with self.engine.db.read() as session:
            noun = await card_of(session, incident.id, lambda i, a: [], self.services)
        _, blocks = incident_views.card(noun)
        assert not kit.validate_blocks(blocks, "message")
        return str(blocks)


@pytest.fixture
async def desk(sqlite_template, tmp_path):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = Engine(Database(f"sqlite:///{path}"))
    yield Desk(engine)
    await engine.close()
    await engine.db.close()


async def test_a_service_is_shown_with_all_that_the_catalog_and_the_database_know(desk):
    duty = Duty(name="Alice", email="alice@example.com", ref="PALICE")
    await desk.add(Roster(place="schedule:PSDB", duties=[duty.model_dump(mode="json")], checked_at=NOW))
    await desk.add(Budget(service="checkout", failed=0.0004, recent=0.003, checked_at=NOW))
    mine, other = await desk.incident("checkout", "Pay fails"), await desk.incident("ledger")
    await desk.add(
        Run(
            id=new_id(),
            incident_id=mine.id,
            number=1,
            runbook="restart-service",
            sha256="x",
            definition={},
            requested_by="UBOB",
            concurrency_key="k",
            state="succeeded",
            requested_at=NOW,
        )
    )

    shown = await desk.say("Checkout")

    for told in (
        "checkout · tier 1",
        "*Owner:* payments (#payments, @payments)",
        "*On call:* <@UALICE> _database_",
        f"*Needs:* ledger :warning: {other.reference}, search",
        "60% left, burning 3.0 times as fast as allowed (99.9 % over 30d)",
        "<https://grafana.example.com/d/1|Overview &amp; more>",
        "<https://git.example.com/checkout|Code>",
        f"*{mine.reference}* Pay fails",
        ":white_check_mark: `restart-service` succeeded",
    ):
        assert told in shown, told
    assert "<!channel>" not in shown
    assert "*Needed by:* checkout" in await desk.say("ledger")


async def test_what_is_not_known_is_said_so(desk):
    shown = await desk.say("checkout")

    assert "not known yet _database_" in shown
    assert "unknown (99.9 % over 30d): not asked yet" in shown
    assert "No open incident." in shown


async def test_without_a_name_it_is_that_of_the_incident_or_all(desk):
    incident = await desk.incident("search")

    assert "Service search" in await desk.say(channel=incident.channel)
    listed = await desk.say()
    assert "*3 services*" in listed
    assert "checkout (tier 1, owned by payments)" in listed


async def test_a_private_incident_is_seen_by_those_who_may_know_of_it_alone(desk):
    hidden = await desk.incident("checkout", "Secret", private=True)
    await desk.incident("ledger", "Secret too", private=True)

    assert "Secret" not in await desk.say("checkout")
    assert ":warning: INC" not in await desk.say("checkout")
    assert "Secret" in await desk.say("checkout", channel=hidden.channel)


@pytest.mark.parametrize(
    ("text", "told"),
    [("chekout", "Did you mean `checkout`?"), ("check", "Did you mean `checkout`?"), ("zz", "There is: `checkout`")],
)
async def test_a_misspelt_name_is_answered_with_the_nearest(desk, text, told):
    with pytest.raises(UserError) as refused:
        await desk.say(text)
    assert told in str(refused.value)


async def test_an_empty_catalog_says_so(desk):
    desk.catalog = {}

    assert "catalog.yaml names no services yet." in await desk.say()


async def test_as_many_services_as_anybody_has_fit_into_an_answer(desk):
    desk.catalog = {"services": {f"service-{n}": {"description": "x" * 500} for n in range(300)}}
    assert "and 240 more" in await desk.say()

    many = {f"d{n}": f"https://grafana.example.com/{'x' * 1000}/{n}" for n in range(60)}
    web = [f"service-{n}" for n in range(299)]
    desk.catalog["services"]["all"] = {"dependencies": web, "dashboards": many, "links": many, "runbooks": web}
    assert "*Needs:*" in await desk.say("all")


# On a card ---------------------------------------------------------------------------------------------------------


async def test_a_card_says_whose_service_it_is_what_it_needs_that_is_in_trouble_and_where_to_look(desk):
    incident, needed = await desk.incident("checkout"), await desk.incident("ledger")
    await desk.add(Budget(service="checkout", failed=0.002, recent=0.0, checked_at=NOW))

    shown = await desk.card(incident)

    assert "checkout (tier 1, owned by payments)" in shown
    assert f"*In trouble too, and needed:* ledger ({needed.reference})" in shown
    assert "overspent by 100%" in shown
    assert "*Dashboards:* <https://grafana.example.com/d/1|" in shown


async def test_a_suggestion_and_a_private_incident_are_no_trouble_to_tell_of(desk):
    incident = await desk.incident("checkout")
    await desk.incident("ledger", private=True)
    suggested = await desk.incident("ledger")
    async with desk.engine.transaction() as tx:
        (await lifecycle.find(tx.session, suggested.id)).status = Status.TRIAGE

    assert "In trouble too" not in await desk.card(incident)


async def test_a_service_that_the_catalog_does_not_have_is_only_named(desk):
    shown = await desk.card(await desk.incident("mystery"))

    assert "*Service*\\nmystery" in shown
    assert "Dashboards" not in shown


# Assets ------------------------------------------------------------------------------------------------------------


async def test_assets_are_shown_with_owner_and_what_was_said_of_them_last(desk):
    desk.catalog = {
        **CATALOG,
        "assets": {"db-1": {"kind": "database", "service": "ledger", "owner": "payments"}, "web-1": {}},
    }
    incident = await desk.incident(None)
    await desk.add(
        Run(
            id="r1", incident_id=incident.id, number=1, runbook="b", sha256="x", definition={}, requested_by="U1",
            concurrency_key="k", state="succeeded", requested_at=NOW,
        )
    )  # fmt: skip
    for asset, kind, ok, text in (
        ("db-1", "backup", True, "3 hours old"), ("db-1", "drift", False, "2 changed <!here>"),
        ("old", "patch", None, ""),
    ):  # fmt: skip
        await desk.add(
            AssetReport(asset=asset, kind=kind, ok=ok, text=text, runbook="b", run_id="r1", at=NOW - timedelta(hours=1))
        )

    shown = await desk.say(command=assets)
    assert "*3 assets*" in shown
    assert "*db-1* database · ledger · payments" in shown
    assert ":white_check_mark: backup <!date^" in shown
    assert ":x: drift <!date^" in shown
    assert "*old* not in catalog.yaml" in shown
    assert "*web-1* host\\n    nothing reported yet" in shown
    assert "<!here>" not in shown
    assert shown.index("*db-1*") < shown.index("*web-1*")

    assert "*2 assets: bad*" in await desk.say("bad", command=assets)
    assert "*1 asset: ledger*" in await desk.say("ledger", command=assets)
    assert "0 assets: zzz" in await desk.say("zzz", command=assets)
    assert ":x: drift" in await desk.say("ledger")
    assert "*Assets*" not in await desk.say("checkout")
