"""The sandbox itself: one server on this machine that is Slack for one app."""

import asyncio
import ipaddress
import secrets
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Self

from aiohttp import web

from bot.kit.errors import UserError
from bot.sandbox.actor import Actor
from bot.sandbox.answers import Answers
from bot.sandbox.api import Api
from bot.sandbox.delivery import Delivery
from bot.sandbox.faults import FaultPlan
from bot.sandbox.guard import guard
from bot.sandbox.page import Page
from bot.sandbox.signed import Posts
from bot.sandbox.socket import Sockets
from bot.sandbox.state import App, Call, Channel, Limits, Message, Violation
from bot.sandbox.storage import Storage
from bot.sandbox.workspace import Workspace

UPLOAD_BYTES = 64 * 1024 * 1024


class Sandbox:
    """A Slack for one app, made from the app's manifest; everything is in memory and gone at the end.

    The tokens may be handed in, so that a sandbox that is started again still knows the same app. With a
    *request_url* the app is told things over signed HTTP there, without one over Socket Mode.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        strict: bool = True,
        alert_url: str | None = None,
        alert_token: str | None = None,
        bot_token: str | None = None,
        app_token: str | None = None,
        signing_secret: str | None = None,
        request_url: str | None = None,
        limits: Limits | None = None,
        seed: int = 0,
    ) -> None:
        if not is_loopback(host):
            raise UserError(
                f"The sandbox lets anybody act as anybody, so it only listens on this machine, not on {host!r}."
            )
        self.host = host
        self.port = port
        self.bot_token = bot_token or f"xoxb-sandbox-{secrets.token_hex(12)}"
        self.app_token = app_token or f"xapp-sandbox-{secrets.token_hex(12)}"
        self.signing_secret = signing_secret or secrets.token_hex(16)
        self.limits = limits or Limits()
        self.workspace = Workspace(App.read(manifest), self.limits, strict=strict)
        self.faults = FaultPlan(seed=seed)
        self.sockets = Sockets(self.workspace, self.faults)
        self.posts = Posts(self.workspace, self.faults, self.signing_secret)
        self.posts.url = request_url
        self.delivery = Delivery(self.workspace, self.sockets, self.posts)
        self.page = Page(self.workspace, self.sockets, self.delivery, alert_url, alert_token)
        self.faults.kill_sockets = self.sockets.kill
        self.faults.send_disconnect = self.sockets.disconnect
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.workspace.url

    @property
    def api_url(self) -> str:
        """What the app's Slack client takes as ``base_url``."""
        return f"{self.url}/api/"

    @property
    def request_url(self) -> str | None:
        """Where the app is told things over HTTP; None while it is told over sockets. May be set at any time."""
        return self.posts.url

    @request_url.setter
    def request_url(self, url: str | None) -> None:
        self.posts.url = url
        self.workspace.touch("connections")

    async def verify_request_url(self) -> bool:
        """Send the challenge that Slack sends before it accepts a request URL; a failure is a violation."""
        return await self.posts.verify()

    @property
    def violations(self) -> list[Violation]:
        return self.workspace.violations

    @property
    def calls(self) -> list[Call]:
        return list(self.workspace.calls)

    def routes(self) -> web.Application:
        tokens = {self.bot_token: "bot", self.app_token: "app"}
        api = Api(self.workspace, self.sockets, self.faults, tokens)
        storage = Storage(self.workspace)
        app = web.Application(middlewares=[guard], client_max_size=UPLOAD_BYTES)
        app.router.add_route("GET", "/api/{method}", api.handle)
        app.router.add_route("POST", "/api/{method}", api.handle)
        app.router.add_get("/link", self.sockets.handle)
        app.router.add_post("/respond/{number}", Answers(self.workspace).handle)
        app.router.add_post("/upload/{number}/{ticket}", storage.upload)
        app.router.add_get("/files/{number}", storage.download)
        self.page.add_routes(app)
        return app

    async def start(self) -> Self:
        """Listen; after this `url` is known."""
        self._runner = web.AppRunner(self.routes(), access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise UserError(f"The sandbox cannot listen on {self.host}:{self.port}: {error}") from None
        self.port = self._runner.addresses[0][1]
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.workspace.url = f"http://{shown}:{self.port}"
        await self.posts.start()
        return self

    async def stop(self) -> None:
        self.workspace.close()
        await self.delivery.close()
        await self.posts.close()
        self.page.close()
        await self.sockets.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def actor(self, name: str) -> Actor:
        """One of the people: alice, bob, carol, guest."""
        user = self.workspace.person(name)
        if user is None:
            there = ", ".join(u.name for u in self.workspace.users.values() if not u.is_bot)
            raise ValueError(f"nobody is called {name!r}; there is: {there}")
        return Actor(self.workspace, self.delivery, user)

    async def wait(self, predicate: Callable[[], Any], within: float = 5.0, what: str = "such thing") -> Any:
        """The first true answer of *predicate*, asked again whenever something changes."""
        return await self.workspace.wait(predicate, within, what)

    def _places(self, name: str) -> list[Channel]:
        if (channel := self.workspace.channels.get(name)) is not None:
            return [channel]
        glob = name.removeprefix("#")
        return [c for c in self.workspace.channels.values() if fnmatchcase(c.name, glob)]

    async def expect_message(
        self, channel: str, contains: str, within: float = 5.0, *, after: str | None = None
    ) -> Message:
        """The newest message with that text in a channel: by ``#name``, id, or a pattern such as ``inc-*``."""

        def found() -> Message | None:
            messages = [m for c in self._places(channel) for m in c.messages]
            fitting = [m for m in messages if m.contains(contains) and (after is None or m.ts > after)]
            return max(fitting, key=lambda m: m.ts, default=None)

        try:
            answer: Message = await self.wait(found, within, f"message in {channel} with {contains!r}")
        except AssertionError as error:
            last = [m.rendered[:200] for c in self._places(channel) for m in c.messages][-5:]
            raise AssertionError(f"{error}; the last ones there are: {last}") from None
        return answer

    async def expect_channel(self, glob: str, within: float = 5.0) -> Channel:
        """The newest channel whose name fits the pattern."""

        def found() -> Channel | None:
            places = self._places(glob)
            return places[-1] if places else None

        try:
            answer: Channel = await self.wait(found, within, f"channel {glob}")
        except AssertionError as error:
            there = [c.name for c in self.workspace.channels.values()]
            raise AssertionError(f"{error}; there is: {there}") from None
        return answer

    async def connected(self, number: int = 1, within: float = 10.0) -> None:
        """Wait until the app has that many connections; over HTTP, until its request URL answers."""
        if self.request_url is not None:
            await self._answering(within)
            return
        await self.wait(lambda: len(self.sockets.connections) >= number, within, f"{number} connections")

    async def _answering(self, within: float) -> None:
        deadline = time.monotonic() + within
        while not await self.posts.answers():
            if time.monotonic() >= deadline:
                raise AssertionError(f"nothing answers at {self.request_url} within {within:g} s")
            await asyncio.sleep(0.05)

    def assert_no_violations(self, *, ignore: tuple[str, ...] = ()) -> None:
        """AssertionError that lists what the app did wrong, kinds in *ignore* left out."""
        found = [str(v) for v in self.violations if v.kind not in ignore]
        if found:
            raise AssertionError("the app broke rules of Slack:\n  " + "\n  ".join(found))


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
