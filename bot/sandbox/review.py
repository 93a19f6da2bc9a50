"""What must never stand in anything the app shows, however well-formed it is."""

import json
import re
from typing import Any

from bot.sandbox import blocks, elements, render
from bot.sandbox.checks import Check, Problem
from bot.sandbox.state import Json
from bot.sandbox.workspace import Workspace

_TOKEN = re.compile(r"\b(?:xox[abeprs]|xapp)-[A-Za-z0-9-]{6,}")
_EVERYBODY = re.compile(r"<!(?:channel|here|everyone)\b")


def look(workspace: Workspace, where: str, text: str | None, parts: Any) -> None:
    """Record a leaked token, or a mention that would wake everybody."""
    whole = (text or "") + json.dumps(parts, default=str) if parts else (text or "")
    if found := _TOKEN.search(whole):
        workspace.violation("leaked_secret", f"{where} shows a token ({found[0][:9]}…)")
    for said in (text or "", *render.mrkdwn(parts)):
        if found := _EVERYBODY.search(said):
            workspace.violation("broadcast", f"{where} says {found[0]}> to everybody")
            break


def view(workspace: Workspace, where: str, body: Any) -> list[Problem]:
    """The problems of a view, recorded; the caller answers with them."""
    problems = blocks.validate_view(body)
    for problem in problems:
        workspace.violation("invalid_view", f"{where}: {problem}")
    if not problems:
        look(workspace, where, None, body)
    return problems


def loaded(workspace: Workspace, where: str, body: Any) -> list[Problem]:
    """The problems of the options that a menu was given, recorded."""
    check = Check("message")
    elements.loaded(check, body)
    for problem in check.problems:
        workspace.violation("invalid_options", f"{where}: {problem}")
    return check.problems


def message(workspace: Workspace, where: str, text: str | None, body: list[Json]) -> list[Problem]:
    """The problems of a message's blocks, recorded; the caller answers with them."""
    problems = blocks.validate_blocks(body, "message") if body else []
    for problem in problems:
        workspace.violation("invalid_blocks", f"{where}: {problem}")
    if not problems:
        if body and not text:
            workspace.violation("no_fallback", f"{where} has blocks and no text for notifications")
        look(workspace, where, text, body)
    return problems
