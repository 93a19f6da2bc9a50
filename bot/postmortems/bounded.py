"""Work on what users wrote, in a process of its own: it has no secrets, so much memory, and so much time."""

import resource
import subprocess
import sys
from typing import NoReturn

from bot.kit.errors import UserError
from bot.kit.text import clip

# Our own templates take a few hundredths of a second for an ordinary incident.
SECONDS, MEMORY = 10, 1024**3
# A machine that has other things to do takes longer than the time that counts.
PATIENCE = 6
_REFUSED = 3


def run(module: str, given: str, *, what: str, seconds: int = SECONDS) -> str:
    """What *module*, run as a program, makes of *given*; UserError, about *what*, if it refuses or does not end."""
    told = f"{what} does not end within {seconds} second{'' if seconds == 1 else 's'}. Does it loop?"
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-I", "-m", module],
            input=given.encode(),
            capture_output=True,
            timeout=seconds * PATIENCE,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(told) from None
    except OSError as error:
        raise UserError(f"{what} cannot be filled in: {sys.executable} does not start ({error.strerror})") from None
    if done.returncode == _REFUSED:
        raise UserError(clip(done.stderr.decode(errors="replace").strip(), 1000))
    if done.returncode < 0:
        raise UserError(told)
    if done.returncode:
        raise UserError(f"{what} does not work (it takes more memory than it may, or ended with {done.returncode}).")
    return done.stdout.decode()


def begin(seconds: int) -> None:
    """From here on this process is bounded."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def refuse(why: str) -> NoReturn:
    """End, with a reason for people."""
    sys.stderr.write(why)
    raise SystemExit(_REFUSED)
