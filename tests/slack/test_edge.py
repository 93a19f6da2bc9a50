"""What breaks on the way in is told, counted, and repeated by Slack where only Slack can."""

from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from slack_sdk.web.async_client import AsyncWebClient
from structlog.testing import capture_logs

from bot.kit.errors import PermanentError
from bot.slack.app import Edge, bolt
from bot.slack.socket import Envelope


class Broken:
    """An inbox with a fault in everything."""

    def __init__(self) -> None:
        self.excused: list[str] = []
        self.people = SimpleNamespace(learn=lambda _: None)

    async def command(self, ack: Any, body: Any) -> None:
        if body["text"] == "after":
            await ack("fine")
        raise ZeroDivisionError

    async def _fail(self, *_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    def excuse(self, _body: Any, text: str) -> None:
        self.excused.append(text)

    async def action(self, ack: Any, body: Any) -> None:
        await self._fail()

    async def submission(self, ack: Any, body: Any) -> None:
        await self._fail()

    async def options(self, ack: Any, body: Any) -> None:
        await self._fail()

    async def shortcut(self, ack: Any, body: Any) -> None:
        await self._fail()

    async def event(self, ack: Any, body: Any) -> None:
        await self._fail()


@pytest.fixture
async def edge():
    async with aiohttp.ClientSession() as session:
        counted: list[tuple[str, str, bool]] = []
        web = AsyncWebClient(token="xoxb-0-0", session=session)
        me = SimpleNamespace(identity={"team_id": "T1", "bot_id": "B1", "user_id": "U0"})
        inbox = Broken()
        made = Edge(bolt(web, me, inbox), acked=lambda kind, way, _seconds, ok: counted.append((kind, way, ok)))
        yield made, inbox, counted


def envelope(kind: str, **payload: Any) -> Envelope:
    user = {"user_id": "U1", "user": {"id": "U1"}, "team": {"id": "T1"}, "team_id": "T1", "trigger_id": "1"}
    return Envelope("e", kind, {**user, **payload})


@pytest.mark.parametrize("text", ["before", "after"])
async def test_a_command_that_breaks_is_answered_with_a_reference_and_not_counted_as_acknowledged(edge, text):
    made, _, counted = edge
    with capture_logs() as logs:
        answer = await made.envelope(envelope("slash_commands", command="/inc", text=text, channel_id="C1"))

    assert "Something went wrong" in answer["text"]
    assert logs[-1]["reference"] in answer["text"]
    assert counted == [("command", "socket", False)]


async def test_a_button_that_breaks_is_acknowledged_and_the_person_told_aside(edge):
    made, inbox, counted = edge
    actions = [{"action_id": "x", "block_id": "b", "type": "button", "value": ""}]
    with capture_logs():
        answer = await made.envelope(envelope("interactive", type="block_actions", actions=actions))

    assert answer is None
    assert "Something went wrong" in inbox.excused[0]
    assert counted == [("button", "socket", False)]


async def test_an_event_that_breaks_is_not_acknowledged_so_that_slack_repeats_it(edge):
    made, _, counted = edge
    event = {"type": "app_mention", "user": "U1", "channel": "C1"}
    with capture_logs(), pytest.raises(PermanentError):
        await made.envelope(envelope("events_api", type="event_callback", event_id="E1", event=event))

    assert counted == [("event", "socket", False)]


async def test_what_nobody_has_a_use_for_is_acknowledged_and_no_failure(edge):
    made, _, counted = edge
    with capture_logs():
        await made.envelope(envelope("interactive", type="something_new_of_2031"))

    assert counted == [("other", "socket", True)]
