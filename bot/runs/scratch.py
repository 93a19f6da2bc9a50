"""A folder for each run, which its steps hand files on in, such as a saved plan. It is gone when the run has ended."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.kit.errors import TemporaryError


def default() -> Path:
    """Where runs have their folders if nobody says where: apart from those of other users of the machine."""
    return Path(tempfile.gettempdir()) / f"tocsin-runs-{os.getuid()}"


def make(home: Path | None, run_id: str) -> Path | None:
    """The run's folder, for nobody else to read; the same one after a restart on this machine. None without *home*."""
    if home is None:
        return None
    folder = home / re.sub(r"[^A-Za-z0-9_-]", "_", run_id)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise TemporaryError(f"the folder {home} for runs cannot be used ({error.strerror})") from None
    if folder.is_symlink() or about.st_uid != os.getuid():
        raise TemporaryError(f"{folder} belongs to somebody else; remove it, or set TOCSIN_SCRATCH to another folder")
    return folder


def clear(folder: Path | None) -> None:
    """Remove the run's folder with all that is in it."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def corner(folder: Path | None) -> Iterator[Path]:
    """A place below *folder* for files that one step hands to a program, for nobody else to read; gone afterwards."""
    found = Path(tempfile.mkdtemp(prefix="step-", dir=folder))
    try:
        yield found
    finally:
        shutil.rmtree(found, ignore_errors=True)


def put(file: Path, text: str) -> Path:
    """*file*, made with *text* in it; only the bot's own user can read it."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    return file
