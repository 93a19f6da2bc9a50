"""A folder for each run, which its steps hand files on in, such as a saved plan. It is gone when the run has ended."""

import os
import re
import shutil
import tempfile
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
