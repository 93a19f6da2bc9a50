"""pins, bookmarks and reactions: what is put on top of messages and channels."""

from bot.sandbox.methods.method import Method, RefusedError, Request
from bot.sandbox.state import Bookmark, Channel, Json, Message
from bot.sandbox.workspace import TEAM


def _message(request: Request, channel: Channel) -> Message:
    if not request.text("timestamp"):
        raise RefusedError("no_item_specified")
    return request.message(channel, "timestamp")


def pin(request: Request) -> Json:
    channel = request.channel(member=True)
    if channel.archived:
        raise RefusedError("not_pinnable")
    message = _message(request, channel)
    if any(p.ts == message.ts for p in channel.pins):
        raise RefusedError("already_pinned")
    if len(channel.pins) >= 100:
        raise RefusedError("too_many_pins")
    request.workspace.pin(channel, message, request.me)
    return {}


def unpin(request: Request) -> Json:
    channel = request.channel()
    message = _message(request, channel)
    if not any(p.ts == message.ts for p in channel.pins):
        raise RefusedError("no_pin")
    request.workspace.pin(channel, message, request.me, add=False)
    return {}


def pins(request: Request) -> Json:
    channel = request.channel()
    items = [
        {
            "type": "message",
            "channel": channel.id,
            "message": message.payload(TEAM),
            "created": pinned.created,
            "created_by": pinned.user,
        }
        for pinned in channel.pins
        if (message := channel.message(pinned.ts)) is not None
    ]
    return {"items": items, "count": len(items)}


def bookmark(request: Request) -> Json:
    channel = _bookmarked(request)
    if request.text("type") != "link":
        raise RefusedError("invalid_bookmark_type")
    link = _link(request)
    if len(channel.bookmarks) >= 100:
        raise RefusedError("too_many_bookmarks")
    made = request.workspace.bookmark(channel, request.text("title"), link, request.text("emoji"), "link")
    return {"bookmark": made.payload(request.workspace.app.id)}


def _bookmarked(request: Request) -> Channel:
    """Bookmarks want membership, and have no better word for the lack of it than permission_denied."""
    channel = request.channel("channel_id")
    if request.me not in channel.members or channel.archived:
        raise RefusedError("permission_denied")
    return channel


def _link(request: Request) -> str:
    link = request.text("link")
    if not link.startswith(("http://", "https://")):
        raise RefusedError("invalid_link")
    return link


def _found(request: Request, channel: Channel) -> Bookmark:
    number = request.text("bookmark_id")
    for found in channel.bookmarks:
        if found.id == number:
            return found
    raise RefusedError("not_found")


def edit_bookmark(request: Request) -> Json:
    channel = _bookmarked(request)
    found = _found(request, channel)
    if request.text("link"):
        found.link = _link(request)
    found.title = request.text("title") or found.title
    found.emoji = request.text("emoji") or found.emoji
    request.workspace.touch(f"channel {channel.id}")
    return {"bookmark": found.payload(request.workspace.app.id)}


def remove_bookmark(request: Request) -> Json:
    channel = _bookmarked(request)
    channel.bookmarks.remove(_found(request, channel))
    request.workspace.touch(f"channel {channel.id}")
    return {}


def bookmarks(request: Request) -> Json:
    channel = request.channel("channel_id")
    return {"bookmarks": [b.payload(request.workspace.app.id) for b in channel.bookmarks]}


def _emoji(request: Request) -> str:
    name = request.text("name").strip(":")
    if not name or " " in name:
        raise RefusedError("invalid_name")
    return name


def react(request: Request) -> Json:
    channel = request.channel()
    if channel.archived:
        raise RefusedError("is_archived")
    if request.me not in channel.members:
        raise RefusedError("no_access")
    message, name = _message(request, channel), _emoji(request)
    if request.me in message.reactions.get(name, []):
        raise RefusedError("already_reacted")
    request.workspace.react(channel, message, request.me, name)
    return {}


def unreact(request: Request) -> Json:
    channel = request.channel()
    message, name = _message(request, channel), _emoji(request)
    if request.me not in message.reactions.get(name, []):
        raise RefusedError("no_reaction")
    request.workspace.react(channel, message, request.me, name, add=False)
    return {}


def reactions(request: Request) -> Json:
    channel = request.channel()
    message = _message(request, channel)
    return {"type": "message", "channel": channel.id, "message": message.payload(TEAM)}


METHODS = {
    "pins.add": Method(pin, ("channel",), ("timestamp",), "pins:write", tier=2),
    "pins.remove": Method(unpin, ("channel",), ("timestamp",), "pins:write", tier=2),
    "pins.list": Method(pins, ("channel",), (), "pins:read", tier=2),
    "bookmarks.add": Method(
        bookmark,
        ("channel_id", "title", "type"),
        ("link", "emoji", "entity_id", "access_level", "parent_id"),
        "bookmarks:write",
        tier=2,
    ),
    "bookmarks.edit": Method(
        edit_bookmark, ("channel_id", "bookmark_id"), ("title", "link", "emoji"), "bookmarks:write", tier=2
    ),
    "bookmarks.remove": Method(
        remove_bookmark, ("channel_id", "bookmark_id"), ("quip_section_id",), "bookmarks:write", tier=2
    ),
    "bookmarks.list": Method(bookmarks, ("channel_id",), (), "bookmarks:read", tier=3),
    "reactions.add": Method(react, ("channel", "name", "timestamp"), (), "reactions:write", tier=3),
    "reactions.remove": Method(
        unreact, ("name",), ("channel", "timestamp", "file", "file_comment"), "reactions:write", tier=2
    ),
    "reactions.get": Method(
        reactions, (), ("channel", "timestamp", "file", "file_comment", "full"), "reactions:read", tier=3
    ),
}
