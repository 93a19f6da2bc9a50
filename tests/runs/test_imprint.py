"""What a yes is bound to: every byte of the files and folders that a step would use, and nothing beyond them."""

import os
from pathlib import Path

import pytest

from bot.kit.errors import PermanentError
from bot.runs.imprint import imprint


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "runbooks"
    for name in ("k8s/base/deploy.yaml", "k8s/overlays/prod/kustomization.yaml", "scripts/fix.py", "other/x"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    return home


CHANGES = {
    "content": lambda home: (home / "k8s/overlays/prod/kustomization.yaml").write_text("patched"),
    "a base beside it": lambda home: (home / "k8s/base/deploy.yaml").write_text("patched"),
    "one more file": lambda home: (home / "k8s/base/more.yaml").write_text("x"),
    "one file less": lambda home: (home / "k8s/base/deploy.yaml").unlink(),
    "another name": lambda home: (home / "k8s/base/deploy.yaml").rename(home / "k8s/base/deploy2.yaml"),
    "may be executed": lambda home: (home / "k8s/base/deploy.yaml").chmod(0o755),
    "a hidden file": lambda home: (home / "k8s/.config").write_text("x"),
    "a link": lambda home: (home / "k8s/link").symlink_to("/etc"),
    "a link in its place": lambda home: swap(home / "k8s/base/deploy.yaml", home.parent / "elsewhere"),
}


def swap(file: Path, elsewhere: Path) -> None:
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


@pytest.mark.parametrize("change", list(CHANGES))
def test_whatever_changes_in_a_folder_or_around_it_makes_it_another_one(home, change):
    before = imprint(home, "k8s/overlays/prod")
    assert before == imprint(home, "k8s/overlays/prod/")

    CHANGES[change](home)

    assert imprint(home, "k8s/overlays/prod") != before


def test_what_lies_in_other_folders_or_passes_changes_nothing(home):
    before = imprint(home, "k8s/overlays/prod")

    (home / "other/x").write_text("changed")
    (home / "k8s/.terraform/modules").mkdir(parents=True)
    (home / "k8s/.terraform/modules/x").write_text("x")
    (home / "k8s/.terraform.tfstate.lock.info").write_text("x")
    (home / "k8s/terraform.tfstate").write_text("x")

    assert imprint(home, "k8s/overlays/prod") == before


def test_where_a_link_leads_is_bound_and_what_is_there_is_not_read(home, tmp_path):
    target = tmp_path / "large"
    target.mkdir()
    (home / "k8s/link").symlink_to(target)
    before = imprint(home, "k8s")
    (target / "file").write_text("x" * 100)
    (home / "k8s/loop").symlink_to(".")

    assert imprint(home, "k8s", size=100) != before
    (home / "k8s/loop").unlink()
    assert imprint(home, "k8s") == before


def test_a_single_file_is_bound_alone(home):
    before = imprint(home, "scripts/fix.py")
    (home / "scripts/more.py").write_text("x")
    assert imprint(home, "scripts/fix.py") == before
    (home / "scripts/fix.py").write_text("changed")
    assert imprint(home, "scripts/fix.py") not in (before, None)


@pytest.mark.parametrize("name", ["nonsuch", ".", "..", "../secret", "/etc/passwd", "k8s/../..", "link"])
def test_what_is_not_there_or_leads_out_is_nothing(home, name):
    (home.parent / "secret").write_text("x")
    (home / "link").symlink_to("/etc")
    assert imprint(home, name) is None


def test_a_pipe_is_not_waited_for(home):
    os.mkfifo(home / "k8s/pipe")
    assert imprint(home, "k8s") is not None


@pytest.mark.parametrize("bound", [{"files": 1}, {"size": 20}], ids=["files", "size"])
def test_too_much_is_refused_with_a_word(home, bound):
    with pytest.raises(PermanentError, match=r"nobody can say yes to .*put what the step needs into a folder"):
        imprint(home, "k8s", **bound)


def test_a_name_that_is_none_is_refused_with_a_word(home):
    with pytest.raises(PermanentError, match="nobody can say yes to"):
        imprint(home, "a\0b")


def test_no_content_passes_for_another_files_name(tmp_path):
    for one, files in (("a", {"x": "1\n1:yfile0:"}), ("b", {"x": "1", "y": ""})):
        (tmp_path / one / "d").mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / one / "d" / name).write_text(text)
    assert imprint(tmp_path / "a", "d") != imprint(tmp_path / "b", "d")
