r"""A program on another machine: OpenSSH's client with a key of its own and hosts that are known beforehand.

There a shell exists, because sshd starts one; every word is quoted for it. What it gets to see is a script of ours
(`_SCRIPT`), which needs Linux with a POSIX shell, `awk`, `grep`, `cat` and `tr`. It takes variables from its input,
where no list of processes shows them; says where the program's errors begin and end, so that a lost connection is
told from a program that failed; and leaves a watch behind, which ends the program and all that it started within
about a second after the connection is gone, however that went.

Nothing is believed to be over because a client was killed here: after a timeout or a cancel a second connection looks
for what is left, ends it and says so. It finds what carries the mark in its environment, what belongs to the sessions
of that, and what it started. It cannot find what cleared its environment *and* left its session *and* lost its parent;
it cannot end what runs as somebody else (`sudo`), and reports that as still running.
"""

import asyncio
import hashlib
import re
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bot.catalog.targets import Host, Reach
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clip
from bot.runs import process
from bot.runs.process import HEAD, TAIL, Outcome
from bot.runs.redact import Redactor

CONNECT_SECONDS = 10.0
LOOK_SECONDS = 10.0  # for the second connection; an interpreter that waits for the step allows 15
LINGER_SECONDS = 1.0
LONGEST_COMMAND = 120_000  # Linux takes 128 KiB in one argument
PROGRAM = re.compile(r"/[A-Za-z0-9_./+-]+|[A-Za-z0-9_.][A-Za-z0-9_.+-]*")

# The functions see $mark and $own, the process whose children are not meant. `members` prints the processes of the
# tree, a colon, and the sessions that belong to it; what was found before ($pids, $sids) stays found. A session belongs
# to the tree if its leader does, or is gone: an sshd that makes none for its children must not be taken for ours.
# While anything cannot be ended the watch stays, so that a look later on finds by it what has lost its parents.
_SCRIPT = r"""
members() {
  marked=$(grep -ls "$key=$mark" /proc/[0-9]*/environ | tr -dc "0-9\n" | tr "\n" " ")
  cat /proc/[0-9]*/status 2>/dev/null | awk -v marked="$marked $pids" -v known="$sids" -v own="$own" '
    $1 == "State:" { dead = $2 ~ /[ZX]/ }
    $1 == "Pid:" { pid = $2 }
    $1 == "PPid:" && !dead { parent[pid] = $2 }
    $1 == "NSsid:" && !dead { session[pid] = $2 }
    END {
      mine[own] = 1
      do { more = 0
        for (p in parent) if (!(p in mine) && (parent[p] in mine)) { mine[p] = 1; more = 1 }
      } while (more)
      n = split(marked, list, " ")
      for (i = 1; i <= n; i++) if ((list[i] in parent) && !(list[i] in mine)) tree[list[i]] = 1
      n = split(known, list, " ")
      for (i = 1; i <= n; i++) sessions[list[i]] = 1
      do { more = 0
        for (p in tree) {
          s = session[p]
          if (!(s in sessions) && s > 1 && ((s in tree) || !(s in parent))) { sessions[s] = 1; more = 1 }
        }
        for (p in parent) if (!(p in tree) && !(p in mine) && ((parent[p] in tree) || (session[p] in sessions))) {
          tree[p] = 1; more = 1
        }
      } while (more)
      for (p in tree) printf "%s ", p
      printf ":"
      for (s in sessions) printf "%s ", s
    }'
}
finish() {
  round=0 pids= sids=
  while :; do
    found=$(members); pids=${found%%:*} sids=${found#*:}
    [ "$pids" ] || return 0
    [ $round -lt 11 ] || return 1
    if [ $round -eq 0 ]; then kill -TERM $pids; elif [ $round -gt 7 ]; then kill -KILL $pids; fi 2>/dev/null
    if [ $round -lt 5 ]; then sleep 0.1 2>/dev/null || sleep 1; else sleep 0.5 2>/dev/null || sleep 1; fi
    round=$((round + 1))
  done
}
mark=$3 key=RUNBOOK_RUN own=$$ pids= sids=
case $2 in
look)
  for tool in awk cat grep tr; do command -v $tool >/dev/null || exit 1; done
  [ -r /proc/self/status ] || exit 1
  finish
  printf "<%s:%s>\n" "$4" "$pids" ;;
watch)
  while grep -q "^State:.[^ZX]" "/proc/$4/status" 2>/dev/null; do sleep 1; done
  until finish; do sleep 60; done ;;
run)
  key=RUNBOOK_LEADER; found=$(members); key=RUNBOOK_RUN
  if [ "${found%%:*}" ]; then finish || exit 252; fi
  unset RUNBOOK_LEADER RUNBOOK_WATCH RUNBOOK_LINE
  if [ "$5" ]; then cd "$5" || exit 253; fi
  if [ -r "/proc/$PPID/status" ]; then
    sh -c 'eval "$1"' tocsin "$1" watch "$3" "$PPID" </dev/null >/dev/null 2>&1 &
    RUNBOOK_WATCH=$!
  fi
  export LANG=C.UTF-8 TZ=UTC PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
  # From here on a variable of the runbook may have any name but RUNBOOK_..., so nothing relies on another.
  while :; do
    IFS= read -r RUNBOOK_LINE || { [ -z "$RUNBOOK_WATCH" ] || kill "$RUNBOOK_WATCH"; exit 251; }
    [ "$RUNBOOK_LINE" ] || break
    RUNBOOK_LINE=$(printf "%b." "$RUNBOOK_LINE"); export "${RUNBOOK_LINE%.}"
  done
  printf "<%s>\n" "$4" >&2
  if [ "$6" ]; then (shift 6; exec env "$@"); else (shift 6; exec env "$@" </dev/null); fi
  set -- "$4" $?
  printf "<%s:%s>\n" "$1" "$2" >&2
  [ -z "$RUNBOOK_WATCH" ] || kill "$RUNBOOK_WATCH"
  exit "$2" ;;
esac
"""

# How OpenSSH says it, and what to do; the first that is found counts.
_REFUSED = (
    ("UNPROTECTED PRIVATE KEY|bad permissions", "its key {key} may be read by others; chmod 600 {key}"),
    (
        "Load key|invalid format|passphrase",
        "its key {key} cannot be used: ssh needs a private key without a passphrase",
    ),
    (
        "Host key verification failed|IDENTIFICATION HAS CHANGED|host key is known",
        "its host key is not the one in {known_hosts}; if it was changed on purpose, put the new one there",
    ),
    (r"Permission denied \(", "it refuses the key {key} for {user}; put its public half into authorized_keys there"),
)


@dataclass(frozen=True)
class Target:
    """A host of targets.yaml, and where its files are."""

    name: str
    host: Host
    key: Path
    known_hosts: Path

    @classmethod
    def of(cls, reach: Reach, name: str) -> "Target":
        """The host called *name*; PermanentError if there is none or its files are not where they should be."""
        host = reach.host(name)
        key, known_hosts = reach.path(host.key).absolute(), reach.path(host.known_hosts).absolute()
        for what, path in (("key", key), ("known_hosts", known_hosts)):
            if not path.is_file():
                raise PermanentError(f"targets.yaml: host {name!r}: there is no file {path} ({what})")
            if re.search(r'["\\$\n]', str(path)):
                raise PermanentError(f"targets.yaml: host {name!r}: ssh cannot read a path such as {path} ({what})")
        return cls(name, host, key, known_hosts)

    def command(self, words: Sequence[str], seconds: float) -> list[str]:
        """The command line of a client that carries out *words*, which waits *seconds* to connect."""
        line = shlex.join(words)
        if len(line.encode("utf-8", "replace")) > LONGEST_COMMAND:
            raise PermanentError("the arguments are too long for ssh; hand what is long over as stdin")
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": _quoted(self.known_hosts),
            "GlobalKnownHostsFile": "none",
            "UpdateHostKeys": "no",
            "IdentityFile": _quoted(self.key),
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ConnectTimeout": str(max(1, round(seconds))),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "ControlPath": "none",
            "LogLevel": "ERROR",
        }
        return [
            *("ssh", "-F", "none", "-T", "-e", "none"),
            *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
            *("-p", str(self.host.port), "-l", self.host.user, "--", self.host.address, line),
        ]


async def run(
    target: Target,
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
) -> Outcome:
    """Run *argv* on *target*, as `process.run` does here. Signals are told as a shell does: 128 and their number.

    TemporaryError where the host could not be reached, and where the connection was lost and nothing of the program
    is left. What the program leaves in the background when it ends by itself stays: on a host that may be a service.
    """
    if not PROGRAM.fullmatch(argv[0]):
        raise PermanentError(f"{argv[0]!r} is neither a program's name nor an absolute path")
    hidden = hashlib.sha256(mark.encode()).hexdigest()[:32]  # of one length, so that none is the beginning of another
    nonce = _nonce(redact)
    words = [
        *("exec", "env", f"RUNBOOK_RUN={hidden}", f"RUNBOOK_LEADER={hidden}", "sh", "-c", 'eval "$1"', "tocsin"),
        *(_SCRIPT, "run", hidden, nonce, cwd or "", "" if stdin is None else "1", *argv),
    ]
    stop = asyncio.Event()
    lines = _Lines(nonce, say, stop)
    following = asyncio.ensure_future(_follow(cancelled, stop))
    try:
        outcome = await process.run(
            target.command(words, min(CONNECT_SECONDS, seconds)),
            mark=mark,
            seconds=seconds,
            redact=redact,
            cancelled=stop,
            say=lines.take,
            stdin=_header(env or {}) + (stdin or b""),
            keep=keep,
        )
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    before, begun, errors = outcome.stderr.partition(f"<{nonce}>\n")
    if not begun:
        if outcome.cancelled:
            return outcome
        raise _refused(target, outcome, before, seconds)
    if end := re.search(rf"<{nonce}:([0-9]+)>", errors):
        return replace(
            outcome, exit_code=int(end[1]), timed_out=False, cancelled=False, stderr=errors[: end.start()], survivors=()
        )
    left = await _look(target, argv[0], hidden, f"{mark}/look", redact, say)
    if not (outcome.cancelled or outcome.timed_out) and not left:
        raise TemporaryError(
            f"the connection to {target.name} was lost while {argv[0]} ran; nothing of it still runs there"
        )
    return replace(outcome, exit_code=None, stderr=errors, survivors=left)


async def _look(
    target: Target, program: str, hidden: str, mark: str, redact: Redactor, say: Callable[[str], None]
) -> tuple[int, ...]:
    """End what is left of the program there, and give back what could not be ended."""
    nonce = _nonce(redact)
    outcome = await process.run(
        target.command(["exec", "sh", "-c", 'eval "$1"', "tocsin", _SCRIPT, "look", hidden, nonce], LOOK_SECONDS / 2),
        mark=mark,
        seconds=LOOK_SECONDS,
        redact=redact,
        cancelled=asyncio.Event(),
        say=_silent,
    )
    if told := re.search(rf"<{nonce}:([0-9 ]*)>", outcome.stdout):
        return tuple(map(int, told[1].split()))
    why = clip(_last(outcome.stderr), 200) or "no answer"
    word = f"{target.name} cannot be asked whether {program} still runs there ({why}); look at it before you try again"
    say(word)
    raise PermanentError(word)


def _refused(target: Target, outcome: Outcome, said: str, seconds: float) -> PermanentError | TemporaryError:
    """Why the program was not even started."""
    if outcome.timed_out:
        return TemporaryError(f"{target.name} gave no connection within {seconds:g} s")
    last = clip(_last(said), 300)
    if outcome.exit_code == 252:
        return PermanentError(f"an earlier attempt still runs on {target.name} and cannot be ended; look at it")
    if outcome.exit_code == 253:
        return PermanentError(f"{target.name}: the directory cannot be entered: {last}")
    if outcome.exit_code not in (251, 255):
        return PermanentError(
            f"{target.name} did not carry out what it was sent (exit code {outcome.exit_code}{': ' if last else ''}"
            f"{last}); it needs Linux with a POSIX shell, and a key without a forced command"
        )
    for pattern, meant in _REFUSED:
        if re.search(pattern, said):
            told = meant.format(key=target.key, known_hosts=target.known_hosts, user=target.host.user)
            return PermanentError(f"{target.name} cannot be used: {told}")
    return TemporaryError(f"{target.name} cannot be reached: {last or 'the connection was lost'}")


class _Lines:
    """Passes lines on, without our own; after the last of these the connection is not needed much longer, although
    what the program left in the background may hold it open.
    """

    def __init__(self, nonce: str, say: Callable[[str], None], stop: asyncio.Event) -> None:
        self._nonce = nonce
        self._say = say
        self._stop = stop

    def take(self, line: str) -> None:
        words, ours, _ = line.partition(f"<{self._nonce}")
        if words or not ours:
            self._say(words)
        if ours and f"<{self._nonce}:" in line:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._stop.set)


async def _follow(cancelled: asyncio.Event, stop: asyncio.Event) -> None:
    await cancelled.wait()
    stop.set()


def _header(env: Mapping[str, str]) -> bytes:
    """Variables as the script reads them: a line each, then an empty one."""
    lines = [f"{name}={value}".replace("\\", "\\\\").replace("\n", "\\n") for name, value in env.items()]
    if any("\0" in line for line in lines):
        raise PermanentError("a variable holds a NUL")
    return "".join(f"{line}\n" for line in [*lines, ""]).encode("utf-8", "replace")


def _nonce(redact: Redactor) -> str:
    """A word that the program cannot know, and that no redaction touches."""
    while True:
        nonce = secrets.token_hex(12)
        if redact.text(f"<{nonce}:0>") == f"<{nonce}:0>":
            return nonce


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


def _last(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _silent(line: str) -> None:
    """Shows nothing."""
