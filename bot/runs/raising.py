"""What a run that has ended says of the world: which of its runbook's alerts fire, and which have ended.

A rule (`raises` in a runbook) speaks of everything under its key: what it finds fires, and what fired before and is not
found any more has resolved. A rule that cannot be computed, or gives none, says nothing, and nothing changes by it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from bot.alerts.source import TITLE_LIMIT
from bot.kit.errors import PermanentError
from bot.kit.text import clean, clip, one_line
from bot.runs.expressions import evaluate, render
from bot.runs.model import RunState
from bot.runs.runbook import Raise, Report, Runbook

MOST, NAME, VALUE, DESCRIPTION = 100, 200, 500, 2000
FAILED = (RunState.FAILED, RunState.TIMED_OUT, RunState.ROLLED_BACK, RunState.ROLLBACK_FAILED)
# Where a word on an asset goes: into the catalog's view of it, and no alert is made of it.
ASSET = "asset"
# Ends that say nothing: nothing was looked at, or somebody stopped it half way.
SILENT = (RunState.DRY_RUN, RunState.CANCELLED)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Firing(_Part):
    """One alert that fires; *item* tells it from others of its rule and key."""

    item: str
    title: str
    description: str = ""
    labels: dict[str, str] = {}


class Finding(_Part):
    """What one rule says: all that fires under its key. With a *problem*, nothing. *runbook* is whose rule it is, where
    that is not the run's own but one that it called.
    """

    rule: str
    runbook: str = ""
    key: str = ""
    into: str
    severity: str
    firing: list[Firing] = []
    problem: str | None = None


def findings(
    runbook: Runbook,
    known: Mapping[str, Any],
    state: RunState,
    failure: Mapping[str, Any] | None,
    plain: Callable[[str], str] = str,
) -> list[Finding]:
    """What every rule of *runbook* says after a run that ended so; *plain* takes secrets out of a text."""
    if state in SILENT:
        return []
    about = {"failed": state in FAILED, "failure": {"step": "", "message": "", **(failure or {})}}
    said = [found for rule in runbook.raises if (found := _finding(rule, {**known, **about}, plain)) is not None]
    return said + [_report(rule, {**known, **about}, plain) for rule in runbook.reports]


def results(finding: Finding) -> dict[str, tuple[bool | None, str]]:
    """What is said of each asset: whether it is as it should be, None where nobody can tell, and what was found."""
    return {one.item: ({"yes": True, "no": False}.get(one.labels.get("ok", "")), one.title) for one in finding.firing}


def of_called(runbook: Runbook, found: Sequence[Finding]) -> list[Finding]:
    """What the rules of a runbook say that was called by another."""
    return [one.model_copy(update={"runbook": runbook.id}) for one in found]


def together(found: Iterable[Finding]) -> list[Finding]:
    """What one run says, each rule once under each key: a runbook that was called twice found it all."""
    made: dict[tuple[str, ...], Finding] = {}
    for one in found:
        about = (one.runbook, one.rule, one.key, ASSET if one.into == ASSET else "")
        known = made.setdefault(about, one)
        if known is not one:
            firing = {each.item: each for each in (*known.firing, *one.firing)}
            problem = known.problem or one.problem
            made[about] = known.model_copy(update={"firing": list(firing.values())[:MOST], "problem": problem})
    return list(made.values())


def dedup_key(runbook: str, finding: Finding, item: str) -> str:
    """What people and machines know an alert by."""
    return _scope(runbook, finding.rule, finding.key) + quote(item, safe="")


def scope(runbook: str, finding: Finding) -> str:
    """How the keys of all alerts begin that *finding* speaks of."""
    return _scope(runbook, finding.rule, finding.key)


def _scope(runbook: str, rule: str, key: str) -> str:
    return f"{runbook}:{rule}:{quote(key, safe='')}:"


def _finding(rule: Raise, known: Mapping[str, Any], plain: Callable[[str], str]) -> Finding | None:
    empty = Finding(rule=rule.id, into=rule.into, severity=rule.severity)
    try:
        fires = True if rule.when is None else evaluate(rule.when, known)
        if fires is None:
            return None
        key = _text(rule.key, known, plain, NAME)
        items = _items(rule, known) if fires else []
        if items is None:
            return None
        firing = [_firing(rule, {**known, "item": item}, item, plain) for item in items]
    except PermanentError as error:
        return empty.model_copy(update={"problem": clip(one_line(plain(str(error))), VALUE)})
    return empty.model_copy(update={"key": key, "firing": firing})


def _report(rule: Report, known: Mapping[str, Any], plain: Callable[[str], str]) -> Finding:
    """What a rule says of assets; with a *problem*, nothing."""
    empty = Finding(rule=rule.kind, into=ASSET, severity="info")
    try:
        words = [_word(rule, {**known, "item": item}, plain) for item in _items(rule, known) or ()]
    except PermanentError as error:
        return empty.model_copy(update={"problem": clip(one_line(plain(str(error))), VALUE)})
    return empty.model_copy(update={"firing": [word for word in words if word.item]})


def _word(rule: Report, known: Mapping[str, Any], plain: Callable[[str], str]) -> Firing:
    asset = _text(rule.asset, known, plain, NAME)
    try:
        ok = not known["failed"] if rule.ok is None else evaluate(rule.ok, known)
        text = _text(rule.text, known, plain, VALUE)
    except PermanentError as error:  # the run did not come so far, or found something else than was thought
        told = known["failure"]["message"] if known["failed"] else str(error)
        ok, text = None, clip(one_line(clean(plain(told))), VALUE)
    return Firing(item=asset, title=text, labels={"ok": "unknown" if ok is None else "yes" if ok else "no"})


def _items(rule: Raise | Report, known: Mapping[str, Any]) -> Sequence[str] | None:
    """For what there is an alert; without `each`, for one thing that has no name."""
    if rule.each is None:
        return [""]
    found = evaluate(rule.each, known)
    if found is None:
        return None
    if not isinstance(found, list) or any(item is None or isinstance(item, list | dict) for item in found):
        raise PermanentError("each: must be a list of texts")
    names = list(dict.fromkeys(clip(one_line(clean(str(item))), NAME) for item in found))
    if len(names) > MOST:
        raise PermanentError(f"each: gives {len(names)} texts; {MOST} alerts at most are raised by one rule")
    return names


def _firing(rule: Raise, known: Mapping[str, Any], item: str, plain: Callable[[str], str]) -> Firing:
    return Firing(
        item=plain(item),
        title=_text(rule.title, known, plain, TITLE_LIMIT) or rule.id,
        description=clip(clean(plain(render(rule.description, known))), DESCRIPTION),
        labels={name: _text(value, known, plain, VALUE) for name, value in rule.labels.items()},
    )


def _text(text: str, known: Mapping[str, Any], plain: Callable[[str], str], limit: int) -> str:
    return clip(one_line(clean(plain(render(text, known)))), limit)
