"""Who is on call by PagerDuty, and who is put there, against a strict local one."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from bot.catalog.config import PagerDutyAccess
from bot.catalog.services import Place
from bot.incidents.oncall import Contact, Duties
from bot.kit.errors import PermanentError, TemporaryError
from bot.pagers.pagerduty import PagerDuty
from tests.fakes.pagerduty_oncall import OnCallServer

DB, EMPTY, PAYMENTS = Place("schedule", "PSDB"), Place("schedule", "PSEMPTY"), Place("policy", "PPAY")


@pytest.fixture
async def server() -> AsyncIterator[OnCallServer]:
    made = await OnCallServer().start()
    yield made
    await made.stop()


def made(server: OnCallServer, token: str | None = None) -> PagerDuty:
    key = SecretStr(token or server.token)
    access = PagerDutyAccess(SecretStr("r" * 32), {}, key, "bot@example.com", server.url, server.url)
    return PagerDuty(access, seconds=2.0, look=0.01)


@pytest.fixture
async def pager(server: OnCallServer) -> AsyncIterator[PagerDuty]:
    found = made(server)
    yield found
    await found.close()


async def test_pagerduty_is_a_pager_that_can_say_who_is_on_call(pager):
    assert isinstance(pager, Duties)


async def test_one_call_tells_of_all_schedules_and_one_of_all_policies(server, pager):
    server.on_call("PALICE")
    server.on_call("PALICE", policy="PANY", level=3)  # the same shift, told of once more for another policy
    server.on_call("PBOB", schedule=None, level=2, hours=0)

    found = await pager.duties([DB, EMPTY, PAYMENTS])

    assert server.paths() == ["/oncalls", "/oncalls"]
    assert server.refused == []
    (alice,) = found[DB].duties
    assert (found[DB].title, alice.name, alice.email, alice.level) == (
        "Database first", "Alice Example", "alice@example.com", 1,
    )  # fmt: skip
    assert alice.until is not None
    assert alice.until - server.entries[0].end == timedelta()
    assert found[EMPTY].duties == ()
    assert [(duty.name, duty.level, duty.schedule) for duty in found[PAYMENTS].duties] == [
        ("Alice Example", 1, "PSDB"),
        ("Bob Example", 2, None),
    ]
    assert found[PAYMENTS].duties[1].until is None


async def test_every_page_of_the_answer_is_read(server, pager):
    server.page = 2
    server.users |= {f"PU{n}": (f"User {n}", f"u{n}@example.com") for n in range(5)}
    for n in range(5):
        server.on_call(f"PU{n}")

    found = await pager.duties([DB])

    assert len(found[DB].duties) == 5
    assert server.paths() == ["/oncalls"] * 3


async def test_how_to_reach_somebody_is_told_without_what_only_its_app_can_do(server, pager):
    assert await pager.contacts("PALICE") == [
        Contact(kind="email", address="alice@example.com", label="Work"),
        Contact(kind="phone", address="+1 5550100", label="Mobile"),
    ]


async def test_an_override_is_made_once_however_often_it_is_asked_for(server, pager):
    start = server.now().replace(microsecond=0)
    end = start + timedelta(hours=2)
    server.on_call("PALICE")

    first = await pager.cover("PSDB", "bob@example.com", start, end)
    again = await pager.cover("PSDB", "bob@example.com", start, end)

    assert (first, again) == ("PagerDuty made the override POV1", "PagerDuty has the override POV1 already")
    assert server.paths("POST") == ["/schedules/PSDB/overrides"]
    assert server.refused == []
    assert [duty.name for duty in (await pager.duties([DB]))[DB].duties] == ["Bob Example"]


@pytest.mark.parametrize(
    ("schedule", "email", "hours", "told"),
    [
        ("PNONE", "bob@example.com", 2, "refused the cover .HTTP 404.: Not Found"),
        ("PSDB", "nobody@example.com", 2, "PagerDuty has no user with the address nobody@example.com"),
        ("PSDB", "bob@example.com", -1, "did not make the override: .*must end in the future"),
    ],
    ids=["no schedule", "no user", "over"],
)
async def test_an_override_that_pagerduty_does_not_make_says_why(server, pager, schedule, email, hours, told):
    start = server.now().replace(microsecond=0) - timedelta(hours=2)

    with pytest.raises(PermanentError, match=told):
        await pager.cover(schedule, email, start, server.now() + timedelta(hours=hours))

    assert server.overrides == {}


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_while_pagerduty_is_away_it_is_asked_again_later(server, pager, status):
    server.fault("/oncalls", status=status)

    with pytest.raises(TemporaryError):
        await pager.duties([DB])


async def test_a_token_that_was_revoked_is_said_in_words(server):
    pager = made(server, "revoked-0123456789")

    with pytest.raises(PermanentError, match="the api_token is not valid"):
        await pager.duties([DB])
    await pager.close()


async def test_without_a_token_it_says_what_to_set(server):
    access = PagerDutyAccess(SecretStr("r" * 32), {}, None, None, server.url, server.url)
    pager = PagerDuty(access)

    with pytest.raises(PermanentError, match=r"set pagerduty\.api_token and from_email"):
        await pager.duties([DB])
    await pager.close()


@pytest.mark.parametrize("user", [None, {}, {"id": ""}, "PALICE"], ids=["none", "empty", "no id", "text"])
async def test_an_entry_that_names_nobody_is_left_out(server, pager, user):
    server.on_call("PALICE")
    server._entry = lambda one, *, whole: {"user": user, "schedule": {"id": "PSDB"}, "escalation_level": 1}

    assert (await pager.duties([DB]))[DB].duties == ()
