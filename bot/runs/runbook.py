"""Runbooks: read from YAML, checked to the last expression before anybody can press their button."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, ValidationError

from bot.alerts import matchers
from bot.kit import yaml
from bot.kit.errors import UserError
from bot.kit.shelf import Shelf
from bot.kit.text import nearest
from bot.runs import params as values
from bot.runs.expressions import ExpressionError, Names, names, templated
from bot.runs.params import Param
from bot.runs.step import EXPRESSION, LITERAL, PROSE, SECRETS, Duration, Effect, marks, message

# All that the schema knows; those without a plugin on the shelf are refused by name.
ACTIONS = (
    *("exec", "script", "http", "prometheus", "sql", "kubectl", "ansible", "terraform", "kestra"),
    *("slack", "pagerduty", "wait", "approval", "note", "runbook", "assert"),
)
# What must never reach a runbook: the bot's own keys.
DENIED = ("SLACK_*", "TOCSIN_*", "PAGERDUTY_*", "DATABASE_URL", "*SIGNING*", "RUNBOOK_*", "LD_*", "DYLD_*")

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Count = Annotated[int, Field(strict=True)]
Path_ = tuple[str | int, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Match(_Part):
    """Which alerts a runbook is meant for; all that is said must hold."""

    labels: list[str] = Field(default=[], description='Alertmanager matchers: severity=~"high|critical"')
    services: list[str] = Field(default=[], description="any of these services")
    severities: list[str] = Field(default=[], description="any of these severities")


class Offer(_Part):
    """On which alerts the button is shown."""

    match: Match = Match()
    mode: Literal["suggest", "auto"] = "suggest"
    cooldown: Duration = timedelta(minutes=15)
    max_per_hour: Count = 3


class Access(_Part):
    """Who may run it and who may approve."""

    run: list[str] = ["@responders"]
    approve: list[str] | None = None
    channels: Literal["incident", "any"] = "incident"


class Concurrency(_Part):
    """What must not run twice at the same time."""

    key: str = "{{ runbook.id }}"
    limit: Annotated[Count, Field(ge=1)] = 1
    on_conflict: Literal["reject", "queue", "cancel_running"] = "reject"


class Retry(_Part):
    """How often a step is tried in all, and how long to wait in between."""

    attempts: Annotated[Count, Field(ge=1, le=20)] = 3
    delay: Duration = timedelta(seconds=2)
    backoff: Literal["constant", "exponential"] = "exponential"
    max_delay: Duration = timedelta(minutes=1)
    jitter: StrictBool = True
    when: str | None = Field(default=None, description="try again only while true; sees error, status, exit_code")


def _retry(value: object) -> object:
    return {"attempts": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Step(_Part):
    """One step: its type, what is filled in and handed to that type, and how the run treats it."""

    key: str = Field(description="its id, or its place where it has none; given by the loader")
    type: str = Field(description="the one action key it has in the file")
    action: dict[str, Any] = Field(description="what stands under that key, not filled in yet")

    id: Name | None = None
    name: str | None = None
    when: str | None = None
    effect: Effect | None = None
    foreach: str | None = None
    parallel: Annotated[Count, Field(ge=1, le=20)] = 1
    stop_on_error: StrictBool = True
    timeout: Duration | None = None
    retry: Annotated[Retry | None, BeforeValidator(_retry)] = None
    continue_on_error: StrictBool = False
    outputs: dict[Name, str] = {}
    attach: StrictBool = False
    show: Literal["auto", "output", "quiet"] = "auto"
    on_failure: "list[Step] | None" = None
    rollback: "list[Step] | None" = None
    dry_run: Literal["run", "skip"] | None = None

    @property
    def title(self) -> str:
        """What people read; may hold `{{ }}`."""
        return self.name or self.id or self.type

    @property
    def heading(self) -> str:
        """The same before anything is known that could fill it in."""
        return re.sub(r"\{\{[^{}]{0,500}\}\}", "…", self.title)


class Runbook(_Part):
    """A runbook as its file says, and the hash of that file."""

    sha256: str = Field(description="of the file's text; given by the loader")

    version: Annotated[Count, Field(ge=1, le=1)]
    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,59}$")]
    name: Annotated[str, Field(min_length=1, max_length=75)]
    description: str = ""
    owner: str
    risk: Literal["low", "medium", "high"] = "medium"
    tags: list[str] = []
    docs: str | None = None
    enabled: StrictBool = True
    offer: list[Offer] = []
    schedule: str | None = None
    params: dict[Name, Param] = {}
    access: Access = Access()
    concurrency: Concurrency = Concurrency()
    timeout: Duration = timedelta(minutes=15)
    secrets: list[Variable] = []
    env: list[Variable] = []
    vars: dict[Name, Any] = {}
    steps: Annotated[list[Step], Field(min_length=1, max_length=100)]
    on_failure: list[Step] = []
    always: list[Step] = []
    outputs: dict[Name, str] = {}
    tests: list[dict[str, Any]] = []

    def as_json(self) -> dict[str, Any]:
        """Plain data from which `from_json` makes the same runbook; a run keeps this."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Runbook":
        """The runbook that `as_json` gave *data* for."""
        return cls.model_validate(dict(data))


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class LintError(UserError):
    """Everything that is wrong with a runbook."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


def load(text: str, name: str, steps: Shelf) -> Runbook:
    """The runbook in *text*, a file called *name*; a LintError with all that is wrong otherwise."""
    try:
        document = yaml.load(text, name)
    except yaml.YamlError as error:
        raise LintError([Problem(error.name, error.line, error.message)]) from None
    reading = _Reading(document, steps)
    runbook = reading.read(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    if runbook is None or reading.problems:
        raise LintError(reading.problems)
    return runbook


def load_folder(path: Path, steps: Shelf) -> tuple[list[Runbook], list[Problem]]:
    """The good runbooks of a folder, by id, and what is wrong with the others."""
    good: dict[str, Runbook] = {}
    problems: list[Problem] = []
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml")) if path.is_dir() else []
    for file in files:
        try:
            runbook = _load_file(file, steps)
        except LintError as error:
            problems += error.problems
            continue
        if runbook.id in good:
            problems.append(Problem(file.name, 1, f"there is another runbook with the id {runbook.id!r}"))
        good.setdefault(runbook.id, runbook)
    return list(good.values()), problems


def lint(path: Path, steps: Shelf) -> list[Problem]:
    """All that is wrong with a file, or with the files of a folder."""
    if path.is_dir():
        return load_folder(path, steps)[1]
    try:
        _load_file(path, steps)
    except LintError as error:
        return error.problems
    return []


def offers(runbook: Runbook, labels: Mapping[str, str], service: str | None, severity: str | None) -> int:
    """How well *runbook* fits an alert: 0 if it is not meant for it, and more the more it asked for."""
    if not runbook.enabled:
        return 0
    return max((_score(offer.match, labels, service or "", severity or "") for offer in runbook.offer), default=0)


def _score(match: Match, labels: Mapping[str, str], service: str, severity: str) -> int:
    asked = [matchers.parse(text).matches(labels) for text in match.labels]
    asked += [service.lower() in map(str.lower, match.services)] if match.services else []
    asked += [severity.lower() in map(str.lower, match.severities)] if match.severities else []
    return len(asked) if all(asked) else 0


def _load_file(file: Path, steps: Shelf) -> Runbook:
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise LintError([Problem(file.name, 1, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise LintError([Problem(file.name, 1, "is not UTF-8 text")]) from None
    return load(text, file.name, steps)


@dataclass(frozen=True)
class _Scope:
    """What expressions at one place may refer to."""

    results: Mapping[str, frozenset[str] | None]  # earlier steps and the names of their results, if they are known
    own: frozenset[str] = frozenset()  # names that exist only there
    prose: bool = False  # may quote the alert
    secrets: bool = False


class _Reading:
    """One file on its way to a runbook, and what was found wrong on the way."""

    def __init__(self, document: yaml.Document, steps: Shelf) -> None:
        self.document = document
        self.steps = steps
        self.problems: list[Problem] = []
        self.data: dict[str, Any] = {}

    def problem(self, path: Path_, told: str) -> None:
        self.problems.append(Problem(self.document.name, self.document.line(path), told))

    def read(self, sha256: str) -> Runbook | None:
        if not isinstance(self.document.data, dict):
            self.problem((), "a runbook is a mapping that begins with version: 1")
            return None
        self.data = dict(self.document.data)
        if "sha256" in self.data:
            self.problem(("sha256",), "unknown key 'sha256'")
        for field in ("steps", "on_failure", "always"):
            if isinstance(self.data.get(field), list):
                self.data[field] = self._split_all(self.data[field], (field,))
        try:
            runbook = Runbook.model_validate({**self.data, "sha256": sha256})
        except ValidationError as error:
            for part in error.errors():
                self._explain(part)
            return None
        self._check(runbook)
        return runbook

    # A step in the file has its type as a key; here it becomes a value.

    def _split_all(self, raw: list[Any], path: Path_) -> list[Any]:
        return [self._split(step, (*path, i)) for i, step in enumerate(raw)]

    def _split(self, raw: Any, path: Path_) -> Any:
        if not isinstance(raw, dict):
            return raw
        actions = [key for key in raw if key in ACTIONS or key in self.steps]
        rest = {key: value for key, value in raw.items() if key not in actions}
        for key in ("key", "type", "action"):
            if key in rest:
                self.problem((*path, key), f"unknown key {key!r}; a step has one action key such as exec or note")
                del rest[key]
        for key in ("on_failure", "rollback"):
            if isinstance(rest.get(key), list):
                rest[key] = self._split_all(rest[key], (*path, key))
        if isinstance(rest.get("dry_run"), dict):
            self.problem((*path, "dry_run"), "a step as dry_run is not supported yet; write run or skip")
            del rest["dry_run"]
        if len(actions) != 1:
            told = ", ".join(actions) or "none"
            meant = next((f"; did you mean {near!r}?" for key in rest if (near := self._near_action(key))), "")
            self.problem(path, f"a step needs exactly one action ({', '.join(self.steps)}); found {told}{meant}")
        chosen = actions[0] if actions else ""
        rest["key"] = rest["id"] if isinstance(rest.get("id"), str) else "-".join(map(str, path))
        return {**rest, "type": chosen, "action": self._action(chosen, raw.get(chosen), path)}

    def _near_action(self, key: str) -> str | None:
        return None if key in Step.model_fields else nearest(key, list(self.steps))

    def _action(self, type_: str, raw: Any, path: Path_) -> dict[str, Any]:
        if type_ in self.steps and isinstance(raw, str) and hasattr(self.steps[type_], "SHORT"):
            raw = {self.steps[type_].SHORT: raw}
        if type_ and not isinstance(raw, dict):
            self.problem((*path, type_), f"{type_} must be keys with values")
        return raw if isinstance(raw, dict) else {}

    def _explain(self, part: Mapping[str, Any], before: Path_ = (), model: type[BaseModel] | None = None) -> None:
        path = tuple(step for step in (*before, *part["loc"]) if step != "[key]")
        while path and part["type"] != "missing" and path not in self.document.lines:
            path = path[:-1]  # pydantic also names the branch of a union it tried
        here = str(path[-1]) if path else ""
        if len(path) > 1 and isinstance(path[-1], int):
            here = f"{path[-2]}.{here}"
        if part["type"] == "extra_forbidden":
            known = _known_keys(model or Runbook, part["loc"][:-1])
            meant = nearest(str(path[-1]), known)
            self.problem(path, f"unknown key {here!r}" + (f"; did you mean {meant!r}?" if meant else ""))
        elif (part["loc"] and part["loc"][-1] == "[key]") or part["type"] == "string_pattern_mismatch":
            self.problem(path, f"{part['input']!r} is not a name that can be used here")
        elif not path or part["type"] == "refused":
            self.problem(path, f"{here}: {message(part)}" if path else message(part))
        else:
            self.problem(path, f"{here} {message(part)}")

    # What pydantic cannot see.

    def _check(self, runbook: Runbook) -> None:
        stem = self.document.name.rpartition("/")[2].rpartition(".")[0]
        if runbook.id != stem:
            self.problem(("id",), f"the id {runbook.id!r} must be the file's name, {stem!r}")
        self._check_later(runbook)
        for i, offer in enumerate(runbook.offer):
            self._check_offer(offer, ("offer", i))
        for name, param in runbook.params.items():
            self._check_param(param, ("params", name))
        for field, listed in (("secrets", runbook.secrets), ("env", runbook.env)):
            for i, variable in enumerate(listed):
                if any(fnmatchcase(variable.upper(), denied) for denied in DENIED):
                    self.problem((field, i), f"{variable} belongs to the bot; no runbook may name it")
        known: dict[str, frozenset[str] | None] = {}
        basis = _Scope({})
        for name, value in runbook.vars.items():
            self._texts(value, ("vars", name), runbook, basis)
        self._text(runbook.concurrency.key, ("concurrency", "key"), runbook, basis)
        for i, step in enumerate(runbook.steps):
            self._check_step(step, ("steps", i), runbook, known)
        for name, expression in runbook.outputs.items():
            self._expression(expression, ("outputs", name), runbook, _Scope(known))

    def _check_later(self, runbook: Runbook) -> None:
        """What the schema knows and this version does not carry out is said, never ignored."""
        top = {
            "on_failure": bool(runbook.on_failure),
            "always": bool(runbook.always),
            "schedule": runbook.schedule is not None,
            "tests": bool(runbook.tests),
        }
        for field, used in top.items():
            if used:
                self.problem((field,), f"{field} is not supported yet")
        if runbook.access.approve is not None:
            self.problem(("access", "approve"), "approve is not supported yet")
        if runbook.access.channels != "incident":
            self.problem(("access", "channels"), "channels: any is not supported yet")
        if runbook.concurrency.limit != 1:
            self.problem(("concurrency", "limit"), "a limit other than 1 is not supported yet")
        if runbook.concurrency.on_conflict != "reject":
            self.problem(("concurrency", "on_conflict"), f"{runbook.concurrency.on_conflict} is not supported yet")

    def _check_offer(self, offer: Offer, path: Path_) -> None:
        for field in ("cooldown", "max_per_hour"):
            if field in offer.model_fields_set:
                self.problem((*path, field), f"{field} is not supported yet")
        if offer.mode == "auto":
            self.problem((*path, "mode"), "mode: auto is not supported yet; with suggest a person presses the button")
        if not (offer.match.labels or offer.match.services or offer.match.severities):
            self.problem((*path, "match"), "would be offered on every alert; name labels, services or severities")
        for i, text in enumerate(offer.match.labels):
            try:
                matchers.parse(text)
            except matchers.MatcherError as error:
                self.problem((*path, "match", "labels", i), str(error))

    def _check_param(self, param: Param, path: Path_) -> None:
        fits = {
            "choices": ("choice",),
            "pattern": ("string", "list", "secret"),
            "min": ("int", "number", "duration"),
            "max": ("int", "number", "duration"),
            "max_items": ("list",),
        }
        for field, types in fits.items():
            if getattr(param, field) is not None and param.type not in types:
                self.problem((*path, field), f"{field} does nothing for type {param.type}, only for {', '.join(types)}")
        if param.choices_from is not None:
            self.problem((*path, "choices_from"), "choices_from is not supported yet")
        if param.type == "choice" and not param.choices:
            self.problem(path, "a choice needs choices")
        if param.min is not None and param.max is not None and param.min > param.max:
            self.problem((*path, "min"), f"min {param.min} is above max {param.max}")
        if param.pattern is not None and (reason := values.pattern_error(param.pattern)):
            self.problem((*path, "pattern"), reason)
        elif param.default is not None:
            try:
                values.value(param, param.default)
            except ValueError as error:
                self.problem((*path, "default"), f"the default {error}")
        if param.type == "secret" and param.default is not None:
            self.problem((*path, "default"), "a secret must not stand in the file")
        if param.source is not None:
            for name in sorted(self._names(param.source, (*path, "source"), expression=True)):
                if name[0] not in ("alert", "incident"):
                    self.problem((*path, "source"), f"{'.'.join(name)} is not known here, only alert and incident")

    def _check_step(self, step: Step, path: Path_, runbook: Runbook, known: dict[str, frozenset[str] | None]) -> None:
        later = {
            "foreach": step.foreach is not None,
            "parallel": step.parallel != 1,
            "stop_on_error": not step.stop_on_error,
            "attach": step.attach,
            "on_failure": step.on_failure is not None,
            "rollback": step.rollback is not None,
        }
        for field, used in later.items():
            if used:
                self.problem((*path, field), f"{field} is not supported yet")
        if step.retry is not None and step.retry.when is not None:
            self.problem((*path, "retry", "when"), "when to retry is not supported yet")
        scope = _Scope(dict(known))
        if step.name is not None:
            self._text(step.name, (*path, "name"), runbook, scope)
        if step.when is not None:
            self._expression(step.when, (*path, "when"), runbook, scope)
        results: frozenset[str] = frozenset()
        if step.type in self.steps:
            module = self.steps[step.type]
            results = frozenset(getattr(module, "RESULT", ()))
            self._check_action(step, module, (*path, step.type), runbook, scope)
        elif step.type:
            there = ", ".join(self.steps)
            self.problem(
                (*path, step.type), f"step type {step.type!r} is not available in this version; there is: {there}"
            )
        for name, expression in step.outputs.items() if step.type in self.steps else ():
            self._expression(expression, (*path, "outputs", name), runbook, _Scope(dict(known), own=results))
        if step.id is not None:
            if step.id in known:
                self.problem((*path, "id"), f"two steps have the id {step.id!r}")
            all_results = results | frozenset(step.outputs) | {"ok", "state"}
            known[step.id] = all_results if step.type in self.steps else None

    def _check_action(self, step: Step, module: ModuleType, path: Path_, runbook: Runbook, scope: _Scope) -> None:
        effect = step.effect
        try:
            params = module.Params.model_validate(step.action)
            told = getattr(module, "effect", None)
            effect = effect or (told(params) if told else module.EFFECT)
        except ValidationError as error:
            for part in error.errors():
                # What is filled in later can only be judged then.
                if part["type"] == "refused" or not _filled_later(step.action, part["loc"]):
                    self._explain(part, path, module.Params)
            effect = effect or module.EFFECT
        if step.dry_run == "run" and effect != "read":
            self.problem((*path[:-1], "dry_run"), "a dry run must not run a step that changes something")
        marked = marks(module.Params)
        for key, value in step.action.items():
            mark = marked.get(key)
            if mark is EXPRESSION:
                own = frozenset(getattr(module, "RESULT", ()))
                inner = _Scope(scope.results, own=own)
                for at, text in _leaves(value, (*path, key)):
                    self._expression(text, at, runbook, inner)
            elif mark is LITERAL:
                for at, text in _leaves(value, (*path, key)):
                    if templated(text):
                        self.problem(at, f"{key} is taken as it stands: no {{{{ }}}} here; give values apart from it")
            else:
                inner = _Scope(scope.results, prose=mark is PROSE, secrets=mark is SECRETS)
                self._texts(value, (*path, key), runbook, inner)

    # Expressions, and what they refer to.

    def _texts(self, value: Any, path: Path_, runbook: Runbook, scope: _Scope) -> None:
        for at, text in _leaves(value, path):
            self._text(text, at, runbook, scope)

    def _text(self, text: str, path: Path_, runbook: Runbook, scope: _Scope) -> None:
        if templated(text):
            self._refer(self._names(text, path, expression=False), path, runbook, scope)

    def _expression(self, text: str, path: Path_, runbook: Runbook, scope: _Scope) -> None:
        self._refer(self._names(text, path, expression=True), path, runbook, scope)

    def _names(self, text: str, path: Path_, *, expression: bool) -> Names:
        try:
            return names(text, expression=expression)
        except ExpressionError as error:
            self.problem(path, f"{path[-1]}: {error}")
            return frozenset()

    def _refer(self, found: Names, path: Path_, runbook: Runbook, scope: _Scope) -> None:
        for name in sorted(found):
            if name[0] not in scope.own and (told := _wrong(name, runbook, scope)):
                self.problem(path, told)


def _wrong(name: tuple[str, ...], runbook: Runbook, scope: _Scope) -> str | None:
    """What is wrong with a reference, or None."""
    root, whole = name[0], ".".join(name)
    declared: dict[str, Iterable[str]] = {
        "params": runbook.params,
        "vars": runbook.vars,
        "env": runbook.env,
        "secrets": runbook.secrets,
        "steps": scope.results,
        "runbook": ("id", "name", "owner", "risk"),
        "run": ("id", "number", "dry_run", "requested_by"),
    }
    if root in ("alert", "incident"):
        told = "text from outside may only fill a parameter (source), a note or the message of an assert"
        return None if scope.prose else f"{whole} is not allowed here: {told}"
    if root not in declared:
        known = [*declared, "alert", "incident", *scope.own]
        return f"{whole} is not known{_meant(root, known)}"
    if root == "secrets" and not scope.secrets:
        return f"{whole} is not allowed here: secrets go only into env, stdin or headers, where nobody can see them"
    if len(name) < 2:
        return f"{root} cannot be used as a whole; name a part, written out: {root}.…"
    if name[1] not in declared[root]:
        what = {"params": "declared", "vars": "declared", "steps": "a step before this one"}.get(root, "listed")
        return f"{root}.{name[1]} is not {what}{_meant(name[1], declared[root])}"
    if root == "params" and runbook.params[name[1]].type == "secret" and not scope.secrets:
        return f"{whole} is a secret; secrets go only into env, stdin or headers"
    if root == "steps" and (results := scope.results[name[1]]) is not None:
        told = ", ".join(sorted(results))
        if len(name) < 3:
            return f"{whole} cannot be used as a whole; name a result: {told}"
        if name[2] not in results:
            return f"steps.{name[1]} gives no {name[2]}{_meant(name[2], results)}; it gives {told}"
    return None


def _meant(word: str, known: Iterable[str]) -> str:
    near = nearest(word, list(known))
    return f"; did you mean {near}?" if near else ""


def _leaves(value: Any, path: Path_) -> Iterator[tuple[Path_, str]]:
    """Every text in *value*, and where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, (*path, i))


def _filled_later(value: Any, path: Path_) -> bool:
    """Whether the part of *value* at *path* is a text with `{{ }}`."""
    for key in path:
        inside = isinstance(value, list) and isinstance(key, int) and key < len(value)
        if not inside and not (isinstance(value, Mapping) and key in value):
            break  # from here on the path names a branch of a union, not a part of the value
        value = value[key]
    return templated(value)


def _known_keys(model: type[BaseModel], path: Path_) -> list[str]:
    """The keys that a mapping at *path* may have."""
    here: Any = model
    for key in path:
        here = _inside(here, key)
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    known = [info.alias or name for name, info in here.model_fields.items()]
    if here is Step:
        return [*(name for name in known if name not in ("key", "type", "action")), *ACTIONS]
    return [name for name in known if name != "sha256"] if here is Runbook else known


def _inside(kind: Any, key: str | int) -> Any:
    """The type of the part called *key* of a value of type *kind*."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if key in (name, info.alias):
                return _bare(info.annotation)
        return None
    arguments = get_args(kind)
    if get_origin(kind) is list:
        return _bare(arguments[0])
    return _bare(arguments[1]) if get_origin(kind) is dict else None


def _bare(kind: Any) -> Any:
    """*kind* without Annotated and without None."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    branches = [branch for branch in get_args(kind) if branch is not type(None)]
    if get_origin(kind) not in (list, dict) and len(branches) == 1:
        return _bare(branches[0])
    return kind
