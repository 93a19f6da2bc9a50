"""Block Kit as Slack checks it: what a message, a modal and a Home tab may hold.

https://docs.slack.dev/reference/block-kit/blocks
"""

import json
from typing import Any

from bot.sandbox import elements, render
from bot.sandbox.checks import Check, Json, Problem
from bot.sandbox.elements import Checker

MOST = {"message": 50, "modal": 100, "home": 100}
CUMULATIVE = 12_000
VIEW_BYTES = 250_000
_DEPTH = 20


def validate_blocks(blocks: Any, surface: str = "message") -> list[Problem]:
    """Everything that Slack would not take in *blocks* on that surface; never raises."""
    check = Check(surface)
    _blocks(check, blocks, "/blocks")
    return check.problems


def validate_view(view: Any) -> list[Problem]:
    """Everything that Slack would not take in a modal or a Home tab; never raises."""
    check = Check("modal")
    if not check.mapping(view, ""):
        return check.problems
    kind = view.get("type")
    if kind not in ("modal", "home"):
        check.say("/type", "must be modal or home")
        return check.problems
    check.surface = kind
    shared = ("blocks", "private_metadata", "callback_id", "external_id")
    if kind == "modal":
        own = ("title", "submit", "close", "clear_on_close", "notify_on_close", "submit_disabled")
        check.keys(view, "", (*shared, *own))
        check.text(view, "title", "", 24, plain=True, needed=True)
        check.text(view, "submit", "", 24, plain=True)
        check.text(view, "close", "", 24, plain=True)
        for key in own[3:]:
            check.flag(view, key, "")
    else:
        check.keys(view, "", shared)
    check.string(view, "private_metadata", "", 3000, shortest=0)
    check.string(view, "callback_id", "", 255, shortest=0)
    check.string(view, "external_id", "", 255, shortest=0)
    _blocks(check, view.get("blocks"), "/blocks")
    if kind == "modal" and view.get("submit") is None and any(_is(b, "input") for b in _list(view)):
        check.say("/submit", "missing required field: submit (the view has an input block)")
    return check.problems


def text_length(blocks: Any) -> int:
    """How many characters all the text in *blocks* has: Slack refuses a message with too many."""
    return sum(len(text) for text in render.strings(blocks))


def size(value: Any) -> int:
    return len(json.dumps(value).encode())


def _list(view: Json) -> list[Any]:
    blocks = view.get("blocks")
    return blocks if isinstance(blocks, list) else []


def _is(block: Any, kind: str) -> bool:
    return isinstance(block, dict) and block.get("type") == kind


def _blocks(check: Check, blocks: Any, at: str) -> None:
    if not isinstance(blocks, list):
        check.say(at, "must be an array of blocks")
        return
    most = MOST.get(check.surface, 50)
    if len(blocks) > most:
        check.say(at, f"no more than {most} items allowed", "too_many")
    for i, block in enumerate(blocks):
        _block(check, block, f"{at}/{i}")
    if sum(_is(b, "table") for b in blocks) > 1:
        check.say(at, "only one table is allowed in a message")
    markdown = [b["text"] for b in blocks if _is(b, "markdown") and isinstance(b.get("text"), str)]
    if sum(map(len, markdown)) > CUMULATIVE:
        check.say(at, f"markdown blocks may have {CUMULATIVE} characters in all", "too_long")


def _block(check: Check, block: Any, at: str) -> None:
    if not check.mapping(block, at):
        return
    kind = block.get("type")
    if not isinstance(kind, str) or kind not in BLOCKS:
        check.say(f"{at}/type", f"unsupported type: {str(kind)[:40]}")
        return
    checker, surfaces = BLOCKS[kind]
    if check.surface not in surfaces:
        check.say(f"{at}/type", f"{kind} is not allowed on this surface ({check.surface})")
    check.identity(block, "block_id", at, check.block_ids)
    # An action_id has to be unique in its block only; together with the block_id it names the element.
    check.action_ids.clear()
    checker(check, block, at)


def section(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "text", "fields", "accessory", "expand"))
    if block.get("text") is None and block.get("fields") is None:
        check.say(at, "must have text or fields")
    check.text(block, "text", at, 3000)
    if block.get("fields") is not None:
        for i, item in enumerate(check.array(block, "fields", at, 10)):
            check.text_object(item, f"{at}/fields/{i}", 2000)
    if block.get("accessory") is not None:
        elements.element(check, block["accessory"], f"{at}/accessory", elements.IN_SECTION, "a section")


def header(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "level"), ("text",))
    check.text(block, "text", at, 150, plain=True)


def context(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",), ("elements",))
    for i, item in enumerate(check.array(block, "elements", at, 10, needed=False)):
        place = f"{at}/elements/{i}"
        if _is(item, "image"):
            elements.image(check, item, place)
        else:
            check.text_object(item, place, 3000)


def divider(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",))


def actions(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",), ("elements",))
    for i, item in enumerate(check.array(block, "elements", at, 25, needed=False)):
        elements.element(check, item, f"{at}/elements/{i}", elements.IN_ACTIONS, "an actions block")


def context_actions(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",), ("elements",))
    for i, item in enumerate(check.array(block, "elements", at, 5, needed=False)):
        place = f"{at}/elements/{i}"
        elements.element(check, item, place, elements.IN_CONTEXT_ACTIONS, "a context_actions block")


def image(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "image_url", "slack_file", "title"), ("alt_text",))
    check.string(block, "alt_text", at, 2000)
    check.text(block, "title", at, 2000, plain=True)
    elements.picture(check, block, at)


def input_block(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "dispatch_action", "hint", "optional"), ("label", "element"))
    check.text(block, "label", at, 2000, plain=True)
    check.text(block, "hint", at, 2000, plain=True)
    check.flag(block, "dispatch_action", at)
    check.flag(block, "optional", at)
    if block.get("element") is not None:
        elements.element(check, block["element"], f"{at}/element", elements.IN_INPUT, "an input block")


_RICH = {
    "rich_text_section": (
        *("text", "link", "emoji", "user", "channel", "usergroup"),
        *("broadcast", "date", "color"),
    ),
    "rich_text_list": ("rich_text_section",),
    "rich_text_preformatted": ("text", "link"),
    "rich_text_quote": ("text", "link", "emoji", "user", "channel", "usergroup", "date"),
}


def rich_text(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",), ("elements",))
    for i, part in enumerate(check.array(block, "elements", at, 10_000, least=0, needed=False)):
        _rich(check, part, f"{at}/elements/{i}", tuple(_RICH), 0)


def _rich(check: Check, part: Any, at: str, allowed: tuple[str, ...], depth: int) -> None:
    if not check.mapping(part, at) or depth > _DEPTH:
        return
    kind = part.get("type")
    if kind not in allowed:
        check.say(f"{at}/type", f"unsupported type: {str(kind)[:40]}")
        return
    if kind in _RICH:
        if kind == "rich_text_list":
            check.choice(part, "style", at, ("bullet", "ordered"), needed=True)
        for i, item in enumerate(check.array(part, "elements", at, 10_000, least=0)):
            _rich(check, item, f"{at}/elements/{i}", _RICH[kind], depth + 1)
    elif kind == "text":
        check.string(part, "text", at, CUMULATIVE, needed=True)
    elif kind == "link":
        check.link(part, "url", at, needed=True)


def markdown(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id",), ("text",))
    check.string(block, "text", at, CUMULATIVE)


def table(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "column_settings"), ("rows",))
    for i, row in enumerate(check.array(block, "rows", at, 100, needed=False)):
        if not isinstance(row, list):
            check.say(f"{at}/rows/{i}", "must be an array")
            continue
        if len(row) > 20:
            check.say(f"{at}/rows/{i}", "no more than 20 items allowed", "too_many")
        for j, cell in enumerate(row):
            place = f"{at}/rows/{i}/{j}"
            if not check.mapping(cell, place):
                continue
            if cell.get("type") == "raw_text":
                check.string(cell, "text", place, CUMULATIVE, needed=True)
            elif cell.get("type") == "rich_text":
                rich_text(check, cell, place)
            else:
                check.say(f"{place}/type", "must be raw_text or rich_text")


def alert(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "level"), ("text",))
    check.text(block, "text", at, 200)


_STATUS = ("pending", "in_progress", "complete", "error")


def task_card(check: Check, block: Json, at: str, *, planned: bool = False) -> None:
    check.keys(block, at, ("block_id", "details", "output", "sources", "status"), ("task_id", "title"))
    check.string(block, "task_id", at, 255)
    check.string(block, "title", at, 256)
    check.choice(block, "status", at, _STATUS if planned else _STATUS[1:])
    for key in ("details", "output"):
        if block.get(key) is not None and check.mapping(block[key], f"{at}/{key}"):
            rich_text(check, block[key], f"{at}/{key}")


def plan(check: Check, block: Json, at: str) -> None:
    check.keys(block, at, ("block_id", "tasks"), ("title",))
    check.string(block, "title", at, 256)
    for i, task in enumerate(check.array(block, "tasks", at, 50, least=0, needed=False)):
        place = f"{at}/tasks/{i}"
        if check.mapping(task, place):
            task_card(check, task, place, planned=True)


def video(check: Check, block: Json, at: str) -> None:
    known = ("block_id", "author_name", "description", "provider_icon_url", "provider_name", "title_url")
    check.keys(block, at, known, ("alt_text", "title", "thumbnail_url", "video_url"))
    check.text(block, "title", at, 200, plain=True)


_EVERYWHERE = frozenset(MOST)
_MESSAGE = frozenset({"message"})
_MODAL = frozenset({"modal"})

BLOCKS: dict[str, tuple[Checker, frozenset[str]]] = {
    "section": (section, _EVERYWHERE),
    "header": (header, _EVERYWHERE),
    "context": (context, _EVERYWHERE),
    "divider": (divider, _EVERYWHERE),
    "actions": (actions, _EVERYWHERE),
    "image": (image, _EVERYWHERE),
    "input": (input_block, _EVERYWHERE),
    "rich_text": (rich_text, _EVERYWHERE),
    "video": (video, _EVERYWHERE),
    "markdown": (markdown, _MESSAGE),
    "table": (table, _MESSAGE),
    "context_actions": (context_actions, _MESSAGE),
    "task_card": (task_card, _MESSAGE),
    "plan": (plan, _MESSAGE),
    "alert": (alert, _MODAL),
}
