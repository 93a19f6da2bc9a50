"""canvases: documents in Slack, written in Markdown and changed section by section."""

import re
import secrets
from collections.abc import Callable
from typing import Any

from bot.sandbox import review
from bot.sandbox.methods.method import Method, RefusedError, Request
from bot.sandbox.state import Canvas, Channel, Json, Section

MOST_BYTES = 1024 * 1024
HEADINGS = {"h1": 1, "h2": 2, "h3": 3}


def sections(markdown: str) -> list[Section]:
    """The parts that can be changed one by one: each heading, and each paragraph or list."""
    spaced = re.sub(r"(?m)^(#{1,6} .*)$", r"\n\n\1\n\n", markdown)
    found = [part.strip("\n") for part in re.split(r"\n[ \t]*\n", spaced)]
    return [Section(f"temp:C:{secrets.token_hex(12)}", part) for part in found if part.strip()]


def _content(request: Request, value: Any, *, needed: bool = False) -> str:
    """The Markdown of a ``document_content``; nothing else can be written."""
    if value is None and not needed:
        return ""
    if not isinstance(value, dict) or value.get("type") != "markdown" or not isinstance(value.get("markdown"), str):
        raise _wrong("document_content must be {type: markdown, markdown: …}")
    review.look(request.workspace, request.name, value["markdown"], None)
    return str(value["markdown"])


def _wrong(what: str) -> RefusedError:
    return RefusedError("invalid_arguments", response_metadata={"messages": [f"[ERROR] {what}"]})


def _found(request: Request) -> Canvas:
    """The canvas it is about; one that is a channel's tab is there for those in the channel."""
    canvas = request.workspace.canvases.get(request.text("canvas_id"))
    if canvas is None:
        raise RefusedError("canvas_not_found")
    if canvas.channel is not None and request.me not in request.workspace.channels[canvas.channel].members:
        raise RefusedError("canvas_not_found")
    return canvas


def _place(request: Request, error: str) -> Channel:
    """The channel for a canvas. Neither method has a documented word for a channel that is not there."""
    channel = request.workspace.channels.get(request.text("channel_id"))
    if channel is None or request.me not in channel.members or channel.archived:
        raise RefusedError(error)
    return channel


def _make(request: Request, channel: Channel | None, error: str) -> Json:
    markdown = _content(request, request.json("document_content"))
    if len(markdown.encode()) > MOST_BYTES:
        request.workspace.violation("canvas_too_large", f"{request.name}: a canvas has 1 MiB at most")
        raise RefusedError(error)
    canvas = Canvas(
        request.workspace.new_id("F"),
        request.text("title"),
        request.me,
        sections(markdown),
        channel.id if channel else None,
    )
    request.workspace.canvases[canvas.id] = canvas
    if channel is not None:
        channel.canvas = canvas.id
        request.workspace.touch(f"channel {channel.id}")
    return {"canvas_id": canvas.id}


def create_tab(request: Request) -> Json:
    channel = _place(request, "channel_canvas_creation_failed")
    if channel.canvas is not None:
        raise RefusedError("channel_canvas_already_exists")
    return _make(request, channel, "channel_canvas_creation_failed")


def create(request: Request) -> Json:
    channel = _place(request, "canvas_creation_failed") if request.text("channel_id") else None
    if channel is not None and channel.canvas is not None:
        raise RefusedError("canvas_creation_failed")
    return _make(request, channel, "canvas_creation_failed")


def edit(request: Request) -> Json:
    canvas = _found(request)
    changes = request.json("changes")
    if not isinstance(changes, list) or len(changes) != 1 or not isinstance(changes[0], dict):
        raise _wrong("changes must be a list of one change")
    change = changes[0]
    operation = change.get("operation")
    if operation == "rename":
        canvas.title = _content(request, change.get("title_content"), needed=True)
    elif isinstance(operation, str) and operation in EDITS:
        new = list(canvas.sections)
        EDITS[operation](request, new, change)
        if len("\n\n".join(s.text for s in new).encode()) > MOST_BYTES:
            raise RefusedError("canvas_too_large")
        canvas.sections = new
    else:
        raise _wrong(f"there is no operation {str(operation)[:40]!r}")
    if canvas.channel is not None:
        request.workspace.touch(f"channel {canvas.channel}")
    return {}


def _at(there: list[Section], change: Json) -> int:
    for index, section in enumerate(there):
        if section.id == change.get("section_id"):
            return index
    raise RefusedError("canvas_editing_failed")


def _written(request: Request, change: Json) -> list[Section]:
    return sections(_content(request, change.get("document_content"), needed=True))


def _to_start(request: Request, there: list[Section], change: Json) -> None:
    there[:0] = _written(request, change)


def _to_end(request: Request, there: list[Section], change: Json) -> None:
    there += _written(request, change)


def _before(request: Request, there: list[Section], change: Json) -> None:
    at = _at(there, change)
    there[at:at] = _written(request, change)


def _after(request: Request, there: list[Section], change: Json) -> None:
    at = _at(there, change) + 1
    there[at:at] = _written(request, change)


def _replace(request: Request, there: list[Section], change: Json) -> None:
    """One section, or without a section the whole document."""
    if change.get("section_id") is None:
        there[:] = _written(request, change)
        return
    at = _at(there, change)
    there[at : at + 1] = _written(request, change)


def _delete(request: Request, there: list[Section], change: Json) -> None:
    del there[_at(there, change)]


EDITS: dict[str, Callable[[Request, list[Section], Json], None]] = {
    "insert_at_start": _to_start,
    "insert_at_end": _to_end,
    "insert_before": _before,
    "insert_after": _after,
    "replace": _replace,
    "delete": _delete,
}


def lookup(request: Request) -> Json:
    """Sections by the kind of their heading, by a text in them, or both."""
    canvas = _found(request)
    criteria = request.json("criteria")
    if not isinstance(criteria, dict) or not set(criteria) & {"section_types", "contains_text"}:
        raise _wrong("criteria must have section_types or contains_text")
    kinds, text = criteria.get("section_types"), criteria.get("contains_text")
    if kinds is not None and (not isinstance(kinds, list) or not set(map(str, kinds)) <= {*HEADINGS, "any_header"}):
        raise _wrong("section_types must be a list of h1, h2, h3 and any_header")
    fitting = [
        section.id
        for section in canvas.sections
        if (kinds is None or _is_heading(section, kinds)) and (text is None or str(text) in section.text)
    ]
    return {"sections": [{"id": number} for number in fitting]}


def _is_heading(section: Section, kinds: list[str]) -> bool:
    marks = re.match(r"(#{1,3}) ", section.text)
    return marks is not None and ("any_header" in kinds or any(HEADINGS.get(k) == len(marks[1]) for k in kinds))


def allow(request: Request) -> Json:
    level = request.text("access_level")
    canvas, who = _found(request), _asked(request)
    if level not in ("read", "write", "owner") or (level == "owner" and len(request.ids("user_ids")) != 1):
        raise RefusedError("invalid_parameters")
    if level == "owner":
        canvas.owner = who[0]
    else:
        canvas.access |= dict.fromkeys(who, level)
    return {}


def forbid(request: Request) -> Json:
    canvas = _found(request)
    for who in _asked(request):
        canvas.access.pop(who, None)
    return {}


def _asked(request: Request) -> list[str]:
    """People or channels, not both."""
    users, channels = request.ids("user_ids"), request.ids("channel_ids")
    if bool(users) == bool(channels):
        raise RefusedError("invalid_parameters")
    if any(user not in request.workspace.users for user in users):
        raise RefusedError("user_not_found")
    for number in channels:
        channel = request.workspace.channels.get(number)
        if channel is None or not request.workspace.sees(channel, request.me):
            raise RefusedError("channel_not_found")
    return users or channels


def delete(request: Request) -> Json:
    canvas = _found(request)
    del request.workspace.canvases[canvas.id]
    if canvas.channel is not None:
        request.workspace.channels[canvas.channel].canvas = None
        request.workspace.touch(f"channel {canvas.channel}")
    return {}


_WRITE = "canvases:write"

METHODS = {
    "conversations.canvases.create": Method(create_tab, ("channel_id",), ("document_content", "title"), _WRITE, tier=2),
    "canvases.create": Method(create, (), ("title", "document_content", "channel_id"), _WRITE, tier=2),
    "canvases.edit": Method(edit, ("canvas_id", "changes"), (), _WRITE, tier=3),
    "canvases.delete": Method(delete, ("canvas_id",), (), _WRITE, tier=3),
    "canvases.access.set": Method(allow, ("canvas_id", "access_level"), ("channel_ids", "user_ids"), _WRITE, tier=3),
    "canvases.access.delete": Method(forbid, ("canvas_id",), ("channel_ids", "user_ids"), _WRITE, tier=3),
    "canvases.sections.lookup": Method(lookup, ("canvas_id", "criteria"), (), "canvases:read", tier=3),
}
