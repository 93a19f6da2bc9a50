"""Blocks and mrkdwn as the plain text a person would read."""

import re
from collections.abc import Iterator
from typing import Any

_LINK = re.compile(r"<([^<>\s|]+)(?:\|([^<>]*))?>")
_DATE = re.compile(r"<!date\^\d+\^[^|>]*(?:\|([^<>]*))?>")
_DEPTH = 12


def plain(text: str) -> str:
    """mrkdwn as text: links by their label, dates by their fallback, ``&amp;`` and its kin undone."""
    text = _DATE.sub(lambda m: m[1] or "", text)
    text = _LINK.sub(lambda m: m[2] or m[1], text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def texts(blocks: Any) -> list[str]:
    """Every piece of text in *blocks*, in reading order, buttons and options included."""
    return [text for text in (plain(t) for t in strings(blocks)) if text]


_SPOKEN = (
    *("title", "label", "text", "caption", "fields", "elements", "element", "rows", "tasks", "accessory"),
    *("placeholder", "initial_option", "initial_value", "details", "output", "hint", "fallback", "alt_text"),
)


def strings(part: Any, depth: int = _DEPTH) -> Iterator[str]:
    """The raw strings that people see, found by the names of the fields that hold them."""
    if depth < 0:
        return
    if isinstance(part, list):
        for item in part:
            yield from strings(item, depth - 1)
    elif isinstance(part, dict):
        kind = part.get("type")
        for mark, key in (("user", "user_id"), ("channel", "channel_id"), ("usergroup", "usergroup_id")):
            if kind == mark and isinstance(part.get(key), str):
                yield part[key]
        if kind == "emoji" and isinstance(part.get("name"), str):
            yield f":{part['name']}:"
        if kind == "link" and isinstance(part.get("url"), str) and not part.get("text"):
            yield part["url"]
        if kind == "rich_text_section":
            yield "".join(strings(part.get("elements"), depth - 1))
            return
        for key in _SPOKEN:
            value = part.get(key)
            if isinstance(value, str):
                yield value
            elif value is not None:
                yield from strings(value, depth - 1)


def mrkdwn(part: Any, depth: int = _DEPTH) -> Iterator[str]:
    """The strings in *part* that Slack would read as markup, so that a mention in them is a mention."""
    if depth < 0:
        return
    if isinstance(part, list):
        for item in part:
            yield from mrkdwn(item, depth - 1)
    elif isinstance(part, dict):
        if part.get("type") in ("mrkdwn", "markdown") and isinstance(part.get("text"), str):
            yield part["text"]
        if part.get("type") == "broadcast":
            yield f"<!{part.get('range')}>"
        for value in part.values():
            if isinstance(value, list | dict):
                yield from mrkdwn(value, depth - 1)
