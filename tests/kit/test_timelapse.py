"""Waiting takes no time, and everything still happens in its order."""

import asyncio
import time

import pytest

from bot.kit.timelapse import play


def test_an_hour_is_over_at_once():
    begun = time.monotonic()

    async def story() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    assert play(story()) == pytest.approx(3600)
    assert time.monotonic() - begun < 5


def test_what_waits_less_comes_first():
    told: list[tuple[str, int]] = []

    async def say(word: str, after: float) -> None:
        await asyncio.sleep(after)
        told.append((word, round(asyncio.get_running_loop().time())))

    async def story() -> None:
        await asyncio.gather(say("late", 90), say("early", 10), say("between", 50))

    play(story())

    assert told == [("early", 10), ("between", 50), ("late", 90)]


def test_a_timeout_comes_when_it_is_due():
    async def story() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert play(story()) == pytest.approx(30)


def test_the_clock_stands_still_while_a_thread_works():
    async def story() -> float:
        timer = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.to_thread(time.sleep, 0.05)
        at = asyncio.get_running_loop().time()
        timer.cancel()
        return at

    assert play(story()) == 0


def test_an_error_comes_out():
    async def story() -> None:
        await asyncio.sleep(5)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        play(story())
