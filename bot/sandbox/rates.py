"""How often each method may be called: Slack's tiers, and one message a second and channel.

https://docs.slack.dev/apis/web-api/rate-limits/
"""

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from bot.sandbox.state import Limits

# Calls a minute. Slack writes "20+": this is the part an app may count on.
TIERS = {1: 1, 2: 20, 3: 50, 4: 100}
# A tier of its own, described in words for each method that has it.
SPECIAL = 5
# The words for most of them are "hundreds of requests per minute".
HUNDREDS = 300
POST = "chat.postMessage"
POSTS_A_SECOND, POST_BURST = 1.0, 5


@dataclass
class Bucket:
    """Holds *size* tokens at most and gets *rate* a second; a call takes one."""

    size: float
    rate: float
    tokens: float
    at: float

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        self.tokens = min(self.size, self.tokens + (now - self.at) * self.rate)
        self.at = now
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.rate

    def take(self) -> None:
        self.tokens -= 1


class Rates:
    """Counts the calls of one app in one workspace. `limited` says how many were refused, by method."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.clock = clock
        self.limited: Counter[str] = Counter()
        self._buckets: dict[str, Bucket] = {}
        self._factor = limits.rate_factor

    def admit(self, method: str, tier: int, channel: str = "") -> int | None:
        """None if the call may go on, else the seconds for ``Retry-After``. A refused call uses nothing up."""
        if self._factor != self.limits.rate_factor:
            self._factor = self.limits.rate_factor
            self._buckets.clear()
        now = self.clock()
        buckets = self._of(method, tier, channel, now)
        wait = max((bucket.wait(now) for bucket in buckets), default=0.0)
        if wait > 0:
            self.limited[method] += 1
            return max(1, math.ceil(wait))
        for bucket in buckets:
            bucket.take()
        return None

    def _of(self, method: str, tier: int, channel: str, now: float) -> list[Bucket]:
        if method == POST:
            return [
                self._bucket(f"{method} {channel}", POST_BURST, POSTS_A_SECOND, now),
                self._bucket(method, HUNDREDS, HUNDREDS / 60, now),
            ]
        if tier == 0:
            return []
        calls = HUNDREDS if tier == SPECIAL else TIERS[tier]
        return [self._bucket(method, calls, calls / 60, now)]

    def _bucket(self, key: str, size: float, rate: float, now: float) -> Bucket:
        if key not in self._buckets:
            size, rate = size * self._factor, rate * self._factor
            self._buckets[key] = Bucket(size, rate, size, now)
        return self._buckets[key]
