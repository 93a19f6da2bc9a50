"""What a person enters into menus and fields, in the shape Slack reports it."""

from collections.abc import Iterable
from typing import Any

from bot.sandbox.elements import as_number
from bot.sandbox.state import Json
from bot.sandbox.workspace import Workspace, fields

# Element type → the field of its state that holds the value, and the field of the element it starts from.
SHAPES = {
    "plain_text_input": ("value", "initial_value"),
    "number_input": ("value", "initial_value"),
    "email_text_input": ("value", "initial_value"),
    "url_text_input": ("value", "initial_value"),
    "static_select": ("selected_option", "initial_option"),
    "external_select": ("selected_option", "initial_option"),
    "radio_buttons": ("selected_option", "initial_option"),
    "overflow": ("selected_option", ""),
    "multi_static_select": ("selected_options", "initial_options"),
    "multi_external_select": ("selected_options", "initial_options"),
    "checkboxes": ("selected_options", "initial_options"),
    "users_select": ("selected_user", "initial_user"),
    "multi_users_select": ("selected_users", "initial_users"),
    "channels_select": ("selected_channel", "initial_channel"),
    "multi_channels_select": ("selected_channels", "initial_channels"),
    "conversations_select": ("selected_conversation", "initial_conversation"),
    "multi_conversations_select": ("selected_conversations", "initial_conversations"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
    "rich_text_input": ("rich_text_value", "initial_value"),
    "file_input": ("files", ""),
}
STATELESS = ("button", "overflow", "icon_button", "feedback_buttons")


class ImpossibleError(AssertionError):
    """A person could not do this: there is no such button, option or field."""


def options(element: Json) -> list[Json]:
    groups = element.get("option_groups")
    if groups:
        return [option for group in groups for option in group.get("options") or []]
    return list(element.get("options") or [])


def label(option: Json) -> str:
    return str((option.get("text") or {}).get("text") or "")


def initial(element: Json) -> Json:
    """The state of an element nobody has touched."""
    kind = str(element.get("type"))
    key, start = SHAPES[kind]
    value = element.get(start) if start else None
    if value is None and key.endswith("s"):
        value = []
    return {"type": kind, key: value}


def entered(workspace: Workspace, element: Json, value: Any) -> Json:
    """The state after a person entered *value*: text, an option's value or label, a name, or a list of them."""
    kind = str(element.get("type"))
    if kind not in SHAPES:
        raise ImpossibleError(f"nothing can be entered into a {kind}")
    key, _ = SHAPES[kind]
    if value is None:
        return {"type": kind, key: [] if key.endswith("s") else None}
    if key == "selected_options":
        many = value if isinstance(value, list | tuple) else [value]
        return {"type": kind, key: [_option(element, item) for item in many]}
    if key == "selected_option":
        return {"type": kind, key: _option(element, value)}
    if key.startswith(("selected_user", "selected_channel", "selected_conversation")):
        if key.endswith("s"):
            many = value if isinstance(value, list | tuple) else [value]
            return {"type": kind, key: [_id(workspace, key, item) for item in many]}
        return {"type": kind, key: _id(workspace, key, value)}
    if key == "selected_date_time":
        return {"type": kind, key: int(value)}
    if kind == "rich_text_input" and isinstance(value, str):
        inner = {"type": "rich_text_section", "elements": [{"type": "text", "text": value}]}
        return {"type": kind, key: {"type": "rich_text", "elements": [inner]}}
    return {"type": kind, key: value if isinstance(value, list | dict) else str(value)}


def _option(element: Json, wanted: Any) -> Json:
    if str(element.get("type")).endswith("external_select"):
        if isinstance(wanted, dict):
            return wanted
        raise ImpossibleError(f"choose one of the options that {element.get('action_id')} suggests, as it is")
    known = options(element)
    for option in known:
        if wanted in (option.get("value"), label(option)):
            return option
    there = ", ".join(f"{o.get('value')!r}" for o in known) or "none"
    raise ImpossibleError(f"no option {wanted!r} in {element.get('action_id')}; there is: {there}")


def _id(workspace: Workspace, key: str, wanted: Any) -> str:
    text = str(wanted)
    if "user" in key and (user := workspace.person(text.removeprefix("@"))):
        return user.id
    if channel := workspace.channel(text):
        return channel.id
    if "conversation" in key and (user := workspace.person(text.removeprefix("@"))):
        return user.id
    raise ImpossibleError(f"nobody and nothing is called {text!r}")


def value_of(state: Json) -> Any:
    return state.get(SHAPES[str(state["type"])][0])


def values(blocks: Iterable[Json], known: dict[str, Json]) -> dict[str, Json]:
    """``state.values``: what was entered, and for everything else what stood there at the start."""
    found: dict[str, Json] = {}
    for block, element in fields(blocks):
        if element.get("type") in STATELESS or element.get("type") not in SHAPES:
            continue
        block_id, action_id = block["block_id"], element["action_id"]
        was = known.get(block_id, {}).get(action_id)
        found.setdefault(block_id, {})[action_id] = was if was is not None else initial(element)
    return found


def complaint(block: Json, element: Json, state: Json) -> str | None:
    """What Slack's own client says of a field before it submits a modal, or None."""
    value = value_of(state)
    if value in (None, "", []):
        return None if block.get("optional") else "Please complete this required field."
    kind = element.get("type")
    if kind == "plain_text_input":
        if len(value) > (most := int(element.get("max_length") or 3000)):
            return f"Must be no more than {most} characters."
        if len(value) < (least := int(element.get("min_length") or 0)):
            return f"Must be at least {least} characters."
    if kind == "number_input":
        return _number_complaint(element, str(value))
    if kind == "email_text_input" and "@" not in value:
        return "Please enter a valid email address."
    if kind == "url_text_input" and not str(value).startswith(("http://", "https://")):
        return "Please enter a valid URL."
    return None


def _number_complaint(element: Json, text: str) -> str | None:
    number = as_number(text)
    if number is None or (not element.get("is_decimal_allowed") and number != int(number)):
        return "Please enter a valid number."
    low, high = element.get("min_value"), element.get("max_value")
    if low is not None and number < float(low):
        return f"Must be at least {low}."
    if high is not None and number > float(high):
        return f"Must be no more than {high}."
    return None
