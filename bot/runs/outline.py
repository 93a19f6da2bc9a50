"""What the steps of a runbook would be: everything filled in that is known before it is started."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from bot.kit.errors import PermanentError
from bot.kit.shelf import Shelf
from bot.runs.expressions import Unknown, fill, render_quoted
from bot.runs.runbook import Alert, Runbook, Step
from bot.runs.step import EXPRESSION, LITERAL, marks, quotes

_FIELDS = ("when", "foreach", "parallel", "retry", "timeout", "continue_on_error", "outputs")


def outline(runbook: Runbook, params: Mapping[str, Any], alert: Alert | None, steps: Shelf) -> dict[str, Any]:
    """The runbook as plain data, its texts filled in; what only a run can know stands there as ``‹steps.a.stdout›``."""
    known = _known(runbook, params, alert)
    filling = _Filling(runbook, steps, known)
    made: dict[str, Any] = {
        "id": runbook.id,
        "name": runbook.name,
        "params": dict(params),
        "concurrency": {"key": filling.value(runbook.concurrency.key)},
    }
    blocks = {"steps": runbook.steps, "on_failure": runbook.on_failure, "always": runbook.always}
    for name, block in blocks.items():
        if block:
            made[name] = [filling.step(step) for step in block]
    if runbook.outputs:
        made["outputs"] = dict(runbook.outputs)
    return made


def _known(runbook: Runbook, params: Mapping[str, Any], alert: Alert | None) -> dict[str, Any]:
    about = {"id": runbook.id, "name": runbook.name, "owner": runbook.owner, "risk": runbook.risk}
    hidden = Unknown("only a run may know it")
    named = {name: hidden for name, one in runbook.params.items() if one.type == "secret"}
    known: dict[str, Any] = {"params": {**params, **named}, "runbook": about}
    if alert is not None:
        known["alert"] = alert.model_dump()
    return known


class _Filling:
    """Fills in the texts of one runbook, step by step."""

    def __init__(self, runbook: Runbook, steps: Shelf, known: Mapping[str, Any]) -> None:
        self.steps = steps
        self.results: dict[str, dict[str, Any]] = {}
        self.known: dict[str, Any] = {**known, "steps": self.results}
        self.known["vars"] = {name: self.value(one) for name, one in runbook.vars.items()}

    def value(self, value: Any) -> Any:
        """*value*, as far as it can be filled in."""
        return fill(value, self.known)

    def step(self, step: Step) -> dict[str, Any]:
        """One step and those below it; from now on its results have names."""
        made: dict[str, Any] = {}
        if step.id is not None:
            made["id"] = step.id
        if step.name is not None:
            made["name"] = self.value(step.name)
        action = self._action(step)
        made["effect"] = self._effect(step, action)
        for name in _FIELDS:
            if name in step.model_fields_set:
                made[name] = step.model_dump(mode="json", include={name}, exclude_unset=True)[name]
        made[step.type] = action
        if step.id is not None:
            names = ("ok", "state", *getattr(self.steps[step.type], "RESULT", ()), *step.outputs)
            self.results[step.id] = dict.fromkeys(names, Unknown("only a run can know it"))
        if isinstance(step.dry_run, Step):
            made["dry_run"] = self.step(step.dry_run)
        elif step.dry_run is not None:
            made["dry_run"] = step.dry_run
        for field, below in (("on_failure", step.on_failure), ("rollback", step.rollback)):
            if below:
                made[field] = [self.step(one) for one in below]
        return made

    def _action(self, step: Step) -> dict[str, Any]:
        params = self.steps[step.type].Params
        marked, quoting = marks(params), quotes(params)
        made: dict[str, Any] = {}
        for key, one in step.action.items():
            if marked.get(key) in (EXPRESSION, LITERAL):
                made[key] = one
            elif key == "check" and step.check is not None:
                made[key] = self.step(step.check)
            else:
                made[key] = self._quoted(one, quoting[key]) if key in quoting else self.value(one)
        return made

    def _quoted(self, text: Any, quote: Callable[[str, Any], str]) -> Any:
        if isinstance(text, list):
            return [self._quoted(one, quote) for one in text]
        if isinstance(text, str):
            with contextlib.suppress(PermanentError):
                return render_quoted(text, self.known, quote)
        return self.value(text)

    def _effect(self, step: Step, action: Mapping[str, Any]) -> str:
        module = self.steps[step.type]
        told = getattr(module, "effect", None)
        if step.effect is not None or told is None:
            return str(step.effect or module.EFFECT)
        try:
            return str(told(module.Params.model_validate(action)))
        except ValueError:  # it depends on what is not known yet
            return str(module.EFFECT)
