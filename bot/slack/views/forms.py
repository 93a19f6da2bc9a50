"""The forms people fill in."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bot.incidents.model import Sev
from bot.slack import ids
from bot.slack.views.blocks import Block, context, entry, modal, option, plain, safe, section

SEVERITIES = {
    Sev.SEV1: "SEV1 · critical: everybody is affected",
    Sev.SEV2: "SEV2 · major: many are affected",
    Sev.SEV3: "SEV3 · moderate: some are affected",
    Sev.SEV4: "SEV4 · minor: few are affected",
    Sev.SEV5: "SEV5 · nobody is affected yet",
}


def declare(*, title: str = "", severity: Sev = Sev.SEV3) -> Block:
    """Declare an incident. Needs nothing that is not at hand, so it opens at once."""
    text: Block = {"type": "plain_text_input", "max_length": 200, "placeholder": plain("What is wrong?", 150)}
    if title:
        text["initial_value"] = title[:200]
    chosen = option(SEVERITIES[severity], severity)
    return modal(
        ids.DECLARE_FORM,
        "Declare an incident",
        [
            entry("title", "Title", text),
            entry(
                "severity",
                "Severity",
                {
                    "type": "static_select",
                    "options": [option(text, sev) for sev, text in SEVERITIES.items()],
                    "initial_option": chosen,
                },
                hint="If unsure, take the worse one; it can be changed.",
            ),
            entry(
                "summary",
                "What is known so far",
                {"type": "plain_text_input", "multiline": True, "max_length": 3000},
                optional=True,
            ),
            entry(
                "private",
                "Who may see it",
                {"type": "checkboxes", "options": [option("Private: only for people in its channel", "private")]},
                optional=True,
                hint="A private incident cannot be made public later.",
            ),
        ],
        submit="Declare",
    )


def resolve(incident_id: str) -> Block:
    """What ended it."""
    note = {"type": "plain_text_input", "multiline": True, "max_length": 2000}
    return modal(
        ids.RESOLVE_FORM,
        "Resolve the incident",
        [
            section("The timeline stays; a post-mortem draft is written from it."),
            entry("note", "What ended it?", note, optional=True),
        ],
        submit="Resolve",
        about=json.dumps({"incident": incident_id}),
    )


def loading(title: str) -> Block:
    """Shown at once, while the real form is made."""
    text = ":hourglass_flowing_sand: Loading… If this stays, close it and press the button again."
    return modal(ids.RUN_FORM, title, [section(text)])


def trouble(title: str, text: str) -> Block:
    """Why there is no form."""
    return modal(ids.RUN_FORM, title, [section(f":warning: {safe(text)}")])


def run(
    *,
    incident_id: str,
    runbook: str,
    sha256: str,
    name: str,
    description: str,
    risk: str,
    params: Sequence[Mapping[str, Any]],
    values: Mapping[str, Any],
    steps: Sequence[str],
) -> Block:
    """A runbook's parameters, filled in from the alert; each of *params* has name, type, label, help, choices."""
    blocks: list[Block] = [section(f"*{safe(name, 150)}*\n{safe(description, 1500)}")]
    blocks.append(context(f"Risk: {risk} · {len(steps)} steps: " + safe(" → ".join(steps), 1200)))
    blocks += [_param(param, values.get(param["name"])) for param in params[:40]]
    blocks.append(
        entry(
            "mode",
            "How",
            {
                "type": "radio_buttons",
                "options": [option("Run it", "run"), option("Dry run: only look, change nothing", "dry_run")],
                "initial_option": option("Run it", "run"),
            },
        )
    )
    about = json.dumps({"incident": incident_id, "runbook": runbook, "sha256": sha256})
    return modal(ids.RUN_FORM, "Run a runbook", blocks, submit="Go", about=about)


def _param(param: Mapping[str, Any], value: Any) -> Block:
    label = param.get("label") or str(param["name"]).replace("_", " ").capitalize()
    kind = param.get("type", "string")
    element: Block
    if kind == "choice":
        choices = [option(choice, choice) for choice in param["choices"][:100]]
        element = {"type": "static_select", "options": choices}
        if str(value) in map(str, param["choices"][:100]):
            element["initial_option"] = option(str(value), str(value))
    elif kind == "bool":
        yes = option("Yes", "true")
        element = {"type": "checkboxes", "options": [yes]}
        if value:
            element["initial_options"] = [yes]
        return entry(f"param.{param['name']}", label, element, optional=True, hint=param.get("help"))
    elif kind == "user":
        element = {"type": "users_select"}
        if value:
            element["initial_user"] = str(value)
    elif kind in ("int", "number"):
        element = {"type": "number_input", "is_decimal_allowed": kind == "number"}
        for bound, key in (("min", "min_value"), ("max", "max_value")):
            if param.get(bound) is not None:
                element[key] = _digits(param[bound])
        if value is not None:
            element["initial_value"] = _digits(value)
    else:
        element = {"type": "plain_text_input", "max_length": 256}
        if value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            element["initial_value"] = shown[:256]
    return entry(
        f"param.{param['name']}", label, element, optional=not param.get("required", True), hint=param.get("help")
    )


def _digits(value: float) -> str:
    """A number as Slack takes it: no exponent."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")
