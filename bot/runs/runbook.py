"""Runbooks: read from YAML, checked to the last expression before anybody can press their button."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints, ValidationError

from bot.alerts import matchers
from bot.kit import yaml
from bot.kit.clock import duration_text, parse_time
from bot.kit.errors import UserError
from bot.kit.shelf import Shelf
from bot.kit.text import nearest
from bot.runs import cron
from bot.runs import params as values
from bot.runs.expressions import ExpressionError, Names, names, templated
from bot.runs.model import ENDED
from bot.runs.params import Param
from bot.runs.step import EXPRESSION, LITERAL, PROSE, SECRETS, Duration, Effect, Mark, marks, message

# All that the schema knows; those without a plugin on the shelf are refused by name.
ACTIONS = (
    *("exec", "script", "http", "prometheus", "sql", "kubectl", "ansible", "terraform", "kestra"),
    *("slack", "pagerduty", "wait", "approval", "note", "runbook", "assert"),
)
# From where the times of a schedule are looked at for mistakes: a day like any other, so that a file is judged alike.
LOOKED_AT = datetime(2024, 1, 1, tzinfo=UTC)
# Those who are called to an incident, in the place of names.
RESPONDERS, COMMANDER = "@responders", "@commander"
DEEPEST = 3  # how deep runbooks may call each other
# What must never reach a runbook: the bot's own keys.
DENIED = ("SLACK_*", "TOCSIN_*", "PAGERDUTY_*", "DATABASE_URL", "*SIGNING*", "RUNBOOK_*", "LD_*", "DYLD_*")

# What a step is given by the loader; no file may say it.
GIVEN = ("key", "type", "action", "check")
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,99}$")]
Count = Annotated[int, Field(strict=True)]
Tries = Annotated[int, Field(ge=1, le=20)]
Path_ = tuple[str | int, ...]
# Earlier steps and the names of their results, where they are known.
Known = dict[str, frozenset[str] | None]


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
    mode: Literal["suggest", "auto"] = Field(default="suggest", description="auto starts it without a person")
    cooldown: Duration = Field(default=timedelta(minutes=15), description="time between two automatic runs")
    max_per_hour: Annotated[Count, Field(ge=1, le=60)] = Field(default=3, description="most automatic runs in an hour")
    quiet_hours: Literal["keep", "ignore"] = Field(default="keep", description="ignore starts it in them as well")


class Access(_Part):
    """Who may run it and who may approve."""

    run: list[str] = Field(default=["@responders"], description="who may start it: @responders, @commander, @team, ids")
    approve: list[str] | None = Field(default=None, description="who may answer its approvals")
    channels: Literal["incident", "any"] = Field(default="incident", description="where it may be started")


class Concurrency(_Part):
    """What must not run twice at the same time."""

    key: str = Field(default="{{ runbook.id }}", description="runs with the same key exclude each other")
    limit: Annotated[Count, Field(ge=1)] = Field(default=1, description="how many with the same key may be at work")
    on_conflict: Literal["reject", "queue", "cancel_running"] = Field(
        default="reject", description="what becomes of one too many: refused, held until it is its turn, or let in"
    )


class Retry(_Part):
    """How often a step is tried in all, and how long to wait in between."""

    attempts: Annotated[Count, Field(ge=1, le=20)] = Field(default=3, description="attempts in all")
    delay: Duration = Field(default=timedelta(seconds=2), description="wait before the second attempt")
    backoff: Literal["constant", "exponential"] = Field(default="exponential", description="how the waits grow")
    max_delay: Duration = Field(default=timedelta(minutes=1), description="longest wait between two attempts")
    jitter: StrictBool = Field(default=True, description="wait a little less by chance, so that not all come at once")
    when: str | None = Field(default=None, description="try again only while true; sees error, status, exit_code")


def _retry(value: object) -> object:
    return {"attempts": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Step(_Part):
    """One step: its type, what is filled in and handed to that type, and how the run treats it."""

    key: str = Field(description="its id, or its place where it has none; given by the loader")
    type: str = Field(description="the one action key it has in the file")
    action: dict[str, Any] = Field(description="what stands under that key, not filled in yet")

    id: Name | None = Field(default=None, description="later steps see steps.ID.…; tests name it by this")
    name: str | None = Field(default=None, description="for people; may hold {{ … }}")
    when: str | None = Field(default=None, description="expression: the step is skipped unless it is true")
    effect: Effect | None = Field(default=None, description="what it does to the world; else from its type")
    foreach: str | None = Field(
        default=None, description="expression: a list; the step once for each, as item and index"
    )
    parallel: Annotated[Count, Field(ge=1, le=20)] = Field(default=1, description="how many of foreach side by side")
    stop_on_error: StrictBool = Field(default=True, description="begin no more of foreach after one that failed")
    timeout: Duration | None = Field(default=None, description="longest time of one attempt")
    retry: Annotated[Retry | None, BeforeValidator(_retry, json_schema_input_type=Tries | Retry | None)] = Field(
        default=None, description="how often to try in all, and how long to wait in between"
    )
    continue_on_error: StrictBool = Field(default=False, description="go on although it failed")
    outputs: dict[Name, str] = Field(default={}, description="names for expressions on what the step gives")
    attach: StrictBool = Field(default=False, description="share its whole output as a file")
    show: Literal["auto", "output", "quiet"] = Field(default="auto", description="how much of it people are shown")
    on_failure: "list[Step] | None" = Field(default=None, description="steps to carry out when it has failed")
    rollback: "list[Step] | None" = Field(default=None, description="steps that take it back when the run fails")
    dry_run: "Literal['run', 'skip'] | Step | None" = Field(
        default=None, description="in a dry run: run it although, never run it, or another step that only reads"
    )
    check: "Step | None" = Field(default=None, description="the step below this one that it looks with; by the loader")

    @property
    def title(self) -> str:
        """What people read; may hold `{{ }}`."""
        return self.name or self.id or self.type

    @property
    def heading(self) -> str:
        """The same before anything is known that could fill it in."""
        return re.sub(r"\{\{[^{}]{0,500}\}\}", "…", self.title)


class LiveChoices(_Part):
    """Where the choices of a parameter come from each time its form is opened."""

    step: Step = Field(description="a step that only reads; given by the loader from its one action key")
    value: str = Field(description="expression on what the step gives; the choices as a list")


class Parameter(Param):
    """One thing a runbook asks for."""

    choices_from: LiveChoices | None = Field(default=None, description="a step that reads, and value: the choices")


def _schedule(value: object) -> object:
    return {"cron": value} if isinstance(value, str) else value


class Schedule(_Part):
    """When it runs by the clock, with which parameters, and what becomes of a time that was missed."""

    cron: str = Field(description="five fields: minute hour day month weekday; weekdays by name, such as mon")
    timezone: str = Field(default="UTC", description="such as Europe/Berlin")
    params: dict[Name, Any] = Field(default_factory=dict, description="values of its parameters")
    catch_up: Literal["skip", "once"] = Field(default="once", description="a time missed while the bot was away")
    jitter: Duration = Field(default=timedelta(), description="start at a time of chance, at most so much later")


class Raise(_Part):
    """What a run that has ended says to the world: an alert that fires, or one that has resolved."""

    id: Name = Field(
        default="alert", description="tells several rules of a runbook apart; part of the alert's identity"
    )
    when: str | None = Field(default=None, description="expression: fires while true, resolved once false")
    each: str | None = Field(default=None, description="expression: a list of texts, an alert for each, as item")
    key: str = Field(default="", description="what it is about; part of the alert's identity")
    title: str = Field(min_length=1, description="of the alert")
    description: str = ""
    severity: Literal["critical", "high", "medium", "low", "info"] = "medium"
    labels: dict[Label, str] = Field(default={}, description="for routes and for the parameters of runbooks")
    into: Literal["incident", "timeline"] = Field(
        default="incident", description="an alert that is routed like any other, or a finding on the run's timeline"
    )


class Report(_Part):
    """What a run that has ended says of an asset of the catalog: whether something about it is as it should be."""

    asset: str = Field(min_length=1, description="name of the asset; nothing is said where it comes out empty")
    kind: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,30}$", description="what was looked at: drift, patch, backup, or another word"
    )
    each: str | None = Field(default=None, description="expression: a list of texts, a word on each, as item")
    ok: str | None = Field(default=None, description="expression: as it should be; otherwise, that the run succeeded")
    text: str = Field(default="", description="what was found, in a few words")


class People(_Part):
    """What the people say who are asked by an approval, in a test. Left alone, they say yes."""

    approved: StrictBool = Field(default=True, description="false: they say no")
    by: str | list[str] = Field(default=[], description="who says it")
    reason: str = ""
    inputs: dict[str, Any] = Field(default={}, description="what the answer fills in")
    expired: StrictBool = Field(default=False, description="true: nobody says anything in time")
    fail: str | None = Field(default=None, description="they say no, for this reason")


class Expectation(_Part):
    """What a test says about a run that was played with mocks."""

    state: str | None = Field(
        default=None, description="state of the run at its end", json_schema_extra={"enum": list(ENDED)}
    )
    ran: list[str] | None = Field(default=None, description="ids of the steps that ran, in order")
    skipped: list[str] | None = Field(default=None, description="ids of the steps that were not needed")
    rolled_back: list[str] | None = Field(default=None, description="ids of the steps taken back, in order")
    failed: str | None = Field(default=None, description="the step at which it failed")
    message: str | None = Field(default=None, description="a part of the message it failed with")
    outputs: dict[str, Any] | None = Field(default=None, description="outputs of the run")
    raised: list[str] | None = Field(default=None, description="titles of the alerts that fire by it, in order")
    reported: dict[str, Literal["ok", "bad", "unknown"]] | None = Field(
        default=None, description="assets that are reported on, and how they are"
    )


class Alert(_Part):
    """The alert that a test begins with."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    title: str = ""
    severity: str = ""
    url: str = ""
    starts_at: str = ""


class Trial(_Part):
    """One run of the runbook with mocks in the place of the world."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="what it shows")
    params: dict[str, Any] = Field(
        default_factory=dict, description="values of the parameters, on top of what the alert fills in"
    )
    alert: Alert | None = Field(
        default=None, description="the alert: labels, annotations, title, severity, url, starts_at"
    )
    dry_run: StrictBool = Field(default=False, description="as a dry run")
    mock: dict[str, Any] = Field(
        default_factory=dict, description="by step id: a result, {fail: why}, or a list of both, one an attempt"
    )
    expect: Expectation = Field(description="what must come of it")


class Runbook(_Part):
    """A runbook as its file says, and the hash of that file."""

    sha256: str = Field(description="of the file's text; given by the loader")

    version: Annotated[Count, Field(ge=1, le=1)] = Field(description="of this format: 1")
    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,59}$")] = Field(description="the file's name")
    name: Annotated[str, Field(min_length=1, max_length=75)] = Field(description="on the button")
    description: str = Field(default="", description="in the form: what it does and when to use it")
    owner: str = Field(description="the team that answers for it")
    risk: Literal["low", "medium", "high"] = Field(default="medium", description="the colour of the button, and more")
    tags: list[str] = Field(default=[], description="words to find it by")
    docs: str | None = Field(default=None, description="address of a page with more about it")
    enabled: StrictBool = Field(default=True, description="false: read and checked, but not used")
    offer: list[Offer] = Field(default=[], description="on which alerts it is offered, or starts by itself")
    schedule: Annotated[Schedule | None, BeforeValidator(_schedule, json_schema_input_type=str | Schedule | None)] = (
        Field(default=None, description="when it runs by the clock: five fields of cron, or more than that")
    )
    params: dict[Name, Parameter] = Field(default={}, description="what its form asks for")
    access: Access = Field(default=Access(), description="who may run it and who may approve")
    concurrency: Concurrency = Field(default=Concurrency(), description="what must not run twice at the same time")
    timeout: Duration = Field(
        default=timedelta(minutes=15), description="longest time of a run, without waiting for people"
    )
    secrets: list[Variable] = Field(default=[], description="secrets it uses, by name; never the secrets themselves")
    env: list[Variable] = Field(default=[], description="environment variables of the bot that it may see")
    vars: dict[Name, Any] = Field(default={}, description="constants, which may be made of parameters")
    steps: Annotated[list[Step], Field(min_length=1, max_length=100)] = Field(description="what is done, in order")
    on_failure: list[Step] = Field(default=[], description="steps for when the run has failed, after the rollback")
    always: list[Step] = Field(default=[], description="steps that are carried out at the end in any case")
    outputs: dict[Name, str] = Field(default={}, description="expressions that are shown with the result")
    raises: list[Raise] = Field(default=[], description="alerts that a run raises, or takes back, when it has ended")
    reports: list[Report] = Field(default=[], description="what a run that has ended says of assets of the catalog")
    tests: list[Trial] = Field(default=[], description="runs with mocks, for `tocsin runbooks test`")

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


@dataclass(frozen=True)
class Written:
    """A runbook, and where each part of it stands in its file. *calls* are the places at which it uses what a runbook
    that it calls gives: the place, the step's id, and the name.
    """

    runbook: Runbook
    document: yaml.Document
    calls: Sequence[tuple[Path_, str, str]] = ()

    def problem(self, path: Path_, told: str) -> Problem:
        """Something that is wrong at *path*."""
        return Problem(self.document.name, self.document.line(path), told)


class LintError(UserError):
    """Everything that is wrong with a runbook."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


def load(text: str, name: str, steps: Shelf) -> Runbook:
    """The runbook in *text*, a file called *name*; a LintError with all that is wrong otherwise."""
    return read(text, name, steps).runbook


def read(text: str, name: str, steps: Shelf) -> Written:
    """The same, with the lines of its parts."""
    try:
        document = yaml.load(text, name)
    except yaml.YamlError as error:
        raise LintError([Problem(error.name, error.line, error.message)]) from None
    reading = _Reading(document, steps)
    runbook = reading.read(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    if runbook is None or reading.problems:
        raise LintError(reading.problems)
    return Written(runbook, document, reading.called)


def load_folder(path: Path, steps: Shelf) -> tuple[list[Runbook], list[Problem]]:
    """The good runbooks of a folder, by id, and what is wrong with the others."""
    good, problems = read_folder(path, steps)
    return [one.runbook for one in good.values()], problems


def read_folder(path: Path, steps: Shelf) -> tuple[dict[str, Written], list[Problem]]:
    """The same, by id and with the lines of their parts."""
    good: dict[str, Written] = {}
    problems: list[Problem] = []
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml")) if path.is_dir() else []
    for file in files:
        try:
            found = read_file(file, steps)
        except LintError as error:
            problems += error.problems
            continue
        if found.runbook.id in good:
            problems.append(found.problem(("id",), f"there is another runbook with the id {found.runbook.id!r}"))
        good.setdefault(found.runbook.id, found)
    for found in list(good.values()):
        if wrong := between(found, {name: one.runbook for name, one in good.items()}):
            problems += wrong
            del good[found.runbook.id]
    return good, problems


def between(found: Written, there: Mapping[str, Runbook]) -> list[Problem]:
    """What is wrong with a runbook because of those that it calls."""
    book = found.runbook
    calling = [(i, step, str(step.action.get("use"))) for i, step in enumerate(book.steps) if step.type == "runbook"]
    for i, step, _ in calling:
        if told := unusable(book.model_copy(update={"steps": [step]}), there):
            return [found.problem(("steps", i, "runbook", "use"), told)]
    if told := unusable(book, there):
        return [found.problem((), told)]
    if told := _too_much(book, there):
        return [found.problem(("offer",), told)]
    problems = [
        problem for i, step, name in calling for problem in _called_with(found, ("steps", i), step, there[name])
    ]
    called = {step.id: there[name] for _, step, name in calling if step.id}
    for path, step_id, output in found.calls:
        other = called.get(step_id)
        if other is not None and output not in (*other.outputs, "ok", "state"):
            listed = ", ".join(sorted(other.outputs)) or "none"
            told = f"the runbook {other.id} gives no {output}{_meant(output, other.outputs)}; its outputs: {listed}"
            problems.append(found.problem(path, told))
    for i, trial in enumerate(book.tests):
        for name in trial.mock:
            head, slash, rest = name.partition("/")
            if slash and "/" not in rest and head in called and rest not in (known := steps_by_id(called[head])):
                told = f"mock: the runbook {called[head].id} has no step {rest!r}{_meant(rest, known)}"
                problems.append(found.problem(("tests", i, "mock", name), told))
    return problems


def _called_with(found: Written, path: Path_, step: Step, other: Runbook) -> Iterator[Problem]:
    """What is wrong with the parameters that *other* is called with, as far as they are written out."""
    given = step.action.get("params") or {}
    if not other.enabled:
        yield found.problem((*path, "runbook", "use"), f"the runbook {other.id} is switched off (enabled: false)")
    try:
        values.check(other, given)
    except values.ParamErrors as error:
        for name, told in error.errors.items():
            if not templated(given.get(name)):
                place = (*path, "runbook", "params", name)
                yield found.problem(
                    place,
                    f"the runbook {other.id} is called with {name}, which {told}"
                    if name in given
                    else f"the runbook {other.id} needs the parameter {name}",
                )


def unusable(runbook: Runbook, there: Mapping[str, "Runbook"]) -> str | None:
    """Why *runbook* cannot call the runbooks that it calls, or None."""

    def look(one: Runbook, above: tuple[str, ...]) -> str | None:
        for name in calls(one):
            chain = " → ".join((*above, name))
            if name in above:
                return f"runbooks call each other in a circle: {chain}"
            if name not in there:
                near = nearest(name, list(there))
                return f"calls the runbook {name!r}, which is not there or not fit to run" + (
                    f"; did you mean {near!r}?" if near else ""
                )
            if len(above) >= DEEPEST:
                return f"runbooks call each other more than {DEEPEST} deep: {chain}"
            if told := look(there[name], (*above, name)):
                return told
        return None

    return look(runbook, (runbook.id,))


def _too_much(runbook: Runbook, there: Mapping[str, "Runbook"]) -> str | None:
    """What starts by itself must not come to more risk by what it calls."""
    if all(offer.mode != "auto" for offer in runbook.offer):
        return None
    unasked = takewhile(lambda step: step.type != "approval", runbook.steps)
    before = runbook.model_copy(update={"steps": list(unasked)})
    risky = next((book for book in used(before, there).values() if book.risk != "low"), None)
    told = "may start by itself (mode: auto), so what it calls before anybody was asked must be of low risk"
    return f"{told}; {risky.id!r} is of {risky.risk} risk" if risky else None


def calls(runbook: Runbook) -> list[str]:
    """The runbooks that *runbook* calls itself, by id."""
    return [str(step.action.get("use")) for step in runbook.steps if step.type == "runbook"]


def used(runbook: Runbook, there: Mapping[str, "Runbook"]) -> dict[str, "Runbook"]:
    """Every runbook that a run of *runbook* may come to, by id."""
    found: dict[str, Runbook] = {}
    todo = calls(runbook)
    while todo:
        name = todo.pop()
        if name in there and name not in found:
            found[name] = there[name]
            todo += calls(there[name])
    return found


def load_path(path: Path, steps: Shelf) -> tuple[list[Runbook], list[Problem]]:
    """The good runbooks of a folder, or the one of a file; and all that is wrong."""
    if path.is_dir():
        return load_folder(path, steps)
    try:
        return [read_file(path, steps).runbook], []
    except LintError as error:
        return [], error.problems


def written(path: Path, steps: Shelf) -> list[Written]:
    """The good runbooks of a folder, or the one of a file, with their lines."""
    if path.is_dir():
        return list(read_folder(path, steps)[0].values())
    try:
        return [read_file(path, steps)]
    except LintError:
        return []


def lint(path: Path, steps: Shelf) -> list[Problem]:
    """All that is wrong with a file, or with the files of a folder. A file may call those that lie beside it."""
    if path.is_dir():
        return load_folder(path, steps)[1]
    try:
        found = read_file(path, steps)
    except LintError as error:
        return error.problems
    return between(found, beside(path, found.runbook, steps)) if calls(found.runbook) else []


def beside(file: Path, runbook: Runbook, steps: Shelf) -> dict[str, Runbook]:
    """The good runbooks of the folder in which *file* lies, *runbook* among them."""
    there = {one.id: one for one in load_folder(file.parent, steps)[0]} if calls(runbook) else {}
    return {**there, runbook.id: runbook}


def variables(runbook: Runbook) -> list[tuple[Path_, str]]:
    """The variables of the environment that a runbook names, and where."""
    return [(("env", i), name) for i, name in enumerate(runbook.env)]


def secrets(runbook: Runbook) -> list[tuple[Path_, str]]:
    """The secrets that a runbook names, and where; those that may be chosen in its form are among them."""
    named: list[tuple[Path_, str]] = [(("secrets", i), name) for i, name in enumerate(runbook.secrets)]
    for key, param in runbook.params.items():
        if param.type == "secret":
            named += [(("params", key, "choices", i), name) for i, name in enumerate(param.choices or ())]
    return named


def denied(name: str) -> bool:
    """Whether *name* is that of one of the bot's own keys, which nothing can grant."""
    return any(fnmatchcase(name.upper(), pattern) for pattern in DENIED)


def steps_by_id(runbook: Runbook) -> dict[str, Step]:
    """Every step of a runbook that has an id, those below others too."""
    return {step.id: step for step in every_step(runbook) if step.id is not None}


def every_step(runbook: Runbook) -> Iterator[Step]:
    """The steps of a runbook and those below them."""
    todo = [*runbook.steps, *runbook.on_failure, *runbook.always]
    while todo:
        step = todo.pop()
        yield step
        todo += [*(step.on_failure or ()), *(step.rollback or ()), *([step.check] if step.check else ())]


def started_with(runbook: Runbook, trial: Trial) -> dict[str, Any]:
    """The values that a test starts its run with; ParamErrors where they are not fit for it."""
    return values.check(runbook, {**prefilled(runbook, trial.alert or Alert()), **trial.params})


def prefilled(runbook: Runbook, alert: Alert) -> dict[str, Any]:
    """What the form of a runbook would start with, for an incident that began with *alert*."""
    service = alert.labels.get("service", "")
    incident = {"reference": "INC-1", "title": alert.title or runbook.name, "severity": "SEV3", "service": service}
    return values.prefill(runbook, alert.model_dump(), incident)


def offers(runbook: Runbook, labels: Mapping[str, str], service: str | None, severity: str | None) -> int:
    """How well *runbook* fits an alert: 0 if it is not meant for it, and more the more it asked for."""
    if not runbook.enabled:
        return 0
    return max((score(offer.match, labels, service or "", severity or "") for offer in runbook.offer), default=0)


def score(match: Match, labels: Mapping[str, str], service: str, severity: str) -> int:
    """How many of the things that *match* asks for hold, if all do; else 0."""
    asked = [matchers.parse(text).matches(labels) for text in match.labels]
    asked += [service.lower() in map(str.lower, match.services)] if match.services else []
    asked += [severity.lower() in map(str.lower, match.severities)] if match.severities else []
    return len(asked) if all(asked) else 0


def read_file(file: Path, steps: Shelf) -> Written:
    """The runbook in *file*; a LintError otherwise."""
    try:
        text = file.read_bytes().decode("utf-8")
    except OSError as error:
        raise LintError([Problem(file.name, 1, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError:
        raise LintError([Problem(file.name, 1, "is not UTF-8 text")]) from None
    return read(text, file.name, steps)


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
        self.ids: set[str] = set()
        self.called: list[tuple[Path_, str, str]] = []
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
        if isinstance(self.data.get("params"), dict):
            self.data["params"] = {name: self._live(raw, name) for name, raw in self.data["params"].items()}
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
        for key in GIVEN:
            if key in rest:
                self.problem((*path, key), f"unknown key {key!r}; a step has one action key such as exec or note")
                del rest[key]
        for key in ("on_failure", "rollback"):
            if isinstance(rest.get(key), list):
                rest[key] = self._split_all(rest[key], (*path, key))
        if isinstance(rest.get("dry_run"), dict):
            rest["dry_run"] = self._split(rest["dry_run"], (*path, "dry_run"))
        if len(actions) != 1:
            told = ", ".join(actions) or "none"
            meant = next((f"; did you mean {near!r}?" for key in rest if (near := self._near_action(key))), "")
            self.problem(path, f"a step needs exactly one action ({', '.join(self.steps)}); found {told}{meant}")
        chosen = actions[0] if actions else ""
        rest["key"] = rest["id"] if isinstance(rest.get("id"), str) else "-".join(map(str, path))
        action = self._action(chosen, raw.get(chosen), path)
        if chosen == "wait" and isinstance(action.get("check"), dict):
            rest["check"] = self._split(action["check"], (*path, "wait", "check"))
        return {**rest, "type": chosen, "action": action}

    def _live(self, raw: Any, name: str) -> Any:
        """The parameter *name* with its choices_from, if any, as a step and a value."""
        if not isinstance(raw, dict) or not isinstance(raw.get("choices_from"), dict):
            return raw
        rest = dict(raw["choices_from"])
        live = {"value": rest.pop("value")} if "value" in rest else {}
        return {**raw, "choices_from": {**live, "step": self._split(rest, ("params", name, "choices_from"))}}

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
        if runbook.risk == "high" and "access" not in runbook.model_fields_set:
            self.problem(("risk",), "a runbook of high risk says who may run it: access: {run: ['@responders']}")
        for name, param in runbook.params.items():
            self._check_param(param, ("params", name), runbook)
        for path, variable in (*secrets(runbook), *variables(runbook)):
            if denied(variable):
                self.problem(path, f"{variable} belongs to the bot; no runbook may name it")
        basis = _Scope({})
        alone = runbook.model_copy(update={"vars": {}})
        for name, value in runbook.vars.items():
            self._texts(value, ("vars", name), alone, basis)
        self._text(runbook.concurrency.key, ("concurrency", "key"), runbook, basis)
        known: Known = {}
        writes = self._check_steps(runbook, known)
        for i, offer in enumerate(runbook.offer):
            self._check_offer(offer, ("offer", i), runbook, writes)
        after = _Scope(dict(known), own=frozenset({"failure"}))
        self._check_block(runbook.on_failure, ("on_failure",), runbook, after)
        self._check_block(runbook.always, ("always",), runbook, after)
        for name, expression in runbook.outputs.items():
            self._expression(expression, ("outputs", name), runbook, _Scope(known))
        for i, rule in enumerate(runbook.raises):
            self._check_raise(rule, ("raises", i), runbook, known)
        for i, report in enumerate(runbook.reports):
            self._check_report(report, ("reports", i), runbook, known)
        if len({rule.id for rule in runbook.raises}) < len(runbook.raises):
            self.problem(("raises",), "two of these have the same id; it is part of the identity of their alerts")
        if runbook.schedule is not None:
            self._check_schedule(runbook.schedule, runbook)
        self._check_tests(runbook)

    def _check_steps(self, runbook: Runbook, known: Known) -> str | None:
        """The steps, and the first of them that changes something before anybody was asked."""
        asked, writes = False, None
        for i, step in enumerate(runbook.steps):
            effect = self._check_step(step, ("steps", i), runbook, known, top=True)
            asked = asked or step.type == "approval"
            if asked or (effect == "read" and step.type != "runbook"):
                continue
            writes = writes or step.title
            if effect == "destructive" or step.type == "sql":
                what = "destroys something" if effect == "destructive" else "writes into a database"
                self.problem(("steps", i), f"this step {what}, so people are asked first: put an approval before it")
        return writes

    def _check_block(self, steps: Iterable[Step], path: Path_, runbook: Runbook, scope: _Scope) -> None:
        """Steps that are only carried out at times. What they give is known among them alone."""
        known = dict(scope.results)
        for i, step in enumerate(steps):
            self._check_step(step, (*path, i), runbook, known, own=scope.own)

    def _check_raise(self, rule: Raise, path: Path_, runbook: Runbook, known: Known) -> None:
        """An alert's identity and labels come from what the run found, never from text of an alert before it."""
        scope = _Scope(dict(known), own=frozenset({"failed", "failure"}))
        if rule.when is None and rule.each is None:
            self.problem(path, "say when it fires: when (an expression), or each (a list with an alert for each)")
        for field in ("when", "each"):
            if (expression := getattr(rule, field)) is not None:
                self._expression(expression, (*path, field), runbook, scope)
        self._text(rule.key, (*path, "key"), runbook, scope)
        if rule.each is not None:
            scope = replace(scope, own=scope.own | {"item"})
        self._texts(rule.labels, (*path, "labels"), runbook, scope)
        for field in ("title", "description"):
            self._text(getattr(rule, field), (*path, field), runbook, replace(scope, prose=True))

    def _check_report(self, rule: Report, path: Path_, runbook: Runbook, known: Known) -> None:
        scope = _Scope(dict(known), own=frozenset({"failed", "failure"}))
        if rule.each is not None:
            self._expression(rule.each, (*path, "each"), runbook, scope)
            scope = replace(scope, own=scope.own | {"item"})
        if rule.ok is not None:
            self._expression(rule.ok, (*path, "ok"), runbook, scope)
        self._text(rule.asset, (*path, "asset"), runbook, scope)
        self._text(rule.text, (*path, "text"), runbook, replace(scope, prose=True))

    def _check_schedule(self, schedule: Schedule, runbook: Runbook) -> None:
        """Everything that would otherwise be found out at three in the morning."""
        path = ("schedule",) if isinstance(self.data.get("schedule"), str) else ("schedule", "cron")
        told = cron.wrong_timezone(schedule.timezone)
        if told:
            self.problem(("schedule", "timezone"), told)
        elif told := cron.wrong(schedule.cron, schedule.timezone):
            self.problem(path, told)
        else:
            apart = cron.shortest(schedule.cron, schedule.timezone, LOOKED_AT)
            if apart is not None and schedule.jitter >= apart:
                self.problem(
                    ("schedule", "jitter"),
                    f"jitter must be shorter than the time between two runs, which is {duration_text(apart)}",
                )
        try:
            values.check(runbook, schedule.params)
        except values.ParamErrors as error:
            for name, why in error.errors.items():
                at = ("schedule", "params", name) if name in schedule.params else ("schedule",)
                self.problem(at, f"nobody is there to fill in a form: {name} {why}")
        for i, step in enumerate(runbook.steps):
            who = step.action.get("who") or runbook.access.approve or [RESPONDERS]
            if step.type == "approval" and not set(map(str, who)) - {RESPONDERS, COMMANDER}:
                told = "a run by the clock has no responders, so name who may approve it (who, or access.approve)"
                self.problem(("steps", i), told)

    def _check_offer(self, offer: Offer, path: Path_, runbook: Runbook, writes: str | None) -> None:
        if offer.mode == "auto" and writes and runbook.risk != "low":
            told = "only of low risk, or if everything before the first approval reads"
            self.problem((*path, "mode"), f"auto is not allowed here, {told}; {writes!r} may change something")
        if not (offer.match.labels or offer.match.services or offer.match.severities):
            self.problem((*path, "match"), "would be offered on every alert; name labels, services or severities")
        for i, text in enumerate(offer.match.labels):
            try:
                matchers.parse(text)
            except matchers.MatcherError as error:
                self.problem((*path, "match", "labels", i), str(error))

    def _check_param(self, param: Parameter, path: Path_, runbook: Runbook) -> None:
        fits = {
            "choices": ("choice", "secret"),
            "choices_from": ("choice",),
            "pattern": ("string", "list", "choice"),
            "min": ("int", "number", "duration"),
            "max": ("int", "number", "duration"),
            "max_items": ("list",),
        }
        for field, types in fits.items():
            if getattr(param, field) is not None and param.type not in types:
                self.problem((*path, field), f"{field} does nothing for type {param.type}, only for {', '.join(types)}")
        if param.type == "choice" and not param.choices and param.choices_from is None:
            self.problem(path, "a choice needs choices, or choices_from")
        if param.type == "choice" and param.choices and param.choices_from is not None:
            self.problem((*path, "choices_from"), "give choices or choices_from, not both")
        if param.type == "secret" and not param.choices:
            self.problem(path, "a secret needs choices: the names of the secrets it may be, never a secret itself")
        if param.choices_from is not None:
            self._check_choices(param.choices_from, (*path, "choices_from"), runbook)
        if param.min is not None and param.max is not None and param.min > param.max:
            self.problem((*path, "min"), f"min {param.min} is above max {param.max}")
        if param.pattern is not None and (reason := values.pattern_error(param.pattern)):
            self.problem((*path, "pattern"), reason)
        elif param.default is not None:
            try:
                values.value(param, param.default)
            except ValueError as error:
                self.problem((*path, "default"), f"the default {error}")
        if param.source is not None:
            for name in sorted(self._names(param.source, (*path, "source"), expression=True)):
                if name[0] not in ("alert", "incident"):
                    self.problem((*path, "source"), f"{'.'.join(name)} is not known here, only alert and incident")

    def _check_choices(self, live: LiveChoices, path: Path_, runbook: Runbook) -> None:
        """Where choices come from: a step that reads, on nothing but what is fixed; its value is a list."""
        before: Known = {}
        bare = runbook.model_copy(update={"params": {}, "secrets": []})
        effect = self._check_step(live.step, path, bare, before)
        if effect != "read":
            self.problem(path, "choices must come from a step that only reads")
        self._expression(live.value, (*path, "value"), bare, _Scope({}, own=self._results(live.step)))

    def _results(self, step: Step) -> frozenset[str]:
        """The names that a step gives, besides its own outputs."""
        return frozenset(getattr(self.steps[step.type], "RESULT", ())) if step.type in self.steps else frozenset()

    def _check_step(
        self,
        step: Step,
        path: Path_,
        runbook: Runbook,
        known: Known,
        *,
        own: frozenset[str] = frozenset(),
        top: bool = False,
    ) -> Effect:
        """All of one step and of those below it; what it does to the world."""
        self._check_shape(step, path, top=top)
        scope = _Scope(dict(known), own=own)
        if step.foreach is not None:
            self._expression(step.foreach, (*path, "foreach"), runbook, scope)
            scope = replace(scope, own=scope.own | {"item", "index"})
        if step.name is not None:
            self._text(step.name, (*path, "name"), runbook, scope)
        if step.when is not None:
            self._expression(step.when, (*path, "when"), runbook, scope)
        results, effect = self._results(step), step.effect or "read"
        if step.type in self.steps:
            effect = self._check_action(step, self.steps[step.type], (*path, step.type), runbook, scope)
        elif step.type:
            there = ", ".join(self.steps)
            self.problem(
                (*path, step.type), f"step type {step.type!r} is not available in this version; there is: {there}"
            )
        for name, expression in step.outputs.items() if step.type in self.steps else ():
            self._expression(expression, (*path, "outputs", name), runbook, replace(scope, own=scope.own | results))
        if step.retry is not None and step.retry.when is not None:
            seen = scope.own | results | {"error", "status", "exit_code"}
            self._expression(step.retry.when, (*path, "retry", "when"), runbook, replace(scope, own=seen))
        if step.id is not None:
            if step.id in self.ids:
                self.problem((*path, "id"), f"two steps have the id {step.id!r}")
            self.ids.add(step.id)
            known[step.id] = self._given(step, results)
        after = _Scope(dict(known), own=scope.own | {"failure"})
        for field, below in (("on_failure", step.on_failure), ("rollback", step.rollback)):
            self._check_block(below or (), (*path, field), runbook, after)
        if isinstance(step.dry_run, Step):
            if self._check_step(step.dry_run, (*path, "dry_run"), runbook, dict(known), own=scope.own) != "read":
                self.problem(
                    (*path, "dry_run"), "what a dry run does instead must only read; say effect: read if it does"
                )
        elif step.dry_run == "run" and effect != "read":
            self.problem((*path, "dry_run"), "a dry run must not run a step that changes something")
        return effect

    def _given(self, step: Step, results: frozenset[str]) -> frozenset[str] | None:
        """The names under which later steps find what *step* gave; None if they cannot be known."""
        if step.type not in self.steps or step.type == "runbook":
            return None
        if step.foreach is not None:
            return frozenset({"ok", "state", "items", "count", "failed"})
        return results | frozenset(step.outputs) | {"ok", "state"}

    def _check_shape(self, step: Step, path: Path_, *, top: bool) -> None:
        """What does not go together."""
        if step.type in ("approval", "runbook"):
            what = {"approval": "people are asked", "runbook": "another runbook is called"}[step.type]
            if not top or step.foreach is not None:
                self.problem(path, f"{what} only among the steps themselves, and not in a foreach")
            if step.retry is not None:
                self.problem((*path, "retry"), f"{step.type} is not tried again")
            if step.rollback is not None:
                self.problem((*path, "rollback"), f"{step.type} has no rollback of its own")
        for field in ("on_failure", "rollback", "foreach"):
            if not top and getattr(step, field) is not None:
                self.problem((*path, field), f"{field} has no place here, only at one of the steps")
        if step.foreach is None:
            for field in ("parallel", "stop_on_error"):
                if field in step.model_fields_set:
                    self.problem((*path, field), f"{field} does nothing without foreach")

    def _check_action(self, step: Step, module: ModuleType, path: Path_, runbook: Runbook, scope: _Scope) -> Effect:
        told = getattr(module, "effect", None)
        effect: Effect = step.effect or module.EFFECT
        try:
            params = module.Params.model_validate(step.action)
            known: Effect = told(params) if told else module.EFFECT
            effect = step.effect or known
            if effect == "read" and known != "read" and getattr(module, "EXACT", False):
                self.problem(
                    (*path[:-1], "effect"), f"this step writes; {step.type} steps are not called anything less"
                )
                effect = known
        except ValidationError as error:
            for part in error.errors():
                # What is filled in later can only be judged then.
                if part["type"] == "refused" or not _filled_later(step.action, part["loc"]):
                    self._explain(part, path, module.Params)
        marked = marks(module.Params)
        own = self._results(step)
        if step.check is not None:
            inner = dict(scope.results)
            if self._check_step(step.check, (*path, "check"), runbook, inner, own=scope.own) != "read":
                self.problem((*path, "check"), "what is looked at again and again must only read")
            own |= self._results(step.check) | frozenset(step.check.outputs)
        for key, value in step.action.items():
            if key == "check" and step.check is not None:
                continue
            self._check_field(key, value, marked.get(key), path, runbook, scope, own)
        return effect

    def _check_field(
        self,
        key: str,
        value: Any,
        mark: Mark | None,
        path: Path_,
        runbook: Runbook,
        scope: _Scope,
        own: frozenset[str],
    ) -> None:
        if mark is EXPRESSION:
            inner = _Scope(scope.results, own=scope.own | own)
            for at, text in _leaves(value, (*path, key)):
                self._expression(text, at, runbook, inner)
        elif mark is LITERAL:
            for at, text in _leaves(value, (*path, key)):
                if templated(text):
                    self.problem(at, f"{key} is taken as it stands: no {{{{ }}}} here; give values apart from it")
        else:
            inner = _Scope(scope.results, own=scope.own, prose=mark is PROSE, secrets=mark is SECRETS)
            self._texts(value, (*path, key), runbook, inner)

    # Tests.

    def _check_tests(self, runbook: Runbook) -> None:
        ids = steps_by_id(runbook)
        fit = not self.problems  # of a runbook with faults, nobody knows which values it takes
        named: set[str] = set()
        for i, trial in enumerate(runbook.tests):
            path: Path_ = ("tests", i)
            if trial.name in named:
                self.problem((*path, "name"), f"two tests are called {trial.name!r}")
            named.add(trial.name)
            if trial.alert is not None and trial.alert.starts_at and parse_time(trial.alert.starts_at) is None:
                told = f"{trial.alert.starts_at!r} is not a time; write for example '2026-03-01T12:00:00Z'"
                self.problem((*path, "alert", "starts_at"), told)
            for name, answer in trial.mock.items():
                self._check_mock(name, answer, (*path, "mock", name), ids)
            self._check_expectation(trial.expect, (*path, "expect"), runbook, ids)
            if fit:
                self._check_given(trial, path, runbook)

    def _check_given(self, trial: Trial, path: Path_, runbook: Runbook) -> None:
        try:
            started_with(runbook, trial)
        except values.ParamErrors as error:
            for name, told in error.errors.items():
                self.problem((*path, "params", name), f"params: {name} {told}")

    def _check_mock(self, name: str, answer: Any, path: Path_, ids: Mapping[str, Step]) -> None:
        head, slash, _ = name.partition("/")
        step = ids.get(head)
        if step is None:
            told = f"mock: there is no step with the id {head!r}{_meant(head, ids)}"
            self.problem(path, told)
            return
        if slash:
            if step.type != "runbook":
                self.problem(path, f"mock: {head} calls no other runbook, so nothing of it is called {name}")
            return
        several = isinstance(answer, list)
        for i, one in enumerate(answer if several else [answer]):
            at = (*path, i) if several else path
            if not isinstance(one, dict):
                self.problem(
                    at, "a mock is what the step gives, such as {value: 3}, or {fail: why}, or a list of these"
                )
            elif step.type in self.steps:
                self._check_answer(one, at, step)
        if several and not answer:
            self.problem(path, "a mock must not be empty")

    def _check_answer(self, answer: Mapping[str, Any], path: Path_, step: Step) -> None:
        if "fail" in answer and not (isinstance(answer["fail"], str) and answer["fail"]):
            self.problem((*path, "fail"), "fail must be text: why it fails")
        if step.type == "approval":
            try:
                People.model_validate(answer)
            except ValidationError as error:
                for part in error.errors():
                    self._explain(part, path, People)
        elif step.type != "runbook":  # of a call, everything that the other runbook may give
            known = sorted(self._results(step) | set(step.outputs))
            for key in answer:
                if key not in (*known, "fail"):
                    told = (
                        f"{step.type} gives no {key}{_meant(key, known)}; a mock may say {', '.join((*known, 'fail'))}"
                    )
                    self.problem((*path, key), told)

    def _check_expectation(self, expect: Expectation, path: Path_, runbook: Runbook, ids: Mapping[str, Step]) -> None:
        said = {field: value for field, value in expect if value is not None}
        if not said:
            self.problem(path, "expects nothing; say at least state: succeeded")
        if expect.state is not None and expect.state not in ENDED:
            told = (
                f"state: {expect.state!r} is no end of a run{_meant(expect.state, ENDED)}; they are {', '.join(ENDED)}"
            )
            self.problem((*path, "state"), told)
        for field in ("ran", "skipped", "rolled_back", "failed"):
            listed = [said[field]] if isinstance(said.get(field), str) else said.get(field, [])
            for i, name in enumerate(listed):
                at = (*path, field, i) if field != "failed" else (*path, field)
                step = ids.get(name.partition("/")[0])
                if step is None:
                    self.problem(at, f"{field}: there is no step with the id {name!r}{_meant(name, ids)}")
                elif field == "rolled_back" and "/" not in name and not step.rollback:
                    self.problem(at, f"rolled_back: {name} does not say how it is taken back (rollback)")
        for name in expect.outputs or {}:
            if name not in runbook.outputs:
                told = f"outputs: the runbook gives no {name}{_meant(name, runbook.outputs)}"
                self.problem((*path, "outputs", name), told)

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
            elif name[0] == "steps" and len(name) > 2 and scope.results.get(name[1]) is None:
                self.called.append((path, name[1], name[2]))


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
        told = "text from outside may only fill a parameter (source) or a text for people, such as a note or a message"
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
        return [*(name for name in known if name not in GIVEN), *ACTIONS]
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
