"""Plays the tests of a runbook: the real interpreter, with mocks in the place of the world, and in no time.

A step with a mock gives what the mock says; its `outputs`, and its `expect` if it has one, are computed from that. One
without a mock goes well, and nothing is known of what it gives: text that quotes it is marked ``‹so›``, and whatever
must be decided by it fails the test with a word on what to mock. What talks to nobody (`assert`, `note`, `wait`,
`approval`, `runbook`) is carried out for real; people who are asked say yes unless a mock says otherwise.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from bot.incidents.model import TimelineEvent
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id
from bot.kit.shelf import Shelf
from bot.kit.timelapse import play
from bot.runs import params as values
from bot.runs import raising
from bot.runs import run as runs
from bot.runs.attempt import NEEDS, Attempts, line, no, previews, storable
from bot.runs.expressions import ExpressionError, Unknown, evaluate, fill, names
from bot.runs.going import Going, Scope
from bot.runs.grants import Grants
from bot.runs.interpreter import Interpreter
from bot.runs.journal import Outcome
from bot.runs.memory import Memory, remembered
from bot.runs.model import Approval, ApprovalState, Phase, RunStep, StepState, Vote
from bot.runs.params import Param
from bot.runs.raising import Finding
from bot.runs.runbook import (
    LintError,
    Path_,
    People,
    Problem,
    Runbook,
    Step,
    Trial,
    Written,
    beside,
    between,
    read_file,
    read_folder,
    started_with,
    used,
)
from bot.runs.step import EXPRESSION, LITERAL, StepContext, marks

BEGUN_AT = datetime(2025, 1, 6, 9, tzinfo=UTC)
# They talk to nobody but the run itself, so they are carried out as they are.
REAL = ("approval", "assert", "note", "runbook", "wait")
_TO_MOCK = re.compile(r"mock `[^`]+`: .*")
_INPUTS = TypeAdapter(dict[str, Param])
_SIGNS = {
    StepState.SUCCEEDED: "✓",
    StepState.FAILED: "✗",
    StepState.FAILED_IGNORED: "✗",
    StepState.SKIPPED: "-",
    StepState.PREVIEWED: "…",
    StepState.CANCELLED: "✗",
}


@dataclass(frozen=True)
class Verdict:
    """How one test of a runbook went. *reasons* say what was expected and what came; *story* is what happened."""

    runbook: str
    test: str
    reasons: Sequence[Problem] = ()
    story: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        """Whether everything came as it was expected."""
        return not self.reasons


@dataclass(frozen=True)
class Scene:
    """One test that can be played, with the runbooks that its own may call."""

    written: Written
    number: int
    books: Mapping[str, Runbook]

    @property
    def trial(self) -> Trial:
        """What the file says about it."""
        return self.written.runbook.tests[self.number]

    @property
    def line(self) -> int:
        """Where it stands."""
        return self.written.document.line(("tests", self.number))


def scenes(path: Path, steps: Shelf) -> tuple[list[Written], list[Scene], list[Problem]]:
    """The runbooks of a file or a folder, their tests in order, and what is wrong with the others."""
    if path.is_dir():
        there, problems = read_folder(path, steps)
        found = list(there.values())
        books = {name: one.runbook for name, one in there.items()}
    else:
        try:
            one = read_file(path, steps)
        except LintError as error:
            return [], [], error.problems
        books = beside(path, one.runbook, steps)
        if problems := between(one, books):
            return [], [], problems
        found = [one]
    return found, [Scene(one, i, books) for one in found for i in range(len(one.runbook.tests))], problems


def rehearse(scene: Scene, steps: Shelf) -> Verdict:
    """Play one test."""
    written, trial = scene.written, scene.trial
    runbook = written.runbook
    try:
        given = started_with(runbook, trial)
    except values.ParamErrors as error:
        told = written.problem(("tests", scene.number, "params"), f"params: {error}")
        return Verdict(runbook.id, trial.name, (told,))
    played = play(_play(scene, steps, given))
    reasons = [
        written.problem(("tests", scene.number, *path), told) for path, told in _differences(trial, runbook, played)
    ]
    return Verdict(runbook.id, trial.name, reasons, list(_story(played)))


# -- one run ------------------------------------------------------------------------------------------------------


def _nothing_follows(event: TimelineEvent) -> list[Any]:
    return []


async def _play(scene: Scene, steps: Shelf, given: Mapping[str, Any]) -> "_Played":
    loop = asyncio.get_running_loop()
    clock = lambda: BEGUN_AT + timedelta(seconds=loop.time())  # noqa: E731 - two words
    runbook, trial = scene.written.runbook, scene.trial
    books = used(runbook, scene.books)
    mocks = _Mocks(trial.mock)
    memory = remembered(runbook, given, trial.alert, clock, uses=books, dry_run=trial.dry_run)
    acting = Mocked(steps, clock, mocks=mocks)
    interpreter = Interpreter(
        None,
        _nothing_follows,
        steps,
        clock,
        _secrets([runbook, *books.values()]),
        watch_seconds=24 * 3600,
        record=memory,
        attempts=acting,
        grants=Grants(("*",), ("*",)),  # what a name would stand for is made up
    )
    await interpreter.run(memory.run.id, memory.run.round)
    while (approval := memory.open_question()) is not None:
        row = next(row for row in memory.rows if row.id == approval.step_id)
        said = People.model_validate(mocks.next(acting.names[row.path]) or {})
        round_ = await _answer(memory, approval, said)
        await interpreter.run(memory.run.id, round_)
    return _Played(memory, frozenset(acting.bare))


def _secrets(books: Sequence[Runbook]) -> dict[str, str]:
    """Something in the place of every secret that a runbook names; its tests need none."""
    named = [name for book in books for name in book.secrets]
    named += [name for book in books for param in book.params.values() if param.type == "secret"
              for name in param.choices or ()]  # fmt: skip
    return {name: f"secret-of-a-test-{name}" for name in named}


async def _answer(memory: Memory, approval: Approval, said: People) -> int:
    """What people say who are asked: what the mock says, else yes."""
    if said.expired:
        await asyncio.sleep((approval.expires_at - memory.clock()).total_seconds())
        return memory.close(approval, ApprovalState.EXPIRED, "nobody answered in time, which is a no")
    by = [said.by] if isinstance(said.by, str) else said.by
    people = by or [f"UAPPROVER{i + 1}" for i in range(approval.count)]
    reason = said.fail or said.reason
    because = f": {reason}" if reason else ""
    if said.fail is not None or not said.approved:
        return memory.close(approval, ApprovalState.REJECTED, f"<@{people[0]}> said no{because}")
    asked = _Inputs(_INPUTS.validate_python(approval.inputs))
    try:
        inputs = values.check(asked, said.inputs)
    except values.ParamErrors as error:
        return memory.close(approval, ApprovalState.VOID, f"the answer does not count: inputs: {error}")
    votes = [
        Vote(
            id=derived_id("vote", approval.id, person),
            approval_id=approval.id,
            person=person,
            yes=True,
            reason=reason if i == 0 else "",
            inputs=inputs if i == 0 else {},
            at=memory.clock(),
        )
        for i, person in enumerate(people)
    ]
    return memory.close(approval, ApprovalState.APPROVED, f"approved by {' and '.join(people)}", votes)


@dataclass(frozen=True)
class _Inputs:
    params: Mapping[str, Param]


# -- mocks --------------------------------------------------------------------------------------------------------


@dataclass
class _Mocks:
    """The answers of a test, by step: one an attempt, and then the last one again."""

    answers: Mapping[str, Any]
    used: dict[str, int] = field(default_factory=dict)

    def next(self, name: str) -> Mapping[str, Any] | None:
        """What the step called *name* answers now; None where nothing is said about it."""
        if name not in self.answers:
            return None
        answer = self.answers[name]
        if not isinstance(answer, list):
            answer = [answer]
        turn = self.used.get(name, 0)
        self.used[name] = turn + 1
        found: Mapping[str, Any] = answer[min(turn, len(answer) - 1)]
        return found


@dataclass
class Mocked(Attempts):
    """Makes attempts without the world. *names* are the steps by their places, those of runbooks that are called as
    ``caller/step``; *bare* are those that went well without a mock; *wanted* is what those need that look at others.
    """

    mocks: _Mocks = field(default_factory=lambda: _Mocks({}))
    names: dict[str, str] = field(default_factory=dict)
    bare: set[str] = field(default_factory=set)
    wanted: dict[str, set[str]] = field(default_factory=dict)

    def filled(self, step: Step, context: StepContext) -> BaseModel:
        """With marks in its text for what is not known, unless the step is to decide by it."""
        try:
            return super().filled(step, context)
        except PermanentError as error:
            if step.type == "runbook" or not _TO_MOCK.search(str(error)):
                raise
            module = self.steps[step.type]
            marked = marks(module.Params)
            given = {
                key: one if marked.get(key) in (EXPRESSION, LITERAL) else fill(one, context.values)
                for key, one in step.action.items()
            }
            try:
                return cast(BaseModel, module.Params.model_validate(given))
            except ValidationError:
                raise error from None

    async def outcome(self, going: Going, scope: Scope, step: Step, kind: str, context: StepContext) -> Outcome:
        """What the mock says, or what comes of it."""
        name = self.names.setdefault(context.step_key, self._name(scope, step))
        if step.type == "approval":
            return await super().outcome(going, scope, step, kind, context)
        mock = self.mocks.next(name)
        if mock is None and step.type in REAL:
            if step.check is not None:
                until = str(step.action.get("until", "none"))
                self.wanted[context.step_key] = {path[0] for path in names(until, expression=True)}
            return await super().outcome(going, scope, step, kind, context)
        try:
            params = self.filled(step, context)
        except PermanentError as error:
            if going.guessing:
                return Outcome(ok=True, summary=NEEDS, previewed=True)
            if not _TO_MOCK.search(str(error)):
                raise
            params = None
        if previews(going, step, kind):
            told = self.steps[step.type].preview(params) if params is not None else NEEDS
            return Outcome(ok=True, summary=line(going, told), previewed=True)
        return self._result(going, scope, step, params, mock, name, item=context.step_key.endswith("]"))

    async def look(self, going: Going, scope: Scope, step: Step, context: StepContext) -> Mapping[str, JsonValue]:
        """What the mock says of the step below another one."""
        name = self._name(scope, step)
        if (mock := self.mocks.next(name)) is None:
            raise PermanentError(f"mock `{name}`: it is looked at until something is so, and nothing is known of it")
        found = self._result(going, scope, step, None, mock, name, item=False)
        given = {**found.values, **found.outputs}
        for key, one in given.items():
            if isinstance(one, Unknown) and key in self.wanted.get(context.step_key, ()):
                raise PermanentError(one.why)
        return {"ok": found.ok, **{key: one for key, one in given.items() if not isinstance(one, Unknown)}}

    def _name(self, scope: Scope, step: Step) -> str:
        caller = self.names.get(scope.prefix.removesuffix("/"))
        return f"{caller}/{step.key}" if caller else step.key

    def _result(
        self,
        going: Going,
        scope: Scope,
        step: Step,
        params: BaseModel | None,
        mock: Mapping[str, Any] | None,
        name: str,
        *,
        item: bool,
    ) -> Outcome:
        """What comes of a mock: its values, whether it is what was expected, and the outputs."""
        said = dict(mock or {})
        why = said.pop("fail", None)
        if mock is None:
            self.bare.add(name)
        given: dict[str, Any] = going.redact.value({key: one for key, one in said.items() if key not in step.outputs})
        missing = "nothing is known of its {}, which is used" if mock is None else "it gives no {}, which is used"
        results = getattr(self.steps[step.type], "RESULT", ())
        unknown = {key: Unknown(f"mock `{name}`: {missing.format(key)}") for key in results if key not in given}
        outcome = Outcome(ok=True, summary=line(going, "not mocked" if mock is None else "as mocked"), values=given)
        if why is not None:
            return replace(no(going, str(why)), values=given, passing=True)
        seen = {**scope.values, **unknown, **given}
        if given and (told := self._refused(step, params, seen, given)):
            return replace(no(going, told), values=given, passing=step.retry is not None)
        outputs: dict[str, Any] = {}
        for key, expression in step.outputs.items():
            if key in said:
                outputs[key] = said[key]
                continue
            try:
                outputs[key] = storable(going.redact.value(evaluate(expression, seen)))
            except ExpressionError as error:
                if not _TO_MOCK.search(str(error)):
                    return replace(no(going, f"outputs: {key}: {error}"), values=given)
                needs = sorted({path[0] for path in names(expression, expression=True)} & unknown.keys())
                outputs[key] = Unknown(f"mock `{name}`: its output {key} is used, which needs {', '.join(needs)}")
        if item:  # the whole list is kept as plain data
            outputs = {key: one for key, one in outputs.items() if not isinstance(one, Unknown)}
            unknown = {}
        return replace(outcome, values={**unknown, **given}, outputs=outputs)

    def _refused(
        self, step: Step, params: BaseModel | None, seen: Mapping[str, Any], given: Mapping[str, Any]
    ) -> str | None:
        """Why the plugin would not take what the mock gives, or None."""
        module = self.steps[step.type]
        expect = step.action.get("expect")
        if expect is not None and marks(module.Params).get("expect") is EXPRESSION:
            return None if evaluate(expect, seen) else f"expected {expect}"
        judge = getattr(module, "judge", None)
        told: str | None = judge(params, given) if judge is not None and params is not None else None
        return told


# -- what came of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Played:
    """A run at its end. The steps of runbooks that it called are named ``caller/step``, as in a mock."""

    memory: Memory
    bare: frozenset[str]

    @cached_property
    def rows(self) -> dict[str, RunStep]:
        """The newest attempt at every step, by its place, in the order in which the steps were begun."""
        return {row.path: row for row in sorted(self.memory.rows, key=lambda row: (row.position, row.attempt))}

    def name(self, path: str) -> str:
        """What the step at *path* is called in a test."""
        caller = path.rpartition("/")[0]
        own = self.rows[path].step
        return f"{self.name(caller)}/{own}" if caller else own

    def named(self, *states: StepState, but: bool = False) -> list[str]:
        """The steps that have an id and stand in one of *states* (with *but*: in another), rollback aside."""
        return [
            self.name(path)
            for path, row in self.rows.items()
            if (row.state in states) != but and row.phase != Phase.ROLLBACK and _has_id(row) and not path.endswith("]")
        ]

    def rolled_back(self) -> list[str]:
        """The steps that were taken back, in order."""
        owners = [path.rpartition(".rollback.")[0] for path, row in self.rows.items() if row.phase == Phase.ROLLBACK]
        return list(dict.fromkeys(self.name(path) for path in owners if path in self.rows))

    def failed(self) -> str | None:
        """The step at which the run failed."""
        failure = self.memory.run.failure
        if not failure:
            return None
        own = {path: row for path, row in self.rows.items() if re.fullmatch(r"steps\.\d+", path)}
        for row in own.values():
            if "ends" in row.result or row.name == failure.get("step"):
                return row.step
        steps = runs.definition(self.memory.run).steps
        begun = max((int(path.partition(".")[2]) for path in own), default=-1)
        return steps[begun + 1].key if begun + 1 < len(steps) else None

    def to_mock(self) -> list[str]:
        """What had to be decided by something of which nothing is known."""
        told = [row.error or "" for row in self.memory.rows]
        told.append((self.memory.run.failure or {}).get("message") or "")
        return list(dict.fromkeys(found[0] for text in told if (found := _TO_MOCK.search(text))))


def _has_id(row: RunStep) -> bool:
    """An id has no dash; the key of a step without one is its place, such as ``steps-2``."""
    return "-" not in row.step


def _differences(trial: Trial, runbook: Runbook, played: _Played) -> Iterator[tuple[Path_, str]]:
    """What came otherwise than expected, with the part of the test that says so."""
    if to_mock := played.to_mock():
        yield from ((("mock",), told) for told in to_mock)
        return  # whatever else came, came of that
    run, expect = played.memory.run, trial.expect
    failure = run.failure or {}
    why = f" (at “{failure['step']}”: {failure['message']})" if failure.get("message") else ""
    if expect.state is not None and run.state != expect.state:
        yield ("expect", "state"), f"state: expected {expect.state}, came {run.state}{why}"
    lists = (
        ("ran", expect.ran, played.named(StepState.SKIPPED, StepState.PREVIEWED, but=True)),
        ("skipped", expect.skipped, played.named(StepState.SKIPPED)),
        ("rolled_back", expect.rolled_back, played.rolled_back()),
    )
    for field_, expected, came in lists:
        if expected is None:
            continue
        inner = any("/" in name for name in expected)
        seen = [name for name in came if inner or "/" not in name]
        if seen != expected:
            yield ("expect", field_), f"{field_}: expected {_listed(expected)}, came {_listed(seen)}"
    if expect.failed is not None and played.failed() != expect.failed:
        came_to = f"it failed at {played.failed()}{why}" if played.failed() else "nothing failed"
        yield ("expect", "failed"), f"failed: expected {expect.failed}, but {came_to}"
    if expect.message is not None and expect.message not in str(failure.get("message") or ""):
        came_to = f"came {failure['message']!r}" if failure.get("message") else "but nothing failed"
        yield ("expect", "message"), f"message: expected {expect.message!r}, {came_to}"
    said = [Finding.model_validate(one) for one in run.raised or ()]
    if expect.reported is not None:
        words = {
            item: {True: "ok", False: "bad", None: "unknown"}[ok]
            for one in said
            if one.into == raising.ASSET
            for item, (ok, _) in raising.results(one).items()
        }
        if words != expect.reported:
            wanted, seen = ([f"{asset}: {how}" for asset, how in both.items()] for both in (expect.reported, words))
            yield ("expect", "reported"), f"reported: expected {_listed(wanted)}, came {_listed(seen)}"
    if expect.raised is not None:
        found = [one for one in said if one.into != raising.ASSET]
        for one in found:
            if one.problem is not None:
                yield ("expect", "raised"), f"raised: {one.rule} could not be computed: {one.problem}"
        titles = [firing.title for one in found for firing in one.firing]
        if titles != expect.raised:
            yield ("expect", "raised"), f"raised: expected {_listed(expect.raised)}, came {_listed(titles)}"
    for name, wanted in (expect.outputs or {}).items():
        if name not in run.outputs:
            missing = _unknown_of(runbook.outputs[name], played)
            yield ("expect", "outputs", name), f"outputs: {name} could not be computed{missing}"
        elif run.outputs[name] != wanted:
            yield ("expect", "outputs", name), f"outputs: {name}: expected {wanted!r}, came {run.outputs[name]!r}"


def _unknown_of(expression: str, played: _Played) -> str:
    """Which steps without a mock *expression* is about."""
    about = {path[1] for path in names(expression, expression=True) if path[0] == "steps" and len(path) > 1}
    bare = sorted(about & played.bare)
    return f"; mock {', '.join(f'`{name}`' for name in bare)}" if bare else ""


def _listed(names_: Sequence[str]) -> str:
    return f"[{', '.join(names_)}]"


def _story(played: _Played) -> Iterator[str]:
    """What happened, a step a line, for whoever wonders why."""
    for path, row in played.rows.items():
        if path.endswith("]"):
            continue
        name = played.name(path) if _has_id(row) else row.name
        back = "rollback: " if row.phase == Phase.ROLLBACK else ""
        tries = f" ({row.attempt} attempts)" if row.attempt > 1 else ""
        yield f"{_SIGNS.get(StepState(row.state), '?')} {back}{name}{tries}: {row.summary or row.state}"
    run = played.memory.run
    failure = run.failure or {}
    at = f" at “{failure['step']}”: {failure['message']}" if failure.get("message") else ""
    yield f"{run.state}{at}"
    if bare := sorted(name for name in played.bare if "-" not in name):
        yield f"without a mock: {', '.join(bare)}"
