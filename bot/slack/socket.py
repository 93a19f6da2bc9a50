"""The Socket Mode connections: people reach the bot without it having a public address.

Slack sends each request down one connection, whichever it likes, and asks for connections to be replaced every few
hours. So there are always several, each opened with an address of its own (an address works once and not for long),
and a connection that is asked to go stays until its replacement stands. A connection can be dead without having been
closed; it is given up when Slack does not answer a ping, or has stopped sending its own.
https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog

from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.tasks import spawn

log = structlog.get_logger()

# Why Slack asks for a connection to be replaced; "closed", "no_pong" and "silent" are our own words for the rest.
REASONS = ("warning", "refresh_requested", "too_many_websockets", "link_disabled")

# A fresh address for one connection. Raises TemporaryError or PermanentError.
Address = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Envelope:
    """One request of Slack's, as it came down a connection."""

    id: str
    type: str
    payload: Mapping[str, Any]
    retry: int = 0
    reason: str = ""


# What a request is acknowledged with (None: nothing but the acknowledgement). Raises only if it cannot be: then Slack
# is told nothing, and tells the person, or tries again.
Answer = Callable[[Envelope], Awaitable[Mapping[str, Any] | None]]


@dataclass(frozen=True)
class Patience:
    """How long each thing may take, in seconds."""

    hello: float = 10.0  # from an address to Slack's greeting
    ping: float = 3.0  # between two pings of ours
    pong: float = 8.0  # without an answer to them
    silence: float = 45.0  # without anything from Slack, once it has been seen to ping
    first: float = 0.5  # before the second try to connect; doubled each time
    most: float = 30.0
    refused: float = 60.0  # between tries when Slack says that there is no point in trying
    settled: float = 5.0  # a connection that lived shorter than this counts as a failed try
    drain: float = 2.5  # for requests under way when a connection goes
    linger: float = 15.0  # for Slack to close a connection that it wants replaced


class Connection:
    """One WebSocket, from its greeting to its end."""

    def __init__(self, number: int, ws: aiohttp.ClientWebSocketResponse, patience: Patience) -> None:
        self.number = number
        self.ws = ws
        self.patience = patience
        loop = asyncio.get_running_loop()
        self.greeted: asyncio.Future[None] = loop.create_future()
        # Why it is to be replaced: known when it is asked to go, or has gone.
        self.leaving: asyncio.Future[str] = loop.create_future()
        self.born = self.heard = self.ponged = loop.time()
        self.pinged: float | None = None
        self.answering: set[asyncio.Task[None]] = set()
        self.retired = False
        self.gone = asyncio.Event()

    @property
    def open(self) -> bool:
        """Whether Slack can send something down it."""
        return self.greeted.done() and not self.ws.closed

    @property
    def fit(self) -> bool:
        """Whether it is open and meant to stay."""
        return self.open and not self.leaving.done()

    def leave(self, why: str) -> None:
        """Note the reason to replace it; the first one counts."""
        if not self.leaving.done():
            self.leaving.set_result(why)

    def deaf(self) -> str | None:
        """Why it must be taken for dead although nobody closed it; None while it seems alive."""
        now = asyncio.get_running_loop().time()
        if now - self.ponged > self.patience.pong:
            return "no_pong"
        # Not every proxy passes Slack's pings on, so their absence says something only where there were some.
        if self.pinged is not None and now - self.heard > self.patience.silence:
            return "silent"
        return None

    async def watch(self) -> None:
        """Ping, and leave when nothing comes back."""
        while not self.ws.closed:
            await asyncio.sleep(self.patience.ping)
            if why := self.deaf():
                self.leave(why)
                return
            with contextlib.suppress(ConnectionError, aiohttp.ClientError, RuntimeError):
                await self.ws.ping()

    async def retire(self) -> None:
        """Let Slack close it. If we did, what Slack sends at that moment would be lost."""
        self.retired = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), self.patience.linger)
        await self.close()

    async def close(self) -> None:
        """Finish what it is answering, then close."""
        if self.answering:
            await asyncio.wait(set(self.answering), timeout=self.patience.drain)
        with contextlib.suppress(ConnectionError, aiohttp.ClientError, RuntimeError):
            await self.ws.close()


class Sockets:
    """Several connections at once, each replaced before it goes."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        answer: Answer,
        *,
        count: int = 2,
        patience: Patience | None = None,
        lost: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Make it; nothing is opened before `start`. *lost* is told the reason for each connection that went."""
        self._session = session
        self._address = address
        self._answer = answer
        self._count = count
        self._patience = patience or Patience()
        self._lost = lost
        self._connections: list[Connection] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._one = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Mapping[str, Any] | None]] = {}
        self._made = 0
        self._stopping = False
        self.trouble: str | None = None

    async def start(self) -> None:
        """Keep connecting from now on; returns once the first connection stands."""
        for slot in range(self._count):
            self._keepers.append(spawn(self._keep(slot), name=f"slack.socket:{slot}"))
        await self._one.wait()

    async def stop(self) -> None:
        """Take nothing new, acknowledge what was taken, close."""
        self._stopping = True
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))

    # -- how it is --------------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """How many connections Slack can use now."""
        return sum(connection.open for connection in self._connections)

    def silence(self) -> float | None:
        """Seconds since Slack was last heard on any connection; None when there is none."""
        now = asyncio.get_running_loop().time()
        return min((now - connection.heard for connection in self._connections if connection.open), default=None)

    def health(self) -> str | None:
        """None when requests can come in, else what is wrong."""
        if any(connection.open for connection in self._connections):
            return None
        return (
            f"no socket to Slack is connected ({self.trouble})" if self.trouble else "no socket to Slack is connected"
        )

    # -- connecting -------------------------------------------------------------------------------------------------

    async def _keep(self, slot: int) -> None:
        """One place among the connections, filled again and again; the old one goes when the new one stands."""
        tries = 0
        while True:
            try:
                connection = await self._connect()
            except (BotError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                tries += 1
                await self._pause(slot, tries, error)
                continue
            except Exception as error:
                log.exception("slack.socket_broken", slot=slot)
                tries += 1
                await self._pause(slot, tries, error)
                continue
            self.trouble = None
            self._one.set()
            self._retire(but=connection)
            why = await connection.leaving
            self._lost(why)
            lived = asyncio.get_running_loop().time() - connection.born
            tries = 0 if lived >= self._patience.settled else tries + 1
            told = log.info if why in ("warning", "refresh_requested") else log.warning
            told("slack.socket_leaving", slot=slot, reason=why, lived_seconds=round(lived, 1), others=self._fit())
            if why in ("no_pong", "silent", "closed"):
                spawn(connection.close(), name="slack.socket_close")
            elif why == "link_disabled":
                self.trouble = "Socket Mode is switched off in the app's settings"
            if tries:
                await asyncio.sleep(self._wait(tries))

    async def _pause(self, slot: int, tries: int, error: Exception) -> None:
        wait = self._wait(tries)
        if isinstance(error, PermanentError):
            wait = self._patience.refused
        elif isinstance(error, TemporaryError):
            wait = max(wait, error.after)
        self.trouble = str(error) if isinstance(error, BotError) else type(error).__name__
        log.warning("slack.not_connected", slot=slot, reason=self.trouble, wait_seconds=round(wait, 1), tries=tries)
        await asyncio.sleep(wait)

    def _wait(self, tries: int) -> float:
        """Longer each time, and never the same for two."""
        most: float = min(self._patience.most, self._patience.first * 2 ** min(tries - 1, 16))
        return random.uniform(most / 2, most)

    async def _connect(self) -> Connection:
        """A connection that Slack has greeted, by an address nobody used before."""
        async with asyncio.timeout(self._patience.hello):
            url = await self._address()
            ws = await self._session.ws_connect(
                url,
                autoping=False,  # pings and pongs are how a dead connection is told from a quiet one
                max_msg_size=16 * 1024 * 1024,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            )
            self._made += 1
            connection = Connection(self._made, ws, self._patience)
            self._connections.append(connection)
            spawn(self._read(connection), name="slack.socket_read")
            try:
                await asyncio.wait((connection.greeted, connection.leaving), return_when=asyncio.FIRST_COMPLETED)
            except BaseException:
                spawn(connection.close(), name="slack.socket_close")
                raise
        if not connection.greeted.done():
            why = connection.leaving.result()
            spawn(connection.close(), name="slack.socket_close")
            raise TemporaryError(f"Slack closed the connection before it began ({why})", after=0.0)
        spawn(connection.watch(), name="slack.socket_watch")
        return connection

    def _retire(self, *, but: Connection) -> None:
        """Part with those that are to go, as many as there are others to take their place."""
        leaving = [c for c in self._connections if c is not but and c.leaving.done() and c.open and not c.retired]
        for connection in leaving[: self._fit()]:
            spawn(connection.retire(), name="slack.socket_retire")

    def _fit(self) -> int:
        return sum(connection.fit for connection in self._connections)

    # -- what comes in ----------------------------------------------------------------------------------------------

    async def _read(self, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        try:
            async for message in connection.ws:
                if message.type is aiohttp.WSMsgType.PONG:
                    connection.ponged = clock()  # says that the other end lives, not that Slack means to send
                    continue
                connection.heard = clock()
                if message.type is aiohttp.WSMsgType.PING:
                    connection.pinged = clock()
                    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                        await connection.ws.pong(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    self._take(connection, message.data)
        finally:
            self._connections.remove(connection)
            connection.gone.set()
            connection.leave("closed")

    def _take(self, connection: Connection, text: str) -> None:
        try:
            found = json.loads(text)
            kind = str(found["type"])
        except (ValueError, TypeError, KeyError):
            log.warning("slack.socket_noise", length=len(text))
            return
        if kind == "hello":
            if not connection.greeted.done():
                connection.greeted.set_result(None)
        elif kind == "disconnect":
            reason = str(found.get("reason"))
            connection.leave(reason if reason in REASONS else "other")
        elif self._stopping:
            return  # without an acknowledgement Slack tells the person, or tries another process
        elif (number := found.get("envelope_id")) and isinstance(found.get("payload"), dict):
            envelope = Envelope(
                str(number),
                kind,
                found["payload"],
                int(found.get("retry_attempt") or 0),
                str(found.get("retry_reason") or ""),
            )
            task = spawn(self._handle(connection, envelope), name=f"slack.request:{kind}")
            connection.answering.add(task)
            task.add_done_callback(connection.answering.discard)

    async def _once(self, envelope: Envelope) -> Mapping[str, Any] | None:
        """The answer; an envelope that comes twice at once is answered twice with the same."""
        task = self._answers.get(envelope.id)
        if task is None:
            task = self._answers[envelope.id] = asyncio.ensure_future(self._answer(envelope))
            task.add_done_callback(lambda _: self._answers.pop(envelope.id, None))
        return await asyncio.shield(task)

    async def _handle(self, connection: Connection, envelope: Envelope) -> None:
        payload = await self._once(envelope)
        text = json.dumps({"envelope_id": envelope.id, **({"payload": payload} if payload else {})})
        # Where it came from, else anywhere: a late acknowledgement by another way is better than none.
        ways = [connection, *(other for other in self._connections if other is not connection)]
        for way in ways:
            if way.ws.closed:
                continue
            with contextlib.suppress(ConnectionError, aiohttp.ClientError, RuntimeError):
                await way.ws.send_str(text)
                return
        log.warning("slack.ack_lost", type=envelope.type)
