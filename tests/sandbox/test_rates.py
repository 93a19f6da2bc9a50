"""How often each method may be called, and what comes back when it was too often."""

import statistics
import time

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError

from bot.sandbox.faults import FaultPlan
from bot.sandbox.rates import SPECIAL, Rates
from bot.sandbox.state import Limits


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def granted(rates: Rates, method: str, tier: int, tries: int, channel: str = "") -> int:
    return sum(rates.admit(method, tier, channel) is None for _ in range(tries))


@pytest.mark.parametrize(("tier", "calls"), [(1, 1), (2, 20), (3, 50), (4, 100), (SPECIAL, 300)])
def test_a_tier_grants_its_calls_at_once_and_as_many_again_in_a_minute(tier, calls):
    clock = Clock()
    rates = Rates(Limits(), clock)

    assert granted(rates, "some.method", tier, 400) == calls
    clock.now += 30
    assert granted(rates, "some.method", tier, 400) == calls // 2
    clock.now += 600
    assert granted(rates, "some.method", tier, 400) == calls


def test_methods_do_not_share_their_calls_and_some_have_no_limit():
    rates = Rates(Limits(), Clock())

    assert granted(rates, "pins.add", 2, 30) == granted(rates, "bookmarks.add", 2, 30) == 20
    assert granted(rates, "blocks.validate", 0, 1000) == 1000
    assert rates.limited == {"pins.add": 10, "bookmarks.add": 10}


def test_a_channel_takes_one_message_a_second_and_a_short_burst():
    clock = Clock()
    rates = Rates(Limits(), clock)

    assert granted(rates, "chat.postMessage", SPECIAL, 12, "C1") == 5
    assert granted(rates, "chat.postMessage", SPECIAL, 12, "C2") == 5
    clock.now += 2
    assert granted(rates, "chat.postMessage", SPECIAL, 12, "C1") == 2


def test_a_workspace_takes_some_hundred_messages_a_minute_however_many_channels_there_are():
    rates = Rates(Limits(), Clock())

    assert sum(granted(rates, "chat.postMessage", SPECIAL, 5, f"C{n}") for n in range(100)) == 300


def test_a_caller_that_waits_as_long_as_it_is_told_is_let_in():
    clock = Clock()
    rates = Rates(Limits(), clock)
    granted(rates, "pins.add", 2, 20)

    for _ in range(3):
        wait = rates.admit("pins.add", 2)
        assert wait == 3  # one call each three seconds, and a refused call costs nothing
    clock.now += 3
    assert rates.admit("pins.add", 2) is None


def test_a_factor_makes_everything_faster_and_may_be_changed_later():
    limits = Limits(rate_factor=10)
    rates = Rates(limits, Clock())
    assert granted(rates, "pins.add", 2, 300) == 200

    limits.rate_factor = 1
    assert granted(rates, "pins.add", 2, 300) == 20


async def test_too_many_calls_are_answered_with_429_and_counted_and_no_violation(client, sandbox):
    sandbox.limits.rate_factor = 1
    for number in range(5):
        await client.chat_postMessage(channel="#incidents", text=f"hello {number}")

    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="C02INCIDENTS", text="one more")  # by another name, the same channel
    await client.chat_postMessage(channel="#general", text="elsewhere")

    assert caught.value.response.status_code == 429
    assert caught.value.response["error"] == "ratelimited"
    assert caught.value.response.headers["Retry-After"] == "1"
    assert sandbox.workspace.limited == {"chat.postMessage": 1}
    assert [c.error for c in sandbox.calls].count("ratelimited") == 1
    assert len(sandbox.actor("alice").sees("#incidents")) == 5
    sandbox.assert_no_violations()


async def test_calls_without_a_good_token_do_not_use_up_the_apps(client, sandbox):
    sandbox.limits.rate_factor = 0.05  # of pins.add: one call
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.post(f"{sandbox.api_url}pins.add", params={"channel": "C02INCIDENTS"}) as response:
                assert (await response.json())["error"] == "not_authed"
    with pytest.raises(SlackApiError, match="no_item_specified"):
        await client.pins_add(channel="C02INCIDENTS")
    with pytest.raises(SlackApiError, match="ratelimited"):
        await client.pins_add(channel="C02INCIDENTS")


def test_a_profile_takes_as_long_as_slack_and_the_same_every_time():
    def delays(seed: int, scale: float = 1.0) -> list[float]:
        plan = FaultPlan(seed=seed)
        plan.lag("slack", scale=scale)
        return [plan.delay() for _ in range(4000)]

    found = sorted(delays(7))
    assert delays(7) == delays(7)
    assert delays(7) != delays(8)
    assert statistics.median(found) == pytest.approx(0.120, rel=0.05)
    assert found[3800] == pytest.approx(0.400, rel=0.08)
    assert delays(7, 0.1) == pytest.approx([delay / 10 for delay in delays(7)])


def test_slowness_is_off_until_asked_for_and_changes_no_other_chance():
    def struck(*, slow: bool) -> list[bool]:
        plan = FaultPlan(seed=7)
        plan.add("*", "500", times=100, chance=0.3)
        if slow:
            plan.lag("slack")
        return [plan.delay() >= 0 and plan.strike("x") is not None for _ in range(50)]

    plan = FaultPlan()
    assert plan.delay() == 0
    plan.lag("slack")
    plan.clear()
    assert plan.delay() == 0
    assert struck(slow=True) == struck(slow=False)
    with pytest.raises(ValueError, match="not a profile"):
        plan.lag("teams")


async def test_a_profile_is_applied_to_every_call(client, sandbox):
    sandbox.faults.lag("slack", scale=0.5)
    took = []
    for _ in range(3):
        before = time.monotonic()
        await client.auth_test()
        took.append(time.monotonic() - before)
    plan = FaultPlan()
    plan.lag("slack", scale=0.5)

    assert all(real >= planned for real, planned in zip(took, [plan.delay() for _ in range(3)], strict=True))
