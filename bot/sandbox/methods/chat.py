"""chat: what the app says, and says again in other words."""

import time
from typing import Any

from bot.sandbox import blocks as kit
from bot.sandbox import review
from bot.sandbox.methods.method import Method, RefusedError, Request, refuse
from bot.sandbox.rates import SPECIAL
from bot.sandbox.state import Channel, Json
from bot.sandbox.workspace import BOT_ID, TEAM


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


FURTHEST, WINDOW, MOST_IN_WINDOW = 120 * 86_400, 300, 30


def schedule(request: Request) -> Json:
    channel = _target(request)
    if channel.archived:
        raise RefusedError("is_archived")
    if request.me not in channel.members:
        raise RefusedError("not_in_channel")
    now, at = int(time.time()), request.number("post_at", 0)
    if at <= 0:
        raise RefusedError("invalid_time")
    if at <= now:
        raise RefusedError("time_in_past")
    if at > now + FURTHEST:
        raise RefusedError("time_too_far")
    waiting = request.workspace.scheduled.values()
    if sum(m.channel == channel.id and m.post_at // WINDOW == at // WINDOW for m in waiting) >= MOST_IN_WINDOW:
        raise RefusedError("restricted_too_many")
    text, blocks, attachments = _body(request, longest=40_000, too_long="msg_too_long", blocks_too_long="msg_too_long")
    made = request.workspace.schedule(
        channel,
        at,
        text,
        blocks=blocks,
        attachments=attachments,
        thread_ts=request.text("thread_ts") or None,
        metadata=_metadata(request),
    )
    message = {"type": "delayed_message", "text": text, "user": request.me, "bot_id": BOT_ID, "team": TEAM}
    return {"channel": channel.id, "scheduled_message_id": made.id, "post_at": at, "message": message}


def unschedule(request: Request) -> Json:
    channel = _target(request)
    message = request.workspace.scheduled.get(request.text("scheduled_message_id"))
    # In its last minute it is on its way already.
    if message is None or message.channel != channel.id or message.post_at - time.time() < 60:
        raise RefusedError("invalid_scheduled_message_id")
    request.workspace.unschedule(message)
    return {}


def scheduled(request: Request) -> Json:
    wanted = request.text("channel")
    if wanted and request.workspace.channel(wanted) is None:
        raise RefusedError("invalid_channel")
    oldest, latest = request.number("oldest", 0), request.number("latest", 2**40)
    found = [
        {"id": m.id, "channel_id": m.channel, "post_at": m.post_at, "date_created": m.created, "text": m.text}
        for m in request.workspace.scheduled.values()
        if wanted in ("", m.channel) and oldest <= m.post_at <= latest
    ]
    page, metadata = request.page(found)
    return {"scheduled_messages": page, "response_metadata": metadata}


_BODY = ("attachments", "blocks", "link_names", "markdown_text", "metadata", "parse", "text", "as_user")
_LOOK = ("icon_emoji", "icon_url", "username", "thread_ts")
_POST = (
    *(*_BODY, *_LOOK, "mrkdwn", "reply_broadcast", "unfurl_links", "unfurl_media"),
    "current_draft_last_updated_ts",
)

METHODS = {
    "chat.postMessage": Method(post, ("channel",), _POST, "chat:write", tier=SPECIAL),
    "chat.update": Method(
        update, ("channel", "ts"), (*_BODY, "reply_broadcast", "file_ids", "unfurled_attachments"), "chat:write", tier=3
    ),
    "chat.delete": Method(delete, ("channel", "ts"), ("as_user",), "chat:write", tier=3),
    "chat.postEphemeral": Method(ephemeral, ("channel", "user"), (*_BODY, *_LOOK), "chat:write", tier=4),
    "chat.scheduleMessage": Method(
        schedule,
        ("channel", "post_at"),
        (*_BODY, "thread_ts", "reply_broadcast", "unfurl_links", "unfurl_media"),
        "chat:write",
        tier=3,
    ),
    "chat.deleteScheduledMessage": Method(
        unschedule, ("channel", "scheduled_message_id"), ("as_user",), "chat:write", tier=3
    ),
    "chat.scheduledMessages.list": Method(
        scheduled, (), ("channel", "cursor", "latest", "limit", "oldest", "team_id"), tier=3
    ),
    "chat.getPermalink": Method(permalink, ("channel", "message_ts"), tier=SPECIAL),
}
