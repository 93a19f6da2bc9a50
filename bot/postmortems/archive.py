"""Keeps a post-mortem in a Git repository, by the program `git`: one file, one commit, and none where nothing changed.

A fresh clone each time, of the newest commit alone, so that nothing is left behind and nobody else's work is touched.
Keys and passwords are Git's own affair: an ssh key, a credential helper. Hooks of the repository do not run here.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bot.catalog.archive import Archive
from bot.incidents.model import Incident
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.text import clip, one_line, slug
from bot.postmortems.model import Postmortem

SECONDS = 60.0
# What Git needs of the environment to find its keys and helpers; nothing of the bot's own.
PASSED = ("HOME", "PATH", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_SSL_CAINFO", "LANG")
_SAFE = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "commit.gpgSign=false")
# What Git says when it was somebody else's turn, or the network's; asked in English.
_PASSING = (
    "non-fast-forward",
    "fetch first",
    "cannot lock ref",
    "could not resolve",
    "timed out",
    "connection refused",
)


@dataclass(frozen=True)
class Kept:
    """Where a document is; *fresh* is false where it was there already, byte for byte."""

    path: str
    commit: str
    fresh: bool


async def keep(
    archive: Archive, incident: Incident, document: Postmortem, content: bytes, environment: Mapping[str, str]
) -> Kept:
    """Commit *content* and push it. UserError for a private incident, TemporaryError where another try may help."""
    if incident.private:
        raise UserError(f"{incident.reference} is private; its post-mortem is not put where others can read it.")
    place, message = named(archive.path, incident, document), named(archive.message, incident, document, free=True)
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="tocsin-archive-"))
    try:
        git = _Git(folder, archive, document, environment)
        await git.run("init", "--quiet", f"--initial-branch={archive.branch}")
        if await git.begun():
            await git.run("reset", "--quiet", "--hard", "FETCH_HEAD")
        await asyncio.to_thread(_write, folder, place, content)
        await git.run("add", "--force", "--", place)
        fresh = bool((await git.run("status", "--porcelain", "--", place)).strip())
        if fresh:
            await git.run("commit", "--quiet", "--no-verify", f"--message={message}", "--", place)
            await git.run(
                "push", "--quiet", "--no-verify", "--", archive.repository, f"HEAD:refs/heads/{archive.branch}"
            )
        return Kept(place, (await git.run("rev-parse", "HEAD")).strip(), fresh)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, True)


def named(template: str, incident: Incident, document: Postmortem, *, free: bool = False) -> str:
    """*template* filled in. In a path, what people wrote is letters, digits and dashes; if *free*, one line."""
    opened = incident.opened_at

    def text(value: str) -> str:
        return clip(one_line(value), 200) if free else slug(value, 80) or "none"

    return template.format(
        reference=incident.reference,
        number=incident.number,
        revision=document.revision,
        year=f"{opened:%Y}",
        month=f"{opened:%m}",
        day=f"{opened:%d}",
        severity=str(incident.severity),
        service=text(incident.service or ""),
        title=text(incident.title),
    )


def _write(folder: Path, place: str, content: bytes) -> None:
    target = folder / place
    # A link in the repository could lead anywhere on this machine.
    for part in [target, *target.parents]:
        if part == folder:
            break
        if part.is_symlink():
            raise PermanentError(f"{place}: a part of that path is a symbolic link in the repository")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError as error:
        raise PermanentError(f"{place} cannot be written in the repository: {error.strerror}") from None


class _Git:
    """Git in one folder."""

    def __init__(self, folder: Path, archive: Archive, document: Postmortem, environment: Mapping[str, str]) -> None:
        self.folder, self.archive = folder, archive
        name, _, mail = archive.author.rstrip(">").partition(" <")
        written = f"{int(document.created_at.timestamp())} +0000"
        people = {
            f"GIT_{who}_{what}": told
            for who in ("AUTHOR", "COMMITTER")
            for what, told in (("NAME", name), ("EMAIL", mail))
        }
        self.environment = {
            **{key: environment[key] for key in PASSED if key in environment},
            **people,
            "GIT_AUTHOR_DATE": written,
            "GIT_COMMITTER_DATE": written,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            "LC_ALL": "C",
        }

    async def begun(self) -> bool:
        """Get the newest commit of the branch; False if the branch does not exist yet."""
        branch = f"refs/heads/{self.archive.branch}"
        if not (await self.run("ls-remote", "--", self.archive.repository, branch)).strip():
            return False
        await self.run("fetch", "--quiet", "--depth=1", "--no-tags", "--", self.archive.repository, branch)
        return True

    async def run(self, *arguments: str) -> str:
        """What it prints."""
        try:
            process = await asyncio.create_subprocess_exec(
                *("git", *_SAFE, *arguments),
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise PermanentError(f"the program git cannot be started ({error.strerror}); is it installed?") from None
        try:
            async with asyncio.timeout(SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise TemporaryError(f"git {arguments[0]} took longer than {SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, 9)  # what it started holds the pipes
                await process.wait()
        if process.returncode:
            told = clip(one_line(err.decode(errors="replace")), 300) or f"exit {process.returncode}"
            known = any(word in told.lower() for word in _PASSING)
            raise (TemporaryError if known else PermanentError)(f"git {arguments[0]}: {told}")
        return out.decode(errors="replace")
