"""The runbooks of this installation, by name, and which of them may help."""

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
from bot.runs.runbook import Problem, Runbook, load_folder


@dataclass(frozen=True)
class Books:
    """What the runbook folder held when the bot started."""

    runbooks: Mapping[str, Runbook] = field(default_factory=dict)
    problems: Sequence[Problem] = ()

    @classmethod
    def read(cls, folder: Path, steps: Shelf) -> "Books":
        """Every good runbook of *folder*; what is wrong with the others is kept as problems."""
        found, problems = load_folder(folder, steps)
        return cls({runbook.id: runbook for runbook in found if runbook.enabled}, problems)

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


def alert_values(alerts: Sequence[AlertRow]) -> dict[str, Any]:
    """What expressions see as `alert.…`: the first alert, firing ones before resolved ones."""
    if not alerts:
        return {"labels": {}, "annotations": {}, "title": "", "severity": "", "url": ""}
    first = alerts[0]
    return {
        "labels": dict(first.labels),
        "annotations": dict(first.annotations),
        "title": first.title,
        "severity": first.severity,
        "url": first.url or "",
    }


def incident_values(incident: Incident) -> dict[str, Any]:
    """What expressions see as `incident.…`."""
    return {
        "reference": incident.reference,
        "title": incident.title,
        "severity": incident.severity,
        "service": incident.service or "",
    }
