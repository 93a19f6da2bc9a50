"""The client's command line, and the script that hosts are sent, in every shell here that is `sh` somewhere.

The rest is tried with a real sshd in tests/real.
"""

import asyncio
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.catalog.targets import Host, Reach, Targets
from bot.kit.errors import PermanentError
from bot.runs import ssh
from bot.runs.redact import Redactor
from tests.runs.test_process import alive

REPORT = 'printf \'%s|%s\\n\' "$A" "$B"; pwd; cat; echo err >&2; exit 3'
ESCAPE = "setsid env -i sleep {t} & trap '' TERM; sleep {t}"
ORPHAN = "env -i sleep {t} & sleep {t}"
PARENT = "import subprocess, sys; subprocess.run(sys.argv[1:])"
# Debian's sh, that of others, and what else is here.
SHELLS = [["sh"], ["bash", "--posix"]]
SHELLS += [shell.split() for shell in ("mksh", "busybox sh") if shutil.which(shell.split()[0])]


def reach(folder: Path, **changed: object) -> Reach:
    for name in ("key", "known_hosts"):
        (folder / name).touch()
    host = {"address": "web-1.example.com", "user": "tocsin", "key": "key", "known_hosts": "known_hosts", **changed}
    return Reach(Targets(hosts={"web-1": Host.model_validate(host)}), folder)


def test_the_client_uses_what_targets_yaml_says_and_nothing_else(tmp_path):
    target = ssh.Target.of(reach(tmp_path, port=2222), "web-1")

    command = target.command(["echo", "a b"], 7)

    assert command[:6] == ["ssh", "-F", "none", "-T", "-e", "none"]
    assert command[-7:] == ["-p", "2222", "-l", "tocsin", "--", "web-1.example.com", "echo 'a b'"]
    options = {value for flag, value in itertools.pairwise(command) if flag == "-o"}
    assert options >= {
        *("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ForwardAgent=no", "ConnectTimeout=7"),
        *("ClearAllForwardings=yes", "GlobalKnownHostsFile=none", "PermitLocalCommand=no", "IdentityAgent=none"),
        *(f'UserKnownHostsFile="{tmp_path}/known_hosts"', f'IdentityFile="{tmp_path}/key"'),
    }


@pytest.mark.parametrize("gone", ["key", "known_hosts"])
def test_a_file_that_is_missing_is_named(tmp_path, gone):
    made = reach(tmp_path)
    (tmp_path / gone).unlink()

    with pytest.raises(PermanentError, match=rf"host 'web-1': there is no file .*/{gone} \({gone}\)"):
        ssh.Target.of(made, "web-1")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a${HOME}b", "a\nb"])
def test_a_path_that_ssh_would_read_otherwise_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()

    with pytest.raises(PermanentError, match="ssh cannot read a path such as"):
        ssh.Target.of(reach(tmp_path / name), "web-1")


def test_what_is_too_long_for_one_argument_is_refused(tmp_path):
    with pytest.raises(PermanentError, match="hand what is long over as stdin"):
        ssh.Target.of(reach(tmp_path), "web-1").command(["echo", "x" * 130_000], 7)


async def test_a_variable_with_a_nul_is_refused(tmp_path):
    with pytest.raises(PermanentError, match="NUL"):
        await ssh.run(
            ssh.Target.of(reach(tmp_path), "web-1"), ["true"], mark="x", seconds=1, redact=Redactor(),
            cancelled=asyncio.Event(), say=lambda line: None, env={"A": "b\0"},
        )  # fmt: skip


# -- the script ------------------------------------------------------------------------------------------------------


def script(shell: list[str], mark: str, *words: str) -> list[str]:
    return [
        "env",
        f"RUNBOOK_RUN={mark}",
        f"RUNBOOK_LEADER={mark}",
        *shell,
        "-c",
        'eval "$1"',
        "tocsin",
        ssh._SCRIPT,
        *words,
    ]


def asleep(mark: str) -> int:
    """How many processes sleep *mark* seconds."""
    return sum(name in ("sleep", "/bin/sleep") for name in map(program, alive(mark)))


def wait_for(what: Callable[[], bool]) -> None:
    for _ in range(200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come")


def program(pid: str) -> str:
    return words(pid)[0]


def words(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return [""]


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return request.param


@pytest.fixture
def mark() -> str:
    return f"61{time.time_ns() % 10**9}"


def test_every_shell_runs_the_program_and_marks_its_errors(shell, mark):
    done = subprocess.run(
        script(shell, mark, "run", mark, "nonce", "/tmp", "1", "sh", "-c", REPORT),
        input="A=a\\nb\\\\c 'x' %s $(id)\nB=\n\nrest of it", capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout == "a\nb\\c 'x' %s $(id)|\n/tmp\nrest of it"
    assert re.search(r"<nonce>\nerr\n<nonce:3>", done.stderr)
    assert done.returncode == 3


@pytest.mark.slow
def test_every_shell_ends_the_tree_when_it_is_looked_for(shell, mark):
    tree = subprocess.Popen(
        script(shell, mark, "run", mark, "nonce", "", "", "sh", "-c", ESCAPE.replace("{t}", mark)),
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    tree.stdin.write(b"\n")
    tree.stdin.close()
    wait_for(lambda: asleep(mark) == 2)

    look = subprocess.run(
        [*shell, "-c", 'eval "$1"', "tocsin", ssh._SCRIPT, "look", mark, "other"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    tree.wait()
    tree.stderr.close()
    assert look.stdout == "<other:>\n"
    assert alive(mark) == []


def test_every_shell_leaves_a_watch_that_ends_the_tree_when_the_connection_is_gone(shell, mark):
    # Stands for sshd: dies and leaves its child behind.
    connection = subprocess.Popen(
        [sys.executable, "-c", PARENT, *script(shell, mark, "run", mark, "nonce", "", "", "sleep", mark)],
        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    connection.stdin.write(b"\n")
    connection.stdin.close()
    wait_for(lambda: asleep(mark) == 1)

    os.kill(connection.pid, signal.SIGKILL)
    connection.wait()

    wait_for(lambda: not alive(mark))


@pytest.mark.slow
def test_what_lost_its_parents_and_its_mark_is_found_by_the_session_of_the_watch(shell, mark):
    tree = subprocess.Popen(
        script(shell, mark, "run", mark, "nonce", "", "", "sh", "-c", ORPHAN.replace("{t}", mark)),
        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    tree.stdin.write(b"\n")
    tree.stdin.close()
    wait_for(lambda: asleep(mark) == 2)
    (watch,) = [pid for pid in alive("watch") if {mark, "watch"} <= set(words(pid))]
    os.kill(int(watch), signal.SIGSTOP)  # so it does not get to it
    for pid in alive(mark):
        if program(pid) != "sleep" and pid != watch:
            os.kill(int(pid), signal.SIGKILL)
    tree.wait()
    assert asleep(mark) == 2

    look = subprocess.run(
        [*shell, "-c", 'eval "$1"', "tocsin", ssh._SCRIPT, "look", mark, "other"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert look.stdout == "<other:>\n"
    assert alive(mark) == []


def test_a_cut_off_beginning_starts_nothing(shell, mark, tmp_path):
    done = subprocess.run(
        script(shell, mark, "run", mark, "nonce", "", "", "touch", str(tmp_path / "made")),
        input="A=b\nB=", capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 251
    assert not (tmp_path / "made").exists()
