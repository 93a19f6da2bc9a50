"""What went between Slack and the app, newest first, with how long each acknowledgement took; never a token."""

import json
import math
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from bot.kit.log import masked
from bot.sandbox.state import Call, Delivered, Json
from bot.sandbox.workspace import Workspace

NEWEST = 300
LONGEST = 4000
ABOUT = ("channel", "channel_id", "user_id", "user", "name")

# Wider than what logs mask: beside an escaped line break a token has no word boundary.
_TOKEN = re.compile(r"(xox[a-z]|xapp)-[\w%.+/=-]+", re.IGNORECASE)


def shown(workspace: Workspace) -> Json:
    """The newest deliveries and calls merged by time, and figures over everything that is still remembered."""
    rows = [
        *map(_delivery, islice(reversed(workspace.deliveries), NEWEST)),
        *(_call(workspace, call) for call in islice(reversed(workspace.calls), NEWEST)),
    ]
    rows.sort(key=lambda row: str(row["at"]), reverse=True)
    there = len(workspace.deliveries) + len(workspace.calls)
    newest = rows[:NEWEST]
    for row in newest:
        if row["type"] == "call":
            row["args"] = pretty(row["args"])
    return {"rows": newest, "left_off": there - len(newest), "summary": summary(workspace)}


def summary(workspace: Workspace) -> Json:
    """How the app does: its acknowledgements, its calls, and what Slack would not forgive."""
    told, calls = list(workspace.deliveries), list(workspace.calls)
    took = sorted(one.ms for one in told if one.ok)
    limited = sum(call.error == "ratelimited" for call in calls)
    return {
        "deliveries": len(told),
        "failed": sum(not one.ok for one in told),
        "p50": percentile(took, 50),
        "p95": percentile(took, 95),
        "max": took[-1] if took else None,
        "calls": len(calls),
        "limited": limited,
        "errors": sum(not call.ok for call in calls) - limited,
        "violations": len(workspace.violations),
    }


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The smallest of the values that at least *percent* in a hundred do not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def level(ok: bool, ms: float) -> str:
    """How good an acknowledgement was; Slack gives up after three seconds."""
    if not ok or ms >= 3000:
        return "failed"
    if ms < 500:
        return "fast"
    return "fair" if ms < 1000 else "slow"


def pretty(args: Json) -> str:
    """Arguments as a person reads them: JSON inside JSON unpacked, tokens hidden, the end of a long one left out."""
    try:
        text = json.dumps(_unpacked(args), indent=2, ensure_ascii=False, default=str)
    except RecursionError:
        return "(nested too deeply to be shown)"
    text = hide(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… ({len(text) - LONGEST} more characters)"


def hide(text: str) -> str:
    """*text* without Slack tokens and without passwords in addresses."""
    return _TOKEN.sub(r"\1-***", masked(text))


def _unpacked(args: Json) -> Json:
    return {key: _parsed(value) for key, value in args.items()}


def _parsed(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _delivery(one: Delivered) -> Json:
    return {
        "type": "delivery",
        "name": hide(one.what),
        "kind": one.kind,
        "transport": one.transport,
        "at": one.at,
        "ok": one.ok,
        "error": one.error,
        "ms": one.ms,
        "level": level(one.ok, one.ms),
        "retry": one.retry,
    }


def _about(workspace: Workspace, args: Json) -> str:
    """Where a call acts, as people call that place."""
    named = next((str(args[key]) for key in ABOUT if args.get(key)), "")
    channel = workspace.channel(named) if named else None
    if channel is not None and channel.kind != "im":
        return f"#{channel.name}"
    user = workspace.person(channel.creator if channel else named)
    return f"@{user.name}" if user else ""


def _call(workspace: Workspace, one: Call) -> Json:
    return {
        "type": "call",
        "name": hide(one.method),
        "at": one.at,
        "ok": one.ok,
        "error": one.error,
        "about": _about(workspace, one.args),
        "token": one.token_kind,
        "args": one.args,
    }
