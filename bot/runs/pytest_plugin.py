"""Lets pytest play the tests of runbooks: ``pytest -p bot.runs.pytest_plugin runbooks``."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.kit.shelf import Shelf
from bot.runs.rehearsal import Scene, Verdict, rehearse, scenes

SHELF = pytest.StashKey[Shelf]()
UNTESTED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Load the step types once, and remember which runbooks have no tests."""
    config.stash[SHELF] = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
    config.stash[UNTESTED] = []


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "Book | None":
    """Every file that was asked for by name, and those of a folder that look like a runbook."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if parent.session.isinitpath(file_path) or _looks_like_one(file_path):
        return Book.from_parent(parent, path=file_path)
    return None


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the runbooks that nobody has written a test for."""
    if untested := config.stash[UNTESTED]:
        terminalreporter.write_line(f"without tests: {', '.join(untested)}", yellow=True)


class Book(pytest.File):
    """A runbook, which holds its tests."""

    def collect(self) -> Iterator["Play"]:
        """One item a test."""
        written, found, problems = scenes(self.path, self.config.stash[SHELF])
        if problems:
            raise self.CollectError("\n".join(map(str, problems)))
        self.config.stash[UNTESTED] += [one.runbook.id for one in written if not one.runbook.tests]
        for scene in found:
            yield Play.from_parent(self, name=scene.trial.name, scene=scene)


class Play(pytest.Item):
    """One test of a runbook."""

    def __init__(self, *, scene: Scene, **more: Any) -> None:
        super().__init__(**more)
        self.scene = scene

    def runtest(self) -> None:
        """Play it."""
        verdict = rehearse(self.scene, self.config.stash[SHELF])
        if not verdict.ok:
            raise Otherwise(verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was expected and what came, and then what happened; no traceback of ours."""
        if isinstance(excinfo.value, Otherwise):
            verdict = excinfo.value.verdict
            return "\n".join([*map(str, verdict.reasons), "", *(f"  {line}" for line in verdict.story)])
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it stands."""
        return self.path, self.scene.line - 1, f"{self.scene.written.runbook.id}: {self.name}"


class Otherwise(Exception):  # noqa: N818 - said of a run
    """A run came out otherwise than its test expected."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("; ".join(reason.message for reason in verdict.reasons))
        self.verdict = verdict


def _looks_like_one(file: Path) -> bool:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return all(re.search(rf"^{key}:", text, re.MULTILINE) for key in ("id", "steps"))
