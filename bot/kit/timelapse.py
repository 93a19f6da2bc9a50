"""An event loop in which waiting takes no time: where nothing is left to do, its clock jumps to what comes next."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def play(story: Coroutine[Any, Any, T]) -> T:
    """Carry out *story* to its end; an hour of waiting in it is over at once."""
    with asyncio.Runner(loop_factory=Timelapse) as runner:
        return runner.run(story)


class Timelapse(asyncio.SelectorEventLoop):
    """Timers, pauses and timeouts come in their order, and none of them is waited for. Threads are."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.threads = 0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Seconds since the loop was made, by its own clock."""
        return self.seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Work in a thread takes the time it takes, during which the clock stands still."""
        future = super().run_in_executor(executor, func, *args)
        self.threads += 1
        future.add_done_callback(self._returned)
        return future

    def _returned(self, _: asyncio.Future[Any]) -> None:
        self.threads -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Its threads are waited for as well, however little time it is given."""
        self.threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self.threads -= 1


class _Jumping(selectors.DefaultSelector):
    """Where the loop would sleep until its next timer, the clock is put there instead."""

    def __init__(self, loop: Timelapse) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.loop.threads:
            return super().select(None)  # a thread that comes back wakes the loop
        ready = super().select(0)
        if not ready:
            self.loop.seconds += timeout
        return ready
