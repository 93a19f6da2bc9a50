"""The limits of Block Kit elements: buttons, menus, inputs and their options.

https://docs.slack.dev/reference/block-kit/block-elements
"""

from collections.abc import Callable
from typing import Any

from bot.sandbox.checks import Check, Json

_COMMON = ("action_id", "focus_on_load")
_MENU = (*_COMMON, "placeholder", "confirm")

Checker = Callable[[Check, Json, str], None]


def element(check: Check, value: Any, at: str, allowed: frozenset[str], where: str) -> None:
    """Check one element that stands in a *where* (section, actions, input, context)."""
    if not check.mapping(value, at):
        return
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in ELEMENTS:
        check.say(f"{at}/type", f"unsupported type: {str(kind)[:40]}")
        return
    if kind not in allowed:
        check.say(f"{at}/type", f"{kind} is not allowed in {where}")
        return
    if kind in ("file_input", "rich_text_input") and check.surface != "modal":
        check.say(f"{at}/type", f"{kind} is only allowed in a modal")
    check.identity(value, "action_id", at, check.action_ids)
    if value.get("focus_on_load") is True:
        check.focused += 1
        if check.focused > 1:
            check.say(f"{at}/focus_on_load", "only one element may have focus_on_load")
    check.flag(value, "focus_on_load", at)
    check.text(value, "placeholder", at, 150, plain=True)
    if value.get("confirm") is not None:
        confirm(check, value["confirm"], f"{at}/confirm")
    ELEMENTS[kind](check, value, at)


def confirm(check: Check, value: Any, at: str) -> None:
    if not check.mapping(value, at):
        return
    check.keys(value, at, ("style",), ("title", "text", "confirm", "deny"))
    check.text(value, "title", at, 100, plain=True)
    check.text(value, "text", at, 300)
    check.text(value, "confirm", at, 30, plain=True)
    check.text(value, "deny", at, 30, plain=True)
    check.choice(value, "style", at, ("primary", "danger"))


def option(check: Check, value: Any, at: str, *, markup: bool = False, links: bool = False) -> None:
    if not check.mapping(value, at):
        return
    check.keys(value, at, ("description", "url") if links else ("description",), ("text", "value"))
    check.text(value, "text", at, 75, plain=not markup)
    check.string(value, "value", at, 150)
    check.text(value, "description", at, 75, plain=not markup)
    if links:
        check.link(value, "url", at)


def options(check: Check, part: Json, at: str, most: int, *, markup: bool = False) -> list[Any]:
    found = check.array(part, "options", at, most)
    for i, item in enumerate(found):
        option(check, item, f"{at}/options/{i}", markup=markup)
    return found


def menu_options(check: Check, part: Json, at: str) -> list[Any]:
    """Options, or groups of them, but not both."""
    if part.get("option_groups") is None:
        return options(check, part, at, 100)
    if part.get("options") is not None:
        check.say(at, "must have options or option_groups, not both")
    found: list[Any] = []
    for i, group in enumerate(check.array(part, "option_groups", at, 100)):
        place = f"{at}/option_groups/{i}"
        if check.mapping(group, place):
            check.keys(group, place, ("options",), ("label",))
            check.text(group, "label", place, 75, plain=True)
            found += options(check, group, place, 100)
    return found


def initial(check: Check, part: Json, key: str, at: str, among: list[Any]) -> None:
    """What is chosen at the start must be one of the options, word for word."""
    value = part.get(key)
    if value is None:
        return
    chosen = value if key.endswith("s") else [value]
    if not isinstance(chosen, list) or not chosen:
        check.say(f"{at}/{key}", "must be an option of this element")
        return
    for item in chosen:
        if item not in among:
            check.say(f"{at}/{key}", "must exactly match one of the options")


def button(check: Check, part: Json, at: str) -> None:
    known = ("action_id", "url", "value", "style", "confirm", "accessibility_label")
    check.keys(part, at, known, ("text",))
    check.text(part, "text", at, 75, plain=True)
    check.string(part, "value", at, 2000, shortest=0)
    check.link(part, "url", at)
    check.choice(part, "style", at, ("primary", "danger"))
    check.string(part, "accessibility_label", at, 75)


def static_select(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_MENU, "options", "option_groups", "initial_option"))
    initial(check, part, "initial_option", at, menu_options(check, part, at))


def multi_static_select(check: Check, part: Json, at: str) -> None:
    known = (*_MENU, "options", "option_groups", "initial_options", "max_selected_items")
    check.keys(part, at, known)
    initial(check, part, "initial_options", at, menu_options(check, part, at))
    check.number(part, "max_selected_items", at, 1, 10_000)


def external_select(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_MENU, "initial_option", "min_query_length"))
    check.number(part, "min_query_length", at, 0, 3000)
    if part.get("initial_option") is not None:
        option(check, part["initial_option"], f"{at}/initial_option")


def multi_external_select(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_MENU, "initial_options", "min_query_length", "max_selected_items"))
    check.number(part, "min_query_length", at, 0, 3000)
    check.number(part, "max_selected_items", at, 1, 10_000)
    for i, item in enumerate(check.array(part, "initial_options", at, 100, needed=False)):
        option(check, item, f"{at}/initial_options/{i}")


def loaded(check: Check, value: Any) -> None:
    """What the app answers when a menu asks it for options: at most 100, or groups of them."""
    if check.mapping(value, ""):
        check.keys(value, "", ("options", "option_groups"))
        if value.get("option_groups") is None:
            for i, item in enumerate(check.array(value, "options", "", 100, least=0)):
                option(check, item, f"/options/{i}")
        else:
            menu_options(check, value, "")


def _picker(key: str, *extra: str) -> Checker:
    """A menu of people or channels; its start value is one id, or a list of ids."""

    def picker(check: Check, part: Json, at: str) -> None:
        check.keys(part, at, (*_MENU, key, *extra))
        if key.endswith("s"):
            for i, item in enumerate(check.array(part, key, at, 10_000, least=0, needed=False)):
                if not isinstance(item, str) or not item:
                    check.say(f"{at}/{key}/{i}", "must be an id")
            check.number(part, "max_selected_items", at, 1, 10_000)
        else:
            check.string(part, key, at, 50)
        if part.get("response_url_enabled") and check.surface != "modal":
            check.say(f"{at}/response_url_enabled", "is only allowed in a modal")

    return picker


def overflow(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, ("action_id", "confirm", "options"))
    for i, item in enumerate(check.array(part, "options", at, 5)):
        option(check, item, f"{at}/options/{i}", links=True)


def checkboxes(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_COMMON, "options", "initial_options", "confirm"))
    initial(check, part, "initial_options", at, options(check, part, at, 10, markup=True))


def radio_buttons(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_COMMON, "options", "initial_option", "confirm"))
    initial(check, part, "initial_option", at, options(check, part, at, 10, markup=True))


def datepicker(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_MENU, "initial_date"))
    check.string(part, "initial_date", at, 10, shortest=10)


def timepicker(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_MENU, "initial_time", "timezone"))
    check.string(part, "initial_time", at, 5, shortest=5)


def datetimepicker(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_COMMON, "confirm", "initial_date_time"))
    check.number(part, "initial_date_time", at, 1_000_000_000, 9_999_999_999)


_INPUT = (*_COMMON, "placeholder", "initial_value", "dispatch_action_config")


def plain_text_input(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_INPUT, "multiline", "min_length", "max_length"))
    check.flag(part, "multiline", at)
    low = check.number(part, "min_length", at, 0, 3000)
    high = check.number(part, "max_length", at, 1, 3000)
    if low is not None and high is not None and low > high:
        check.say(f"{at}/min_length", "must not be greater than max_length")
    check.string(part, "initial_value", at, int(high or 3000), shortest=0)


def number_input(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, (*_INPUT, "min_value", "max_value"), ("is_decimal_allowed",))
    for key in ("initial_value", "min_value", "max_value"):
        value = check.string(part, key, at, 30)
        if value is not None and as_number(value) is None:
            check.say(f"{at}/{key}", "must be a number written as a string")


def address_input(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, _INPUT)
    check.string(part, "initial_value", at, 3000)


def rich_text_input(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, _INPUT)


def file_input(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, ("action_id", "filetypes", "max_files"))
    check.number(part, "max_files", at, 1, 10)


def image(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, ("image_url", "slack_file"), ("alt_text",))
    check.string(part, "alt_text", at, 2000)
    picture(check, part, at)


def picture(check: Check, part: Json, at: str) -> None:
    """Where an image comes from: a URL or a file in Slack, one of the two."""
    if (part.get("image_url") is None) == (part.get("slack_file") is None):
        check.say(at, "must have image_url or slack_file, and not both")
    check.link(part, "image_url", at)


def icon_button(check: Check, part: Json, at: str) -> None:
    check.keys(
        part,
        at,
        ("action_id", "value", "confirm", "accessibility_label", "visible_to_user_ids"),
        ("icon", "text"),
    )
    check.text(part, "text", at, 75, plain=True)


def feedback_buttons(check: Check, part: Json, at: str) -> None:
    check.keys(part, at, ("action_id",), ("positive_button", "negative_button"))


def as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


ELEMENTS: dict[str, Checker] = {
    "button": button,
    "static_select": static_select,
    "multi_static_select": multi_static_select,
    "external_select": external_select,
    "multi_external_select": multi_external_select,
    "users_select": _picker("initial_user"),
    "multi_users_select": _picker("initial_users", "max_selected_items"),
    "channels_select": _picker("initial_channel", "response_url_enabled"),
    "multi_channels_select": _picker("initial_channels", "max_selected_items"),
    "conversations_select": _picker(
        "initial_conversation", "default_to_current_conversation", "response_url_enabled", "filter"
    ),
    "multi_conversations_select": _picker(
        "initial_conversations", "max_selected_items", "default_to_current_conversation", "filter"
    ),
    "overflow": overflow,
    "checkboxes": checkboxes,
    "radio_buttons": radio_buttons,
    "datepicker": datepicker,
    "timepicker": timepicker,
    "datetimepicker": datetimepicker,
    "plain_text_input": plain_text_input,
    "number_input": number_input,
    "email_text_input": address_input,
    "url_text_input": address_input,
    "rich_text_input": rich_text_input,
    "file_input": file_input,
    "image": image,
    "icon_button": icon_button,
    "feedback_buttons": feedback_buttons,
}

MENUS = frozenset(k for k in ELEMENTS if k.endswith("_select"))
PICKERS = MENUS | {"checkboxes", "radio_buttons", "datepicker", "timepicker"}
TEXT_INPUTS = frozenset({"plain_text_input", "number_input", "email_text_input", "url_text_input"})

IN_SECTION = PICKERS | {"button", "overflow", "image"}
IN_ACTIONS = PICKERS | {"button", "overflow", "datetimepicker"}
IN_INPUT = PICKERS | TEXT_INPUTS | {"datetimepicker", "rich_text_input", "file_input"}
IN_CONTEXT_ACTIONS = frozenset({"icon_button", "feedback_buttons"})
