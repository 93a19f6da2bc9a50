"""What runbooks need that is not theirs: hosts, connections, scripts and secrets; and what of it is not there."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bot.catalog.config import TARGETS
from bot.catalog.targets import Reach
from bot.kit.shelf import Shelf
from bot.runs.expressions import templated
from bot.runs.runbook import Runbook, Step, every_step

Need = tuple[str, str]


def of(module: ModuleType, action: Mapping[str, Any]) -> Sequence[Need]:
    """What a step with *action* needs, such as ``("connection", "prometheus")``; nothing where that cannot be told."""
    told = getattr(module, "needs", None)
    if told is None:
        return ()
    try:
        return list(told(module.Params.model_validate(action)))
    except ValueError:
        return ()


def missing(runbooks: Iterable[Runbook], steps: Shelf, reach: Reach, folder: Path | None) -> list[str]:
    """What *runbooks* name and is not there, each with those that need it. What is filled in is not looked for."""
    users: dict[str, set[str]] = defaultdict(set)
    for runbook in runbooks:
        for told in _lacks(runbook, steps, reach, folder):
            users[told].add(runbook.id)
    return [f"{told}, for {', '.join(sorted(names))}" for told, names in sorted(users.items())]


def _lacks(runbook: Runbook, steps: Shelf, reach: Reach, folder: Path | None) -> Iterator[str]:
    for name in runbook.secrets:
        if not reach.known(name):
            yield f"there is no secret {name!r} in {TARGETS} and in the environment"
    for step in _steps(runbook):
        for kind, name in of(steps[step.type], step.action):
            if templated(name):
                continue
            if kind == "connection" and name not in reach.targets.connections:
                yield f"{TARGETS} has no connection {name!r}"
            elif kind == "host" and name not in reach.targets.hosts:
                yield f"{TARGETS} has no host {name!r}"
            elif kind == "file" and (folder is None or not (folder / name).exists()):
                yield f"there is no {name} beside the runbooks"


def _steps(runbook: Runbook) -> Iterator[Step]:
    for step in every_step(runbook):
        yield step
        if isinstance(step.dry_run, Step):
            yield step.dry_run
    for param in runbook.params.values():
        if param.choices_from is not None:
            yield param.choices_from.step
