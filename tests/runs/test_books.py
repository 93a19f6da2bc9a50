"""The folder of the runbooks is looked at again and again; what went bad is used as it last was good."""

import os
import subprocess

import pytest

from bot.kit.shelf import Shelf
from bot.runs.books import Books, commit

NOTE = "version: 1\nid: {0}\nname: {1}\nowner: team\nsteps: [{{note: x}}]\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "one.yaml").write_text(NOTE.format("one", "First"))
    return tmp_path


def write(path, text: str) -> None:
    """A later write, also where the clock of the disk is coarse."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    os.utime(path, ns=(before + 10**9, before + 10**9))


@pytest.fixture
def books(folder):
    return Books.read(folder, Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load())


def test_nothing_changed_is_no_news(books):
    assert not books.reread()


def test_a_new_a_changed_and_a_removed_file_are_taken_up(books, folder):
    before = books.runbooks["one"].sha256
    write(folder / "one.yaml", NOTE.format("one", "Second"))
    write(folder / "two.yaml", NOTE.format("two", "Another"))

    assert books.reread()
    assert books.runbooks["one"].name == "Second"
    assert books.runbooks["one"].sha256 != before
    (folder / "two.yaml").unlink()
    assert books.reread()
    assert list(books.runbooks) == ["one"]


def test_a_file_that_went_bad_is_used_as_it_last_was_good_and_the_problem_is_told(books, folder):
    write(folder / "one.yaml", "version: 1\nid: one\n")

    assert books.reread()

    assert books.runbooks["one"].name == "First"
    assert str(books.problems[0]).startswith("one.yaml:1: ")
    write(folder / "one.yaml", NOTE.format("one", "Third"))
    assert books.reread()
    assert (books.runbooks["one"].name, list(books.problems)) == ("Third", [])


def test_a_runbook_that_is_switched_off_is_gone(books, folder):
    write(folder / "one.yaml", NOTE.format("one", "First") + "enabled: false\n")

    assert books.reread()
    assert books.runbooks == {}


@pytest.mark.parametrize("pack", [False, True])
def test_the_commit_is_that_of_the_repository_the_folder_is_in(folder, pack):
    assert commit(folder) is None
    below = folder / "deep" / "runbooks"
    below.mkdir(parents=True)

    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    assert commit(below) is None
    git("add", "one.yaml")
    git("commit", "-qm", "First")
    if pack:
        git("pack-refs", "--all")
    assert commit(below) == git("rev-parse", "HEAD")
    git("worktree", "add", "-q", str(folder / "other"), "-b", "other")
    assert commit(folder / "other") == git("rev-parse", "HEAD")
    git("checkout", "-q", "--detach")
    assert commit(below) == git("rev-parse", "HEAD")
