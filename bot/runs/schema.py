"""The JSON Schema of a runbook, for editors: made from the same models that read the file.

It completes and underlines; the linter judges. Where the two differ the schema is the milder one, but for `null`, which
nobody needs to write out.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from bot.kit.clock import plain_duration
from bot.kit.shelf import Shelf
from bot.runs.runbook import ACTIONS, GIVEN, Runbook
from bot.runs.step import EXPRESSION, LITERAL, Mark, marks

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FILLED = {"$ref": "#/$defs/filled_in"}
_LENGTH = TypeAdapter(timedelta)
_BOUNDS = ("pattern", "minLength", "maxLength", "enum", "const")


def schema(steps: Shelf) -> Json:
    """What an editor needs to know to help with writing a runbook."""
    whole = _tidy(Runbook.model_json_schema(by_alias=True))
    parts: Json = whole.pop("$defs")
    del whole["properties"]["sha256"]
    whole["required"].remove("sha256")
    actions = {name: _action(name, steps[name], parts) for name in _order(steps)}
    step = parts["Step"]
    for name in GIVEN:
        step["properties"].pop(name, None)
    step["properties"] = {**step["properties"], **actions}
    step["required"] = []
    step["oneOf"] = [{"required": [name]} for name in actions]
    step["description"] = "One step: exactly one action, and how the run treats it."
    value = parts["LiveChoices"]["properties"]["value"]
    parts["LiveChoices"] = {
        **step,
        "description": parts["LiveChoices"]["description"],
        "properties": {**step["properties"], "value": value},
        "required": ["value"],
    }
    if "check" in (wait := parts.get("wait", {}).get("properties", {})):
        wait["check"] = {"description": wait["check"].get("description", ""), "$ref": "#/$defs/Step"}
    parts["filled_in"] = {
        "type": "string",
        "pattern": r"\{\{[\s\S]*\}\}",
        "description": "filled in when the step is carried out",
    }
    return {
        "$schema": DIALECT,
        "title": "A runbook of Tocsin",
        **{key: one for key, one in whole.items() if key not in ("title", "description")},
        "$defs": dict(sorted(parts.items())),
    }


def _order(steps: Shelf) -> list[str]:
    """The step types as the documents list them, then those of other packages."""
    known = [name for name in ACTIONS if name in steps]
    return [*known, *(name for name in steps if name not in known)]


def _action(name: str, module: Any, parts: Json) -> Json:
    """What stands under the action key *name*; its parts are added to *parts*."""
    made = _tidy(module.Params.model_json_schema(by_alias=True, ref_template=f"#/$defs/{name}_{{model}}"))
    for inner, part in made.pop("$defs", {}).items():
        parts[f"{name}_{inner}"] = _open_parts(part, {})
    parts[name] = _open_parts(made, marks(module.Params))
    about = (module.__doc__ or made.get("description", "")).strip().partition("\n")[0]
    whole = {"description": about, "$ref": f"#/$defs/{name}"}
    if not hasattr(module, "SHORT"):
        return whole
    return {"description": about, "anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "string"}]}


def _open_parts(model: Json, marked: Mapping[str, Mark]) -> Json:
    """A model whose values may stand there as `{{ … }}`, where the mark of a field does not say otherwise."""
    opened = {}
    for name, part in model.get("properties", {}).items():
        mark = marked.get(name)
        opened[name] = part if mark in (EXPRESSION, LITERAL) else _open(part)
        if mark is EXPRESSION:
            told = part.get("description", "")
            opened[name] = {**part, "description": told if "expression" in told else f"{told} (expression)".strip()}
    return {**model, "properties": opened} if opened else model


def _open(part: Json) -> Json:
    """*part*, or a text with `{{ … }}` in its place."""
    if not set(part) - {"description", "default", "examples"}:
        return part  # anything goes already
    inner = dict(part)
    if isinstance(inner.get("items"), dict):
        inner["items"] = _open(inner["items"])
    if isinstance(inner.get("additionalProperties"), dict):
        inner["additionalProperties"] = _open(inner["additionalProperties"])
    if "anyOf" in inner:
        branches = [_open_inside(branch) for branch in inner["anyOf"]]
        return {**inner, "anyOf": branches if any(map(_any_text, branches)) else [*branches, FILLED]}
    if _any_text(inner):
        return inner
    about: Json = {key: inner.pop(key) for key in ("description", "default", "examples") if key in inner}
    return {**about, "anyOf": [inner, FILLED]}


def _open_inside(branch: Json) -> Json:
    """A branch whose own items and values may be filled in."""
    inner = dict(branch)
    for key in ("items", "additionalProperties"):
        if isinstance(inner.get(key), dict):
            inner[key] = _open(inner[key])
    return inner


def _any_text(part: Json) -> bool:
    types = part.get("type")
    return "string" in (types if isinstance(types, list) else [types]) and not any(key in part for key in _BOUNDS)


def _tidy(part: Any) -> Any:
    """A schema of pydantic's without what helps nobody: made-up titles, `null`, and times in ISO's way."""
    if isinstance(part, list):
        return [_tidy(one) for one in part]
    if not isinstance(part, dict):
        return part
    if "properties" in part or "$defs" in part:
        named = {key: {name: _tidy(one) for name, one in part[key].items()} for key in ("properties", "$defs")
                 if key in part}  # fmt: skip
        rest = {key: one for key, one in part.items() if key not in named}
        return {**_tidy(rest), **named}
    made = {key: one if key in ("default", "examples", "enum", "const") else _tidy(one) for key, one in part.items()}
    if isinstance(made.get("title"), str):
        del made["title"]
    if "default" in made and (made["default"] is None or isinstance(made["default"], dict) or made["default"] == []):
        del made["default"]
    if "patternProperties" in made:
        made["additionalProperties"] = False
    if "anyOf" in made:
        made = _joined(made)
    if str(made.get("pattern", "")).endswith("|h|d))+$") and str(made.get("default", "")).startswith("P"):
        made["default"] = plain_duration(_LENGTH.validate_python(made["default"]))
    return made


def _joined(part: Json) -> Json:
    """Plain types side by side as one list of types; `null` left out."""
    branches = [branch for branch in part["anyOf"] if branch != {"type": "null"}]
    plain = [str(branch["type"]) for branch in branches if set(branch) == {"type"}]
    rest = [branch for branch in branches if set(branch) != {"type"}]
    if "number" in plain:
        plain = [name for name in plain if name != "integer"]
    if len(plain) > 1:
        rest.append({"type": plain})
    elif plain:
        rest.append({"type": plain[0]})
    about = {key: one for key, one in part.items() if key != "anyOf"}
    return {**about, **rest[0]} if len(rest) == 1 else {**about, "anyOf": rest}
