"""What stands for a file or a folder as it is now, so that a yes holds for exactly that."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from bot.kit.errors import PermanentError

# Folders of Terraform's providers hold hundreds of megabytes.
FILES, SIZE = 5000, 1024**3
CHUNK = 1024**2
# What programs leave there while they are at work, and nobody wrote: it would end every yes.
PASSING = {".git", ".terraform", "__pycache__"}
PASSING_ENDS = (".tfstate", ".tfstate.backup", ".lock.info")


def imprint(home: Path, name: str, *, files: int = FILES, size: int = SIZE) -> str | None:
    """Stands for *name* below *home*: a file, or a folder with all that is in it and in the folders around it, since a
    module or a base may lie beside. None if it is not there. PermanentError where there is too much, or no reading it.
    """
    home = home.resolve()
    try:
        place = (home / name).resolve()
        if place == home or not place.is_relative_to(home):
            return None
        if place.is_file():
            return _sum([(place.name, place)], files, size)
        top = home / place.relative_to(home).parts[0]
        return _sum(_below(top), files, size) if place.is_dir() else None
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or "not a name"
        raise PermanentError(f"nobody can say yes to {name}: it cannot be read ({told})") from None


def _below(top: Path) -> Iterator[tuple[str, Path]]:
    """Everything in *top*, in order. Links are named and not followed: they may lead anywhere."""
    for folder, folders, files in os.walk(top, onerror=_raise):
        folders[:] = sorted(set(folders) - PASSING)
        links = [one for one in folders if (Path(folder) / one).is_symlink()]
        for one in sorted([*links, *files]):
            if not one.endswith(PASSING_ENDS):
                place = Path(folder) / one
                yield str(place.relative_to(top)), place


def _raise(error: OSError) -> None:
    raise error


def _sum(places: Iterable[tuple[str, Path]], files: int, size: int) -> str:
    whole, left = hashlib.sha256(), size
    for count, (name, place) in enumerate(places, 1):
        kind, content, length = _one(place, left)
        left -= length
        if count > files or left < 0:
            raise PermanentError(
                f"nobody can say yes to {place.parent.name} and what is around it: more than {files} files or "
                f"{size // 1024**2} MB; put what the step needs into a folder of its own"
            )
        # Lengths first, so that no name can pass for another one's content.
        whole.update(f"{len(os.fsencode(name))}:".encode() + os.fsencode(name) + f"{kind}:{content}\n".encode())
    return whole.hexdigest()


def _one(place: Path, left: int) -> tuple[str, str, int]:
    """What *place* is, what stands for its content, and how large it is."""
    about = place.lstat()
    if stat.S_ISLNK(about.st_mode):
        return "link", hashlib.sha256(os.fsencode(place.readlink())).hexdigest(), 0
    if not stat.S_ISREG(about.st_mode):
        return "other", "", 0
    content, length = hashlib.sha256(), 0
    # Whoever puts something else in its place meanwhile makes this neither wait nor follow.
    with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        while length <= left and (chunk := file.read(CHUNK)):
            content.update(chunk)
            length += len(chunk)
    return f"file{about.st_mode & 0o111:o}", content.hexdigest(), length
