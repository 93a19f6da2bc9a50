"""chat: what the app says, and says again in other words."""

from typing import Any

from bot.sandbox import blocks as kit
from bot.sandbox import review
from bot.sandbox.methods.method import Method, RefusedError, Request, refuse
from bot.sandbox.rates import SPECIAL
from bot.sandbox.state import Channel, Json
from bot.sandbox.workspace import TEAM


def _target(request: Request) -> Channel:
    """Where to post: a channel by id or name, or a person, who is then written to directly."""
    wanted = request.text("channel")
    workspace = request.workspace
    if wanted in workspace.users:
        channel: Channel | None = workspace.direct(wanted)
    else:
        channel = workspace.channel(wanted)
    if channel is None or not workspace.sees(channel, request.me):
        raise RefusedError("channel_not_found")
    return channel


def _body(
    request: Request, *, longest: int, too_long: str = "", blocks_too_long: str
) -> tuple[str, list[Json], list[Json]]:
    """The text, blocks and attachments of a message, checked as Slack would check them."""
    where = f"{request.name} ({request.text('channel')})"
    text, markdown = request.text("text"), request.text("markdown_text")
    blocks: Any = request.json("blocks", "invalid_blocks_format")
    attachments: Any = request.json("attachments") or []
    if markdown and (text or blocks):
        raise RefusedError("markdown_text_conflict")
    if markdown:
        blocks = [{"type": "markdown", "text": markdown}]
        text = markdown
    if blocks is not None and not isinstance(blocks, list):
        raise RefusedError("invalid_blocks_format")
    if not isinstance(attachments, list) or not all(isinstance(a, dict) for a in attachments):
        raise RefusedError("no_text")
    blocks = blocks or []
    if not text and not blocks and not attachments:
        raise RefusedError("no_text")
    if len(attachments) > 100:
        raise RefusedError("too_many_attachments")
    refuse("invalid_blocks", review.message(request.workspace, where, text, blocks))
    if len(text) > longest:
        if too_long:
            raise RefusedError(too_long)
        request.workspace.violation("text_cut", f"{where}: text of {len(text)} characters is cut at {longest}")
    if kit.text_length(blocks) > kit.CUMULATIVE:
        raise RefusedError(blocks_too_long)
    if attachments:
        review.look(request.workspace, where, None, attachments)
    return text[:40_000], blocks, attachments


def _metadata(request: Request) -> Json | None:
    metadata = request.json("metadata", "invalid_metadata_format")
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise RefusedError("invalid_metadata_format")
    if not isinstance(metadata.get("event_type"), str) or not isinstance(metadata.get("event_payload"), dict):
        raise RefusedError("invalid_metadata_schema")
    if kit.size(metadata) > 16_000:
        raise RefusedError("metadata_too_large")
    review.look(request.workspace, f"{request.name} metadata", None, metadata)
    return metadata


def post(request: Request) -> Json:
    channel = _target(request)
    if channel.archived:
        raise RefusedError("is_archived")
    open_to_all = channel.kind == "public" and "chat:write.public" in request.workspace.app.scopes
    if request.me not in channel.members and not open_to_all:
        raise RefusedError("not_in_channel")
    text, blocks, attachments = _body(request, longest=40_000, blocks_too_long="msg_blocks_too_long")
    metadata = _metadata(request)
    thread = request.text("thread_ts") or None
    if thread and channel.message(thread) is None:
        raise RefusedError("cannot_reply_to_message")
    message = request.workspace.post(
        channel,
        request.me,
        text,
        blocks=blocks,
        attachments=attachments,
        thread_ts=thread,
        metadata=metadata,
        extra={"broadcast": True} if request.flag("reply_broadcast") else None,
    )
    return {"channel": channel.id, "ts": message.ts, "message": message.payload(TEAM)}


def update(request: Request) -> Json:
    channel = _target(request)
    message = request.message(channel)
    if message.user != request.me or message.subtype:
        raise RefusedError("cant_update_message")
    if channel.archived:
        raise RefusedError("cant_update_message")
    text, blocks, attachments = _body(request, longest=4000, too_long="msg_too_long", blocks_too_long="msg_too_long")
    changed: Json = {"text": text, "blocks": blocks, "attachments": attachments}
    if (metadata := _metadata(request)) is not None:
        changed["metadata"] = metadata
    request.workspace.edit(channel, message, request.me, **changed)
    return {"channel": channel.id, "ts": message.ts, "text": text, "message": message.payload(TEAM)}


def delete(request: Request) -> Json:
    channel = _target(request)
    message = request.message(channel)
    if message.user != request.me:
        raise RefusedError("cant_delete_message")
    request.workspace.delete(channel, message)
    return {"channel": channel.id, "ts": message.ts}


def ephemeral(request: Request) -> Json:
    channel = _target(request)
    if channel.archived:
        raise RefusedError("is_archived")
    user = request.text("user")
    if user not in channel.members:
        raise RefusedError("user_not_in_channel")
    if request.me not in channel.members:
        raise RefusedError("not_in_channel")
    text, blocks, attachments = _body(request, longest=40_000, too_long="msg_too_long", blocks_too_long="msg_too_long")
    thread = request.text("thread_ts") or None
    message = request.workspace.whisper(channel, user, text, blocks=blocks, attachments=attachments, thread_ts=thread)
    return {"message_ts": message.ts}


def permalink(request: Request) -> Json:
    channel = request.channel()
    ts = request.message(channel, "message_ts").ts
    return {"channel": channel.id, "permalink": f"{request.workspace.url}/#{channel.id}/{ts}"}


_BODY = ("attachments", "blocks", "link_names", "markdown_text", "metadata", "parse", "text", "as_user")
_LOOK = ("icon_emoji", "icon_url", "username", "thread_ts")
_POST = (*_BODY, *_LOOK, "mrkdwn", "reply_broadcast", "unfurl_links", "unfurl_media")

METHODS = {
    "chat.postMessage": Method(post, ("channel",), _POST, "chat:write", tier=SPECIAL),
    "chat.update": Method(
        update, ("channel", "ts"), (*_BODY, "reply_broadcast", "file_ids", "unfurled_attachments"), "chat:write", tier=3
    ),
    "chat.delete": Method(delete, ("channel", "ts"), ("as_user",), "chat:write", tier=3),
    "chat.postEphemeral": Method(ephemeral, ("channel", "user"), (*_BODY, *_LOOK), "chat:write", tier=4),
    "chat.getPermalink": Method(permalink, ("channel", "message_ts"), tier=SPECIAL),
}
