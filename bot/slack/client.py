"""Chat, done with Slack: paced, patient with 429, and honest about what may or may not have happened."""

import asyncio
import json
import ssl
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from bot.incidents.access import Person
from bot.incidents.chat import Channel, Message, NameTaken, Upload
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.ids import derived_id
from bot.metrics import Metrics
from bot.slack import ids
from bot.slack.views.blocks import Block, cut, mentions

log = structlog.get_logger()

Draw = Callable[[Message], tuple[str, list[Block]]]

# Answers of Slack after which the same call may well work.
PASSING = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable",
                     "request_timeout", "team_added_to_org", "timeout"})  # fmt: skip
HINTS = {
    "missing_scope": "reinstall the app with the manifest that `tocsin manifest` prints",
    "invalid_auth": "check TOCSIN_SLACK_BOT_TOKEN",
    "not_authed": "set TOCSIN_SLACK_BOT_TOKEN",
    "token_revoked": "install the app again and set the new TOCSIN_SLACK_BOT_TOKEN",
    "account_inactive": "install the app again and set the new TOCSIN_SLACK_BOT_TOKEN",
    "restricted_action": "a workspace setting forbids it; ask a workspace admin to let apps do it",
    "not_in_channel": "invite the bot to the channel: /invite @tocsin",
    "channel_not_found": "the channel is gone, or the bot is not in it",
    "is_archived": "the channel is archived; unarchive it",
}
# One message a second and channel, with a short burst, is what Slack grants.
RATE, BURST = 1.0, 5
WAIT = 30.0
# How far Slack's clock may be behind ours when we look for what an earlier attempt made.
SLACK_SECONDS = 300
TOPIC, TEXT = 250, 3900
# Why somebody could not be invited: https://docs.slack.dev/reference/methods/conversations.invite
UNINVITED = {
    "users_not_found": "nobody in this workspace has this address",
    "user_not_found": "there is nobody by this id in this workspace",
    "cant_invite": "Slack does not let the bot invite them",
    "user_team_not_in_channel": "they belong to another workspace",
    "ura_max_channels": "this guest may be in one channel only",
    "user_is_restricted": "guests cannot be invited here",
    "org_user_not_in_team": "they are not in this workspace",
}
INSIDE = ("already_in_channel", "cant_invite_self")


class Pace:
    """A bucket for each channel: at most `BURST` calls at once, then `RATE` a second."""

    def __init__(
        self, rate: float = RATE, burst: int = BURST, waits: Callable[[float], None] = lambda seconds: None
    ) -> None:
        """*waits* is told of each wait, in seconds."""
        self.rate, self.burst, self.waits = rate, burst, waits
        self._free: dict[str, float] = defaultdict(float)

    async def wait(self, channel: str) -> None:
        """Wait for this channel's next turn."""
        now = time.monotonic()
        if len(self._free) > 1000:  # channels that had their turns long ago
            self._free = defaultdict(float, {key: free for key, free in self._free.items() if free > now})
        turn = max(self._free[channel], now - (self.burst - 1) / self.rate)
        self._free[channel] = turn + 1 / self.rate
        if turn > now:
            self.waits(turn - now)
            await asyncio.sleep(turn - now)


class SlackChat:
    """The port `bot.incidents.chat.Chat`, and the few calls that only the Slack edge itself needs."""

    def __init__(
        self,
        web: AsyncWebClient,
        session: aiohttp.ClientSession,
        draw: Draw,
        *,
        announcements: str = "incidents",
        timeout: float = 20.0,
        pace: Pace | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Wrap *web*, whose session is shared; *draw* turns nouns into text and blocks."""
        self._metrics = metrics or Metrics()
        self._web = web
        self._session = session
        self._draw = draw
        self._announcements = announcements
        self._timeout = timeout
        self._pace = pace or Pace(waits=self._metrics.paced)
        self._blocked: dict[str, float] = {}
        self._place: str | None = None
        self._by_mail: dict[str, str] = {}
        self.identity: dict[str, str] = {}
        self.scopes: frozenset[str] = frozenset()

    # -- the port -----------------------------------------------------------------------------------------------

    async def create_channel(self, name: str, *, private: bool) -> Channel:
        """Make a channel; NameTaken if there is one."""
        try:
            answer = await self.call(self._web.conversations_create, name=name, is_private=private)
        except Refused as error:
            if error.code == "name_taken":
                raise NameTaken(name) from None
            raise
        made = answer["channel"]
        if private and not made.get("is_private"):
            raise PermanentError(f"Slack made #{made['name']} public although it was asked for a private channel")
        return Channel(made["id"], made["name"])

    async def find_channel(self, names: Sequence[str], *, private: bool, since: datetime) -> Channel | None:
        """A channel of ours by one of *names*. Only channels this bot made: a name alone proves nothing."""
        cursor = ""
        while True:
            answer = await self.call(
                self._web.users_conversations,
                types="private_channel" if private else "public_channel",
                exclude_archived=True,
                limit=200,
                cursor=cursor,
            )
            for found in answer["channels"]:
                mine = found.get("creator") == self.identity.get("user_id")
                fits = found["name"] in names and bool(found.get("is_private")) == private
                if fits and mine and found["created"] >= since.timestamp() - SLACK_SECONDS:
                    return Channel(found["id"], found["name"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None

    async def set_topic(self, channel: str, topic: str) -> None:
        """Replace the topic."""
        await self.call(self._web.conversations_setTopic, channel=channel, topic=mentions(topic, TOPIC))

    async def has_topic(self, channel: str, topic: str) -> bool:
        """Whether that is the topic."""
        answer = await self.call(self._web.conversations_info, channel=channel)
        return bool(answer["channel"]["topic"]["value"] == mentions(topic, TOPIC))

    async def invite(self, channel: str, people: Sequence[str]) -> dict[str, str]:
        """Bring people in, as many as Slack lets; those it refuses, with its reason."""
        refused: dict[str, str] = {}
        users: dict[str, str] = {}
        for who in people:
            try:
                users[await self._user(who)] = who
            except Refused as error:
                if error.code not in UNINVITED:
                    raise
                refused[who] = UNINVITED[error.code]
        users.pop(self.identity.get("user_id", ""), None)
        everybody = list(users)
        for start in range(0, len(everybody), 100):
            for item in await self._bring(channel, everybody[start : start + 100]):
                if not item.get("ok") and (code := str(item.get("error"))) not in INSIDE:
                    refused[users.get(str(item.get("user")), "somebody")] = UNINVITED.get(code, code)
        return refused

    async def _bring(self, channel: str, users: list[str]) -> list[Mapping[str, Any]]:
        """What Slack says of each of *users* it did not invite."""
        try:
            answer = await self.call(self._web.conversations_invite, channel=channel, users=users, force=True)
            return answer.get("errors") or []
        except Refused as error:
            if told := error.data.get("errors"):
                return list(told)
            if error.code in INSIDE or error.code in UNINVITED:
                return [{"user": user, "error": error.code} for user in users]
            raise

    async def bookmark(self, channel: str, title: str, url: str) -> None:
        """Add a link to the channel's bar."""
        await self.call(self._web.bookmarks_add, channel_id=channel, title=title, type="link", link=url)

    async def has_bookmark(self, channel: str, url: str) -> bool:
        """Whether the channel's bar has that link."""
        answer = await self.call(self._web.bookmarks_list, channel_id=channel)
        return any(found.get("link") == url for found in answer["bookmarks"])

    async def pin(self, channel: str, message: str) -> None:
        """Pin a message."""
        try:
            await self.call(self._web.pins_add, channel=channel, timestamp=message)
        except Refused as error:
            if error.code != "already_pinned":
                raise

    async def post(
        self, channel: str, message: Message, *, key: str, thread: str | None = None, broadcast: bool = False
    ) -> str:
        """Say something; *key* goes along as metadata that people do not see."""
        text, blocks = self._draw(message)
        await self._pace.wait(channel)
        try:
            answer = await self.call(
                self._web.chat_postMessage,
                channel=channel,
                text=cut(text, TEXT),
                blocks=blocks,
                metadata={"event_type": ids.EVENT_TYPE, "event_payload": {"key": key}},
                unfurl_links=False,
                unfurl_media=False,
                thread_ts=thread,
                reply_broadcast=broadcast or None,
            )
        except Refused:
            if channel == self._place:
                self._place = None  # perhaps another channel has its name by now
            raise
        return str(answer["ts"])

    async def find_post(self, channel: str, key: str, *, since: datetime, thread: str | None = None) -> str | None:
        """The message that carries *key*."""
        cursor = ""
        where: dict[str, Any] = {"channel": channel, "limit": 200, "include_all_metadata": True}
        oldest = str(int(since.timestamp()) - SLACK_SECONDS)
        while True:
            if thread is None:
                answer = await self.call(self._web.conversations_history, **where, oldest=oldest, cursor=cursor)
            else:
                answer = await self.call(self._web.conversations_replies, **where, ts=thread, cursor=cursor)
            for message in answer["messages"]:
                if (message.get("metadata") or {}).get("event_payload", {}).get("key") == key:
                    return str(message["ts"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return None

    async def permalink(self, channel: str, message_id: str) -> str:
        """An address that leads to a message."""
        answer = await self.call(self._web.chat_getPermalink, channel=channel, message_ts=message_id)
        return str(answer["permalink"])

    async def place(self, name: str) -> str:
        """The id of a channel by its name or id, joined if need be."""
        return await self._find_place(
            name.lstrip("#"),
            f"there is no channel #{name.lstrip('#')} that the bot may see; if it is private, invite the bot",
        )

    async def edit(self, channel: str, message_id: str, message: Message) -> None:
        """Draw a message anew."""
        text, blocks = self._draw(message)
        await self._pace.wait(f"edit:{channel}")  # Slack counts edits apart from messages
        await self.call(self._web.chat_update, channel=channel, ts=message_id, text=cut(text, TEXT), blocks=blocks)

    def looks(self, message: Message) -> str:
        """A short word for how a message would look."""
        return derived_id("look", json.dumps(self._draw(message), sort_keys=True))

    async def upload(self, channel: str, upload: Upload) -> str:
        """Share a file: ask for an address, send the bytes there, make it a file of the channel."""
        asked = await self.call(self._web.files_getUploadURLExternal, filename=upload.name, length=len(upload.content))
        try:
            async with self._session.post(asked["upload_url"], data=upload.content) as answer:
                if answer.status >= 400:
                    raise TemporaryError(f"Slack did not take the file (HTTP {answer.status})")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryError(f"Slack did not take the file ({type(error).__name__})") from None
        await self._pace.wait(channel)
        await self.call(
            self._web.files_completeUploadExternal,
            files=[{"id": asked["file_id"], "title": upload.title}],
            channel_id=channel,
            initial_comment=upload.comment or None,
            thread_ts=upload.thread,
        )
        return str(asked["file_id"])

    async def find_upload(self, channel: str, name: str, *, since: datetime, thread: str | None = None) -> str | None:
        """The file of that name that we shared there."""
        oldest = str(int(since.timestamp()) - SLACK_SECONDS)
        if thread is None:
            answer = await self.call(self._web.conversations_history, channel=channel, oldest=oldest, limit=200)
        else:
            answer = await self.call(
                self._web.conversations_replies, channel=channel, ts=thread, oldest=oldest, limit=200
            )
        for message in answer["messages"]:
            for file in message.get("files") or []:
                if file.get("name") == name:
                    return str(file["id"])
        return None

    async def announcement_channel(self) -> str:
        """The id of the announcement channel, joined if need be."""
        if self._place is None:
            wanted = self._announcements.lstrip("#")
            self._place = await self._find_place(
                wanted,
                f"there is no channel #{wanted} to announce incidents in; create it (if it is private: invite the "
                "bot), or set announcement_channel in tocsin.yaml",
            )
        return self._place

    def link(self, channel: str, ts: str) -> str:
        """Where a message can be read; empty as long as Slack has not said who we are."""
        home = self.identity.get("url", "").rstrip("/")
        return f"{home}/archives/{channel}/p{ts.replace('.', '')}" if home else ""

    # -- what only the Slack edge needs ---------------------------------------------------------------------------

    async def hello(self) -> None:
        """Learn who we are and what we may do. Raises PermanentError on a bad token."""
        answer = await self.call(self._web.auth_test)
        self.identity = {key: answer[key] for key in ("user_id", "bot_id", "team_id", "url") if answer.get(key)}
        headers = {key.lower(): value for key, value in (getattr(answer, "headers", None) or {}).items()}
        self.scopes = frozenset(str(headers.get("x-oauth-scopes", "")).replace(" ", "").split(",")) - {""}

    async def socket_url(self, app_token: str) -> str:
        """An address for one Socket Mode connection: it works once, and not for long."""
        try:
            answer = await self.call(self._web.apps_connections_open, app_token=app_token)
        except Refused as error:
            raise PermanentError(
                f"Slack refused a socket: {error.code}; check TOCSIN_SLACK_APP_TOKEN (xapp-…, with connections:write) "
                "and that Socket Mode is on in the app's settings"
            ) from None
        return str(answer["url"])

    async def people(self) -> list[Person]:
        """Everybody in the workspace."""
        found: list[Person] = []
        cursor = ""
        while True:
            answer = await self.call(self._web.users_list, limit=200, cursor=cursor)
            found += [person(member, self.identity.get("team_id")) for member in answer["members"]]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return found

    async def person(self, user: str) -> Person | None:
        """One of them; None if Slack does not know them."""
        try:
            answer = await self.call(self._web.users_info, user=user)
        except Refused:
            return None
        return person(answer["user"], self.identity.get("team_id"))

    async def groups(self) -> dict[str, list[str]]:
        """The user groups of the workspace that are in use: ids of their members, by handle."""
        answer = await self.call(self._web.usergroups_list, include_users=True)
        found = answer["usergroups"]
        return {group["handle"]: list(group.get("users") or ()) for group in found if not group.get("date_delete")}

    async def open_view(self, trigger: str, view: Block) -> str:
        """Open a form at once: no retries, no waiting; the trigger lives three seconds."""
        answer = await self.call(self._web.views_open, trigger_id=trigger, view=view, patient=False)
        return str(answer["view"]["id"])

    async def push_view(self, trigger: str, view: Block) -> str:
        """Open a form on top of the one that was clicked in."""
        answer = await self.call(self._web.views_push, trigger_id=trigger, view=view, patient=False)
        return str(answer["view"]["id"])

    async def update_view(self, view_id: str, view: Block) -> None:
        """Replace an open form. That it was closed meanwhile is no fault."""
        try:
            await self.call(self._web.views_update, view_id=view_id, view=view)
        except Refused as error:
            if error.code not in ("not_found", "view_not_found", "hash_conflict"):
                raise

    async def whisper(self, channel: str, person: str, text: str, blocks: Sequence[Block] | None = None) -> None:
        """Say something that only one person sees."""
        await self.call(
            self._web.chat_postEphemeral, channel=channel, user=person, text=cut(text, TEXT), blocks=blocks or None
        )

    async def direct(self, person: str, text: str, blocks: Sequence[Block] | None = None) -> None:
        """Say something to one person, apart from any channel."""
        await self._pace.wait(person)
        await self.call(self._web.chat_postMessage, channel=person, text=cut(text, TEXT), blocks=blocks or None)

    async def reply(self, response_url: str, text: str, blocks: Sequence[Block] | None = None) -> None:
        """Answer a command or a click where it was made, seen only by that person."""
        body: dict[str, Any] = {"response_type": "ephemeral", "replace_original": False, "text": cut(text, TEXT)}
        if blocks:
            body["blocks"] = list(blocks)
        try:
            async with self._session.post(response_url, json=body) as answer:
                if answer.status >= 500 or answer.status == 429:
                    raise TemporaryError(f"Slack did not take the reply (HTTP {answer.status})")
                if answer.status >= 400:
                    log.warning("reply.refused", status=answer.status)  # used up or older than 30 minutes
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryError(f"Slack did not take the reply ({type(error).__name__})") from None

    # -- one call -------------------------------------------------------------------------------------------------

    async def call(self, method: Callable[..., Awaitable[Any]], *, patient: bool = True, **arguments: Any) -> Any:
        """Call Slack. A 429 is waited out here if it is short and *patient*, else it becomes TemporaryError.

        Raises `Refused` (a PermanentError) when Slack says no, TemporaryError when the answer is lost or late.
        """
        name = method.__name__.replace("_", ".")
        arguments = {key: value for key, value in arguments.items() if value is not None and value != ""}
        for attempt in range(4):
            wait = self._blocked.get(name, 0.0) - time.monotonic()
            if wait > 0:
                if not patient or wait > WAIT:
                    raise TemporaryError(f"Slack asked to wait {wait:.0f} s with {name}", after=wait)
                self._metrics.limited(name, wait)
                await asyncio.sleep(wait)
            outcome, begun = "failed", time.perf_counter()
            try:
                async with asyncio.timeout(self._timeout if patient else 2.0):
                    answer = await method(**arguments)
                outcome = "ok"
                return answer
            except SlackApiError as error:
                code, status, headers = _said(error)
                if status != 429 and code != "ratelimited":
                    failure = _failure(name, code, status, error)
                    outcome = "refused" if isinstance(failure, Refused) else "failed"
                    raise failure from None
                outcome = "limited"
                pause = _pause(headers)
                self._blocked[name] = time.monotonic() + pause
                log.info("slack.limited", method=name, wait_seconds=pause, attempt=attempt)
            except (aiohttp.ClientError, TimeoutError, SlackClientError, ssl.SSLError, ConnectionError) as error:
                raise TemporaryError(f"Slack did not answer {name} ({type(error).__name__})", after=1.0) from error
            finally:
                self._metrics.called(name, outcome, time.perf_counter() - begun)
        raise TemporaryError(f"Slack keeps limiting {name}", after=self._blocked[name] - time.monotonic())

    async def _user(self, who: str) -> str:
        if "@" not in who:
            return who
        if who not in self._by_mail:
            answer = await self.call(self._web.users_lookupByEmail, email=who)
            self._by_mail[who] = answer["user"]["id"]
        return self._by_mail[who]

    async def _find_place(self, wanted: str, otherwise: str) -> str:
        cursor = ""
        while True:
            answer = await self.call(
                self._web.conversations_list,
                types="public_channel,private_channel",
                exclude_archived=True,
                limit=200,
                cursor=cursor,
            )
            for found in answer["channels"]:
                if wanted in (found["name"], found["id"]):
                    if not found.get("is_member") and not found.get("is_private"):
                        await self.call(self._web.conversations_join, channel=found["id"])
                    return str(found["id"])
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                raise PermanentError(otherwise)


class Refused(PermanentError):  # noqa: N818 - Slack's answer
    """Slack said no."""

    def __init__(self, method: str, code: str, data: Mapping[str, Any]) -> None:
        hint = HINTS.get(code)
        needed = f" ({data['needed']})" if data.get("needed") else ""
        super().__init__(f"Slack refused {method}: {code}{needed}" + (f"; {hint}" if hint else ""))
        self.code, self.data = code, data


def person(member: Mapping[str, Any], team: str | None) -> Person:
    """What Slack says of a user, as far as permissions go."""
    profile = member.get("profile") or {}
    return Person(
        id=member["id"],
        name=profile.get("display_name") or member.get("real_name") or member.get("name") or member["id"],
        email=profile.get("email"),
        bot=bool(member.get("is_bot")),
        guest=bool(member.get("is_restricted") or member.get("is_ultra_restricted")),
        stranger=bool(member.get("is_stranger")) or bool(team and member.get("team_id") not in (None, team)),
        gone=bool(member.get("deleted")),
        zone=str(member["tz"]) if member.get("tz") else None,
    )


def _said(error: SlackApiError) -> tuple[str, int, Mapping[str, Any]]:
    response: Any = error.response
    data = getattr(response, "data", response)
    status = int(getattr(response, "status_code", 200) or 200)
    headers = {str(k).lower(): v for k, v in (getattr(response, "headers", None) or {}).items()}
    # A body that is no JSON is a str here, not a dict.
    code = str(data.get("error", "unknown_error")) if isinstance(data, dict) else f"http_{status}"
    return code, status, headers


def _failure(name: str, code: str, status: int, error: SlackApiError) -> TemporaryError | Refused:
    if status >= 500 or code in PASSING or code.startswith("http_5"):
        return TemporaryError(f"Slack failed at {name} ({code})", after=1.0)
    data = getattr(error.response, "data", error.response)
    return Refused(name, code, data if isinstance(data, dict) else {})


def _pause(headers: Mapping[str, Any]) -> float:
    try:
        return max(0.0, min(3600.0, float(headers.get("retry-after", 1))))
    except (TypeError, ValueError):
        return 1.0
