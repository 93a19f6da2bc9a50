"""What a type of runbook step is, what it is given and what it gives back.

A step type is one file in `bot/steps/`: `Params`, `EFFECT`, `RESULT`, `run` and `preview`. Text in its parameters is
filled in before they are checked. Marks on a field say otherwise: `EXPRESSION` (computed by the step itself, not
filled in), `LITERAL` (never filled in, and refused where it holds `{{ }}`), `SECRETS` (may hold `secrets.…`) and
`PROSE` (for people alone, so it may quote the alert); `Quoted` says how what is filled in is written, in a language
such as that of queries.
"""

import asyncio
import functools
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Protocol, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from bot.catalog.targets import Reach
from bot.incidents.pager import ActResult, Kind
from bot.kit.clock import Clock, parse_duration, utc_now
from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.text import clip
from bot.runs.expressions import render_quoted, render_value, templated
from bot.runs.redact import Redactor

Effect = Literal["read", "write", "destructive"]
Resolve = Callable[[str, int], Awaitable[list[str]]]
T = TypeVar("T")

LONGEST = timedelta(days=7)
FILLED = {"filled": True}  # given to what checks parameters of which nothing is to be filled in any more


class Mark(Enum):
    """What is special about a field of a step's parameters."""

    EXPRESSION = "expression"
    LITERAL = "literal"
    SECRETS = "secrets"
    PROSE = "prose"


EXPRESSION = Mark.EXPRESSION
LITERAL = Mark.LITERAL
SECRETS = Mark.SECRETS
PROSE = Mark.PROSE


@dataclass(frozen=True)
class Quoted:
    """Marks a text in a language of its own, or a list of such texts: *quote* is given what stands before a `{{ … }}`
    and the value of it.
    """

    quote: Callable[[str, Any], str]


class Cancelled(BotError):  # noqa: N818  (an end that was asked for, not an error)
    """The run was cancelled while the step was at work."""


@dataclass(frozen=True)
class File:
    """Something to share in the incident's channel: a graph, a whole output."""

    name: str
    content: bytes
    title: str = ""


@dataclass(frozen=True)
class StepResult:
    """How a step went. *values* are what later steps see as `steps.<id>.…`, already redacted; *files* are shared."""

    ok: bool
    summary: str
    output: str = ""
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    truncated: int = 0
    files: tuple[File, ...] = ()


async def resolve_host(host: str, port: int) -> list[str]:
    """The addresses of *host*, as this machine sees them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


@dataclass(frozen=True)
class Question:
    """What people are asked before a run goes on. *inputs* are parameters that the answer fills in."""

    prompt: str
    who: tuple[str, ...] | None
    count: int
    not_requester: bool
    expires: timedelta
    require_reason: bool
    inputs: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """The yes of those who were asked. A no is never given to a step: the run has ended by then."""

    by: tuple[str, ...]
    reason: str
    inputs: Mapping[str, Any]
    at: datetime


def _silent(line: str) -> None:
    """Shows nothing."""


async def _alone(*_: Any, **__: Any) -> Any:
    raise PermanentError("this step can only be used in a run")


class Room(Protocol):
    """The incident's place in the chat, as a step sees it."""

    async def post(self, text: str, *, channel: str | None, thread: bool, broadcast: bool, key: str) -> dict[str, str]:
        """Say *text* (Slack's markup, values escaped already) in the incident's channel, or in *channel*; with
        *thread* below the run's message. Posted once per *key*, however often it is asked for. Gives ``ts`` and
        ``permalink``. Raises PermanentError where the bot may not speak there.
        """
        ...


class Pages(Protocol):
    """Whoever is on call for the incident, as a step sees it."""

    async def act(
        self, kind: Kind, *, key: str, service: str | None = None, message: str = "", user: str | None = None
    ) -> ActResult:
        """Do *kind* about the incident's page, or about its page of another *service*. Under one *key*, what can be
        looked up is done once. TemporaryError where asking again may help, PermanentError with a word where not.
        """
        ...

    async def missed(self, *, key: str, service: str | None, why: str) -> None:
        """Say that the page asked for under *key* is not known to have gone through, and nobody asks again for now."""
        ...


@dataclass(frozen=True)
class StepContext:
    """All that a step may know and use.

    *values* is what expressions see; *say* takes lines for the people who watch, already redacted.
    *allow_private* lists hosts (`*.internal.example.com`) and networks (`10.0.0.0/8`) that HTTP may reach although
    they are not public. *folder* is where the runbook's file lies, with `scripts/` and the like beside it; *scratch*
    is a folder of this run alone, which lasts until the run ends. *room* and *pager* are missing in tests of a runbook.
    *hidden* are the secrets that parameters name, by parameter. What only a run can do: *ask* people, *call* another
    runbook with parameters, which gives its outputs, and *check*: carry out the step below this one, once, which gives
    its values. *again* says that this very attempt was begun before and interrupted.
    """

    run_id: str
    step_key: str
    attempt: int = 1
    again: bool = False
    timeout: float = 60.0
    values: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    redact: Redactor = field(default_factory=Redactor)
    say: Callable[[str], None] = _silent
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    clock: Clock = utc_now
    started_at: datetime | None = None
    allow_private: tuple[str, ...] = ()
    resolve: Resolve = resolve_host
    reach: Reach = field(default_factory=Reach)
    folder: Path | None = None
    scratch: Path | None = None
    room: Room | None = None
    pager: Pages | None = None
    dry_run: bool = False
    hidden: Mapping[str, str] = field(default_factory=dict)
    ask: Callable[[Question], Awaitable[Answer]] = _alone
    call: Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, JsonValue]]] = _alone
    check: Callable[[], Awaitable[Mapping[str, JsonValue]]] = _alone

    def file(self, name: str) -> Path:
        """The file or folder *name* beside the runbook; PermanentError if it is not there or leads out of there."""
        if self.folder is None:
            raise PermanentError("this runbook has no folder to look for files in")
        home = self.folder.resolve()
        try:
            found = (home / name).resolve()
            there = found.exists()
        except (OSError, ValueError):
            raise PermanentError(f"{clip(name, 60)!r} cannot be the name of a file") from None
        if not found.is_relative_to(home) or found == home:
            raise PermanentError(f"{name!r} leads out of the folder of the runbooks")
        if not there:
            raise PermanentError(f"there is no {name!r} in the folder of the runbooks")
        return found


class StepType(Protocol):
    """A module in `bot/steps/`. It may also have `effect(params)`, where the effect depends on the parameters;
    `dry_run(context, params)`, a look at what it would do that changes nothing, in the place of `preview`;
    `needs(params)`, the connections, hosts and files it uses, as ``("connection", name)``, for whoever checks
    beforehand, and what it would use if it is there, as ``("beside", folder)``: a yes holds for these; and
    `judge(params, values)`, why values that a test of a runbook gives for it are a failure, or None. With
    `looks_first(params)` it may say that every attempt looks whether it was done before: interrupted by a crash, such
    an attempt is made again although it writes, with `context.again`, and nobody is asked. `SHORT` names the parameter
    that may stand alone under the action key.
    """

    @property
    def Params(self) -> type[BaseModel]: ...  # noqa: N802

    @property
    def EFFECT(self) -> Literal["read", "write"]: ...  # noqa: N802

    @property
    def RESULT(self) -> tuple[str, ...]:  # noqa: N802
        """The names that *values* of its result may have."""

    async def run(self, context: StepContext, params: Any) -> StepResult: ...

    def preview(self, params: Any) -> str:
        """What a dry run shows instead of doing it; no secrets."""


async def unless_stopped(context: StepContext, work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives; Cancelled if the run is cancelled first, TemporaryError if the step's time is over first."""
    task, stop = asyncio.ensure_future(work), asyncio.ensure_future(context.cancelled.wait())
    try:
        await asyncio.wait({task, stop}, timeout=context.timeout, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if stop.done():
            raise Cancelled("stopped")
        raise TemporaryError(f"it was not done within {context.timeout:g} s")
    finally:
        task.cancel()
        stop.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)


def effect(step: ModuleType | StepType, params: BaseModel | None = None) -> Effect:
    """What the step does to the world, as far as its type and *params* tell."""
    told = getattr(step, "effect", None)
    return cast(Effect, step.EFFECT if told is None or params is None else told(params))


def marks(params: type[BaseModel]) -> dict[str, Mark]:
    """The marked fields of *params*, by the names they have in a runbook."""
    return {
        info.alias or name: mark
        for name, info in params.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, Mark)
    }


def quotes(params: type[BaseModel]) -> dict[str, Callable[[str, Any], str]]:
    """How what is filled into the fields of *params* is written, for those that have a language of their own."""
    return {
        info.alias or name: mark.quote
        for name, info in params.model_fields.items()
        for mark in info.metadata
        if isinstance(mark, Quoted)
    }


def prepare(step: ModuleType | StepType, raw: Mapping[str, Any], context: StepContext) -> BaseModel:
    """The checked parameters of a step: every text filled in, except expressions."""
    marked, quoting = marks(step.Params), quotes(step.Params)
    open_values = {key: value for key, value in context.values.items() if key != "secrets"}
    filled: dict[str, Any] = {}
    for key, value in raw.items():
        if marked.get(key) in (EXPRESSION, LITERAL):
            filled[key] = value
            continue
        known = _with_secrets(open_values, context) if marked.get(key) is SECRETS else open_values
        try:
            if key in quoting:
                filled[key] = _quoted(value, open_values, quoting[key])
            else:
                filled[key] = render_value(value, known)
        except PermanentError as error:
            raise PermanentError(context.redact.text(f"{key}: {error}")) from None
    try:
        return step.Params.model_validate(filled, context=FILLED)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, part['loc']))}: {message(part)}" for part in error.errors())
        raise PermanentError(context.redact.text(told)) from None


def _quoted(value: Any, known: Mapping[str, Any], quote: Callable[[str, Any], str]) -> Any:
    if isinstance(value, list):
        return [_quoted(item, known, quote) for item in value]
    return render_quoted(value, known, quote) if isinstance(value, str) else value


def _with_secrets(values: Mapping[str, Any], context: StepContext) -> dict[str, Any]:
    params = {**values.get("params", {}), **context.hidden}
    return {**values, "secrets": dict(context.secrets), "params": params}


def message(part: Mapping[str, Any]) -> str:
    """One error of pydantic's in our words."""
    given = part.get("ctx", {})
    match part["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here"
        case "literal_error":
            return f"must be {given['expected']}"
        case "string_type":
            return "must be text; put it in quotes"
        case "list_type" | "tuple_type":
            return "must be a list"
        case "dict_type" | "model_type" | "mapping_type":
            return "must be keys with values"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "int_type" | "int_parsing":
            return "must be a whole number"
        case "too_short":
            return "must not be empty"
        case _:
            return str(part["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")


def refuse(reason: str) -> PydanticCustomError:
    """An error that stands however a value is filled in; the linter shows it even for a text with `{{ }}`."""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def matching(pattern: str, told: str) -> AfterValidator:
    """A text that is like *pattern* when it is filled in, and not before; *told* is what is said of another."""
    wanted = re.compile(pattern)

    def check(value: str, info: ValidationInfo) -> str:
        if info.context is not FILLED and templated(value):
            return value
        if not wanted.fullmatch(value):
            raise ValueError(f"{clip(value, 60)!r} {told}")
        return value

    return AfterValidator(check)


def later(what: str, value: object) -> None:
    """Refuse a field that this version knows of but does not carry out."""
    if value is not None:
        raise refuse(f"{what} is not supported yet")


def not_yet(what: str) -> BeforeValidator:
    """A field that this version knows of but does not carry out."""
    return BeforeValidator(functools.partial(later, what))


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; write for example 500ms, 30s, 5m or 1h30m")
    try:
        found = parse_duration(value)
    except OverflowError:
        found = timedelta.max
    if found > LONGEST:
        raise ValueError("must not be longer than 7d")
    return found


def _duration_text(length: timedelta) -> str:
    milliseconds = round(length.total_seconds() * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


# As it is written in a file, for the schema that editors use.
_Written = Annotated[str, Field(pattern=r"^([0-9]{1,9}(ms|s|m|h|d))+$", examples=["30s", "5m", "1h30m"])]
Duration = Annotated[
    timedelta, BeforeValidator(_duration, json_schema_input_type=_Written), PlainSerializer(_duration_text)
]


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


# Text in which a number that was filled in, or written without quotes, is text as well.
Text = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int | float | bool)]
