"""What a yes would be for: the steps after a question that change something, told to people and bound by a digest."""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.kit.errors import PermanentError
from bot.runs import needs
from bot.runs.attempt import Attempts, line
from bot.runs.expressions import render, render_value, templated
from bot.runs.going import Going, Scope
from bot.runs.imprint import imprint
from bot.runs.runbook import Step, every_step
from bot.runs.step import EXPRESSION, LITERAL, PROSE, marks


@dataclass(frozen=True)
class Plan:
    """The *steps* that are to come."""

    attempts: Attempts
    going: Going
    scope: Scope
    steps: Sequence[Step]

    @classmethod
    def after(cls, attempts: Attempts, going: Going, scope: Scope, path: str) -> "Plan":
        """What changes something after the step at *path*."""
        place = int(path.removeprefix(f"{scope.prefix}steps.").partition(".")[0])
        later = scope.runbook.steps[place + 1 :]
        return cls(attempts, going, scope, [step for step in later if _changes(attempts, step)])

    def told(self) -> list[str]:
        """Each step in a line, as far as it is known now."""
        return [line(self.going, self._told(step)) for step in self.steps]

    def _told(self, step: Step) -> str:
        name = step.title
        with contextlib.suppress(PermanentError):
            name = render(name, self.scope.values)
        module = self.attempts.steps[step.type]
        with contextlib.suppress(PermanentError, ValueError):
            params = module.Params.model_validate(self._filled(step))
            return f"{name}: {module.preview(params)}"
        return f"{name} (depends on what comes before it)"

    def digest(self) -> str:
        """Stands for the runbook, the steps as they would be carried out, and the files, folders and connections that
        they use. PermanentError where nothing can stand for those.

        What is for people alone may quote an alert, which goes on changing; it does not count.
        """
        going = self.going
        told: list[Any] = [going.run.sha256, {name: book.sha256 for name, book in going.books.items()}]
        for step in self.steps:
            module = self.attempts.steps[step.type]
            action = self._filled(step)
            prose = {key for key, mark in marks(module.Params).items() if mark is PROSE}
            told.append([step.key, {key: value for key, value in action.items() if key not in prose}])
            told += [self._needed(kind, name) for kind, name in needs.of(module, action)]
        told += [self._needed(kind, name) for kind, name in sorted(self._below())]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def _below(self) -> set[tuple[str, str]]:
        """What is used by steps that may follow without standing in the plan: a rollback, a runbook that is called."""
        found: set[tuple[str, str]] = set()
        for book in (self.going.runbook, *self.going.books.values()):
            for step in every_step(book):
                if _changes(self.attempts, step):
                    found |= set(needs.of(self.attempts.steps[step.type], step.action))
        return {(kind, name) for kind, name in found if not templated(name)}

    def _needed(self, kind: str, name: str) -> Any:
        """What a step uses besides its values, as it is now."""
        if kind in ("file", "beside") and self.attempts.folder is not None:
            return [name, imprint(self.attempts.folder, name)]
        targets = self.attempts.reach.targets
        there: dict[str, Mapping[str, Any]] = {"connection": targets.connections, "host": targets.hosts}
        found = there.get(kind, {}).get(name)
        return [kind, name, None if found is None else found.model_dump(mode="json")]

    def _filled(self, step: Step) -> dict[str, Any]:
        """The step's action with what is known filled in; the rest as it stands."""
        marked = marks(self.attempts.steps[step.type].Params)
        filled: dict[str, Any] = {}
        for key, raw in step.action.items():
            filled[key] = raw
            if marked.get(key) not in (EXPRESSION, LITERAL):
                with contextlib.suppress(PermanentError):
                    filled[key] = render_value(raw, self.scope.values)
        return filled


def _changes(attempts: Attempts, step: Step) -> bool:
    """Whether a step changes something, as far as its file tells. Of a runbook that is called, nobody knows."""
    if step.type == "runbook":
        return True
    if step.effect is not None:
        return step.effect != "read"
    module = attempts.steps[step.type]
    told = getattr(module, "effect", None)
    try:
        kind = told(module.Params.model_validate(step.action)) if told else module.EFFECT
    except ValueError:
        kind = module.EFFECT
    return bool(kind != "read")
