"""Fault points: before and after every external call and every commit of the process they are installed in.

No list of them exists. They sit where all calls pass: the trace of the one HTTP session, the acknowledgement of a
socket, the ports of the plugins, and SQLAlchemy's commit, so a call that is added tomorrow has its points tomorrow.
A point is named by the work under way and what is called; each is the death of one process, once.
"""

import functools
import os
import random
import re
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
import structlog
from sqlalchemy import event

WRITES = re.compile(r"\s*(?:insert\s+into|update|delete\s+from)\s+([\w.\"]+)", re.IGNORECASE)
# Read-only work of the engine passes thousands of times and changes nothing; what writes is never left out.
IDS = re.compile(r"/(respond|upload|files)/.*")


class Points:
    """Counts what is passed, and dies at the first point that nobody has died at yet."""

    def __init__(self, covered: Path, *, deep: int, die: bool, chance: float = 1.0) -> None:
        """*covered* is shared by all processes of a campaign; *deep*: how many passes of one point are points.

        With a *chance* below 1 a point is often survived: the short form of a campaign, spread over all of it.
        """
        self.covered, self.deep, self.die, self.chance = covered, deep, die, chance
        self.known = set(covered.read_text().split("\n")) if covered.exists() else set()
        self.passed: Counter[str] = Counter()
        self.lock = threading.Lock()

    def here(self, what: str) -> None:
        """The process is at a point."""
        work = str(structlog.contextvars.get_contextvars().get("workflow", "")).partition(":")[0] or "-"
        name = f"{work} {what}"
        with self.lock:
            self.passed[name] += 1
            point = f"{name} #{self.passed[name]}"
            if not self.die or self.passed[name] > self.deep or point in self.known:
                return
            if random.random() >= self.chance:
                return
            with self.covered.open("a") as file:
                file.write(point + "\n")
            os.kill(os.getpid(), signal.SIGKILL)

    # -- where all calls pass ---------------------------------------------------------------------------------------

    def trace(self) -> aiohttp.TraceConfig:
        """For the HTTP session: every request of the process."""

        async def start(_session: Any, context: Any, params: Any) -> None:
            context.what = IDS.sub(r"/\1", params.url.path)
            self.here(f"before {context.what}")

        async def end(_session: Any, context: Any, _params: Any) -> None:
            self.here(f"after {context.what}")

        config = aiohttp.TraceConfig()
        config.on_request_start.append(start)
        config.on_request_end.append(end)
        return config

    def commits(self) -> None:
        """Every commit that changes something, of every engine in the process."""

        @event.listens_for(sa.Engine, "before_cursor_execute")
        def note(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
            if found := WRITES.match(statement):
                connection.info.setdefault("written", set()).add(found[1].rpartition(".")[2].strip('"'))

        @event.listens_for(sa.Engine, "rollback")
        def forget(connection: sa.Connection) -> None:
            if not connection.invalidated:  # what has lost its server has no memory to clear
                connection.info.pop("written", None)

        plain = sa.Connection._commit_impl

        def commit(connection: sa.Connection) -> None:
            written = connection.info.pop("written", None)
            if not written:
                return plain(connection)
            what = "commit " + "+".join(sorted(written))
            self.here(f"before {what}")
            plain(connection)
            return self.here(f"after {what}")

        sa.Connection._commit_impl = commit  # type: ignore[method-assign]

    def acknowledgements(self) -> None:
        """What is sent down a socket."""
        plain = aiohttp.ClientWebSocketResponse.send_str

        async def send(socket: aiohttp.ClientWebSocketResponse, data: str, *more: Any, **named: Any) -> None:
            self.here("before acknowledgement")
            await plain(socket, data, *more, **named)
            self.here("after acknowledgement")

        aiohttp.ClientWebSocketResponse.send_str = send  # type: ignore[method-assign]

    def ports(self, shelf: Any, function: str) -> None:
        """Every plugin of a shelf, whatever it calls."""
        for name in shelf:
            module = shelf[name]
            self.port(module, function, f"{module.__name__}.{function}")

    def port(self, owner: Any, function: str, name: str) -> None:
        """One function of an object, called *name*."""
        setattr(owner, function, self._around(getattr(owner, function), name))

    def _around(self, plain: Any, what: str) -> Any:
        @functools.wraps(plain)
        async def around(*args: Any, **named: Any) -> Any:
            self.here(f"before {what}")
            result = await plain(*args, **named)
            self.here(f"after {what}")
            return result

        return around
