"""The fields of a form, one for each parameter, as Slack has them for its type."""

from collections.abc import Sequence

from bot.kit.text import clip
from bot.runs.form import PREFIX, Field
from bot.slack.views.blocks import Block, entry, option, plain

# What Slack holds: radio buttons to choose from at a glance, options of a menu, characters of one option.
RADIOS, OPTIONS, TEXT, VALUE = 5, 100, 75, 150


def field(one: Field, *, ask: bool = True) -> Block:
    """The field of a parameter. With *ask*, Slack may ask us for the choices of a menu that has too many to carry."""
    param = one.param
    label = param.label or one.name.replace("_", " ").capitalize()
    hints = [param.help or ""]
    element: Block
    optional = not param.required
    match param.type:
        case "choice" | "secret":
            element, hint = _choice(one, ask=ask)
            hints.append(hint)
        case "bool":
            yes = option("Yes", "true")
            element, optional = {"type": "checkboxes", "options": [yes]}, True
            if one.value:
                element["initial_options"] = [yes]
        case "user":
            element = {"type": "users_select", "placeholder": plain("Choose a person", 150)}
            if one.value:
                element["initial_user"] = str(one.value)
        case "int" | "number":
            element = _number(one)
        case "duration":
            element = _text(one, "30s, 5m, 1h30m")
        case "list":
            element = {**_text(one, ""), "multiline": True, "max_length": 3000}
            hints.append("One on each line, or with commas between.")
        case _:
            element = _text(one, "")
    hint = clip(" ".join(filter(None, hints)), 2000)
    return entry(PREFIX + one.name, clip(label, 150), element, optional=optional, hint=hint or None)


def _choice(one: Field, *, ask: bool) -> tuple[Block, str]:
    choices: Sequence[str] | None = one.choices if one.choices is not None else one.param.choices
    if choices is None:
        allowed = f"the pattern {one.param.pattern}" if one.param.pattern else "letters, digits and . _ : / @ -"
        why = clip(one.trouble, 200).rstrip(".")
        return _text(one, "Type it"), f"The choices could not be had ({why}), so type it; allowed is {allowed}."
    choices = [choice for choice in dict.fromkeys(choices) if choice.strip()]
    if not choices or max(map(len, choices)) > VALUE or (len(choices) > OPTIONS and not ask):
        return _text(one, "Type it"), clip(f"One of: {', '.join(choices)}", 1000)
    told = f"There are {one.left_out} more than the {len(choices)} that can be chosen here." if one.left_out else ""
    known = one.value is not None and str(one.value) in choices
    element: Block
    if len(choices) > OPTIONS:
        element = {"type": "external_select", "min_query_length": 0, "placeholder": plain("Type to search", 150)}
    else:
        element = {"options": [option(choice, choice) for choice in choices]}
        radio = len(choices) <= RADIOS and one.param.required  # once something is chosen, something stays chosen
        element["type"] = "radio_buttons" if radio else "static_select"
        if not radio:
            element["placeholder"] = plain("Choose", 150)
    if known:
        element["initial_option"] = option(str(one.value), str(one.value))
    return element, told


def options(choices: Sequence[str], typed: str) -> list[Block]:
    """What a menu offers while somebody types."""
    wanted = typed.strip().lower()
    fitting = [choice for choice in dict.fromkeys(choices) if wanted in choice.lower() and len(choice) <= VALUE]
    return [option(choice, choice) for choice in fitting[:OPTIONS]]


def _text(one: Field, placeholder: str) -> Block:
    element: Block = {"type": "plain_text_input", "max_length": 256}
    if placeholder:
        element["placeholder"] = plain(placeholder, 150)
    if one.value is not None:
        shown = ", ".join(map(str, one.value)) if isinstance(one.value, list) else str(one.value)
        element["initial_value"] = shown[:3000] if one.param.type == "list" else shown[:256]
    return element


def _number(one: Field) -> Block:
    param = one.param
    element: Block = {"type": "number_input", "is_decimal_allowed": param.type == "number"}
    for bound, key in ((param.min, "min_value"), (param.max, "max_value")):
        if bound is not None:
            element[key] = digits(bound)
    if one.value is not None:
        element["initial_value"] = digits(one.value)
    return element


def digits(value: float) -> str:
    """A number as Slack takes it: no exponent."""
    return str(value) if isinstance(value, int) else f"{value:.10f}".rstrip("0").rstrip(".")
