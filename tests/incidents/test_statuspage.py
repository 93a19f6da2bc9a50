"""What people may have a status page say."""

import pytest
import sqlalchemy as sa

from bot.engine import Engine
from bot.incidents import lifecycle, statuspage
from bot.incidents.model import Kind, Sev, TimelineEvent
from bot.incidents.statuspage import Page
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import UserError
from tests.runs.conftest import nothing_follows

PAGE = Page("public", {"checkout": ["cmp1", "cmp2"]})
SAID = {
    "title": "Payments fail",
    "text": "We look into it.",
    "status": "investigating",
    "component": "major_outage",
    "notify": True,
}


@pytest.fixture
async def say(sqlite_template, tmp_path):
    path = tmp_path / "tocsin.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = Engine(Database(f"sqlite:///{path}"))

    async def said(incident=None, **more):
        now = utc_now()
        async with engine.transaction() as tx:
            made = await lifecycle.declare(
                tx, nothing_follows, title="5xx on web-1", severity=Sev.SEV1, by="U1", now=now,
                **{"service": "checkout", **(incident or {})},
            )  # fmt: skip
            await statuspage.request(tx, nothing_follows, made, PAGE, by="U1", now=now, once="r1", **{**SAID, **more})
        async with engine.db.read() as session:
            return await session.scalar(sa.select(TimelineEvent).where(TimelineEvent.kind == statuspage.REQUESTED))

    yield said
    await engine.close()
    await engine.db.close()


async def test_a_persons_words_are_an_event_with_the_components_of_the_service(say):
    event = await say()

    assert event.data == {
        "page": "public",
        "title": "Payments fail",
        "text": "We look into it.",
        "status": "investigating",
        "components": {"cmp1": "major_outage", "cmp2": "major_outage"},
        "notify": True,
    }
    assert (event.actor, "5xx" in str(event.data)) == ("U1", False)


async def test_components_stay_as_they_are_where_that_is_wished_or_none_is_known(say):
    assert (await say(component="unchanged")).data["components"] == {}


async def test_a_service_without_components_changes_none(say):
    assert (await say({"service": None})).data["components"] == {}


@pytest.mark.parametrize(
    ("incident", "more", "wrong"),
    [
        ({"private": True}, {}, "is private"),
        ({"kind": Kind.DRILL}, {}, "is a drill"),
        ({}, {"text": " \n"}, "needs a title and a text"),
        ({}, {"title": "x" * 101}, "at most 100"),
        ({}, {"status": "fixed"}, "none that a page can show"),
    ],
    ids=["private", "drill", "empty", "long", "status"],
)
async def test_what_must_not_be_published_is_refused_in_plain_words(say, incident, more, wrong):
    with pytest.raises(UserError, match=wrong):
        await say(incident, **more)
