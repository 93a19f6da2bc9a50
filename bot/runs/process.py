"""A program started for a runbook: no shell, no way to fill the memory, and nothing of it left when it is over.

Each runs under a warden of its own (`bot/runs/warden.py`), which sets its limits and ends all that it starts. What
the bot does here is to read, to watch the time, and to end what even a warden left, or left behind by dying.
"""

import asyncio
import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from bot.kit.errors import PermanentError
from bot.runs import warden
from bot.runs.redact import Redactor
from bot.runs.warden import GRACE

log = structlog.get_logger()

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEAD = 16 * 1024
TAIL = 48 * 1024
LIVE = 1024 * 1024  # what is shown line by line while it comes; of a flood only the end is kept
MARK = "RUNBOOK_RUN"
_DUMPABLE = 4
WARDEN_SECONDS = 5.0  # how much later than the bot the warden watches the time


@dataclass(frozen=True)
class Outcome:
    """How a program ended. Its output is redacted; *survivors* are processes that even SIGKILL did not end; *crowded*
    means that it was ended for having too many processes.
    """

    exit_code: int | None
    timed_out: bool
    cancelled: bool
    stdout: str
    stderr: str
    dropped: int
    seconds: float
    survivors: tuple[int, ...] = ()
    crowded: bool = False


def find(program: str) -> str:
    """The file that *program* is: an absolute path, or a name on the fixed search path."""
    if "\0" in program or ("/" in program and not program.startswith("/")):
        raise PermanentError(f"{program!r} is neither a program's name nor an absolute path")
    found = shutil.which(program, path=PATH)
    if found is None:
        where = "does not exist or is not executable" if "/" in program else f"is not installed (looked in {PATH})"
        raise PermanentError(f"the program {program!r} {where}")
    return found


def conceal() -> None:
    """Keep the bot's memory, and the environment it was started with, from programs of the same user."""
    ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)


async def run(
    argv: Sequence[str],
    *,
    mark: str,
    seconds: float,
    redact: Redactor,
    cancelled: asyncio.Event,
    say: Callable[[str], None],
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    keep: int = HEAD + TAIL,
    alone: float = 0.0,
) -> Outcome:
    """Run *argv* to its end, for at most *seconds* or until *cancelled* is set; nothing of it runs on after that.

    *mark* names the step of the run. What still runs under the same mark from before, say from before a crash of
    the bot, is ended first. *keep* is how many bytes of each output are kept; of more, the first quarter and the
    last three. Where it is ended, the program itself is asked first, for *alone* seconds, and then all that it started.
    """
    if any("\0" in part for part in (*argv, *(env or {}), *(env or {}).values())):
        raise PermanentError("an argument or a variable holds a NUL")
    if not await asyncio.to_thread(os.path.exists, "/proc/self/stat"):
        raise PermanentError("programs can be run on Linux only: nothing else lets us end all that they started")
    program = find(argv[0])
    if left := await stop(mark):
        raise PermanentError(f"an earlier attempt still runs and cannot be ended (process {_list(left)})")
    home = await asyncio.to_thread(tempfile.mkdtemp, prefix="runbook-")
    if cwd is not None and not await asyncio.to_thread(os.path.isdir, cwd):
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        raise PermanentError(f"the directory {cwd!r} does not exist")
    started = time.monotonic()
    out, err = _Output(redact, say, keep), _Output(redact, say, keep)
    loop = asyncio.get_running_loop()
    opened: list[int] = []  # what the program gets; ours until it has started
    closing: list[int] = []
    try:
        # Pipes of our own: those of asyncio make wait() hang on a grandchild that keeps one open.
        out_fd = await _pipe(loop, out, opened)
        err_fd = await _pipe(loop, err, opened)
        source = asyncio.subprocess.DEVNULL if stdin is None else await asyncio.to_thread(_file, stdin, opened)
        report, told = os.pipe()
        closing.append(report)
        opened.append(told)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-X", "utf8", warden.__file__),
                *(str(told), str(seconds + WARDEN_SECONDS), str(alone), program, *argv[1:]),
                stdin=source,
                stdout=out_fd,
                stderr=err_fd,
                cwd=cwd or home,
                env=_environment(home, env or {}, mark),
                start_new_session=True,
                pass_fds=(told,),
            )
        except OSError as error:
            raise PermanentError(f"the program {argv[0]!r} could not be started: {error.strerror}") from None
        except UnicodeEncodeError:
            raise PermanentError("an argument or a variable holds what is no text") from None
        for fd in opened:
            os.close(fd)
        opened.clear()
        timed_out = stopped = False
        try:
            if not await _over(report, cancelled, seconds - (time.monotonic() - started)):
                stopped, timed_out = cancelled.is_set(), not cancelled.is_set()
        finally:
            end = await _ended(process, report, mark, alone)
        if end.failed is not None:
            raise PermanentError(f"the program {argv[0]!r} could not be started: {end.failed}")
        for _ in range(100):
            if out.ended.is_set() and err.ended.is_set():
                break
            await asyncio.sleep(0.01)
    finally:
        for fd in (*opened, *closing):
            os.close(fd)
        out.close()
        err.close()
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
    return Outcome(
        exit_code=None if timed_out or stopped else end.code,
        timed_out=timed_out,
        cancelled=stopped,
        stdout=out.text(),
        stderr=err.text(),
        dropped=out.dropped + err.dropped,
        seconds=time.monotonic() - started,
        survivors=end.left,
        crowded=end.crowded,
    )


async def _over(report: int, cancelled: asyncio.Event, seconds: float) -> bool:
    """Wait for *seconds* at most, or until *cancelled* is set; whether the program was over before that."""
    loop = asyncio.get_running_loop()
    reported = asyncio.Event()
    loop.add_reader(report, reported.set)  # also when the warden dies
    waiting = {asyncio.ensure_future(reported.wait()), asyncio.ensure_future(cancelled.wait())}
    try:
        await asyncio.wait(waiting, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        return reported.is_set()
    finally:
        loop.remove_reader(report)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@dataclass(frozen=True)
class _End:
    """What a warden reports. *left* is what nothing could end."""

    code: int | None = None
    failed: str | None = None
    crowded: bool = False
    left: tuple[int, ...] = ()


async def _ended(process: asyncio.subprocess.Process, report: int, mark: str, alone: float) -> _End:
    """See that nothing is left; then what the warden reports, or, where it was killed, what we know without it."""
    # Signals by hand: Popen's would take the exit status away from asyncio.
    try:
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
        async with asyncio.timeout(alone + 2 * GRACE + 3):
            await process.wait()
    except TimeoutError:
        _signal(process.pid, signal.SIGKILL)
    os.set_blocking(report, False)
    try:
        text = os.read(report, 65536).decode()
    except BlockingIOError:
        text = ""
    told = {word: rest for word, _, rest in (line.partition(" ") for line in text.splitlines())}
    return _End(
        code=int(told["code"]) if "code" in told else process.returncode,
        failed=told.get("failed"),
        crowded="crowd" in told,
        left=tuple(map(int, told["left"].split())) if "left" in told else await stop(mark, process.pid),
    )


async def stop(mark: str, leader: int | None = None) -> tuple[int, ...]:
    """End everything that runs under *mark*: SIGTERM, two seconds, SIGKILL. Returns what is still there after that.

    For what lost its warden, say in a crash of the bot. Found by the mark in its environment, by the session and by
    the parents, so that `setsid` and a double fork do not get away. What does all of that and also clears its
    environment does.
    """
    known: dict[int, int] = {}
    began = time.monotonic()
    asked = False
    while members := await asyncio.to_thread(_members, mark, leader, known):
        known |= members
        late = time.monotonic() - began
        if late > 2 * GRACE + 1:
            log.warning("process.survived", mark=mark, pids=sorted(members))
            return tuple(sorted(members))
        if late > GRACE or not asked:
            for pid in members:
                _signal(pid, signal.SIGKILL if late > GRACE else signal.SIGTERM)
        asked = True
        await asyncio.sleep(0.02 if late < 0.2 else 0.1)
    return ()


def _members(mark: str, leader: int | None, known: Mapping[int, int]) -> dict[int, int]:
    """The living processes of the tree that *mark* and *leader* stand for, and when each was started.

    *known* were members before: one whose parent is gone since then is found by its number, which may be
    another process's by now, and its start, which then differs.
    """
    entry = f"{MARK}={mark}".encode()
    living = {pid: stat for pid in _pids() if pid != os.getpid() and (stat := _stat(pid)) is not None}
    found = {
        pid
        for pid, stat in living.items()
        if (leader is not None and stat.session == leader) or known.get(pid) == stat.started or entry in _environ(pid)
    }
    while more := {pid for pid, stat in living.items() if stat.parent in found or stat.session in found} - found:
        found |= more
    return {pid: living[pid].started for pid in found}


class _Stat(NamedTuple):
    parent: int
    session: int
    started: int


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def _stat(pid: int) -> _Stat | None:
    """What the kernel knows of a process; None if it is over."""
    try:
        # The program's name stands in parentheses and may hold anything, blanks and parentheses as well.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else _Stat(int(fields[1]), int(fields[3]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return  # gone meanwhile, or not ours to end: then it is reported as a survivor


def _environment(home: str, extra: Mapping[str, str], mark: str) -> dict[str, str]:
    base = {"PATH": PATH, "LANG": "C.UTF-8", "TZ": "UTC", "HOME": home, "TMPDIR": home}
    return {**base, **extra, MARK: mark}


def _list(pids: Sequence[int]) -> str:
    return ", ".join(map(str, pids))


def _file(content: bytes, opened: list[int]) -> int:
    """A file that exists in memory alone: a program that does not read its input cannot block us, as a pipe could."""
    fd = os.memfd_create("stdin")
    opened.append(fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


async def _pipe(loop: asyncio.AbstractEventLoop, output: "_Output", opened: list[int]) -> int:
    read, write = os.pipe()
    opened.append(write)
    await loop.connect_read_pipe(lambda: output, os.fdopen(read, "rb", buffering=0))
    return write


@dataclass
class _Kept:
    """The beginning and the end of a stream, each with a margin: no secret may be cut before it is seen."""

    head_size: int
    tail_size: int
    margin: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, data: bytes) -> None:
        self.total += len(data)
        room = self.head_size + self.margin - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        most = self.tail_size + self.margin
        if len(self.tail) > 2 * most:
            del self.tail[:-most]


class _Output(asyncio.Protocol):
    """Takes what a program prints: shows it line by line, keeps a bounded part of it."""

    def __init__(self, redact: Redactor, say: Callable[[str], None], keep: int) -> None:
        self.ended = asyncio.Event()
        self._redact = redact
        self._say = say
        self._stream = redact.stream()
        self._decoder = getincrementaldecoder("utf-8")("replace")
        # Four bytes a letter at most.
        self._kept = _Kept(keep // 4, keep - keep // 4, 4 * redact.margin)
        self._shown = 0
        self._line = ""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._kept.add(data)
        if self._shown > LIVE:
            return
        self._shown += len(data)
        self._lines(self._stream.feed(self._decoder.decode(data)))
        if self._shown > LIVE:
            self._lines(self._stream.close())
            self._flush()
            self._say("… more output than can be followed; its end is kept")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.is_set() and self._shown <= LIVE:
            self._lines(self._stream.feed(self._decoder.decode(b"", final=True)) + self._stream.close())
            self._flush()
        self.ended.set()

    def close(self) -> None:
        """Stop listening, whoever still holds the other end."""
        self.connection_lost(None)
        if self._transport is not None:
            self._transport.close()

    @property
    def dropped(self) -> int:
        """How many bytes are not in the text."""
        kept = self._kept
        return max(0, kept.total - kept.head_size - kept.tail_size)

    def text(self) -> str:
        """What was kept, redacted."""
        kept = self._kept
        if not self.dropped:
            return self._redact.text(_decoded(bytes(kept.head + kept.tail)))
        margin = self._redact.margin
        whole = bytes(kept.head + kept.tail) if kept.total <= len(kept.head) + len(kept.tail) else None
        head = self._redact.split(_decoded((whole or bytes(kept.head))[: kept.head_size + 4 * margin]), -margin)[0]
        tail = self._redact.split(_decoded((whole or bytes(kept.tail))[-kept.tail_size - 4 * margin :]), margin)[1]
        return f"{head[: kept.head_size]}\n… {self.dropped} bytes left out …\n{tail[-kept.tail_size :]}"

    def _lines(self, text: str) -> None:
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            self._say(line)

    def _flush(self) -> None:
        if self._line:
            self._say(self._line)
            self._line = ""


def _decoded(data: bytes) -> str:
    """*data* as text, without what the cut left of a letter at either end."""
    return re.sub(r"\A\ufffd{1,3}|\ufffd{1,3}\Z", "", data.decode("utf-8", "replace"))
