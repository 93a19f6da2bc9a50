"""Post-mortems in a Git repository: one commit for each change, and nothing else is touched."""

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from bot.catalog.archive import Archive
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.postmortems.archive import keep, named
from tests.postmortems.papers import rich, stored
from tests.postmortems.story import checkout

INCIDENT = checkout().incident


@dataclass
class Repository:
    """A bare repository, and what may be asked of it."""

    path: Path
    home: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True, text=True).stdout.strip()

    async def keep(self, content: bytes = b"# A\n", incident=INCIDENT, revision: int = 1, **settings):
        archive = Archive(repository=str(self.path), **settings)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "TOCSIN_SLACK_BOT_TOKEN": "xoxb-1",
        }
        return await keep(archive, incident, stored(rich(), revision=revision), content, environment)

    def add(self, script: str) -> None:
        """Commit what a shell script makes in a clone."""
        clone = self.home / "clone"
        steps = f"git clone -q {self.path} {clone} && cd {clone} && git checkout -q -B main && {script}"
        finish = "git add -A && git -c user.name=a -c user.email=a@example.com commit -qm x && git push -q origin main"
        subprocess.run(f"{steps} && {finish}", shell=True, check=True, capture_output=True)  # noqa: S602


@pytest.fixture
def repository(tmp_path):
    path = tmp_path / "archive.git"
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", str(path)], check=True)
    return Repository(path, tmp_path)


async def test_the_first_document_makes_the_branch(repository):
    kept = await repository.keep()

    assert (kept.path, kept.fresh) == ("2026/INC-42.md", True)
    assert repository.git("show", "main:2026/INC-42.md") == "# A"
    assert repository.git("log", "--format=%H %an <%ae> %aI %s", "main") == (
        f"{kept.commit} Tocsin <tocsin@localhost> 2026-03-02T15:30:01+00:00 INC-42: post-mortem, revision 1"
    )


async def test_what_is_there_already_is_not_committed_again(repository):
    first = await repository.keep()
    second = await repository.keep()

    assert second.commit == first.commit
    assert not second.fresh
    assert repository.git("rev-list", "--count", "main") == "1"


async def test_a_change_is_one_commit_more_and_other_files_stay(repository):
    repository.add("echo mine > README.md")
    await repository.keep()
    await repository.keep(b"# B\n", revision=2)

    assert repository.git("ls-tree", "-r", "--name-only", "main").splitlines() == ["2026/INC-42.md", "README.md"]
    assert repository.git("log", "--format=%s", "main").splitlines() == [
        "INC-42: post-mortem, revision 2",
        "INC-42: post-mortem, revision 1",
        "x",
    ]


async def test_two_at_once_lose_nothing(repository):
    await repository.keep()

    async def patiently(content: bytes, **settings):
        while True:
            try:
                return await repository.keep(content, **settings)
            except TemporaryError:
                continue

    await asyncio.gather(patiently(b"b", path="b.md"), patiently(b"c", path="c.md"))

    assert repository.git("ls-tree", "-r", "--name-only", "main").splitlines() == ["2026/INC-42.md", "b.md", "c.md"]


async def test_a_private_incident_is_refused(repository):
    with pytest.raises(UserError, match="INC-42 is private"):
        await repository.keep(incident=checkout().incident.model_copy(update={"private": True}))


async def test_a_link_in_the_repository_leads_nowhere(repository, tmp_path):
    (tmp_path / "outside").mkdir()
    repository.add(f"ln -s {tmp_path / 'outside'} 2026")

    with pytest.raises(PermanentError, match="symbolic link"):
        await repository.keep()
    assert list((tmp_path / "outside").iterdir()) == []


async def test_hooks_that_the_machine_has_do_not_run(repository, tmp_path):
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (hooks / "pre-commit").chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[core]\n\thooksPath = {hooks}\n")

    await repository.keep()

    assert not (tmp_path / "ran").exists()


async def test_a_repository_that_is_not_there_is_said_in_gits_words(repository):
    archive = Archive(repository=str(repository.path / "nowhere"))

    with pytest.raises(PermanentError, match=r"git ls-remote: .*does not appear to be a git repository"):
        await keep(archive, INCIDENT, stored(rich()), b"", {"PATH": "/usr/local/bin:/usr/bin:/bin"})


def test_what_people_wrote_cannot_lead_out_of_the_repository():
    incident = INCIDENT.model_copy(update={"title": "../../etc/passwd", "service": ".git/config"})

    assert named("{service}/{title}.md", incident, stored(rich())) == "git-config/etc-passwd.md"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"repository": "--upload-pack=x"}, "write a folder"),
        ({"repository": "ext::sh -c x"}, "write a folder"),
        ({"repository": "http://git.example.com/x.git"}, "only https, ssh and file"),
        ({"repository": "https://me:secret@git.example.com/x.git"}, "no password in here"),
        ({"path": "../{reference}.md"}, "a path inside the repository"),
        ({"path": "/etc/{reference}"}, "a path inside the repository"),
        ({"path": ".git/hooks/post-commit"}, "a path inside the repository"),
        ({"path": "{reference.__class__}"}, "is not known"),
        ({"path": "{nothing}.md"}, "is not known"),
        ({"message": "{reference"}, "not a template"),
        ({"branch": "-x"}, "it is no branch"),
        ({"branch": "a..b"}, "it is no branch"),
        ({"author": "nobody"}, "author"),
    ],
    ids=range(13),
)
def test_what_cannot_be_meant_is_refused_when_it_is_read(settings, why):
    with pytest.raises(ValidationError, match=why):
        Archive(**{"repository": "/srv/archive.git", **settings})
