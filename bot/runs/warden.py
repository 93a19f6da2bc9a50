"""Stands over one program of a runbook: nothing that it starts outlives it, however it tries to get away.

A program of its own, started by `bot/runs/process.py` with an isolated interpreter; it knows nothing else of the bot.
Linux hands it every orphan below it (PR_SET_CHILD_SUBREAPER), so that neither `setsid` nor a double fork nor a
cleared environment leads out. Limits are set between fork and exec, which is safe here: there is one thread. When the
bot dies, the time limit still holds.

    warden.py REPORT SECONDS ALONE PROGRAM ARGUMENT...

REPORT is a descriptor. Lines are written there: `code N` as soon as the program has ended (negative for a signal) or
`failed WHY` if it could not be started, `crowd` if it is ended for having too many processes, and last `left PID...`:
what even SIGKILL did not end. SIGTERM asks for the end. For ALONE seconds only the program itself is asked then, so
that it can end in order what it has started; for most that is 0.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from typing import NoReturn

GRACE = 2.0
NICE = 10
CROWD = 512  # processes of one program; Linux can limit only those of a whole user, and the bot itself is one of them
GIB = 1024**3
LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_NOFILE, 1024),
    (resource.RLIMIT_FSIZE, 4 * GIB),
    # What a process can fill. RLIMIT_AS counts address space that is only set aside, of which Go and Java take a lot.
    (resource.RLIMIT_DATA, 4 * GIB),
)
_SUBREAPER = 36
_WAITED = frozenset({signal.SIGCHLD, signal.SIGTERM})


def main(report: int, seconds: float, alone: float, argv: list[str]) -> None:
    """Run *argv* to its end, for at most *seconds*, and end what it leaves behind."""
    os.set_inheritable(report, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        _become(report, seconds, argv)
    _watch(report, child, time.monotonic() + seconds, alone)


def _watch(report: int, child: int, deadline: float, alone: float) -> None:
    asked: float | None = None
    ends: float | None = None  # when more than the program itself is asked to end
    while True:
        got = signal.sigtimedwait(_WAITED, 0.2 if asked is None else 0.05)
        some, status = _reap(child)
        if status is not None:
            _tell(report, "code", os.waitstatus_to_exitcode(status))
        if not some:
            return _tell(report, "left")
        now = time.monotonic()
        if asked is None:
            if _crowded():
                _tell(report, "crowd")
                asked = now - GRACE  # a crowd is not asked: it grows while one waits
            elif status is not None or (ends is not None and now >= ends):
                asked = now
                _send(tree(), signal.SIGTERM)
            elif ends is None and (now > deadline or (got is not None and got.si_signo == signal.SIGTERM)):
                ends = now + alone
                _send([child] if alone else tree(), signal.SIGTERM)
                asked = None if alone else now
            continue
        if now - asked > 2 * GRACE + 1 and (left := tree()):
            return _tell(report, "left", *left)
        if now - asked >= GRACE:
            _send(tree(), signal.SIGSTOP)  # whoever stands still starts nobody
            _send(tree(), signal.SIGKILL)


def _reap(child: int) -> tuple[bool, int | None]:
    """Whether anybody is left below, and the status of *child* if it has ended now."""
    ended = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True, ended
            if pid == child:
                ended = status
    except ChildProcessError:
        return False, ended


def _crowded() -> bool:
    """Whether there are more processes than anybody needs; counted from the top, which costs little where few are."""
    seen = 0
    todo = [os.getpid()]
    while todo and seen <= CROWD:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                below = [int(word) for word in file.read().split()]
        except OSError:
            continue  # over meanwhile, or a kernel without that file
        seen += len(below)
        todo += below
    return seen > CROWD


def tree() -> list[int]:
    """The living processes below this one."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The program's name stands in parentheses and may hold anything, blanks and parentheses as well.
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            continue  # gone meanwhile, or not ours to end: then it is reported as left


def _become(report: int, seconds: float, argv: list[str]) -> NoReturn:
    """Turn this process into the program."""
    try:
        os.setsid()
        for what, amount in (*LIMITS, (resource.RLIMIT_CPU, int(seconds) + 5)):
            hard = resource.getrlimit(what)[1]
            allowed = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
            resource.setrlimit(what, (allowed, allowed))
        os.nice(NICE)
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")  # when memory runs out, this goes and the bot stays
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, and the program would inherit that
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        with open("/proc/self/environ", "rb") as file:  # as it was given: Python may have added to its own
            pairs = (entry.partition(b"=") for entry in file.read().split(b"\0") if entry)
            environment = {name: value for name, _, value in pairs}
        os.execve(argv[0], argv, environment)  # noqa: S606 - a program and its arguments, no shell
    except OSError as error:
        _tell(report, "failed", error.strerror or type(error).__name__)
    os._exit(127)


def _tell(report: int, *words: object) -> None:
    try:
        os.write(report, " ".join(map(str, words)).encode() + b"\n")
    except OSError:
        return  # the bot is gone


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
