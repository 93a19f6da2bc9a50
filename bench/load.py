"""A client that asks again as soon as it is answered: prepared requests over kept-alive connections.

    python -m bench.load < order.json

It is a process of its own, so that what it costs is not in the figures of what it asks, and raw asyncio, so that it
is never the slowest part. One JSON object on stdout says how it went.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0  # seconds without any answer after which a run is given up


@dataclass
class Load:
    """How one run went; times in milliseconds."""

    connections: int
    seconds: float = 0.0
    cpu: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.times)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def bad(self) -> int:
        """Requests that were not answered with 2xx."""
        return sum(count for status, count in self.statuses.items() if not status.startswith("2"))

    def at(self, share: float) -> float:
        """The time within which that share of the requests was answered."""
        return percentile(self.times, share)

    def __add__(self, other: "Load") -> "Load":
        """Two runs of the same kind as one."""
        return Load(
            self.connections,
            self.seconds + other.seconds,
            self.cpu + other.cpu,
            dict(Counter(self.statuses) + Counter(other.statuses)),
            self.times + other.times,
        )


def percentile(times: Sequence[float], share: float) -> float:
    """The value below which that *share* of *times* lies; nan when there are none."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """One POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class _Line(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, sends the next."""

    def __init__(self, run: "_Run") -> None:
        self.run = run
        self.buffer = b""
        self.sent = 0.0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.next()

    def next(self) -> None:
        assert self.transport is not None
        found = self.run.take()
        if found is None:
            self.transport.close()
            return
        self.sent = time.perf_counter()
        self.transport.write(found)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        start = self.buffer[:head].lower()
        at = start.find(b"content-length:")
        size = int(start[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < head + 4 + size:
            return
        self.run.note(self.buffer[9:12].decode(), (time.perf_counter() - self.sent) * 1000)
        self.buffer, self.sent = self.buffer[head + 4 + size :], 0.0
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent:
            self.run.note("lost", None)
        self.run.ended(self)


class _Run:
    def __init__(self, requests: list[bytes], connections: int, seconds: float) -> None:
        self.waiting = iter(requests)
        self.load = Load(connections)
        self.limit = seconds
        self.until = self.heard = 0.0
        self.lines: set[_Line] = set()
        self.over = asyncio.Event()

    def take(self) -> bytes | None:
        return next(self.waiting, None) if time.perf_counter() < self.until else None

    def note(self, status: str, milliseconds: float | None) -> None:
        self.load.statuses[status] = self.load.statuses.get(status, 0) + 1
        self.heard = time.perf_counter()
        if milliseconds is not None:
            self.load.times.append(milliseconds)

    def ended(self, line: _Line) -> None:
        self.lines.discard(line)
        if not self.lines:
            self.over.set()

    async def connect(self, line: _Line, port: int) -> None:
        await asyncio.get_running_loop().create_connection(lambda: line, "127.0.0.1", port)

    async def go(self, port: int) -> Load:
        began, used = time.perf_counter(), time.process_time()
        self.until, self.heard = began + self.limit, began
        self.lines = {_Line(self) for _ in range(self.load.connections)}
        await asyncio.gather(*(self.connect(line, port) for line in list(self.lines)))
        while not self.over.is_set() and time.perf_counter() < self.heard + PATIENCE:
            try:
                await asyncio.wait_for(self.over.wait(), 1.0)
            except TimeoutError:
                continue
        self.load.seconds, self.load.cpu = self.heard - began, time.process_time() - used
        return self.load


async def fire(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send *requests* in a process of its own, for at most so many *seconds*; on 127.0.0.1 and nowhere else."""
    with tempfile.TemporaryDirectory() as folder:
        order = Path(folder, "order.json")
        told = {"port": port, "connections": connections, "seconds": seconds}
        order.write_text(json.dumps({**told, "requests": [one.decode("latin-1") for one in requests]}))
        with order.open("rb") as given:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bench.load",
                stdin=given,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parent.parent,
            )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), seconds + PATIENCE + 30)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode:
        raise RuntimeError(f"the load generator ended with {process.returncode}")
    return Load(**json.loads(out))


def main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    requests = [one.encode("latin-1") for one in order["requests"]]

    async def go() -> Load:
        return await _Run(requests, order["connections"], order["seconds"]).go(order["port"])

    print(json.dumps(asdict(asyncio.run(go()))))


if __name__ == "__main__":
    main()
