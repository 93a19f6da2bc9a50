"""What the form of a runbook shows: its fields as they start, and what a run would change."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bot.incidents.model import Incident
from bot.kit.shelf import Shelf
from bot.runs.params import Param
from bot.runs.runbook import Runbook, Step
from bot.runs.step import Effect

PREFIX = "param."
_DECLARED = TypeAdapter(dict[str, Param])


@dataclass(frozen=True)
class Field:
    """One parameter as a form asks for it. *choices* are those that were looked up; *trouble* says why there are none,
    and then the field takes any text that fits. *left_out* is how many more choices there would be.
    """

    name: str
    param: Param
    value: Any = None
    choices: Sequence[str] | None = None
    trouble: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Change:
    """A step that does more than look: what it does to the world, or whom it asks."""

    name: str
    effect: Effect
    asks: bool = False


@dataclass(frozen=True)
class Sheet:
    """The form of a runbook. *live* stands for the choices that were offered, by parameter."""

    incident: Incident
    runbook: Runbook
    fields: Sequence[Field]
    changes: Sequence[Change]
    live: Mapping[str, str]


@dataclass(frozen=True)
class Declared:
    """Whatever declares parameters, read from plain data."""

    params: Mapping[str, Param]


def declared(inputs: Mapping[str, Any]) -> Declared:
    """The parameters that *inputs* declare; ValueError if they are none."""
    return Declared(_DECLARED.validate_python(dict(inputs)))


def entered(params: Mapping[str, Param], values: Mapping[str, Any]) -> dict[str, Any]:
    """What was entered into a form, by parameter."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = key.removeprefix(PREFIX)
        if name == key:
            continue
        if isinstance(value, str) and name in params and params[name].type == "list":
            value = [part.strip() for part in re.split(r"[,\n]", value) if part.strip()]
        found[name] = value
    return found


def changes(runbook: Runbook, shelf: Shelf, there: Mapping[str, Runbook]) -> list[Change]:
    """The steps that change something or ask people, those of called runbooks among them, in order."""
    found: list[Change] = []
    for step in runbook.steps:
        if step.type == "runbook":
            book = there.get(str(step.action.get("use")))
            found += changes(book, shelf, there) if book is not None else []
        elif step.type == "approval":
            found.append(Change(step.heading, "read", asks=True))
        elif (kind := effect_of(step, shelf)) != "read":
            found.append(Change(step.heading, kind))
    return found


def effect_of(step: Step, shelf: Shelf) -> Effect:
    """What a step does to the world, as far as its file tells."""
    if step.effect is not None:
        return step.effect
    module = shelf[step.type]
    told = getattr(module, "effect", None)
    kind: Effect = module.EFFECT
    if told is not None:
        try:
            kind = told(module.Params.model_validate(step.action))
        except ValueError:  # what is filled in later cannot be judged yet
            kind = module.EFFECT
    return kind
