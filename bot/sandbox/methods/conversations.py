"""conversations: channels, who is in them, and what was said there."""

import re

from bot.sandbox.methods.method import HISTORY, MANAGE, READ, Method, RefusedError, Request
from bot.sandbox.state import Channel, Json, Message
from bot.sandbox.workspace import TEAM


def check_name(request: Request, name: str) -> None:
    """Slack's rules for names; an archived channel keeps its name for ever."""
    if not name:
        raise RefusedError("invalid_name_required")
    if len(name) > 80:
        raise RefusedError("invalid_name_maxlength")
    if re.search(r"[^a-z0-9_-]", name):
        raise RefusedError("invalid_name_specials")
    if not re.search(r"[a-z0-9]", name):
        raise RefusedError("invalid_name_punctuation")
    if request.workspace.channel(name) is not None:
        raise RefusedError("name_taken")


def shown(request: Request, channel: Channel, *, count: bool = True) -> Json:
    return channel.payload(TEAM, request.me, count=count)


def create(request: Request) -> Json:
    private = request.flag("is_private")
    request.allow("private" if private else "public")
    name = request.text("name")
    check_name(request, name)
    channel = request.workspace.create(name, request.me, private=private)
    return {"channel": shown(request, channel)}


def info(request: Request) -> Json:
    return {"channel": shown(request, request.channel(), count=request.flag("include_num_members"))}


def rename(request: Request) -> Json:
    channel = request.channel(member=True, active=True)
    name = request.text("name")
    if name != channel.name:
        check_name(request, name)
        request.workspace.rename(channel, request.me, name)
    return {"channel": shown(request, channel)}


def set_topic(request: Request) -> Json:
    channel = _describe(request, "topic")
    return {"channel": shown(request, channel)}


def set_purpose(request: Request) -> Json:
    channel = _describe(request, "purpose")
    return {"channel": shown(request, channel)}


def _describe(request: Request, what: str) -> Channel:
    channel = request.channel(member=True, active=True)
    value = request.text(what)
    if len(value) > 250:
        raise RefusedError("too_long")
    request.workspace.describe(channel, request.me, what, value)
    return channel


def invite(request: Request) -> Json:
    channel = request.channel(member=True, active=True)
    asked = request.ids("users")
    if not asked or len(asked) > 100:
        raise RefusedError("no_user")
    wrong = {user: error for user in asked if (error := _uninvitable(request, channel, user))}
    if wrong and (not request.flag("force") or len(wrong) == len(asked)):
        errors = [{"user": user, "ok": False, "error": error} for user, error in wrong.items()]
        raise RefusedError(next(iter(wrong.values())), errors=errors)
    for user in asked:
        if user not in wrong:
            request.workspace.join(channel, user, request.me)
    found: Json = {"channel": shown(request, channel)}
    if wrong:
        found["errors"] = [{"user": user, "ok": False, "error": error} for user, error in wrong.items()]
    return found


def _uninvitable(request: Request, channel: Channel, user: str) -> str | None:
    if user == request.me:
        return "cant_invite_self"
    if user not in request.workspace.users:
        return "user_not_found"
    return "already_in_channel" if user in channel.members else None


def join(request: Request) -> Json:
    channel = request.workspace.channels.get(request.text("channel"))
    if channel is None or not request.workspace.sees(channel, request.me):
        raise RefusedError("channel_not_found")
    request.allow("public")
    if channel.kind != "public":
        raise RefusedError("method_not_supported_for_channel_type")
    if channel.archived:
        raise RefusedError("is_archived")
    already = request.me in channel.members
    request.workspace.join(channel, request.me)
    found: Json = {"channel": shown(request, channel)}
    return found | {"warning": "already_in_channel"} if already else found


def archive(request: Request) -> Json:
    channel = request.channel(member=True)
    if channel.general:
        raise RefusedError("cant_archive_general")
    if channel.archived:
        raise RefusedError("already_archived")
    request.workspace.archive(channel, request.me)
    return {}


def unarchive(request: Request) -> Json:
    channel = request.channel()
    if not channel.archived:
        raise RefusedError("not_archived")
    request.workspace.archive(channel, request.me, archived=False)
    return {}


def kick(request: Request) -> Json:
    channel = request.channel(member=True)
    user = request.text("user")
    if user == request.me:
        raise RefusedError("cant_kick_self")
    if channel.general:
        raise RefusedError("cant_kick_from_general")
    if user not in channel.members:
        raise RefusedError("not_in_channel" if user in request.workspace.users else "user_not_found")
    request.workspace.leave(channel, user)
    return {}


def leave(request: Request) -> Json:
    channel = request.channel(active=True)
    if channel.general:
        raise RefusedError("cant_leave_general")
    if request.me not in channel.members:
        return {"not_in_channel": True}
    request.workspace.leave(channel, request.me)
    return {}


def open_direct(request: Request) -> Json:
    request.allow("im")
    users = request.ids("users")
    if request.text("channel"):
        return {"channel": shown(request, request.channel())}
    if not users:
        raise RefusedError("users_list_not_supplied")
    if len(users) > 1:
        raise RefusedError("too_many_users")
    if users[0] not in request.workspace.users or users[0] == request.me:
        raise RefusedError("user_not_found")
    channel = request.workspace.direct(users[0])
    return {"channel": shown(request, channel) if request.flag("return_im") else {"id": channel.id}}


KINDS = {"public_channel": "public", "private_channel": "private", "im": "im", "mpim": "mpim"}


def listed(request: Request) -> Json:
    return _list(request, [c for c in request.workspace.channels.values() if _visible(request, c)])


def _visible(request: Request, channel: Channel) -> bool:
    return request.workspace.sees(channel, request.me)


def of_user(request: Request) -> Json:
    user = request.text("user") or request.me
    mine = [c for c in request.workspace.channels.values() if user in c.members and _visible(request, c)]
    return _list(request, mine)


def _list(request: Request, channels: list[Channel]) -> Json:
    asked = request.ids("types") or ["public_channel"]
    if any(t not in KINDS for t in asked):
        raise RefusedError("invalid_types")
    kinds = {KINDS[t] for t in asked}
    for kind in kinds:
        request.allow(kind)
    hidden = request.flag("exclude_archived")
    found = [c for c in channels if c.kind in kinds and not (hidden and c.archived)]
    page, metadata = request.page(found)
    return {"channels": [shown(request, c) for c in page], "response_metadata": metadata}


def members(request: Request) -> Json:
    channel = request.channel()
    page, metadata = request.page(channel.members)
    return {"members": page, "response_metadata": metadata}


def history(request: Request) -> Json:
    channel = request.channel(member=True)
    tops = [m for m in channel.messages if m.thread_ts in (None, m.ts) or m.extra.get("broadcast")]
    page, metadata = request.page(_between(request, tops[::-1]), most=999)
    return {
        "messages": [_shown(request, channel, m) for m in page],
        "has_more": bool(metadata["next_cursor"]),
        "pin_count": len(channel.pins),
        "response_metadata": metadata,
    }


def replies(request: Request) -> Json:
    channel = request.channel()
    if request.me not in channel.members:
        # Unlike conversations.history, this method has no not_in_channel in its list of errors.
        raise RefusedError("channel_not_found")
    root = channel.message(request.text("ts"))
    if root is None:
        raise RefusedError("thread_not_found")
    thread = root.thread_ts or root.ts
    whole = [m for m in channel.messages if m.ts == thread or m.thread_ts == thread]
    page, metadata = request.page(_between(request, whole), most=1000)
    return {
        "messages": [_shown(request, channel, m) for m in page],
        "has_more": bool(metadata["next_cursor"]),
        "response_metadata": metadata,
    }


def _between(request: Request, messages: list[Message]) -> list[Message]:
    oldest, latest = request.text("oldest"), request.text("latest")
    for value, error in ((oldest, "invalid_ts_oldest"), (latest, "invalid_ts_latest")):
        if value and not re.fullmatch(r"\d+(\.\d+)?|now", value):
            raise RefusedError(error)
    inclusive = request.flag("inclusive")

    def inside(message: Message) -> bool:
        ts = float(message.ts)
        if oldest and not (ts >= float(oldest) if inclusive else ts > float(oldest)):
            return False
        return not latest or latest == "now" or (ts <= float(latest) if inclusive else ts < float(latest))

    return [m for m in messages if inside(m)]


def _shown(request: Request, channel: Channel, message: Message) -> Json:
    body = message.payload(TEAM, with_metadata=request.flag("include_all_metadata"))
    answers = [m for m in channel.messages if m.thread_ts == message.ts and m.ts != message.ts]
    if answers:
        body |= {
            "thread_ts": message.ts,
            "reply_count": len(answers),
            "reply_users": list(dict.fromkeys(m.user for m in answers)),
            "latest_reply": answers[-1].ts,
        }
    return body


_PAGED = ("cursor", "limit")
_SPAN = (*_PAGED, "include_all_metadata", "inclusive", "latest", "oldest")

METHODS = {
    "conversations.create": Method(create, ("name",), ("is_private", "team_id"), MANAGE, tier=2),
    "conversations.info": Method(info, ("channel",), ("include_locale", "include_num_members"), READ, tier=3),
    "conversations.rename": Method(rename, ("channel", "name"), (), MANAGE, tier=2),
    "conversations.setTopic": Method(set_topic, ("channel",), ("topic",), MANAGE, tier=2),
    "conversations.setPurpose": Method(set_purpose, ("channel",), ("purpose",), MANAGE, tier=2),
    "conversations.invite": Method(invite, ("channel", "users"), ("force",), MANAGE, tier=3),
    "conversations.join": Method(join, ("channel",), (), "channels:join", tier=3),
    "conversations.archive": Method(archive, ("channel",), (), MANAGE, tier=2),
    "conversations.unarchive": Method(unarchive, ("channel",), (), MANAGE, tier=2),
    "conversations.kick": Method(kick, ("channel", "user"), (), {k: v for k, v in MANAGE.items() if k != "im"}, tier=3),
    "conversations.leave": Method(leave, ("channel",), (), MANAGE, tier=3),
    "conversations.open": Method(
        open_direct, (), ("channel", "return_im", "users", "prevent_creation"), {"im": "im:write"}, tier=3
    ),
    "conversations.list": Method(listed, (), (*_PAGED, "exclude_archived", "team_id", "types"), READ, tier=2),
    "conversations.members": Method(members, ("channel",), _PAGED, READ, tier=4),
    "conversations.history": Method(history, ("channel",), _SPAN, HISTORY, tier=3),
    "conversations.replies": Method(replies, ("channel", "ts"), _SPAN, HISTORY, tier=3),
    "users.conversations": Method(
        of_user, (), (*_PAGED, "exclude_archived", "exclude_muted", "team_id", "types", "user"), READ, tier=3
    ),
}
