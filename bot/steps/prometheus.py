"""Ask Prometheus a question, judge the answer and draw it."""

import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, model_validator

from bot.catalog.targets import Reach
from bot.kit.chart import LINES, Chart, Line, svg
from bot.kit.clock import Clock, parse_time
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.fetch import Answer, Guard, Stopped, fetch
from bot.kit.png import png
from bot.kit.text import clip, one_line, slug
from bot.runs.expressions import ExpressionError, evaluate, names
from bot.runs.step import EXPRESSION, PROSE, Cancelled, Duration, File, Quoted, StepContext, StepResult, Text, refuse

EFFECT = "read"
RESULT = ("value", "values", "count", "image", "warnings")
LIMIT = 2 * 1024 * 1024  # bytes of an answer
SERIES = 1000
SHOWN = 40  # series in the output
POINTS, MOST_POINTS = 300, 2000
GRAPH_RANGE = timedelta(hours=1)
WIDTH = 1440

_NAME = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_BARE = re.compile(r"(?:[0-9]{1,9}(?:ms|[smhdwy]))+|[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?")
# Words of the language that would make another query of the one that was written.
_WORDS = frozenset(
    (
        *("and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right"),
        *("bool", "offset", "start", "end", "inf", "nan", "atan2"),
    )
)


def quote(before: str, value: Any) -> str:
    """*value* as it stands in a query after *before*: inside quotes nothing can end them, outside of them only a
    number, a duration or a name is let in.
    """
    if isinstance(value, list | dict) or value is None:
        raise PermanentError(f"{clip(json.dumps(value), 60)} cannot be put into a query; only a text or a number can")
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    around, open_escape = _around(before)
    if around in ('"', "'") and not open_escape:
        return text.replace("\\", "\\\\").replace(around, "\\" + around).replace("\n", "\\n")
    if around == "`" and "`" not in text:
        return text
    if around == "" and (_BARE.fullmatch(text) or (_NAME.fullmatch(text) and text.lower() not in _WORDS)):
        return text
    if isinstance(value, int | float) and around == "" and math.isfinite(value):
        return f"({text})"  # negative, or with an exponent of its own
    if around == "#":
        raise PermanentError("a comment in a query is not filled in")
    where = "outside of quotes; a number, a duration or a name can" if around == "" else "there"
    raise PermanentError(f"{clip(text, 60)!r} cannot stand in a query {where}")


def _around(before: str) -> tuple[str, bool]:
    """The quotes (or the comment) that are open at the end of *before*, and whether a backslash is waiting there."""
    around, at = "", 0
    while at < len(before):
        letter = before[at]
        if around in ('"', "'") and letter == "\\":
            at += 1
            if at == len(before):
                return around, True
        elif around:
            around = "" if letter == ("\n" if around == "#" else around) else around
        elif letter in "\"'`#":
            around = letter
        at += 1
    return around, False


class Params(BaseModel):
    """The question, and what answer is expected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Annotated[Text, Quoted(quote), Field(min_length=1)] = Field(
        description="PromQL; what is filled in inside quotes is quoted"
    )
    connection: Text = Field(default="prometheus", description="name of a connection of kind prometheus")
    range_: Duration | None = Field(
        default=None, alias="range", description="how far back to look; only the newest value is judged"
    )
    step: Duration | None = Field(default=None, description="time between two points of the range")
    expect: Annotated[str | None, EXPRESSION] = Field(
        default=None, description="expression that must be true; sees value, values, count"
    )
    graph: StrictBool = Field(default=False, description="draw the range, of one hour if none is given")
    title: Annotated[str | None, PROSE] = Field(default=None, description="above the graph; may quote the alert")

    @model_validator(mode="after")
    def _bounded(self) -> "Params":
        if self.step is not None and self.span is None:
            raise refuse("step does nothing without range or graph")
        if self.range_ is not None and self.range_ < timedelta(seconds=1):
            raise refuse("range must be at least 1s")
        if self.step is not None and self.step <= timedelta():
            raise refuse("step must be longer than 0")
        if self.span is not None and self.step is not None and self.span / self.step > MOST_POINTS:
            raise refuse(f"would give more than {MOST_POINTS} points; make step longer or range shorter")
        return self

    @property
    def span(self) -> timedelta | None:
        """How far back it looks, if it does."""
        return self.range_ or (GRAPH_RANGE if self.graph else None)


@dataclass(frozen=True)
class Window:
    """The points in time that are asked for, in milliseconds; the last one is now."""

    start: int
    end: int
    step: int


@dataclass(frozen=True)
class Series:
    """Labels, and what was measured: seconds since 1970 and a number, which may be NaN. *now* is the newest of them,
    None where the series has ended before.
    """

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]
    now: float | None


def needs(params: Params) -> list[tuple[str, str]]:
    """The connection it asks."""
    return [("connection", params.connection)]


def preview(params: Params) -> str:
    """The question and whom it would be put to."""
    return f"would ask {params.connection}: {clip(one_line(params.query), 500)}"


async def run(context: StepContext, params: Params) -> StepResult:
    """Ask once. Without a number in the answer it has failed, unless `expect` is true of that."""
    window = _window(params, context.clock())
    context, answer = await _asked(context, params, window)
    data, warnings = _data(context, params, answer)
    series = [replace(one, labels=_shown(context, one.labels)) for one in _series(data, window)]
    current = [one for one in series if one.now is not None]
    values: dict[str, JsonValue] = {
        "value": _number(current[0].now) if len(current) == 1 else None,
        "values": [{"labels": dict(one.labels), "value": _number(one.now)} for one in current],
        "count": len(current),
        "image": None,
        "warnings": list[JsonValue](warnings),
    }
    files: tuple[File, ...] = ()
    if params.graph and window is not None:
        name, title = f"{slug(context.step_key, 60) or 'graph'}.png", _title(context, params)
        picture = await _picture(_chart(context, title, series, window))
        if isinstance(picture, bytes):
            files, values["image"] = (File(name, picture, title),), name
        else:
            warnings.append(picture)
            values["warnings"] = list[JsonValue](warnings)
    ok, summary = _judged(context, params, series, values)
    told = [*(f"warning: {warning}" for warning in warnings), *_listed(current)]
    return StepResult(ok, summary, "\n".join(told), values, files=files)


async def ask(
    reach: Reach, connection: str, query: str, allow_private: Sequence[str], clock: Clock, *, seconds: float = 10.0
) -> float | None:
    """One number as of now, for whoever is no step; None where the query gives none that is one."""
    context = StepContext("", "", timeout=seconds, reach=reach, allow_private=tuple(allow_private), clock=clock)
    params = Params(query=query, connection=connection)
    context, answer = await _asked(context, params, None)
    data, _ = _data(context, params, answer)
    series = _series(data, None)
    if len(series) > 1:
        raise PermanentError(f"the query gives {len(series)} series; make one of them, as with sum(…)")
    return _number(series[0].now) if series else None


# -- asking ----------------------------------------------------------------------------------------------------------


def _window(params: Params, now: datetime) -> Window | None:
    if params.span is None:
        return None
    step = params.step or timedelta(seconds=max(1, math.ceil(params.span.total_seconds() / POINTS)))
    end, length = round(now.timestamp() * 1000), max(1, round(step.total_seconds() * 1000))
    return Window(end - params.span // step * length, end, length)


async def _asked(context: StepContext, params: Params, window: Window | None) -> tuple[StepContext, Answer]:
    """The answer, and a context that knows the credentials which must not be seen in it."""
    connection = context.reach.connection(params.connection, "prometheus")
    credentials = await context.reach.credentials(params.connection)
    context = replace(context, redact=context.redact.knowing(*credentials.secrets))
    question = {"query": params.query, "timeout": f"{max(1, math.ceil(context.timeout))}s"}
    if window is not None:
        moments = {"start": window.start, "end": window.end, "step": window.step}
        question |= {name: f"{milliseconds / 1000:.3f}" for name, milliseconds in moments.items()}
    try:
        answer = await fetch(
            "POST",
            f"{connection.url.rstrip('/')}/api/v1/{'query' if window is None else 'query_range'}",
            allow=Guard(context.allow_private, context.resolve, connection.private).addresses,
            headers=credentials.headers,
            data=question,
            timeout=context.timeout,
            cancelled=context.cancelled,
            ca=None if connection.ca is None else context.reach.path(connection.ca),
            limit=LIMIT,
        )
    except Stopped:
        raise Cancelled("the query was stopped") from None
    return context, answer


# -- reading ---------------------------------------------------------------------------------------------------------


def _data(context: StepContext, params: Params, answer: Answer) -> tuple[Mapping[str, Any], list[str]]:
    """What a good answer holds, and what Prometheus wants to be known about it."""
    if answer.truncated:
        raise PermanentError(
            f"the answer is larger than {LIMIT // 1024**2} MiB; ask for less with sum(), topk(), a longer step or a "
            "shorter range"
        )
    body = answer.json()
    if answer.status != 200 or not isinstance(body, dict) or body.get("status") != "success":
        _refused(context, params.connection, answer, body if isinstance(body, dict) else {})
    warnings = body.get("warnings")
    told = [_line(context, str(one)) for one in warnings[:5]] if isinstance(warnings, list) else []
    data = body.get("data")
    return (data if isinstance(data, dict) else {}), told


def _refused(context: StepContext, name: str, answer: Answer, body: Mapping[str, Any]) -> NoReturn:
    told = _line(context, str(body.get("error") or answer.text()))
    after = answer.after(context.clock())
    match body.get("errorType"):
        case "bad_data":
            raise PermanentError(f"{name} cannot read the query: {told}")
        case "execution":
            raise PermanentError(f"{name} cannot compute the query: {told}")
        case "timeout":
            raise TemporaryError(f"{name} gave the query up, it took too long: {told}", after=after)
        case "canceled":
            raise TemporaryError(f"{name} was stopped in the middle of the query: {told}", after=after)
    if answer.status in (401, 403):
        raise PermanentError(f"{name} does not let us in ({answer.status}); check its credentials in targets.yaml")
    if answer.status == 404:
        raise PermanentError(f"{name} has no API of Prometheus at its url; in targets.yaml, end it before /api/v1")
    if 300 <= answer.status < 400:
        raise PermanentError(f"{name} sends us elsewhere ({answer.status}); give targets.yaml the url where it ends")
    if answer.passing:
        raise TemporaryError(f"{name} answered {answer.status}: {told}", after=after)
    if answer.status == 200:
        raise PermanentError(f"{name} does not answer as Prometheus does; check its url in targets.yaml")
    raise PermanentError(f"{name} answered {answer.status}: {told}")


def _series(data: Mapping[str, Any], window: Window | None) -> list[Series]:
    kind, result = data.get("resultType"), data.get("result")
    if kind == "string":
        raise PermanentError("the query gives a text; only numbers can be judged and drawn")
    if kind == "matrix" and window is None:
        raise PermanentError("the query gives the samples of a range; make one number of them, as with rate(…[5m])")
    rows = [{"metric": {}, "value": result}] if kind == "scalar" else result
    if kind not in ("scalar", "vector", "matrix") or not isinstance(rows, list):
        raise PermanentError("the answer is not one of Prometheus; check the url of the connection")
    if len(rows) > SERIES:
        raise PermanentError(f"the query gives {len(rows)} series, more than {SERIES}; use sum(), max() or topk()")
    try:
        return [_read(row, window) for row in rows]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise PermanentError("the answer is not one of Prometheus; check the url of the connection") from None


def _read(row: Mapping[str, Any], window: Window | None) -> Series:
    if "histogram" in row or "histograms" in row:
        raise PermanentError("the query gives histograms; take one number out of each, as with histogram_quantile(…)")
    raw = [row["value"]] if "value" in row else row["values"]
    points = [(float(point[0]), float(point[1])) for point in raw]
    last = points[-1] if points else None
    stale = last is None or (window is not None and round(last[0] * 1000) != window.end)
    labels = {str(name): str(value) for name, value in row["metric"].items()}
    return Series(labels, points, None if last is None or stale else last[1])


def _shown(context: StepContext, labels: Mapping[str, str]) -> dict[str, str]:
    shown: dict[str, str] = context.redact.value({clip(k, 128): clip(v, 512) for k, v in list(labels.items())[:64]})
    return shown


def _line(context: StepContext, text: str) -> str:
    return clip(one_line(context.redact.text(text)), 300)


# -- judging ---------------------------------------------------------------------------------------------------------


def _judged(
    context: StepContext, params: Params, series: Sequence[Series], values: Mapping[str, Any]
) -> tuple[bool, str]:
    numbers = [number for number in (_number(one.now) for one in series) if number is not None]
    several = values["count"] > 1
    if not series:
        found = "no data: the query gives no series"
    elif not values["count"]:
        found = "no data now: what the query gives has ended before"
    elif not numbers:
        found = f"no number: the query gives {_digits(next(one.now for one in series if one.now is not None))}"
    elif several:
        found = f"{values['count']} series, {_digits(min(numbers))} to {_digits(max(numbers))}"
    else:
        found = f"value {_digits(numbers[0])}"
    if params.expect is None:
        return bool(numbers), found
    if several and "value" in {name[0] for name in names(params.expect, expression=True)}:
        raise PermanentError(
            f"the query gives {values['count']} series and expect asks for one value; use sum(), max() or the like, "
            "or have expect look at values"
        )
    try:
        ok = bool(evaluate(params.expect, {**context.values, **values}))
    except ExpressionError:
        if len(numbers) == values["count"] > 0:
            raise
        return False, f"{found}; expect does not say what a missing number means: {params.expect}"
    return ok, found if ok else f"{found}, expected {params.expect}"


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _digits(value: float | None) -> str:
    return "NaN" if value is None or math.isnan(value) else f"{value:.10g}"


# -- showing ---------------------------------------------------------------------------------------------------------


def _listed(current: Sequence[Series]) -> list[str]:
    lines = [f"{_digits(one.now):>14}  {_name(one.labels)}".rstrip() for one in current[:SHOWN]]
    left = len(current) - len(lines)
    return [*lines, f"… and {left} more series"] if left else lines


def _name(labels: Mapping[str, str]) -> str:
    inside = ", ".join(
        f"{name}={json.dumps(v, ensure_ascii=False)}" for name, v in labels.items() if name != "__name__"
    )
    return labels.get("__name__", "") + (f"{{{inside}}}" if inside else "")


def _title(context: StepContext, params: Params) -> str:
    return clip(one_line(context.redact.text(params.title or params.query)), 200)


async def _picture(chart: Chart, draw: Callable[[str, int], Awaitable[bytes]] = png) -> bytes | str:
    """The graph, or why there is none; the answer counts without it."""
    try:
        return await draw(svg(chart), WIDTH)
    except (PermanentError, TemporaryError) as error:
        return f"no graph: {error}"


def _chart(context: StepContext, title: str, series: Sequence[Series], window: Window) -> Chart:
    """The series that reach highest, under the labels that tell them apart."""
    drawn = [
        (one, [(at, value) for at, value in one.points if math.isfinite(value)])
        for one in series
    ]  # fmt: skip
    drawn.sort(key=lambda pair: max((value for _, value in pair[1]), default=-math.inf), reverse=True)
    first = series[0].labels if series else {}
    same = {name for name in first if all(one.labels.get(name) == first[name] for one in series)}
    if len(series) == 1:
        same = set()
    lines = [
        Line(_name({name: value for name, value in one.labels.items() if name not in same}) or title, points)
        for one, points in drawn[:LINES]
    ]
    return Chart(
        title=title,
        lines=lines,
        start=window.start / 1000,
        end=window.end / 1000,
        step=window.step / 1000,
        mark=_mark(context),
        note=f"the {LINES} of {len(series)} series that reach highest" if len(series) > LINES else "",
    )


def _mark(context: StepContext) -> tuple[float, str] | None:
    """When the alert began, if there is one."""
    alert = context.values.get("alert")
    told = alert.get("starts_at") if isinstance(alert, Mapping) else None
    found = parse_time(told) if isinstance(told, str) else None
    return (found.timestamp(), f"alert {found:%H:%M}") if found is not None else None
