"""Is this news? The same alert again, a new episode of it, its end, or an echo of what is long over."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.alerts.model import Alert, AlertState, AlertStatus


class Outcome(StrEnum):
    """What an alert that came in is, compared with what is stored of it."""

    NEW = "new"
    REPEAT = "repeat"
    NEW_EPISODE = "new_episode"
    STALE_DUPLICATE = "stale_duplicate"
    RESOLVE = "resolve"
    ORPHAN_RESOLVE = "orphan_resolve"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Stored:
    """What is known of an alert: its newest episode, by the sender's own clock where it gave times.

    `ends_at` is None where the sender gave no end: our own clock must not be compared with its.
    """

    state: AlertState
    starts_at: datetime
    ends_at: datetime | None = None


@dataclass(frozen=True)
class Decision:
    """What to do, and why, in words for the timeline."""

    outcome: Outcome
    reason: str


def decide(stored: Stored | None, alert: Alert) -> Decision:
    """Compare *alert* with what is *stored* under the same fingerprint, by the sender's own times.

    A sender that gives no `starts_at` cannot be told apart from its echo, so state alone decides.
    """
    if alert.status is AlertStatus.FIRING:
        return _firing(stored, alert.starts_at)
    return _resolved(stored, alert)


def _firing(stored: Stored | None, starts_at: datetime | None) -> Decision:
    if stored is None:
        return Decision(Outcome.NEW, "never seen before")
    if stored.state is AlertState.RESOLVED:
        if starts_at is None:
            return Decision(Outcome.NEW_EPISODE, "fires again after it had resolved")
        ended = stored.ends_at or stored.starts_at
        # Many senders write whole seconds: what begins in the second of the end began after it.
        if starts_at <= stored.starts_at or starts_at < ended:
            return Decision(
                Outcome.STALE_DUPLICATE, f"it began before it was resolved at {ended:%H:%M:%S}: a late copy"
            )
        return Decision(Outcome.NEW_EPISODE, "fires again after it had resolved")
    if starts_at is not None and starts_at > stored.starts_at:
        return Decision(Outcome.NEW_EPISODE, "began anew; that it had resolved in between was never said")
    return Decision(Outcome.REPEAT, "still firing")


def _resolved(stored: Stored | None, alert: Alert) -> Decision:
    if stored is None:
        return Decision(Outcome.ORPHAN_RESOLVE, "resolved, though it was never seen firing")
    if stored.state is AlertState.RESOLVED:
        if alert.ends_at is not None and stored.ends_at is not None and alert.ends_at > stored.ends_at:
            return Decision(Outcome.ORPHAN_RESOLVE, "the end of an episode that was never seen firing")
        return Decision(Outcome.IGNORED, "already resolved")
    # Without an end, the beginning tells which episode is meant.
    moment = alert.ends_at or alert.starts_at
    # One that ends in the second in which the newest began is told apart by its own beginning.
    earlier = alert.starts_at is not None and alert.starts_at < stored.starts_at
    if moment is not None and (moment < stored.starts_at or (earlier and moment == stored.starts_at)):
        return Decision(Outcome.IGNORED, "the end of an earlier episode, arrived late")
    return Decision(Outcome.RESOLVE, "resolved")
