"""A first runbook from what was done in an incident: the runs that went well, and what people wrote down by hand.

It is a draft to be read and kept in Git. What people or alerts wrote stays data in it: quoted, and never a template.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from bot.alerts.model import AlertRow
from bot.incidents.model import Incident, TimelineEvent
from bot.kit.text import clean, clip, one_line, slug
from bot.runs.model import Run, RunState
from bot.runs.runbook import Runbook

HEAD = """\
# Drafted from {reference}: read every line before you keep it. Name it after the symptom, and file it under its id.
# Steps that were done by hand ask a person to do them, and go on when somebody says that they are done.
"""
RISKS = ("low", "medium", "high")


@dataclass
class _Draft:
    """The runbook as it grows."""

    params: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    mocks: dict[str, Any] = field(default_factory=dict)
    risk: str = "low"


def draft(
    incident: Incident,
    events: Sequence[TimelineEvent],
    runs: Sequence[Run],
    alerts: Sequence[AlertRow],
    runbooks: Mapping[str, Runbook],
    *,
    owner: str,
) -> str:
    """The YAML of a runbook that does again what was done in *incident*, in the order in which it was done."""
    made, by_id = _Draft(), {run.id: run for run in runs}
    for event in events:
        run = by_id.get(str(event.data.get("run")))
        if event.kind == "run.started" and run is not None and run.state == RunState.SUCCEEDED and not run.dry_run:
            _call(made, run, alerts, runbooks)
        elif event.kind == "note.added" and event.data.get("kind") == "action" and "run" not in event.data:
            _by_hand(made, event.text)
    if not made.steps:
        made.steps.append({"note": {"kind": "finding", "text": _text(f"Nothing was recorded in {incident.reference}")}})
    name = f"from-{slug(incident.reference, 50)}"
    book: dict[str, Any] = {
        "version": 1,
        "id": name,
        "name": clip(one_line(clean(incident.title)), 70) or incident.reference,
        "description": f"What was done in {incident.reference}.",
        "owner": owner,
        "risk": made.risk,
    }
    if offered := _offer(alerts):
        book["offer"] = offered
    if made.params:
        book["params"] = made.params
    book["access"] = {"run": ["@responders"]}
    book["timeout"] = "1h"
    book["steps"] = made.steps
    trial = {"name": f"as it went in {incident.reference}", "params": made.given, "mock": made.mocks}
    book["tests"] = [{**{key: part for key, part in trial.items() if part}, "expect": {"state": "succeeded"}}]
    told = yaml.safe_dump(book, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)
    return HEAD.format(reference=incident.reference) + told


def _call(made: _Draft, run: Run, alerts: Sequence[AlertRow], runbooks: Mapping[str, Runbook]) -> None:
    """A run becomes a call of its runbook, with parameters that a later incident fills in."""
    book = runbooks.get(run.runbook)
    if book is None:
        told = f"Run the runbook {run.runbook} (it is not in the folder any more)"
        _by_hand(made, told)
        return
    made.risk = max(made.risk, book.risk, key=RISKS.index)
    given: dict[str, Any] = {}
    for name, param in book.params.items():
        value = run.params.get(name)
        if value is None:
            continue
        ours = _name(made, name, param.model_dump(mode="json", exclude_defaults=True), value, alerts)
        given[name] = "{{ params." + ours + " }}"
        made.given[ours] = value
    key = _key(made, run.runbook.replace("-", "_"))
    call = {"use": run.runbook, **({"params": given} if given else {})}
    made.steps.append({"id": key, "name": clip(book.name, 100), "runbook": call})
    made.mocks[key] = dict(run.outputs)


def _name(made: _Draft, name: str, declared: dict[str, Any], value: Any, alerts: Sequence[AlertRow]) -> str:
    """The name of the parameter that holds *value* in the draft: one for all calls that take the same."""
    about = dict(declared)
    about.pop("choices_from", None)
    if declared.get("choices_from") is not None:
        about["type"] = "string"
    label = _label(value, alerts)
    if label and about.get("type", "string") in ("string", "choice") and "source" not in about:
        about["source"] = f"alert.labels.{label}"
    if "default" not in about and "source" not in about and about.get("type") != "secret":
        about["help"] = clip(one_line(clean(f"{about.get('help', '')} (was {value})".strip())), 150)
    for number in range(1, 100):
        ours = name if number == 1 else f"{name[:36]}_{number}"
        if ours not in made.params:
            made.params[ours] = about
            return ours
        if made.params[ours] == about and made.given[ours] == value:
            return ours
    raise AssertionError("a hundred runs with a parameter of one name")  # an incident has fewer


def _label(value: Any, alerts: Sequence[AlertRow]) -> str | None:
    """The label of an alert that *value* may have come from."""
    for alert in alerts:
        for name, found in sorted(alert.labels.items()):
            if found == value and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                return name
    return None


def _by_hand(made: _Draft, text: str) -> None:
    """What a person did by hand is asked for, and the run waits until somebody says that it is done."""
    made.risk = "high"
    key = _key(made, "by_hand")
    prompt = _text(f"By hand: {clip(text.strip(), 1500)}\nPress yes when it is done.")
    ask = {"prompt": prompt, "not_requester": False, "who": ["@responders"], "expires": "30m"}
    made.steps.append({"id": key, "name": _text(clip(one_line(f"By hand: {text}"), 80)), "approval": ask})


def _key(made: _Draft, wanted: str) -> str:
    base = re.sub(r"[^a-z0-9_]", "_", wanted.lower())[:34]
    base = base if base[:1].isalpha() else f"s_{base}"
    taken = {step.get("id") for step in made.steps}
    return next(key for number in range(1, 1000) if (key := base if number == 1 else f"{base}_{number}") not in taken)


def _text(text: str) -> str:
    """*text* so that a template gives exactly it back."""
    return re.sub(r"\{[{%#]", lambda found: "{{ '" + found[0] + "' }}", clean(text))


def _offer(alerts: Sequence[AlertRow]) -> list[dict[str, Any]]:
    """On which alerts it would be offered: those of the same names, for the same service."""
    found: list[dict[str, Any]] = []
    for alert in alerts:
        matchers = [
            f"{name}={_quoted(alert.labels[name])}" for name in ("alertname", "service") if alert.labels.get(name)
        ]
        one = {"match": {"labels": matchers}}
        if matchers and one not in found:
            found.append(one)
    return found[:5]


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
