from datetime import UTC, datetime, timedelta

import pytest

from bot.alerts.dedupe import Outcome, Stored, decide
from bot.alerts.model import Alert, AlertState, AlertStatus

T = datetime(2026, 3, 1, 10, tzinfo=UTC)


def at(minutes):
    return None if minutes is None else T + timedelta(minutes=minutes)


def firing(starts=0):
    return Alert(AlertStatus.FIRING, "A", "f", "f", starts_at=at(starts))


def resolved(ends=20, starts=0):
    return Alert(AlertStatus.RESOLVED, "A", "f", "f", starts_at=at(starts), ends_at=at(ends))


FIRING = Stored(AlertState.FIRING, at(10))
RESOLVED = Stored(AlertState.RESOLVED, at(10), at(20))
UNDATED = Stored(AlertState.RESOLVED, at(10))
SHORT = Stored(AlertState.RESOLVED, at(10), at(10))
STALE = Stored(AlertState.STALE, at(10))


@pytest.mark.parametrize(
    ("stored", "alert", "outcome"),
    [
        (None, firing(), Outcome.NEW),
        (None, firing(None), Outcome.NEW),
        (None, resolved(), Outcome.ORPHAN_RESOLVE),
        (FIRING, firing(10), Outcome.REPEAT),
        (FIRING, firing(5), Outcome.REPEAT),
        (FIRING, firing(None), Outcome.REPEAT),
        (FIRING, firing(11), Outcome.NEW_EPISODE),
        (FIRING, resolved(20, 10), Outcome.RESOLVE),
        (FIRING, resolved(None, 10), Outcome.RESOLVE),
        (FIRING, resolved(None, None), Outcome.RESOLVE),
        (FIRING, resolved(9, 0), Outcome.IGNORED),
        (FIRING, resolved(None, 0), Outcome.IGNORED),
        (FIRING, resolved(10, 0), Outcome.IGNORED),
        (FIRING, resolved(10, 10), Outcome.RESOLVE),
        (FIRING, resolved(10, None), Outcome.RESOLVE),
        (FIRING, resolved(30, 0), Outcome.RESOLVE),
        (FIRING, resolved(30, 25), Outcome.RESOLVE),
        (RESOLVED, firing(10), Outcome.STALE_DUPLICATE),
        (RESOLVED, firing(19), Outcome.STALE_DUPLICATE),
        (RESOLVED, firing(20), Outcome.NEW_EPISODE),
        (UNDATED, firing(10), Outcome.STALE_DUPLICATE),
        (UNDATED, firing(11), Outcome.NEW_EPISODE),
        (UNDATED, resolved(20), Outcome.IGNORED),
        (SHORT, firing(10), Outcome.STALE_DUPLICATE),
        (RESOLVED, firing(21), Outcome.NEW_EPISODE),
        (RESOLVED, firing(None), Outcome.NEW_EPISODE),
        (RESOLVED, resolved(20), Outcome.IGNORED),
        (RESOLVED, resolved(None), Outcome.IGNORED),
        (RESOLVED, resolved(15), Outcome.IGNORED),
        (RESOLVED, resolved(40, 30), Outcome.ORPHAN_RESOLVE),
        (STALE, firing(10), Outcome.REPEAT),
        (STALE, firing(30), Outcome.NEW_EPISODE),
        (STALE, resolved(40), Outcome.RESOLVE),
    ],
)
def test_what_is_stored_and_what_comes_decide_together(stored, alert, outcome):
    decision = decide(stored, alert)

    assert decision.outcome is outcome
    assert decision.reason
