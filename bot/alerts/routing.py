"""Routes: which alerts open an incident, how bad it is, whose it is, and what belongs to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, field_validator

from bot.alerts import matchers
from bot.alerts.grouping import group_key
from bot.alerts.matchers import Matcher
from bot.alerts.model import Alert, Severity
from bot.catalog.config import ConfigError, Strict, Version, checked, document
from bot.kit.yaml import Document

Sev = Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"]
DEFAULT = "default"


class Open(StrEnum):
    """Whether an alert opens an incident, asks people whether to, or is only kept."""

    ALWAYS = "always"
    SUGGEST = "suggest"
    NEVER = "never"


SEVERITY: Mapping[Severity, Sev] = {
    Severity.CRITICAL: "SEV1",
    Severity.HIGH: "SEV2",
    Severity.MEDIUM: "SEV3",
    Severity.LOW: "SEV4",
    Severity.INFO: "SEV5",
}
# What happens where neither a route nor the defaults say.
OPEN: Mapping[Severity, Open] = {
    Severity.CRITICAL: Open.ALWAYS,
    Severity.HIGH: Open.ALWAYS,
    Severity.MEDIUM: Open.SUGGEST,
    Severity.LOW: Open.NEVER,
    Severity.INFO: Open.NEVER,
}


def _matcher(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("a matcher is text, for example 'severity=\"critical\"'")
    try:
        return matchers.parse(value)
    except matchers.MatcherError as error:
        raise ValueError(str(error)) from None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _label(value: str) -> str:
    """``labels.x`` and ``x`` are the same label."""
    return value.removeprefix("labels.")


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Defaults(Strict):
    """What holds for every route that says nothing else."""

    open: Open | None = None
    group_by: Names = ("service", "env")
    service_from: Names = ("service", "app")
    severity: Mapping[Severity, Sev] = {}


class Route(Strict):
    """What to do with the alerts that fulfil every matcher."""

    name: str = Field(min_length=1, max_length=80)
    match: Annotated[tuple[Annotated[Matcher, BeforeValidator(_matcher)], ...], BeforeValidator(_listed)] = ()
    go_on: StrictBool = Field(default=False, alias="continue")
    open: Open | None = None
    service: str | None = None
    severity: Mapping[Severity, Sev] = {}
    runbooks: Names = ()
    group_by: Names | None = None
    private: StrictBool | None = None


class Routes(Strict):
    """`routes.yaml`; made without arguments, what holds where there is no such file."""

    version: Version = 1
    defaults: Defaults = Defaults()
    severity_map: Mapping[str, Severity] = {}
    routes: tuple[Route, ...] = ()

    @field_validator("severity_map")
    @classmethod
    def _lower(cls, found: Mapping[str, Severity]) -> Mapping[str, Severity]:
        return {word.strip().lower(): level for word, level in found.items()}


@dataclass(frozen=True)
class Decision:
    """Where an alert goes, and why."""

    route: str
    open: Open
    service: str | None
    severity: Sev
    level: Severity
    group_key: str
    runbooks: tuple[str, ...]
    private: bool
    reason: str


def load(path: Path) -> Routes:
    """Read ``routes.yaml``; no such file means the defaults. ConfigError names every problem with its line."""
    found = document(path)
    return Routes() if found is None else read(found)


def read(found: Document) -> Routes:
    """The routes in a YAML document."""
    problems: list[str] = []
    routes = Routes()
    try:
        routes = checked(found, Routes)
    except ConfigError as error:
        problems = error.problems
    listed = found.data.get("routes") if isinstance(found.data, dict) else None
    names: set[str] = set()
    for i, item in enumerate(listed if isinstance(listed, list) else []):
        name = item.get("name") if isinstance(item, dict) else None
        if name in names:
            problems.append(
                str(found.error(("routes", i), f"two routes are called {name!r}; the name is part of the group key"))
            )
        if name == DEFAULT:
            problems.append(
                str(found.error(("routes", i), f"{DEFAULT!r} is the name of what no route matches; choose another"))
            )
        if isinstance(name, str):
            names.add(name)
    if problems:
        raise ConfigError(problems)
    return routes


def route(alert: Alert, routes: Routes, *, connection: str = "") -> Decision:
    """Decide by the routes in their order: the first that matches, or, where it says `continue`, the next as well.

    Of several that match, a later one's words win, runbooks add up, and the last one gives its name. Matchers see
    the alert's labels, and besides them `severity` in our vocabulary and `connection` where no label has that name.
    """
    level = severity(alert, routes)
    seen = {"severity": str(level), "connection": connection, **alert.labels}
    matched: list[Route] = []
    for item in routes.routes:
        if all(matcher.matches(seen) for matcher in item.match):
            matched.append(item)
            if not item.go_on:
                break
    return _decided(alert, routes, matched, level)


def severity(alert: Alert, routes: Routes) -> Severity:
    """How bad *alert* is in our vocabulary; the file's `severity_map` knows the sender's words better than we do."""
    return routes.severity_map.get(alert.labels.get("severity", "").strip().lower(), alert.severity)


def _decided(alert: Alert, routes: Routes, matched: list[Route], level: Severity) -> Decision:
    defaults = routes.defaults
    opening, service, group_by, private = defaults.open, _service(alert, defaults), defaults.group_by, False
    severities = {**SEVERITY, **defaults.severity}
    runbooks: list[str] = []
    for item in matched:
        opening = item.open or opening
        service = item.service or service
        group_by = group_by if item.group_by is None else item.group_by
        private = private if item.private is None else item.private
        severities.update(item.severity)
        runbooks += [name for name in item.runbooks if name not in runbooks]
    name = matched[-1].name if matched else DEFAULT
    opening_why = "" if opening else f", as for every {level} alert"
    opening = opening or OPEN[level]
    found = f"route {name!r}" if matched else "no route matches"
    return Decision(
        route=name,
        open=opening,
        service=service,
        severity=severities[level],
        level=level,
        group_key=group_key(name, _values(alert, service, group_by)),
        runbooks=tuple(runbooks),
        private=private,
        reason=f"{found}: {opening} open{opening_why}; {level} is {severities[level]}",
    )


def _service(alert: Alert, defaults: Defaults) -> str | None:
    return next((found for name in defaults.service_from if (found := alert.labels.get(_label(name)))), None)


def _values(alert: Alert, service: str | None, group_by: tuple[str, ...]) -> list[str | None]:
    """What *group_by* names. An alert that has none of it joins its namesakes, not every other such alert."""
    values = [service if name == "service" else alert.labels.get(_label(name)) or None for name in group_by]
    if group_by and not any(values):
        return [f"alone={alert.labels.get('alertname') or alert.fingerprint}"]
    return values
