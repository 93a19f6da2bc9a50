"""Slack's published table of methods, where it lies beside the checkout, and what differs from it for a reason.

The table is not ours to keep here: without it, what needs it is not collected.
"""

import ast
import inspect
import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from bot.sandbox.methods import method
from bot.sandbox.methods.table import METHODS
from bot.sandbox.state import Call

BESIDE = Path(__file__).parents[3] / "shared" / "reference" / "slack-methods.json"
PATH = Path(os.environ.get("TOCSIN_SLACK_METHODS") or BESIDE)
THERE = PATH.is_file()

# What every method may answer. The reference lists these unevenly, and in its pages on tokens, scopes and rate limits.
GENERAL = {
    *("not_authed", "invalid_auth", "not_allowed_token_type", "missing_scope"),
    *("invalid_arguments", "ratelimited", "internal_error", "unknown_method"),
    "http_500",  # the sandbox's own word for an answer that is no JSON
}
# Every method that pages answers so to a cursor it never gave out; some of them forget to say it.
PAGED = {"invalid_cursor"}
# What may stand beside the documented keys in any answer.
ENVELOPE = {"ok", "error", "warning", "response_metadata"}
# `token` is checked apart; Slack takes team_id everywhere, and its SDK sends it.
ANYWHERE = {"token", "team_id"}

# Arguments the table calls optional, and without which the method has nothing to do.
NEEDED = {
    "conversations.kick": {"user"},
    "bookmarks.add": {"channel_id"},
    "bookmarks.edit": {"channel_id", "bookmark_id"},
    "bookmarks.list": {"channel_id"},
    "bookmarks.remove": {"channel_id", "bookmark_id"},
}
# Arguments the table calls required, and which may be empty: that is how a topic is taken away.
EMPTY = {"conversations.setTopic": {"topic"}, "conversations.setPurpose": {"purpose"}}
# Arguments that are not in the table: api.test gives back whatever it is given, as in its own example.
EXTRA = {"api.test": {"foo"}}
# Keys of answers that are in Slack's examples and not in the table, which leaves the answer of this method out.
KEYS = {"team.info": {"team"}}


@cache
def table() -> dict[str, Any]:
    """Method → what is documented of it."""
    found: dict[str, Any] = json.loads(PATH.read_text("utf-8"))["methods"]
    return found


def documented(name: str) -> set[str]:
    """The error codes a method may answer."""
    paged = PAGED if "cursor" in table()[name]["args"] else set()
    return {*(table()[name]["errors"] or []), *GENERAL, *paged}


def bad_calls(calls: Iterable[Call]) -> list[str]:
    """What is wrong with calls an app made: no such method, no such argument, or a required one missing."""
    found = set()
    for call in calls:
        if call.method not in table():
            found.add(f"{call.method}: not documented")
            continue
        known = table()[call.method]["args"]
        required = {name for name, about in known.items() if about["required"]} - EMPTY.get(call.method, set())
        found |= {f"{call.method}: takes no {name}" for name in set(call.args) - set(known) - ANYWHERE}
        found |= {f"{call.method}: lacks {name}" for name in required - set(call.args) - ANYWHERE}
    return sorted(found)


def bad_answers(calls: Iterable[Call]) -> list[str]:
    """What is wrong with answers the sandbox gave: an error or a key that is not documented."""
    found = set()
    for call in calls:
        if call.method not in METHODS or call.method not in table():
            continue
        if call.error and call.error not in documented(call.method) and call.method != "api.test":
            found.add(f"{call.method}: answered {call.error}")
        if call.ok:
            keys = {*(table()[call.method]["output"] or []), *ENVELOPE, *KEYS.get(call.method, ())}
            found |= {f"{call.method}: answered with {key}" for key in set(call.keys) - keys}
    return sorted(found)


# Which errors a method can give, read from its source ---------------------------------------------------------------

Bound = dict[str, set[Any]]


class Codes:
    """Follows a method's function through the functions it calls, and keeps every code it may refuse with."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._seen: set[tuple[str, str, str]] = set()

    def of(self, function: Any, bound: Bound | None = None) -> set[str]:
        function = inspect.unwrap(function)
        key = (function.__module__, function.__qualname__, repr(sorted((bound or {}).items(), key=str)))
        if key not in self._seen:
            self._seen.add(key)
            tree = ast.parse(_dedent(inspect.getsource(function))).body[0]
            assert isinstance(tree, ast.FunctionDef)
            self._walk(tree.body, tree, inspect.getmodule(function), _defaults(tree) | (bound or {}))
        return self.found

    def _walk(self, nodes: Iterable[ast.AST], function: ast.FunctionDef, module: Any, bound: Bound) -> None:
        for node in nodes:
            if isinstance(node, ast.If) and _never(node.test, bound):
                self._walk(node.orelse, function, module, bound)
                continue
            if isinstance(node, ast.Call):
                self._call(node, function, module, bound)
            self._walk(ast.iter_child_nodes(node), function, module, bound)

    def _call(self, call: ast.Call, function: ast.FunctionDef, module: Any, bound: Bound) -> None:
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if isinstance(call.func, ast.Subscript) and isinstance(call.func.value, ast.Name):
            # One of a table of functions: it may be any of them.
            for each in getattr(module, call.func.value.id).values():
                self.of(each)
            return
        if name in ("RefusedError", "refuse"):
            self.found |= self._text(call.args[0], function, module, bound)
            return
        called: Any = getattr(module, name, None) if name else None
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            if call.func.value.id == "request":
                called = getattr(method.Request, call.func.attr, None)
            elif inspect.ismodule(there := getattr(module, call.func.value.id, None)):
                called = getattr(there, call.func.attr, None)
        if inspect.isfunction(called) and called.__module__.startswith("bot.sandbox.methods"):
            self.of(called, self._bind(called, call, function, module, bound))

    def _bind(self, called: Any, call: ast.Call, function: ast.FunctionDef, module: Any, bound: Bound) -> Bound:
        names = [p.name for p in inspect.signature(called).parameters.values()]
        if isinstance(call.func, ast.Attribute) and names and names[0] == "self":
            names = names[1:]
        given = dict(zip(names, call.args, strict=False)) | {k.arg: k.value for k in call.keywords if k.arg}
        found: Bound = {}
        for key, value in given.items():
            if isinstance(value, ast.Constant) and isinstance(value.value, str | bool | None):
                found[key] = {value.value}
            elif isinstance(value, ast.Name) and value.id in bound:
                found[key] = bound[value.id]
        return found

    def _text(self, node: ast.expr, function: ast.FunctionDef, module: Any, bound: Bound) -> set[str]:
        """Every text this expression may be."""
        if isinstance(node, ast.Constant):
            return {str(node.value)}
        if isinstance(node, ast.IfExp):
            return self._text(node.body, function, module, bound) | self._text(node.orelse, function, module, bound)
        if isinstance(node, ast.Name) and node.id in bound:
            return {str(value) for value in bound[node.id]}
        # A local name, or what a helper returned: every text that is assigned to it or returned there.
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        found: set[str] = set()
        for value in (v for n in ast.walk(function) for v in _assigned(n, names)):
            found |= {c.value for c in ast.walk(value) if isinstance(c, ast.Constant) and isinstance(c.value, str)}
            for call in (c for c in ast.walk(value) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)):
                helper = getattr(module, call.func.id, None)
                if inspect.isfunction(helper):
                    found |= _returned(helper)
        return found


def _dedent(source: str) -> str:
    return inspect.cleandoc("\n" + source) if source[:1].isspace() else source


def _defaults(function: ast.FunctionDef) -> Bound:
    arguments = function.args
    last = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [
        *zip(last, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {a.arg: {d.value} for a, d in pairs if isinstance(d, ast.Constant)}


def _never(test: ast.expr, bound: Bound) -> bool:
    """Whether a condition is false for what is known of the arguments."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    return any(isinstance(p, ast.Name) and p.id in bound and not any(bound[p.id]) for p in parts)


def _assigned(node: ast.AST, names: set[str]) -> list[ast.expr]:
    if isinstance(node, ast.For):
        names_there = {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
        return [node.iter] if names_there & names else []
    if isinstance(node, ast.Assign):
        targets, value = node.targets, node.value
    elif isinstance(node, ast.NamedExpr):
        targets, value = [node.target], node.value
    else:
        return []
    written = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if not written & names:
        return []
    target = targets[0]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return [v for t, v in zip(target.elts, value.elts, strict=True) if isinstance(t, ast.Name) and t.id in names]
    return [value]


def _returned(helper: Any) -> set[str]:
    tree = ast.parse(_dedent(inspect.getsource(helper)))
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value is not None]
    ends = [e for v in values for e in ([v.body, v.orelse] if isinstance(v, ast.IfExp) else [v])]
    return {e.value for e in ends if isinstance(e, ast.Constant) and isinstance(e.value, str)}
