"""The runbooks of this installation, by name."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.alerts.model import AlertRow
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.kit.shelf import Shelf
from bot.kit.text import nearest
from bot.runs import params
from bot.runs.grants import Grants
from bot.runs.runbook import Problem, Runbook, read_folder


@dataclass
class Books:
    """What the runbook folder holds, as of the last look. *commit* is the Git commit that it was checked out at;
    *refused* tells of names that runbooks use and *grants* do not allow, each at its line: their runs fail.
    """

    runbooks: Mapping[str, Runbook] = field(default_factory=dict)
    problems: Sequence[Problem] = ()
    commit: str | None = None
    folder: Path | None = None
    steps: Shelf | None = None
    grants: Grants | None = None
    refused: Sequence[Problem] = ()
    _seen: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, steps: Shelf, grants: Grants | None = None) -> "Books":
        """Every good runbook of *folder*; what is wrong with the others is kept as problems."""
        made = cls(folder=folder, steps=steps, grants=grants)
        made.reread()
        return made

    def reread(self) -> bool:
        """Look at the folder again; whether anything is different. A file that went bad is used as it last was good."""
        if self.folder is None or self.steps is None:
            return False
        seen = _stamps(self.folder)
        if seen == self._seen:
            return False
        written, problems = read_folder(self.folder, self.steps)
        fresh = {name: one.runbook for name, one in written.items()}
        bad = {problem.file.rpartition(".")[0] for problem in problems} - set(fresh)
        kept = {name: book for name, book in self.runbooks.items() if name in bad and f"{name}.yaml" in seen}
        enabled = {name: book for name, book in fresh.items() if book.enabled}
        self.runbooks, self.problems, self._seen = {**enabled, **kept}, problems, seen
        if self.grants is not None:
            self.refused = [told for one in written.values() for told in self.grants.problems(one)]
        self.commit = commit(self.folder)
        return True

    def find(self, name: str) -> Runbook:
        """The runbook called *name*; UserError with the nearest name otherwise."""
        if name in self.runbooks:
            return self.runbooks[name]
        near = nearest(name, list(self.runbooks))
        known = ", ".join(sorted(self.runbooks)) or "none yet"
        raise UserError(
            f"There is no runbook {name!r}." + (f" Did you mean {near}?" if near else f" There are: {known}")
        )


def prefill(runbook: Runbook, incident: Incident, alerts: Sequence[AlertRow]) -> dict[str, Any]:
    """The values a form starts with, from the incident's first alert."""
    return params.prefill(runbook, alert_values(alerts), incident_values(incident))


def alert_values(alerts: Sequence[AlertRow], episode: str | None = None) -> dict[str, Any]:
    """What expressions see as `alert.…`: that of *episode*, else the first, firing ones before resolved ones."""
    if not alerts:
        return {"labels": {}, "annotations": {}, "title": "", "severity": "", "url": ""}
    first = next((alert for alert in alerts if alert.episode_id == episode), alerts[0])
    return {
        "labels": dict(first.labels),
        "annotations": dict(first.annotations),
        "title": first.title,
        "severity": first.severity,
        "url": first.url or "",
        "starts_at": first.starts_at.isoformat(),
    }


def incident_values(incident: Incident) -> dict[str, Any]:
    """What expressions see as `incident.…`."""
    return {
        "reference": incident.reference,
        "title": incident.title,
        "severity": incident.severity,
        "service": incident.service or "",
    }


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """When each file was last written, and its size: what changes with it."""
    if not folder.is_dir():
        return {}
    found: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix in (".yaml", ".yml"):
            with contextlib.suppress(OSError):  # gone between the two looks
                about = file.stat()
                found[file.name] = (about.st_mtime_ns, about.st_size)
    return found


def commit(folder: Path) -> str | None:
    """The Git commit that *folder* is checked out at, read without Git; None where it is in no repository."""
    for place in (folder.resolve(), *folder.resolve().parents):
        git = place / ".git"
        if git.exists():
            with contextlib.suppress(OSError, ValueError):
                return _commit(git)
            return None
    return None


def _commit(git: Path) -> str | None:
    if git.is_file():  # a worktree, or a module of another repository: the file says where to look
        git = git.parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref:"):
        return head if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
    ref = head.removeprefix("ref:").strip()
    shared = git / "commondir"
    homes = [git, git / shared.read_text(encoding="utf-8").strip()] if shared.is_file() else [git]
    for home in homes:
        loose = home / ref
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        packed = home / "packed-refs"
        for line in packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else ():
            name, _, which = line.partition(" ")
            if which == ref:
                return name
    return None
