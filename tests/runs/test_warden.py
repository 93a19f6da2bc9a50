"""The warden by itself, as it is when the bot is gone."""

import os
import signal
import subprocess
import sys
import time

from bot.runs import warden
from tests.runs.test_process import ESCAPE, alive


def start(seconds: float, *argv: str, alone: float = 0) -> tuple[subprocess.Popen[bytes], int]:
    """A warden, and where it reports."""
    report, told = os.pipe()
    made = subprocess.Popen(
        [sys.executable, "-I", "-S", warden.__file__, str(told), str(seconds), str(alone), *argv],
        pass_fds=(told,),
        stdout=-3,
    )
    os.close(told)
    return made, report


def lines(report: int) -> list[str]:
    with os.fdopen(report) as file:
        return file.read().splitlines()


def test_it_tells_how_the_program_ended_and_that_nothing_is_left():
    made, report = start(9, "/bin/sh", "-c", "exit 3")

    assert lines(report) == ["code 3", "left"]
    assert made.wait() == 0


def test_a_signal_is_told_as_one():
    made, report = start(9, "/bin/sh", "-c", "kill -11 $$")

    assert lines(report) == ["code -11", "left"]
    assert made.wait() == 0


def test_what_cannot_be_started_is_told_with_its_reason():
    made, report = start(9, "/no/such/program")

    assert lines(report)[0] == "failed No such file or directory"
    assert made.wait() == 0


def test_the_time_limit_holds_without_the_bot():
    token = f"41{time.time_ns() % 10**9}"
    made, report = start(0.3, "/bin/sh", "-c", f"setsid sleep {token} & sleep {token}")
    os.close(report)  # nobody listens any more

    assert made.wait(5) == 0
    assert alive(token) == []


def test_it_ends_everything_when_it_is_asked_to():
    token = f"42{time.time_ns() % 10**9}"
    made, report = start(60, "/bin/sh", "-c", f"python3 -c '{ESCAPE}' {token}; sleep {token}")
    while len(alive(token)) < 4:
        time.sleep(0.02)  # itself, the shell and two that sleep

    made.send_signal(signal.SIGTERM)

    assert made.wait(5) == 0
    assert lines(report)[-1] == "left"
    assert alive(token) == []


def test_what_ignores_sigterm_is_killed():
    token = f"43{time.time_ns() % 10**9}"
    made, report = start(0.3, "/bin/sh", "-c", f"trap '' TERM; while true; do sleep 0.{token}; done")

    assert made.wait(6) == 0
    assert lines(report) == ["code -9", "left"]
    assert alive(token) == []


# Ends well only if what it started was left to end by itself.
ORDERLY = "trap 'wait $child; exit $?' TERM; sleep 1.1 & child=$!; wait $child; wait $child"


def test_a_program_that_is_asked_alone_ends_in_order_what_it_started():
    made, report = start(0.4, "/bin/sh", "-c", ORDERLY, alone=5)

    assert lines(report) == ["code 0", "left"]
    assert made.wait() == 0
    together, report = start(0.4, "/bin/sh", "-c", ORDERLY)
    assert lines(report) == ["code 143", "left"]
    assert together.wait() == 0


def test_a_program_that_does_not_end_when_it_is_asked_alone_is_ended_with_the_rest():
    token = f"43{time.time_ns() % 10**9}"
    began = time.monotonic()
    made, report = start(0.2, "/bin/sh", "-c", f"trap '' TERM; setsid sleep {token} & wait; sleep {token}", alone=0.6)

    assert made.wait(8) == 0
    assert lines(report) == ["code -9", "left"]
    assert alive(token) == []
    assert time.monotonic() - began > 2.6
