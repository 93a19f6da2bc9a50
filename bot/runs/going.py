"""A run under way in this process: what its expressions see, when it must end, what there is to take back."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bot.incidents.model import Incident
from bot.kit.errors import BotError
from bot.kit.text import clip, one_line
from bot.runs.journal import SUMMARY, Place
from bot.runs.model import Phase, Run, RunState, RunStep
from bot.runs.raising import Finding
from bot.runs.redact import Redactor
from bot.runs.runbook import Runbook, Step


class Stop(BotError):  # noqa: N818 - how a run ends, not a fault
    """The run ends here, for a reason."""

    def __init__(self, state: RunState, step: str = "", message: str = "") -> None:
        super().__init__(message or state)
        self.state = state
        self.failure = {"step": step, "message": clip(one_line(message), SUMMARY)} if message else None


class Waits(BotError):  # noqa: N818 - the run waits, it has not failed
    """People must answer before the run goes on."""


@dataclass(frozen=True)
class Scope:
    """Where expressions are computed: a runbook with its own parameters and results, or one item of a foreach.

    *prefix* stands before the paths of its steps; *depth* is how many runbooks called each other to come here.
    """

    runbook: Runbook
    values: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)
    hidden: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    depth: int = 0

    def having(self, **names: Any) -> "Scope":
        """The same with more names; what its steps give is shared."""
        return replace(self, values={**self.values, **names})


@dataclass(frozen=True)
class Undo:
    """A step that was begun and says how it is taken back."""

    step: Step
    scope: Scope
    path: str
    position: int


@dataclass
class Going:
    """The run. *guessing*: a dry run that has left out a step whose results are missing. *replaying*: what was done
    before is gone through once more, to know it, and nothing is begun. *cleared*: it has what it must have to write.
    """

    run: Run
    incident: Incident
    runbook: Runbook
    books: Mapping[str, Runbook]
    attempts: Mapping[str, list[RunStep]]
    redact: Redactor
    ends_at: datetime
    base: Mapping[str, Any]  # what every scope sees: run, incident, alert
    scratch: Path | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    never: asyncio.Event = field(default_factory=asyncio.Event)
    phase: Phase = Phase.STEPS
    guessing: bool = False
    replaying: bool = False
    cleared: bool = False
    clearing: asyncio.Lock = field(default_factory=asyncio.Lock)
    undo: list[Undo] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    called: dict[str, list[Finding]] = field(default_factory=dict)  # what the runbooks found that steps called, by path

    def __post_init__(self) -> None:
        """Take the order of what was begun before from its rows."""
        self.positions = {path: rows[0].position for path, rows in self.attempts.items()}

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the step at work must stop. What tidies up is not stopped half way."""
        return self.cancelled if self.phase == Phase.STEPS else self.never

    def place(self, path: str) -> Place:
        """Where the step at *path* stands, next in the order if it was not begun yet."""
        position = self.positions.setdefault(path, len(self.positions))
        return Place(path, position, self.phase)

    def revert(self, step: Step, scope: Scope, path: str) -> None:
        """The step at *path* was begun: should the run fail, it is taken back."""
        if step.rollback and all(one.path != path for one in self.undo):
            self.undo.append(Undo(step, scope, path, self.place(path).position))
