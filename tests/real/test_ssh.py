"""exec on another host, through OpenSSH's client and a real sshd: what arrives there, and what is left of it."""

import asyncio
import base64
import hashlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.catalog import targets
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs import ssh
from bot.runs.redact import MASK, Redactor
from bot.runs.step import Cancelled, StepContext, StepResult, prepare
from bot.steps import exec as step
from tests.real.sshd import Sshd, sshd
from tests.runs.test_process import alive

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd")) as made:
        yield made


class Stage:
    """Runs exec on web-1 as the interpreter would."""

    def __init__(self, server: Sshd) -> None:
        self.server = server
        self.said: list[str] = []
        self.cancelled = asyncio.Event()

    async def run(
        self, *argv: str, seconds: float = 20, key: str = "step", context: Any = None, **raw: Any
    ) -> StepResult:
        secrets = {"T": "hunter22\nof two lines"}
        made = StepContext(
            **{
                "run_id": f"run-{id(self)}",
                "step_key": key,
                "timeout": seconds,
                "say": self.said.append,
                "cancelled": self.cancelled,
                "reach": targets.load(self.server.folder, {}),
                "secrets": secrets,
                "redact": Redactor(secrets.values()),
                **(context or {}),
            }
        )
        return await step.run(made, prepare(step, {"host": "web-1", "argv": list(argv), **raw}, made))

    def start(self, *argv: str, **raw: Any) -> "asyncio.Task[StepResult]":
        return spawn(self.run(*argv, **raw), name="test")

    async def heard(self, line: str) -> None:
        while line not in self.said:
            await asyncio.sleep(0.02)


@pytest.fixture
def stage(server: Sshd) -> Stage:
    return Stage(server)


@pytest.fixture
def token() -> Iterator[str]:
    """A number of seconds that nobody else sleeps; whoever still does in the end is woken for good."""
    made = f"51{time.time_ns() % 10**9}"
    yield made
    for pid in alive(made):
        os.kill(int(pid), signal.SIGKILL)


async def gone(token: str, within: float) -> bool:
    for _ in range(round(within / 0.1)):
        if not alive(token):
            return True
        await asyncio.sleep(0.1)
    return False


# -- what arrives there ----------------------------------------------------------------------------------------------


async def test_output_errors_and_exit_code_come_back(stage):
    result = await stage.run("sh", "-c", "echo out; printf last >&2; exit 3")

    assert (result.values["stdout"], result.values["stderr"], result.values["exit_code"]) == ("out\n", "last", 3)
    assert not result.ok
    assert result.summary == "sh on web-1 ended with exit code 3: last"
    assert sorted(stage.said) == ["last", "out"]


async def test_an_exit_code_of_the_program_is_never_taken_for_one_of_ssh(stage):
    codes = [0, 1, 251, 252, 253, 255]

    results = await asyncio.gather(*(stage.run("sh", "-c", f"exit {code}", key=f"k{code}") for code in codes))

    assert [result.values["exit_code"] for result in results] == codes


async def test_a_signal_is_told_as_a_shell_does(stage):
    assert (await stage.run("sh", "-c", "kill -9 $$")).values["exit_code"] == 137


async def test_arguments_stay_whole_whatever_is_in_them(stage):
    words = [
        *("a b", "$(id)", "`id`", "; touch /tmp/x", "'q' \"q\"", "*", "~", "", "-v", "--", "--help", "a\nb", "é𝄞"),
        *("\\n", "\\\\", "!x", "%s", "a=b", "<x>", "&", "|", "#", "{{ 7*7 }}"[2:5]),
    ]

    result = await stage.run("printf", "[%s]", *words)

    assert result.values["stdout"] == "".join(f"[{word}]" for word in words)


async def test_a_word_of_the_shell_is_no_program(stage):
    words = ["eval", "exit", "exec", "members", "finish", ".", "export"]

    results = await asyncio.gather(*(stage.run(word, "echo intruded; :", key=word) for word in words))

    assert {result.values["exit_code"] for result in results} <= {126, 127}
    assert "intruded" not in repr([result.values["stdout"] for result in results])


@pytest.mark.parametrize("program", ["-c", "A=b", "a b", "./x", "x;y", "$(x)", "a\nb", "", "../x"])
async def test_what_is_no_name_of_a_program_is_refused(stage, program):
    with pytest.raises(PermanentError, match="neither a program's name nor an absolute path"):
        await stage.run(program)


async def test_variables_arrive_as_they_are_and_no_list_of_processes_shows_them(stage, token):
    values = {
        "TOKEN": "{{ secrets.T }}",
        "A": "a\\b\\n\n\n'\"$(id) %s %b é \t end ",
        "EMPTY": "",
        **dict.fromkeys(("mark", "line", "key", "own", "pids", "nonce", "found"), "x"),
        "IFS": "x1",
        "LANG": "C",
        "PATH": "/usr/bin:/bin",
        "PS1": "x",
    }
    names = list(values)
    script = (
        f"import os, time; [print(repr(os.environ[n])) for n in {names}]; print(os.environ.get('SSH_AUTH_SOCK'), "
        f"flush=True); time.sleep(2); {token}"
    )
    task = stage.start("python3", "-c", script, env=values)
    await stage.heard("None")

    shown = b"".join(file.read_bytes() for file in map(Path, _command_lines()) if file.exists())

    assert b"hunter22" not in shown
    assert base64.b64encode(b"hunter22") not in shown
    result = await task
    told = result.values["stdout"].splitlines()
    assert told[1:-1] == [repr(values[name]) for name in names[1:]]
    assert told[0] == f"'{MASK}'"


def _command_lines() -> list[str]:
    return [f"/proc/{name}/cmdline" for name in os.listdir("/proc") if name.isdigit()]


async def test_input_arrives_and_nobody_hangs_who_does_not_read_it(stage):
    assert (await stage.run("cat", stdin="a\n\nb\\n é")).values["stdout"] == "a\n\nb\\n é"
    assert (await stage.run("cat", stdin="")).values["stdout"] == ""
    assert (await stage.run("cat")).values["stdout"] == ""
    assert (await stage.run("true", stdin="x" * 500_000)).values["exit_code"] == 0
    assert (await stage.run("wc", "-c", stdin="x" * 500_000)).values["stdout"] == "500000\n"


async def test_it_runs_where_it_should(stage, tmp_path):
    (tmp_path / "a b $(id)").mkdir()

    assert (await stage.run("pwd", cwd=str(tmp_path / "a b $(id)"))).values["stdout"] == f"{tmp_path}/a b $(id)\n"
    with pytest.raises(PermanentError, match=r"web-1: the directory cannot be entered: .*/no/such"):
        await stage.run("pwd", cwd="/no/such")
    with pytest.raises(PermanentError, match="absolute"):
        await stage.run("pwd", cwd="tmp")


async def test_a_program_that_is_not_there_is_told(stage):
    result = await stage.run("no-such-program")

    assert result.values["exit_code"] == 127
    assert "No such file or directory" in result.summary


async def test_output_is_read_and_redacted_as_here(stage):
    result = await stage.run("sh", "-c", "cat; echo '{\"a\": 1}'", stdin="", parse="json")
    secret = await stage.run("sh", "-c", "cat; cat >&2", stdin="{{ secrets.T }}")

    assert result.values["json"] == {"a": 1}
    assert secret.values["stdout"] == MASK
    assert "hunter22" not in repr(secret) + repr(stage.said)


async def test_a_flood_is_counted_and_not_kept(stage):
    result = await stage.run("sh", "-c", "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo last; echo err >&2")

    assert result.values["exit_code"] == 0
    assert len(result.values["stdout"]) < 70_000
    assert result.values["stdout"].endswith("last\n")
    assert result.values["stderr"] == "err\n"
    assert result.truncated > 49_900_000


async def test_a_flood_of_errors_does_not_hide_the_end(stage):
    result = await stage.run("sh", "-c", "yes no | head -c 3000000 >&2; exit 4")

    assert result.values["exit_code"] == 4
    assert result.values["stderr"].startswith("no\nno\n")


# -- what is left of it ----------------------------------------------------------------------------------------------

ESCAPES = [
    "sleep {t} & wait",
    "sleep {t} & sleep {t}",
    "trap '' TERM; while true; do sleep 0.{t}; done",
    "setsid sleep {t} & wait",
    "(setsid sh -c 'sleep {t} & wait' &) ; sleep {t}",
    "env -i sleep {t} & wait",
    "env -i setsid sleep {t} & wait",
    "exec 0<&- 1>&- 2>&-; sleep {t}",
]


@pytest.mark.parametrize("script", ESCAPES)
async def test_a_timeout_ends_the_whole_tree_there(stage, token, script):
    began = time.monotonic()

    result = await stage.run("sh", "-c", script.replace("{t}", token), seconds=1.5)

    assert result.values["timed_out"] is True
    assert "stopped after 1.5 s; nothing of it still runs" in result.summary
    assert alive(token) == []
    assert time.monotonic() - began < 1.5 + 10


async def test_a_timeout_keeps_what_was_printed(stage):
    result = await stage.run("sh", "-c", "echo begun; echo so >&2; sleep 30", seconds=1.5)

    assert (result.values["stdout"], result.values["stderr"]) == ("begun\n", "so\n")


async def test_endless_output_is_ended_by_the_timeout(stage, token):
    result = await stage.run("sh", "-c", f"sleep {token} & yes", seconds=1.5)

    assert result.values["timed_out"] is True
    assert alive(token) == []


async def test_cancelling_ends_the_whole_tree_there(stage, token):
    task = stage.start("sh", "-c", f"setsid sleep {token} & echo ready; sleep {token}")
    await stage.heard("ready")

    stage.cancelled.set()

    with pytest.raises(Cancelled, match="sh on web-1 was stopped"):
        await task
    assert alive(token) == []


@pytest.mark.parametrize(
    "script", ["setsid sleep {t} & echo ready; sleep {t}", "trap '' TERM HUP; echo ready; sleep {t}"]
)
async def test_the_tree_ends_there_by_itself_when_the_bot_is_gone(stage, token, script):
    task = stage.start("sh", "-c", script.replace("{t}", token))
    await stage.heard("ready")

    task.cancel()  # no second connection: that is what the watch there is for
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await gone(token, 8)


async def test_a_lost_connection_is_told_and_nothing_is_left(stage, server, token):
    task = stage.start("sh", "-c", f"setsid sleep {token} & echo ready; sleep {token}")
    await stage.heard("ready")

    server.cut()

    with pytest.raises(TemporaryError, match="connection to web-1 was lost while sh ran; nothing of it still runs"):
        await task
    assert alive(token) == []


async def test_a_host_that_cannot_be_asked_afterwards_is_not_taken_for_clean(stage, server, token):
    task = stage.start("sh", "-c", f"echo ready; sleep {token}", seconds=3)
    await stage.heard("ready")
    server.stop()
    try:
        with pytest.raises(PermanentError, match=r"web-1 cannot be asked whether sh still runs there \(.*refused"):
            await task
    finally:
        server.start()
    assert await gone(token, 8)  # the watch there saw to it all the same
    assert any("look at it before you try again" in line for line in stage.said)


def watches(pid: str, hidden: bytes) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[5:7] == [b"watch", hidden]


async def test_a_new_attempt_first_ends_what_an_earlier_one_left(stage, token):
    target = ssh.Target.of(targets.load(stage.server.folder, {}), "web-1")
    said: list[str] = []
    # A mark of its own: whoever else plays this test on this machine would end, and stop, what is not theirs.
    mark = f"run-{token}/step"
    hidden = hashlib.sha256(mark.encode()).hexdigest()[:32].encode()
    earlier = spawn(
        ssh.run(
            target, ["sh", "-c", f"echo ready; trap '' TERM; sleep {token}"],
            mark=mark, seconds=30, redact=Redactor(), cancelled=asyncio.Event(), say=said.append,
        ),
        name="earlier",
    )  # fmt: skip
    while "ready" not in said:
        await asyncio.sleep(0.02)
    (watch,) = [pid for pid in alive(hidden.decode()) if watches(pid, hidden)]
    os.kill(int(watch), signal.SIGSTOP)  # so it does not get to it
    earlier.cancel()
    await asyncio.gather(earlier, return_exceptions=True)
    assert alive(token)

    outcome = await ssh.run(
        target, ["echo", "hi"], mark=mark, seconds=30, redact=Redactor(), cancelled=asyncio.Event(),
        say=said.append,
    )  # fmt: skip

    assert outcome.stdout == "hi\n"
    assert alive(token) == []


async def test_what_a_program_leaves_there_when_it_ends_stays_and_holds_nobody_up(stage, token):
    began = time.monotonic()

    result = await stage.run("sh", "-c", f"sleep {token} & echo started")
    again = await stage.run("true")
    await asyncio.sleep(3)

    assert result.values["stdout"] == "started\n"
    assert (result.values["exit_code"], again.values["exit_code"]) == (0, 0)
    assert time.monotonic() - began < 12
    assert len(alive(token)) == 1


# -- who is let in ---------------------------------------------------------------------------------------------------


def other_targets(server: Sshd, folder: Path, **changed: Any) -> targets.Reach:
    host = {
        "address": "127.0.0.1",
        "port": server.port,
        "user": server.user,
        "key": server.folder / "client_key",
        "known_hosts": server.folder / "known_hosts",
        **changed,
    }
    lines = "".join(f"    {name}: {value}\n" for name, value in host.items())
    (folder / "targets.yaml").write_text(f"version: 1\nhosts:\n  web-1:\n{lines}")
    return targets.load(folder, {})


async def test_a_host_whose_key_is_not_known_is_refused(stage, server, tmp_path):
    (tmp_path / "known_hosts").write_text("")

    with pytest.raises(PermanentError, match=f"host key is not the one in {tmp_path}/known_hosts"):
        await stage.run("true", context={"reach": other_targets(server, tmp_path, known_hosts="known_hosts")})
    assert (tmp_path / "known_hosts").read_text() == ""


async def test_a_host_whose_key_has_changed_is_refused(stage, server, tmp_path):
    public = (server.folder / "other_key.pub").read_text().split()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {public[0]} {public[1]}\n")

    with pytest.raises(PermanentError, match="host key is not the one"):
        await stage.run("true", context={"reach": other_targets(server, tmp_path, known_hosts="known_hosts")})


async def test_a_key_that_is_not_let_in_is_named_and_no_other_is_tried(stage, server, tmp_path):
    reach = other_targets(server, tmp_path, key=server.folder / "other_key")

    with pytest.raises(PermanentError, match=rf"it refuses the key .*other_key for {server.user}; put its public half"):
        await stage.run("true", context={"reach": reach})


async def test_a_key_that_others_may_read_is_refused(stage, server, tmp_path):
    (tmp_path / "open_key").write_bytes((server.folder / "client_key").read_bytes())
    (tmp_path / "open_key").chmod(0o644)

    with pytest.raises(PermanentError, match="open_key may be read by others; chmod 600"):
        await stage.run("true", context={"reach": other_targets(server, tmp_path, key="open_key")})


async def test_a_file_that_is_no_key_is_told(stage, server, tmp_path):
    (tmp_path / "no_key").write_text("nonsense")
    (tmp_path / "no_key").chmod(0o600)

    with pytest.raises(PermanentError, match="no_key cannot be used"):
        await stage.run("true", context={"reach": other_targets(server, tmp_path, key="no_key")})


async def test_paths_with_blanks_and_percent_signs_are_found(stage, server, tmp_path):
    folder = tmp_path / "a b %h ~"
    folder.mkdir()
    for name in ("client_key", "known_hosts"):
        (folder / name).write_bytes((server.folder / name).read_bytes())
        (folder / name).chmod(0o600)

    reach = other_targets(server, folder, key="client_key", known_hosts="known_hosts")

    assert (await stage.run("true", context={"reach": reach})).ok


async def test_a_key_that_may_do_one_thing_only_is_told(stage, server):
    allowed = server.folder / "authorized_keys"
    before = allowed.read_text()
    allowed.write_text(f'command="echo no; exit 7" {before}')
    try:
        with pytest.raises(PermanentError, match=r"did not carry out what it was sent \(exit code 7\).*forced command"):
            await stage.run("true")
    finally:
        allowed.write_text(before)


async def test_nobody_listening_can_be_tried_again(stage, server, tmp_path):
    with pytest.raises(TemporaryError, match=r"web-1 cannot be reached: .*Connection refused"):
        await stage.run("true", context={"reach": other_targets(server, tmp_path, port=9)})


async def test_a_host_that_takes_the_connection_and_says_nothing_can_be_tried_again(stage, server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reach = other_targets(server, tmp_path, port=silent.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(TemporaryError, match=r"web-1 (cannot be reached|gave no connection)"):
            await stage.run("true", seconds=2, context={"reach": reach})
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("name", ["web-2", "-oProxyCommand=touch x", "127.0.0.1", "web-1\n", "user@web-1", "WEB-1"])
async def test_only_a_name_of_targets_yaml_is_a_host(stage, name):
    with pytest.raises(PermanentError, match=r"targets.yaml has no host"):
        await stage.run("true", host="{{ params.host }}", context={"values": {"params": {"host": name}}})


async def test_a_host_may_come_from_a_parameter(stage):
    result = await stage.run("true", host="{{ params.host }}", context={"values": {"params": {"host": "web-1"}}})

    assert result.ok
