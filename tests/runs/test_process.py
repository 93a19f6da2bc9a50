"""Real programs, badly behaved ones among them: nothing of them may be left and nothing may fill the memory."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from bot.kit.errors import PermanentError
from bot.kit.ids import new_id
from bot.kit.tasks import spawn
from bot.runs import process
from bot.runs.redact import MASK, Redactor


async def run(*argv: str, mark: str | None = None, seconds: float = 20, cancelled=None, said=None, secrets=(), **more):
    return await process.run(
        argv,
        mark=mark or f"test-{new_id()}",
        seconds=seconds,
        redact=Redactor(secrets),
        cancelled=cancelled or asyncio.Event(),
        say=(said if said is not None else []).append,
        **more,
    )


def alive(token: str) -> list[str]:
    """The living processes that have *token* in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if token.encode() in (entry / "cmdline").read_bytes():
                    found.append(entry.name)
            except OSError:
                continue
    return found


async def test_output_and_exit_code_come_back():
    said: list[str] = []

    outcome = await run("sh", "-c", "echo one; echo two >&2; printf three; exit 3", said=said)

    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (3, "one\nthree", "two\n")
    assert (outcome.timed_out, outcome.cancelled, outcome.dropped, outcome.survivors) == (False, False, 0, ())
    assert sorted(said) == ["one", "three", "two"]


async def test_arguments_stay_whole_and_no_shell_sees_them():
    outcome = await run("printf", "%s|", "a b", "$(id)", "; ls", "`id`", "*")

    assert outcome.stdout == "a b|$(id)|; ls|`id`|*|"


async def test_a_program_that_does_not_exist_is_named():
    for name in ("no-such-program", "/no/such/program", "./relative"):
        with pytest.raises(PermanentError, match=name):
            await run(name)


async def test_the_environment_holds_only_what_was_given():
    outcome = await run("env", env={"TOKEN": "abc"}, mark="mark/1")

    entries = dict(line.split("=", 1) for line in outcome.stdout.splitlines())
    assert set(entries) <= {"PATH", "LANG", "TZ", "HOME", "TMPDIR", "TOKEN", "RUNBOOK_RUN", "PWD"}
    assert entries["RUNBOOK_RUN"] == "mark/1"


async def test_it_runs_in_an_empty_directory_of_its_own_that_goes_away():
    outcome = await run("sh", "-c", "pwd; ls -A | wc -l; touch left")

    home, count = outcome.stdout.split()
    assert count == "0"
    assert not Path(home).exists()


async def test_a_directory_that_does_not_exist_is_named():
    with pytest.raises(PermanentError, match="/no/such"):
        await run("pwd", cwd="/no/such")


async def test_input_is_given_and_nobody_hangs_who_does_not_read_it():
    assert (await run("cat", stdin=b"hello")).stdout == "hello"
    assert (await run("true", stdin=b"x" * 5_000_000)).exit_code == 0
    assert (await run("cat")).stdout == ""


async def test_limits_are_set():
    outcome = await run("sh", "-c", "sleep 0.2; ulimit -c; ulimit -n")

    cores, files = outcome.stdout.split()
    assert cores == "0"
    assert int(files) <= 1024


@pytest.mark.parametrize(
    "script",
    [
        "sleep {t} & wait",
        "sleep {t} & sleep {t}",
        "trap '' TERM; while true; do sleep 0.{t}; done",
        "setsid sleep {t} & wait",
        "(setsid sh -c 'sleep {t} & wait' &) ; sleep {t}",
        "env -i setsid sleep {t} & wait",
    ],
)
async def test_a_timeout_ends_the_whole_tree(script):
    token = f"31{time.time_ns() % 10**9}"

    outcome = await run("sh", "-c", script.replace("{t}", token), seconds=0.3)

    assert outcome.timed_out
    assert outcome.exit_code is None
    assert outcome.survivors == ()
    assert outcome.seconds < 4.5
    assert alive(token) == []


@pytest.mark.parametrize(
    "script", ["sleep {t} & exit 0", "setsid sleep {t} & exit 0", "nohup sleep {t} >/dev/null 2>&1 & exit 0"]
)
async def test_what_is_left_in_the_background_ends_with_the_program(script):
    token = f"32{time.time_ns() % 10**9}"

    outcome = await run("sh", "-c", script.replace("{t}", token))

    assert outcome.exit_code == 0
    assert outcome.seconds < 3
    assert alive(token) == []


async def test_cancelling_ends_the_whole_tree():
    token, cancelled = f"33{time.time_ns() % 10**9}", asyncio.Event()
    task = spawn(run("sh", "-c", f"sleep {token} & setsid sleep {token} & wait", cancelled=cancelled), name="test")
    while len(alive(token)) < 3:
        await asyncio.sleep(0.02)

    cancelled.set()
    outcome = await task

    assert outcome.cancelled
    assert alive(token) == []


async def test_the_tree_ends_also_when_the_task_is_cancelled_from_outside():
    token = f"34{time.time_ns() % 10**9}"
    task = spawn(run("sh", "-c", f"sleep {token} & wait"), name="test")
    while not alive(token):
        await asyncio.sleep(0.02)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert alive(token) == []


async def test_a_new_attempt_first_ends_what_an_earlier_one_left():
    mark, token = f"test-{new_id()}", f"35{time.time_ns() % 10**9}"
    left = await asyncio.create_subprocess_exec("sleep", token, env={"RUNBOOK_RUN": mark}, start_new_session=True)

    outcome = await run("true", mark=mark)

    assert outcome.exit_code == 0
    assert alive(token) == []
    assert await left.wait() < 0


async def test_a_flood_is_counted_and_not_kept():
    said: list[str] = []

    outcome = await run("sh", "-c", "echo first; head -c 300000000 /dev/zero | tr '\\0' x; echo; echo last", said=said)

    assert outcome.exit_code == 0
    assert len(outcome.stdout) < 70_000
    assert outcome.stdout.startswith("first\n")
    assert outcome.stdout.endswith("x\nlast\n")
    assert outcome.dropped > 299_900_000
    assert sum(map(len, said)) < 2_000_000


@pytest.mark.parametrize("size", [10_000, 60_000, 66_000, 80_000, 200_000])
async def test_secrets_are_masked_wherever_the_output_is_cut(size):
    said: list[str] = []
    secret = "hunter22hunter22"
    script = f"import sys\nfor i in range({size} // 17): print('{secret[:8]}' + '{secret[8:]}')"

    outcome = await run(sys.executable, "-c", script, said=said, secrets=[secret])

    assert "hunter" not in outcome.stdout + "".join(said)
    assert MASK in outcome.stdout
    assert said[0] == MASK


async def test_lines_are_shown_while_the_program_runs():
    said: list[str] = []
    cancelled = asyncio.Event()
    task = spawn(run("sh", "-c", "echo ready; sleep 20", said=said, cancelled=cancelled), name="test")
    while not said:
        await asyncio.sleep(0.01)

    cancelled.set()
    await task

    assert said == ["ready"]


async def test_bytes_that_are_not_text_do_no_harm():
    outcome = await run("printf", "\\377\\376a\\000b\\303")

    assert "a" in outcome.stdout
    assert "\0" not in outcome.stdout
