"""The web page of the sandbox: what it shows, and what a person at it can do."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.resources import files
from typing import Any

import aiohttp
from aiohttp import web

from bot.kit.clock import utc_now
from bot.sandbox import inputs, traffic
from bot.sandbox.delivery import Delivery
from bot.sandbox.inputs import ImpossibleError
from bot.sandbox.socket import Sockets
from bot.sandbox.state import Channel, Json, Message, User, View
from bot.sandbox.workspace import TEAM, Workspace, fields

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
SAFE = {"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
STATIC = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "blocks.js": "text/javascript; charset=utf-8",
    "messages.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "text.js": "text/javascript; charset=utf-8",
    "traffic.js": "text/javascript; charset=utf-8",
    "writer.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
TRAFFIC = ("calls", "deliveries")
TICK_SECONDS = 0.5


class Watcher:
    """One open page: what it has not heard of yet. What happens often is told once for a while."""

    def __init__(self) -> None:
        self.closed = False
        self._unheard: dict[str, None] = {}
        self._bell = asyncio.Event()
        self._ticked = -TICK_SECONDS
        self._tick: asyncio.TimerHandle | None = None

    def hear(self, what: str) -> None:
        """Note a change. Traffic is told at once after a silence, then twice a second at most."""
        if what not in TRAFFIC:
            self._note(what)
        elif self._tick is None:
            loop = asyncio.get_running_loop()
            self._tick = loop.call_at(max(loop.time(), self._ticked + TICK_SECONDS), self._traffic)

    def _traffic(self) -> None:
        self._tick = None
        self._ticked = asyncio.get_running_loop().time()
        self._note("traffic")

    def _note(self, what: str) -> None:
        self._unheard[what] = None
        self._bell.set()

    async def news(self) -> list[str]:
        """Wait for changes; each is told once, however often it happened meanwhile."""
        await self._bell.wait()
        self._bell.clear()
        found, self._unheard = list(self._unheard), {}
        return found

    def close(self) -> None:
        """Let the page go."""
        self.closed = True
        self._bell.set()
        if self._tick is not None:
            self._tick.cancel()


class Page:
    """Serves the page, tells it of changes, and does what is pressed on it."""

    def __init__(
        self,
        workspace: Workspace,
        sockets: Sockets,
        delivery: Delivery,
        alert_url: str | None,
        alert_token: str | None,
    ) -> None:
        self.workspace = workspace
        self.sockets = sockets
        self.delivery = delivery
        self.alert_url = alert_url
        self.alert_token = alert_token
        self._fired_at: datetime | None = None
        self._watchers: set[Watcher] = set()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/", self.index)
        app.router.add_get("/static/{name}", self.static)
        app.router.add_get("/page/state", self.state)
        app.router.add_get("/page/traffic", self.traffic)
        app.router.add_get("/page/changes", self.changes)
        app.router.add_post("/page/act", self.act)

    async def index(self, request: web.Request) -> web.StreamResponse:
        return self._file("index.html")

    async def static(self, request: web.Request) -> web.StreamResponse:
        return self._file(request.match_info["name"])

    def _file(self, name: str) -> web.Response:
        if name not in STATIC:
            raise web.HTTPNotFound
        body = files("bot.sandbox").joinpath("static", name).read_bytes()
        return web.Response(body=body, headers={**SAFE, "Content-Type": STATIC[name], "Cache-Control": "no-store"})

    def _viewer(self, name: str) -> User:
        user = self.workspace.person(name)
        if user is None or user.is_bot:
            raise web.HTTPNotFound(text="nobody of that name")
        return user

    async def state(self, request: web.Request) -> web.StreamResponse:
        """Everything one person sees."""
        user = self._viewer(request.query.get("user", "alice"))
        return web.json_response(self.shown(user), headers=SAFE)

    async def traffic(self, request: web.Request) -> web.StreamResponse:
        """What went between Slack and the app lately; the same for everybody."""
        return web.json_response(traffic.shown(self.workspace), headers={**SAFE, "Cache-Control": "no-store"})

    def shown(self, user: User) -> Json:
        workspace = self.workspace
        seen = [c for c in workspace.channels.values() if workspace.sees(c, user.id)]
        home = workspace.homes.get(user.id)
        return {
            "me": user.id,
            "app": {
                "name": workspace.app.name,
                "id": workspace.app.id,
                "home": workspace.app.home,
                "hears_home": "app_home_opened" in workspace.app.events,
            },
            "connections": len(self.sockets.connections),
            "users": {
                u.id: {"id": u.id, "name": u.name, "real_name": u.real_name, "title": u.title, "bot": u.is_bot}
                for u in workspace.users.values()
            },
            "groups": {g.id: g.handle for g in workspace.groups.values()},
            "commands": [
                {"name": c.name, "description": c.description, "hint": c.hint} for c in workspace.app.commands.values()
            ],
            "shortcuts": [
                {"name": s.name, "type": s.kind, "callback_id": s.callback_id} for s in workspace.app.shortcuts.values()
            ],
            "channels": [self._channel(c, user) for c in seen],
            "modals": [self._view(v) for v in workspace.stacks.get(user.id, [])],
            "home": self._view(home) if home else None,
            "notices": [{"text": n.text, "at": n.at} for n in list(workspace.notices)[-20:] if n.user == user.id],
            "violations": [{"kind": v.kind, "detail": v.detail, "at": v.at} for v in workspace.violations[-50:]],
            "alerts": self.alert_url is not None,
        }

    def _channel(self, channel: Channel, user: User) -> Json:
        seen = [m for m in (*channel.messages, *channel.ephemerals) if m.only_for in (None, user.id)]
        other = next((u for u in channel.members if u != user.id), user.id)
        return {
            "id": channel.id,
            "name": channel.name,
            "kind": channel.kind,
            "with": other if channel.kind == "im" else None,
            "topic": channel.topic.value,
            "purpose": channel.purpose.value,
            "archived": channel.archived,
            "member": user.id in channel.members,
            "members": channel.members,
            "pins": [p.ts for p in channel.pins],
            "bookmarks": [{"title": b.title, "link": b.link, "emoji": b.emoji} for b in channel.bookmarks],
            "messages": [self._message(m) for m in sorted(seen, key=lambda m: m.ts)],
            "threads": threads(seen),
        }

    def _message(self, message: Message) -> Json:
        body = message.payload(TEAM, with_metadata=False)
        told = {"only_for": message.only_for, "revision": message.revision, "broadcast": broadcast(message)}
        return body | told

    def _view(self, view: View) -> Json:
        return {
            "id": view.id,
            "revision": view.revision,
            "title": view.title,
            "submit": (view.body.get("submit") or {}).get("text"),
            "close": (view.body.get("close") or {}).get("text"),
            "blocks": view.blocks,
            "values": inputs.values(view.blocks, view.values),
        }

    async def changes(self, request: web.Request) -> web.StreamResponse:
        """A stream of the names of what changed; the page then asks for the state again."""
        response = web.StreamResponse(
            headers={**SAFE, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        await response.prepare(request)
        watcher = Watcher()
        self._watchers.add(watcher)
        self.workspace.listeners.add(watcher.hear)
        try:
            await response.write(b"retry: 1000\n\ndata: hello\n\n")
            while not watcher.closed:
                try:
                    news = await asyncio.wait_for(watcher.news(), 15)
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                await response.write("".join(f"data: {what}\n\n" for what in news).encode())
        except ConnectionError:
            pass
        finally:
            self.workspace.listeners.discard(watcher.hear)
            self._watchers.discard(watcher)
            watcher.close()
        return response

    def close(self) -> None:
        """Let every open page go, so that the server can stop."""
        for watcher in self._watchers:
            watcher.close()

    async def act(self, request: web.Request) -> web.StreamResponse:
        # A form on another site cannot send this content type without asking first, and the guard says no.
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType
        try:
            body: Any = await request.json()
        except ValueError:
            raise web.HTTPBadRequest(text="not JSON") from None
        deeds: dict[str, Callable[[User, Json], Awaitable[Json]]] = {
            "say": self._say,
            "action": self._action,
            "suggest": self._suggest,
            "enter": self._enter,
            "submit": self._submit,
            "close": self._close,
            "react": self._react,
            "join": self._join,
            "leave": self._leave,
            "shortcut": self._shortcut,
            "home": self._home,
            "alert": self._alert,
        }
        deed = deeds.get(str(body.get("do"))) if isinstance(body, dict) else None
        if deed is None:
            raise web.HTTPBadRequest(text="no such deed")
        user = self._viewer(str(body.get("user", "")))
        try:
            return web.json_response(await deed(user, body), headers=SAFE)
        except (ImpossibleError, ValueError, KeyError) as error:
            return web.json_response({"error": str(error)}, status=400, headers=SAFE)

    def _place(self, user: User, body: Json) -> Channel:
        channel = self.workspace.channels.get(str(body.get("channel")))
        if channel is None or not self.workspace.sees(channel, user.id):
            raise ImpossibleError("no such channel")
        return channel

    def _post(self, user: User, body: Json) -> Message:
        channel = self._place(user, body)
        for message in (*channel.messages, *channel.ephemerals):
            if message.ts == body.get("ts") and message.only_for in (None, user.id):
                return message
        raise ImpossibleError("this message is gone")

    def _own_view(self, user: User, body: Json) -> View:
        view = self.workspace.views.get(str(body.get("view")))
        if view is None or view.user != user.id or not view.open:
            raise ImpossibleError("this view is closed")
        return view

    async def _say(self, user: User, body: Json) -> Json:
        channel, text = self._place(user, body), str(body.get("text") or "").strip()
        if not text:
            return {}
        root = self._root(channel, str(body["thread_ts"])) if body.get("thread_ts") else None
        if text.startswith("/"):
            if root is not None:
                raise ImpossibleError(f"{text.split()[0]} is not supported in threads")
            reply = await self.delivery.slash(user, channel, text)
            return {"ms": reply.ms, "error": reply.error}
        if channel.archived:
            raise ImpossibleError("this channel is archived")
        self.workspace.join(channel, user.id)
        self.delivery.say(user, channel, text, root)
        return {}

    def _root(self, channel: Channel, ts: str) -> str:
        """The message a thread hangs on, whichever message of it is named; it may have been deleted meanwhile."""
        named = channel.message(ts)
        if named is not None:
            return named.thread_ts or named.ts
        if any(m.thread_ts == ts for m in channel.messages):
            return ts
        raise ImpossibleError("this thread is gone")

    async def _action(self, user: User, body: Json) -> Json:
        place = self._own_view(user, body) if body.get("view") else self._post(user, body)
        if isinstance(place, View):
            self._take(place, body.get("values"))
        pressed = (body.get("block_id"), body.get("action_id"))
        there = [(b, e) for b, e in fields(place.blocks) if (b["block_id"], e["action_id"]) == pressed]
        if not there:
            raise ImpossibleError("this button is gone")
        block, element = there[0]
        value = body.get("value")
        state = {} if element["type"] == "button" else inputs.entered(self.workspace, element, value)
        reply = await self.delivery.act(user, place, block, element, state)
        return {"ms": reply.ms, "error": reply.error}

    async def _suggest(self, user: User, body: Json) -> Json:
        """What the app offers for what was typed into a menu of a view."""
        view = self._own_view(user, body)
        asked = (body.get("block_id"), body.get("action_id"))
        there = [(b, e) for b, e in fields(view.blocks) if (b["block_id"], e["action_id"]) == asked]
        if not there or not there[0][1]["type"].endswith("external_select"):
            raise ImpossibleError("this menu is gone")
        return {"options": await self.delivery.suggest(user, view, *there[0], str(body.get("typed") or ""))}

    def _take(self, view: View, values: Any) -> None:
        for block, element in [(b, e) for b in view.blocks for e in [b.get("element")] if e]:
            given = values.get(block["block_id"]) if isinstance(values, dict) else None
            if given is not None:
                state = inputs.entered(self.workspace, element, given.get("value"))
                view.values.setdefault(block["block_id"], {})[element["action_id"]] = state

    async def _enter(self, user: User, body: Json) -> Json:
        self._take(self._own_view(user, body), body.get("values"))
        return {}

    async def _submit(self, user: User, body: Json) -> Json:
        view = self._own_view(user, body)
        self._take(view, body.get("values"))
        result = await self.delivery.submit(user, view)
        return {"errors": result.errors, "closed": result.closed, "ms": result.ms, "error": result.error}

    async def _close(self, user: User, body: Json) -> Json:
        reply = await self.delivery.dismiss(user, self._own_view(user, body))
        return {"error": reply.error}

    async def _react(self, user: User, body: Json) -> Json:
        message, name = self._post(user, body), str(body["name"])
        mine = user.id in message.reactions.get(name, [])
        self.workspace.react(self._place(user, body), message, user.id, name, add=not mine)
        return {}

    async def _join(self, user: User, body: Json) -> Json:
        self.workspace.join(self._place(user, body), user.id)
        return {}

    async def _leave(self, user: User, body: Json) -> Json:
        self.workspace.leave(self._place(user, body), user.id)
        return {}

    async def _shortcut(self, user: User, body: Json) -> Json:
        message = self._post(user, body) if body.get("ts") else None
        reply = await self.delivery.shortcut(user, str(body.get("callback_id")), message)
        return {"error": reply.error}

    async def _home(self, user: User, body: Json) -> Json:
        if not self.workspace.app.home:
            raise ImpossibleError("the app's manifest has no Home tab")
        self.delivery.open_home(user)
        return {}

    async def _alert(self, user: User, body: Json) -> Json:
        """Send the sample alert to the bot, as Alertmanager would."""
        if self.alert_url is None:
            raise ImpossibleError("the sandbox was not told where alerts go")
        alert = self.sample(resolved=bool(body.get("resolved")))
        headers = {"Authorization": f"Bearer {self.alert_token}"} if self.alert_token else {}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
                session.post(self.alert_url, json=alert, headers=headers) as response,
            ):
                status, text = response.status, (await response.text())[:300]
        except (aiohttp.ClientError, TimeoutError) as error:
            self.workspace.notice(user.id, f"The alert could not be sent: {error}")
            return {"error": str(error)}
        if status >= 300:
            self.workspace.notice(user.id, f"The alert was refused: {status} {text}")
        return {"status": status}

    def sample(self, *, resolved: bool) -> Json:
        """Our sample alert, firing now; or resolved now, if it had been fired."""
        body: Json = copy.deepcopy(
            json.loads(files("bot.sandbox").joinpath("samples", "alertmanager.json").read_text("utf-8"))
        )
        now = utc_now()
        if not resolved or self._fired_at is None:
            self._fired_at = now
        state = "resolved" if resolved else "firing"
        body["status"] = state
        for alert in body["alerts"]:
            alert |= {"status": state, "startsAt": self._fired_at.isoformat()}
            if resolved:
                alert["endsAt"] = now.isoformat()
        return body


def broadcast(message: Message) -> bool:
    """Whether a reply was also sent to the channel."""
    return message.subtype == "thread_broadcast" or bool(message.extra.get("broadcast"))


def threads(seen: list[Message]) -> Json:
    """For each thread, by the timestamp of its root: how many replies, by whom, and when the last one came.

    Ephemeral replies are counted apart, because nobody else sees them.
    """
    found: Json = {}
    for message in sorted(seen, key=lambda m: m.ts):
        if message.thread_ts in (None, message.ts):
            continue
        thread = found.setdefault(message.thread_ts, {"replies": 0, "private": 0, "users": [], "latest": ""})
        thread["private" if message.only_for else "replies"] += 1
        thread["latest"] = message.ts
        if message.user not in thread["users"]:
            thread["users"].append(message.user)
    return found
