"""What shall go wrong on purpose: errors, lost replies, duplicates, dead sockets."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

KINDS = ("429", "500", "lost", "slow", "error")
# How long Slack takes: the seconds within which half of all calls, and 95 of 100, are answered.
PROFILES = {"slack": (0.120, 0.400)}


@dataclass
class Fault:
    """One planned failure of a Web API method."""

    method: str
    kind: str
    times: int = 1
    skip: int = 0
    chance: float = 1.0
    retry_after: int = 1
    seconds: float = 1.0
    error: str = "internal_error"


@dataclass(eq=False)
class Held:
    """A delivery that waits for later ones to go first."""

    after: int
    within: float
    everything: bool
    free: asyncio.Future[None] | None = None


@dataclass
class FaultPlan:
    """Failures to come; a test adds them, the server uses them up.

    ``429`` answers with ``retry_after``; ``500`` with text that is no JSON; ``lost`` does the work and drops the
    connection instead of answering; ``slow`` waits ``seconds`` and goes on; ``error`` gives the Slack ``error``.
    ``latency`` is added to every call; `lag` adds what Slack itself would take.
    """

    latency: float = 0.0
    seed: int = 0
    planned: list[Fault] = field(default_factory=list)
    kill_sockets: Callable[[], int] = field(default=lambda: 0)
    send_disconnect: Callable[[str], Awaitable[int]] | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        # Chance of its own, so that slow answers do not change which calls fail.
        self._slowness = random.Random(self.seed + 1)
        self._lag: tuple[float, float] | None = None
        self._again: list[str] = []
        self._reorders: list[Held] = []
        self._held: list[Held] = []

    def add(
        self,
        method: str,
        kind: str,
        times: int = 1,
        *,
        skip: int = 0,
        chance: float = 1.0,
        retry_after: int = 1,
        seconds: float = 1.0,
        error: str = "internal_error",
    ) -> Fault:
        """Plan *times* failures of *method* (a name or a pattern such as ``chat.*``), after *skip* good calls."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is not a kind of fault; there is: {', '.join(KINDS)}")
        fault = Fault(method, kind, times, skip, chance, retry_after, seconds, error)
        self.planned.append(fault)
        return fault

    def clear(self) -> None:
        self.planned.clear()
        self._again.clear()
        self._reorders.clear()
        self._release(self._held)
        self.latency = 0.0
        self._lag = None

    def lag(self, profile: str | None, *, scale: float = 1.0) -> None:
        """From now on every call takes as long as that profile says, times *scale*; None ends it."""
        if profile is not None and profile not in PROFILES:
            raise ValueError(f"{profile!r} is not a profile; there is: {', '.join(PROFILES)}")
        half, most = PROFILES[profile] if profile is not None else (0.0, 0.0)
        self._lag = (half * scale, most * scale) if half * scale > 0 else None

    def delay(self) -> float:
        """How many seconds the next call is to wait before anything happens."""
        if self._lag is None:
            return self.latency
        half, most = self._lag
        # A log-normal distribution through both points; 1.645 standard deviations are 95 of 100.
        spread = math.log(most / half) / 1.645
        return self.latency + half * math.exp(self._slowness.gauss(0.0, spread))

    def duplicate(self, times: int = 1, *, same_envelope: bool = False) -> None:
        """Deliver each of the next *times* envelopes twice: as a retry with its own id, or the very same one."""
        self._again += ["same" if same_envelope else "new"] * times

    def repeat(self) -> str | None:
        """How the envelope that is about to be sent is to be repeated, if at all."""
        return self._again.pop(0) if self._again else None

    def reorder(self, times: int = 1, *, after: int = 1, within: float = 1.0, everything: bool = False) -> None:
        """Hold each of the next *times* events back until *after* later deliveries were made.

        When too few follow *within* that many seconds it goes all the same. With *everything* commands and clicks are
        held back too. Which of several that become free together goes first is a matter of the seed.
        """
        self._reorders += [Held(after, within, everything) for _ in range(times)]

    async def turn(self, kind: str) -> None:
        """Wait until this delivery may go: at once, or after some that come later."""
        if not self._reorders or not (kind == "events_api" or self._reorders[0].everything):
            return
        held = self._reorders.pop(0)
        held.free = asyncio.get_running_loop().create_future()
        self._held.append(held)
        try:
            await asyncio.wait([held.free], timeout=held.within)
        finally:
            if held in self._held:
                self._held.remove(held)

    def passed(self) -> None:
        """A delivery was made; what waited for it may go."""
        for held in self._held:
            held.after -= 1
        self._release([held for held in self._held if held.after <= 0])

    def _release(self, those: list[Held]) -> None:
        free = self.random.sample(those, len(those))
        self._held = [held for held in self._held if held not in free]
        for held in free:
            if held.free is not None:
                held.free.set_result(None)

    def strike(self, method: str) -> Fault | None:
        """The fault that hits this call, if one does; it is used up by that."""
        for fault in self.planned:
            if not fnmatchcase(method, fault.method):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.chance < 1.0 and self.random.random() >= fault.chance:
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.planned.remove(fault)
            return fault
        return None
