"""The values a run is started with: filled in from the alert, typed and checked before anything sees them."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from bot.alerts import matchers
from bot.kit.clock import parse_duration
from bot.kit.errors import UserError
from bot.kit.text import clip, nearest
from bot.runs.expressions import ExpressionError, evaluate

LONGEST = 256
MOST_ITEMS = 20
# No blanks, no leading dash (so that no value is taken for an option), no newline.
PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}"
_USER = re.compile(r"[UW][A-Z0-9]{2,20}")
_BOOLS = {"true": True, "false": False, "yes": True, "no": False}

Number = StrictInt | StrictFloat
Kind = Literal["string", "int", "number", "bool", "choice", "duration", "user", "secret", "list"]


class Param(BaseModel):
    """One thing a runbook asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Kind = Field(default="string", description="what kind of value it is")
    label: str | None = Field(default=None, description="its name for people")
    help: str | None = Field(default=None, description="a hint below the field")
    required: StrictBool = Field(default=True, description="whether a run needs it")
    default: Any = Field(default=None, description="value if nothing else is given")
    source: str | None = Field(default=None, description="expression on alert and incident: alert.labels.instance")
    choices: list[str] | None = Field(
        default=None, description="what can be chosen, for type choice; the names of secrets, for type secret"
    )
    pattern: str | None = Field(default=None, description="regular expression for the whole value")
    min: Number | None = Field(default=None, description="smallest number, or shortest duration in seconds")
    max: Number | None = Field(default=None, description="largest number, or longest duration in seconds")
    max_items: int | None = Field(default=None, ge=1, le=200, description="longest list")


class Declares(Protocol):
    """Whatever declares parameters: a runbook."""

    @property
    def params(self) -> Mapping[str, Param]:
        """The parameters by name."""


class ParamErrors(UserError):  # noqa: N818  (it holds several)
    """Everything that is wrong with the values given, by parameter."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name} {told}" for name, told in errors.items()))
        self.errors = dict(errors)


def prefill(runbook: Declares, alert: Mapping[str, Any], incident: Mapping[str, Any]) -> dict[str, Any]:
    """What the form starts with: from the alert or the incident, else the default; what does not fit is left out."""
    found: dict[str, Any] = {}
    for name, param in runbook.params.items():
        for candidate in (_sourced(param, alert, incident), param.default):
            if candidate in (None, ""):
                continue
            try:
                found[name] = value(param, candidate)
            except ValueError:
                continue
            break
    return found


def sourced(runbook: Declares, alert: Mapping[str, Any], incident: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run that nobody fills in a form for; ParamErrors where alert and defaults do not give them all.

    What the alert says and does not fit is an error: the default in its place could mean another machine.
    """
    errors: dict[str, str] = {}
    found: dict[str, Any] = {}
    for name, param in runbook.params.items():
        said = _sourced(param, alert, incident)
        given = param.default if said in (None, "") else said
        found[name] = None
        if given is None:
            if param.required:
                errors[name] = "is missing"
        elif param.type == "choice" and param.choices is None and given is said:
            errors[name] = "is chosen from a list that only a form shows"
        else:
            try:
                found[name] = value(param, given)
            except ValueError as error:
                errors[name] = str(error)
    if errors:
        raise ParamErrors(errors)
    return found


def check(runbook: Declares, raw: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run, typed; a parameter that is optional and not given is None. Raises ParamErrors."""
    errors: dict[str, str] = {}
    checked: dict[str, Any] = {}
    for name in raw:
        if name not in runbook.params:
            meant = nearest(name, list(runbook.params))
            errors[name] = "is not a parameter of this runbook" + (f"; did you mean {meant}?" if meant else "")
    for name, param in runbook.params.items():
        given = raw.get(name)
        if given is None or given == "" or given == []:
            given = param.default
        if given is None:
            if param.required:
                errors[name] = "is missing"
            checked[name] = None
            continue
        try:
            checked[name] = value(param, given)
        except ValueError as error:
            errors[name] = str(error)
    if errors:
        raise ParamErrors(errors)
    return checked


def value(param: Param, given: Any) -> Any:
    """*given* as a value of *param*; ValueError with what is wrong otherwise, and never with a secret in it."""
    if isinstance(given, str) and len(given) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} characters")
    return _KINDS[param.type](param, given)


def pattern_error(pattern: str) -> str | None:
    """Why *pattern* cannot be used: it is not valid, or could take very long on some value."""
    escaped = pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    try:
        matchers.parse(f'value=~"{escaped}"')
    except matchers.MatcherError as error:
        return str(error)
    return None


def _sourced(param: Param, alert: Mapping[str, Any], incident: Mapping[str, Any]) -> Any:
    if param.source is None:
        return None
    try:
        return evaluate(param.source, {"alert": alert, "incident": incident})
    except ExpressionError:
        return None  # this alert has no such label: the person fills it in


def _plain(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError("must be text")
    return str(given)


def _string(param: Param, given: Any) -> str:
    text = _plain(given)
    if re.fullmatch(param.pattern or PATTERN, text):
        return text
    allowed = f"the pattern {param.pattern}" if param.pattern else "letters, digits and . _ : / @ -, and no blank"
    raise ValueError(f"does not fit: {clip(text, 60)!r}; allowed is {allowed}")


def _int(param: Param, given: Any) -> int:
    text = str(given).strip()
    if isinstance(given, float) and given.is_integer():
        text = str(int(given))
    if isinstance(given, bool) or not re.fullmatch(r"[-+]?[0-9]{1,18}", text):
        raise ValueError(f"must be a whole number, not {clip(text, 60)!r}")
    return int(_bounded(param, int(text)))


def _number(param: Param, given: Any) -> float:
    text = str(given).strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if isinstance(given, bool) or not math.isfinite(number):
        raise ValueError(f"must be a number, not {clip(text, 60)!r}")
    return _bounded(param, number)


def _bounded(param: Param, number: float, unit: str = "") -> float:
    if param.min is not None and number < param.min:
        raise ValueError(f"must be at least {param.min:g}{unit}")
    if param.max is not None and number > param.max:
        raise ValueError(f"must be at most {param.max:g}{unit}")
    return number


def _bool(param: Param, given: Any) -> bool:
    found = given if isinstance(given, bool) else _BOOLS.get(str(given).lower())
    if found is None:
        raise ValueError("must be true or false")
    return found


def _choice(param: Param, given: Any) -> str:
    text = _plain(given)
    if param.choices is None:  # they come from elsewhere, and were looked up for the form
        return _string(param, text)
    if text not in (param.choices or ()):
        raise ValueError(f"must be one of {', '.join(param.choices or ())}, not {clip(text, 60)!r}")
    return text


def _duration(param: Param, given: Any) -> str:
    text = _plain(given).strip()
    try:
        seconds = parse_duration(text).total_seconds()
    except OverflowError:
        raise ValueError("is too long") from None
    _bounded(param, seconds, " s")
    return text


def _user(param: Param, given: Any) -> str:
    text = _plain(given)
    if not _USER.fullmatch(text):
        raise ValueError("must be a person in Slack")
    return text


def _secret(param: Param, given: Any) -> str:
    """The name of a secret: the secret itself never comes through a form, and is looked up when a step needs it."""
    text = _plain(given)
    if text not in (param.choices or ()):
        raise ValueError(
            f"must be the name of a secret, one of {', '.join(param.choices or ())}; never the secret itself"
        )
    return text


def _list(param: Param, given: Any) -> list[str]:
    items = [part.strip() for part in given.split(",")] if isinstance(given, str) else given
    if not isinstance(items, list | tuple):
        raise ValueError("must be a list")
    most = param.max_items or MOST_ITEMS
    if len(items) > most:
        raise ValueError(f"must have at most {most} items")
    if any(len(str(item)) > LONGEST for item in items):
        raise ValueError(f"has an item that is longer than {LONGEST} characters")
    return [_string(param, item) for item in items if item != ""]


_KINDS: Mapping[Kind, Callable[[Param, Any], Any]] = {
    "string": _string,
    "int": _int,
    "number": _number,
    "bool": _bool,
    "choice": _choice,
    "duration": _duration,
    "user": _user,
    "secret": _secret,
    "list": _list,
}
