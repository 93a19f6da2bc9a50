"""Who belongs to the @names of runbooks; a name that nobody knows lets nobody in."""

from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from slack_sdk.web.async_client import AsyncWebClient

from bot.catalog.services import Catalog, Directory
from bot.incidents.access import Person
from bot.incidents.oncall import Board, Cover
from bot.kit.errors import TemporaryError
from bot.kit.shelf import Shelf
from bot.sandbox.server import Sandbox
from bot.slack import manifest
from bot.slack.app import draw
from bot.slack.client import SlackChat
from bot.slack.groups import Groups

ALICE = Person("UALICE", "alice", "Alice@Example.com")
BOB = Person("UBOB", "bob")


class Chat:
    """Slack's user groups, or its silence."""

    def __init__(self, groups: dict[str, list[str]]) -> None:
        self.known: dict[str, list[str]] | None = groups

    async def groups(self) -> dict[str, list[str]]:
        if self.known is None:
            raise TemporaryError("Slack is away")
        return self.known


def made(chat: Chat | None = None) -> Groups:
    teams = {"team-data": ["alice@example.com"], "team-web": ["UBOB"]}
    return Groups(chat or Chat({}), teams, lambda: {"primary": ["UBOB"], "orders": ["ALICE@example.com"]})


def test_teams_and_on_call_lists_of_the_catalog_are_known_by_id_and_by_e_mail():
    groups = made()

    assert groups.of(ALICE) == {"@team-data", "@oncall:orders"}
    assert groups.of(BOB) == {"@team-web", "@oncall:primary", "@oncall-primary"}
    assert groups.of(Person("UCAROL")) == frozenset()


def test_who_is_on_call_is_asked_at_every_click():
    now = {"primary": ["UBOB"]}
    groups = Groups(Chat({}), {}, lambda: now)
    assert groups.of(BOB) == {"@oncall:primary", "@oncall-primary"}

    now["primary"] = ["ualice"]

    assert groups.of(BOB) == frozenset()
    assert groups.of(ALICE) == {"@oncall:primary", "@oncall-primary"}


def test_who_stands_in_may_approve_while_they_do_and_who_is_covered_may_not():
    moment = [datetime(2026, 3, 2, 12, tzinfo=UTC)]
    catalog = Catalog.model_validate({"oncall": {"primary": ["alice@example.com"]}})
    cover = Cover(
        id="c", place="list:primary", person="UBOB", name="primary", by="UALICE", made_at=moment[0], state="done",
        starts_at=moment[0], ends_at=moment[0] + timedelta(hours=2),
    )  # fmt: skip
    board = Board(Directory(catalog), lambda: moment[0], covers=[cover])
    groups = Groups(Chat({}), {}, board.members)
    assert "@oncall-primary" in groups.of(BOB)
    assert "@oncall-primary" not in groups.of(ALICE)

    moment[0] += timedelta(hours=2)

    assert "@oncall-primary" not in groups.of(BOB)
    assert "@oncall-primary" in groups.of(ALICE)


async def test_slack_s_user_groups_count_after_a_refresh_but_never_in_the_place_of_the_catalog_s():
    groups = made(Chat({"dbas": ["UBOB"], "team-data": ["UBOB"]}))
    assert "@dbas" not in groups.of(BOB)

    await groups.refresh()

    assert "@dbas" in groups.of(BOB)
    assert "@team-data" not in groups.of(BOB)


async def test_while_slack_is_away_the_last_known_groups_hold():
    chat = Chat({"dbas": ["UBOB"]})
    groups = made(chat)
    await groups.refresh()
    chat.known = None

    await groups.refresh()

    assert "@dbas" in groups.of(BOB)


async def test_whoever_left_a_group_is_out_after_the_next_refresh():
    chat = Chat({"dbas": ["UBOB"]})
    groups = made(chat)
    await groups.refresh()
    chat.known = {"dbas": []}
    await groups.refresh()

    assert "@dbas" not in groups.of(BOB)


def test_names_that_no_group_has_are_told():
    assert made().unknown(["@responders", "@team-dta", "UBOB", "@team-data", "@commander"]) == ["@team-dta"]


@pytest.fixture
async def chat():
    app = manifest.build(Shelf("bot.slack.commands", must_have=("USAGE",)).load())
    async with Sandbox(app) as sandbox, aiohttp.ClientSession() as session:
        web = AsyncWebClient(sandbox.bot_token, base_url=sandbox.api_url, session=session, retry_handlers=[])
        made = SlackChat(web, session, draw, timeout=1.0)
        await made.hello()
        yield sandbox, made
        sandbox.assert_no_violations()


async def test_groups_come_from_slack_with_their_members(chat):
    sandbox, made = chat
    groups = list(sandbox.workspace.groups.values())

    found = await made.groups()

    assert found
    assert set(found) == {group.handle for group in groups}
    assert all(set(members) <= set(sandbox.workspace.users) for members in found.values())
