"""Notifications come late, twice and out of order, from clocks that are wrong: what happened is still understood."""

import asyncio

import pytest

from bot.alerts.model import AlertRow, Episode
from bot.incidents.model import Incident, TimelineEvent
from tests.web.conftest import NOW, post, rows

AHEAD, BEHIND = "2026-03-01T14:%02d:%02dZ", "2026-03-01T09:%02d:%02dZ"  # it is 12:00 here


def alert(status, clock=BEHIND, starts=None, ends=None, key="disk"):
    """Minutes and seconds by the sender's clock; what it does not say is left out."""
    said = {"startsAt": clock % starts} if starts else {}
    said |= {"endsAt": clock % ends} if ends else {}
    labels = {"alertname": "DiskFull", "severity": "critical", "service": "db"}
    return {"alerts": [{"status": status, "fingerprint": key, "labels": labels, **said}]}


def fires(at, clock=BEHIND):
    return alert("firing", clock, starts=at)


def ends(at, of=None, clock=BEHIND):
    return alert("resolved", clock, starts=of, ends=at)


FIRES_UNDATED, ENDS_UNDATED = alert("firing"), alert("resolved")

FIRST, LATER = (10, 0), (10, 30)
STORIES = {
    "the end comes before the beginning": [
        (ends((10, 5), FIRST), "orphan_resolve"),
        (fires(FIRST), "stale_duplicate"),
        (fires(LATER), "opened"),
    ],
    "an old copy comes after the end": [
        (fires(FIRST), "opened"),
        (ends((10, 5), FIRST), "resolved"),
        (fires(FIRST), "stale_duplicate"),
        (ends((10, 5), FIRST), "ignored"),
    ],
    "the end of the first comes after the beginning of the second": [
        (fires(FIRST), "opened"),
        (fires(LATER), "attached"),
        (ends((10, 5), FIRST), "ignored"),
        (fires(LATER), "repeat"),
        (ends((10, 40), LATER), "resolved"),
    ],
    "it fires again in the second in which it ended": [
        (fires(FIRST), "opened"),
        (ends((10, 5), FIRST), "resolved"),
        (fires((10, 5)), "attached"),
        (ends((10, 9), (10, 5)), "resolved"),
    ],
    "the same, and the end comes last": [
        (fires(FIRST), "opened"),
        (fires((10, 5)), "attached"),
        (ends((10, 5), FIRST), "ignored"),
        (fires((10, 5)), "repeat"),
    ],
    "it fires and ends within one second": [
        (fires(FIRST), "opened"),
        (ends(FIRST, FIRST), "resolved"),
        (fires(FIRST), "stale_duplicate"),
        (fires((10, 1)), "attached"),
    ],
    "ends without a time, fires anew by a clock that is behind": [
        (fires(FIRST), "opened"),
        (ENDS_UNDATED, "resolved"),
        (fires(FIRST), "stale_duplicate"),
        (fires(LATER), "attached"),
    ],
    "no times at all": [
        (FIRES_UNDATED, "opened"),
        (FIRES_UNDATED, "repeat"),
        (ENDS_UNDATED, "resolved"),
        (ENDS_UNDATED, "ignored"),
        (FIRES_UNDATED, "attached"),
    ],
    "the clock is ahead": [
        (fires(FIRST, AHEAD), "opened"),
        (fires(FIRST, AHEAD), "repeat"),
        (ends((10, 5), FIRST, AHEAD), "resolved"),
        (fires(FIRST, AHEAD), "stale_duplicate"),
        (fires(LATER, AHEAD), "attached"),
        (ENDS_UNDATED, "resolved"),
        (fires(LATER, AHEAD), "stale_duplicate"),
    ],
    "the clock is days ahead, so its times are none": [
        (fires((10, 0), "2026-03-09T00:%02d:%02dZ"), "opened"),
        (fires((20, 0), "2026-03-09T00:%02d:%02dZ"), "repeat"),
        (ends((30, 0), None, "2026-03-09T00:%02d:%02dZ"), "resolved"),
    ],
}


@pytest.mark.parametrize("story", list(STORIES))
async def test_a_story_told_badly_is_understood(client, story):
    told = []
    for body, _ in STORIES[story]:
        status, answer, _ = await post(client, body, "/alerts/am")
        assert status == 202
        told.append(answer["alerts"][0]["outcome"])

    assert told == [outcome for _, outcome in STORIES[story]]


@pytest.mark.parametrize("clock", [AHEAD, BEHIND])
async def test_our_own_record_never_lies_in_the_future_nor_ends_before_it_begins(client, database, clock):
    for body in (fires(FIRST, clock), ends((9, 0), FIRST, clock), fires(LATER, clock), ENDS_UNDATED):
        await post(client, body, "/alerts/am")

    assert all(event.at <= NOW for event in await rows(database, TimelineEvent))
    assert all(
        episode.ends_at is None or episode.ends_at >= episode.starts_at for episode in await rows(database, Episode)
    )


async def test_a_beginning_and_its_end_at_once_are_one_incident_whichever_comes_first(client, database):
    pairs = [(fires(FIRST), ends((10, 5), FIRST)) for _ in range(20)]
    answers = await asyncio.gather(*(post(client, body, "/alerts/am") for pair in pairs for body in pair))

    assert {status for status, _, _ in answers} == {202}
    assert len(await rows(database, Incident)) <= 1
    (row,) = await rows(database, AlertRow)
    assert row.state == "resolved"
