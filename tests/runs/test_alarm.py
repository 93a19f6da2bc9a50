"""Whoever owns a runbook is woken when a rollback failed, and when nobody was asked who had to be."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.catalog.services import Service
from bot.incidents import roles
from bot.incidents.model import Incident, Page, RoleName, Sev
from bot.incidents.pager import PageResult
from bot.incidents.paging import Paging
from bot.kit.clock import utc_now
from bot.kit.errors import PermanentError, TemporaryError
from bot.reactions import react
from bot.runs import run as runs
from bot.runs.alarm import Alarm
from bot.runs.model import RunState
from bot.runs.pages import IncidentPages
from tests.fakes.pager import FakePager
from tests.runs.conftest import ALICE

BROKEN = "steps:\n  - change: {}\n    rollback: [{undo: {}}]\n  - look: {}\n"
SERVICES = {"checkout": Service(owner="team"), "search": Service(owner="others")}


@pytest.fixture
def pager() -> FakePager:
    return FakePager()


@pytest.fixture
def alarms(bench, pager):
    """Carry out the alarms that follow from what is on the timeline."""

    async def rung(services=SERVICES) -> int:
        def pages(incident):
            return IncidentPages(
                bench.engine, bench.react, pager, "fake", utc_now, incident.id, "https://t.example.com"
            )

        alarm = Alarm(bench.engine, pages, lambda: services)
        works = [work for event in await bench.events() for work in react(event) if work.workflow == "alarm"]
        for work in works:
            await alarm.ring(*work.args)
        paging = Paging(bench.engine, bench.react, pager, "fake", None, utc_now)
        for page in await rows(bench):
            await paging.page(bench.incident.id, page.number)
        return len({work.id for work in works})

    return rung


async def broken(bench) -> str:
    bench.plugin("change", effect="write")
    bench.plugin("undo", PermanentError("no such release"), effect="write")
    bench.plugin("look", PermanentError("status 503"))
    run = await bench.carry_out(await bench.start(BROKEN))
    assert run.state == RunState.ROLLBACK_FAILED
    return run.id


async def change(bench, **values) -> None:
    async with bench.engine.transaction() as tx:
        await tx.session.execute(sa.update(Incident).where(col(Incident.id) == bench.incident.id).values(**values))


async def rows(bench) -> list[Page]:
    async with bench.engine.db.read() as session:
        query = sa.select(Page).where(col(Page.incident_id) == bench.incident.id).order_by(col(Page.number))
        return list(await session.scalars(query))


async def test_a_rollback_that_failed_wakes_the_owner_once_with_a_page_of_its_own(bench, pager, alarms):
    await change(bench, service="checkout")
    await broken(bench)

    assert await alarms() == 1
    assert await alarms() == 1

    (asked,) = pager.asked
    assert asked.title == f"Run 1 of Book could not take back what it had changed: {bench.incident.title}"
    assert (asked.service, asked.dedup_key) == ("checkout", f"tocsin-{bench.incident.id}#2")
    wanted, sent = await bench.events("page.")
    assert (wanted.kind, sent.kind, sent.data["number"]) == ("page.asked", "page.sent", 2)
    assert wanted.text == "Paging the on-call of checkout: Run 1 of Book could not take back what it had changed"


async def test_an_end_with_nothing_left_behind_wakes_nobody(bench, pager, alarms):
    bench.plugin("change", effect="write")
    bench.plugin("undo", effect="write")
    bench.plugin("look", PermanentError("status 503"))
    assert (await bench.carry_out(await bench.start(BROKEN))).state == RunState.ROLLED_BACK

    assert await alarms() == 0
    assert pager.asked == []


async def test_whoever_breaks_the_glass_wakes_the_owner(bench, pager, alarms):
    async with bench.engine.transaction() as tx:
        incident = await tx.session.merge(bench.incident)
        incident.severity = Sev.SEV1
        await roles.assign(tx, bench.react, incident, RoleName.COMMANDER, ALICE, by=ALICE, now=utc_now())
        bench.incident = incident
    await bench.start("steps:\n  - note: x\n", asked=runs.Asked(ALICE, break_glass="database is down"))

    assert await alarms() == 1

    (asked,) = pager.asked
    assert asked.title.startswith("Run 1 of Book goes without approvals: the glass was broken: ")


@pytest.mark.parametrize(
    ("service", "services", "woken"),
    [
        ("checkout", SERVICES, "checkout"),
        ("search", SERVICES, "checkout"),
        (None, SERVICES, "checkout"),
        ("search", {"search": Service(owner="others")}, "search"),
        (None, {}, None),
    ],
    ids=["its own", "of others", "no service", "owner without one", "nothing is known"],
)
async def test_the_owner_of_the_runbook_is_woken_before_those_of_the_incident(
    bench, pager, alarms, service, services, woken
):
    await change(bench, service=service)
    await broken(bench)

    await alarms(services)

    assert [asked.service for asked in pager.asked] == [woken]


async def test_a_page_that_does_not_go_through_is_told_and_a_pager_that_is_away_is_asked_again(bench, pager, alarms):
    pager.answers = [TemporaryError("away"), PageResult("failed", "the line is dead")]
    await broken(bench)
    with pytest.raises(TemporaryError):
        await alarms()
    assert [page.outcome for page in await rows(bench)] == ["sending"]

    await alarms()

    assert [(page.outcome, page.detail) for page in await rows(bench)] == [("failed", "the line is dead")]
    assert [event.kind for event in await bench.events("page.")] == ["page.asked", "page.failed"]


async def test_of_a_private_incident_the_pager_hears_nothing(bench, pager, alarms):
    await change(bench, private=True, title="Somebody reads the payroll")
    await broken(bench)

    await alarms()

    (asked,) = pager.asked
    assert asked.title == "a private incident; its channel in Slack says more"
