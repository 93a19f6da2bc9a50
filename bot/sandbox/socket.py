"""Socket Mode: the WebSockets over which the app is told things, and answers.

https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

import asyncio
import contextlib
import json
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from bot.kit.tasks import spawn
from bot.sandbox.faults import FaultPlan
from bot.sandbox.state import Json
from bot.sandbox.workspace import Workspace


@dataclass(frozen=True)
class Outcome:
    """How a delivery ended: acknowledged with a payload or without, or not at all.

    A failed HTTP delivery also knows Slack's word for the reason, and whether the app wants no further attempt.
    """

    ok: bool
    payload: Json | None = None
    ms: float = 0.0
    error: str | None = None
    reason: str = ""
    no_retry: bool = False


@dataclass(eq=False)
class Connection:
    """One WebSocket of the app.

    ``deaf`` is how the far end fails to be there: "" not at all; "dead" when nothing is read or sent any more; "mute"
    when it still answers pings and sends nothing of its own.
    """

    socket: web.WebSocketResponse
    request: web.Request
    closed: asyncio.Future[None]
    number: int = 0
    deaf: str = ""
    leaving: bool = False

    async def send(self, envelope: Json) -> bool:
        """Put an envelope on the wire; True also if it is lost there."""
        if self.deaf:
            return True
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.send_str(json.dumps(envelope))
            return True
        return False

    async def ping(self) -> None:
        if not self.deaf:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self.socket.ping(b"Ping from sandbox")

    def kill(self) -> None:
        """Cut the wire without a goodbye."""
        if self.request.transport is not None:
            self.request.transport.abort()


@dataclass
class Pending:
    """An envelope on its way."""

    what: str
    sent: float
    answer: asyncio.Future[Json | None]


class Sockets:
    """The app's open connections; each envelope goes to one of them.

    With `refresh_seconds` no connection lives longer than that: the app is warned, asked to leave, and then left.
    """

    name = "socket"

    def __init__(self, workspace: Workspace, faults: FaultPlan) -> None:
        self.workspace = workspace
        self.faults = faults
        self.refresh_seconds: float | None = None
        self.tickets: dict[str, float] = {}
        self.connections: list[Connection] = []
        self._accepted = 0
        self._refusals: list[int] = []
        self.connected = asyncio.Event()
        self._pending: dict[str, Pending] = {}
        self._done: OrderedDict[str, str] = OrderedDict()
        self._late: OrderedDict[str, Pending] = OrderedDict()

    def issue(self) -> str:
        """A ticket for one connection, soon."""
        ticket = secrets.token_urlsafe(24)
        self.tickets[ticket] = time.monotonic() + self.workspace.limits.ticket_seconds
        while len(self.tickets) > 1000:
            del self.tickets[next(iter(self.tickets))]
        return ticket

    def refuse(self, times: int = 1, *, status: int = 403) -> None:
        """Turn the next *times* connections away at their URL, whatever ticket they bring."""
        self._refusals += [status] * times

    def _admit(self, ticket: str) -> tuple[int, str] | None:
        """Why this ticket does not open a connection. A ticket that was shown is used up."""
        expires = self.tickets.pop(ticket, None)
        if self._refusals:
            return self._refusals.pop(0), "refused"
        if expires is None:
            return 403, "invalid_ticket"
        return (408, "ticket_expired") if time.monotonic() > expires else None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._admit(request.query.get("ticket", ""))) is not None:
            status, error = refused
            return web.json_response({"ok": False, "error": error}, status=status)
        # Pings and goodbyes are answered below, because a connection that is deaf does not.
        socket = web.WebSocketResponse(autoping=False, autoclose=False, timeout=0.5)
        await socket.prepare(request)
        self._accepted += 1
        connection = Connection(socket, request, asyncio.get_running_loop().create_future(), self._accepted)
        if len(self.connections) >= self.workspace.limits.connections:
            await connection.send({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        self.connections.append(connection)
        self.connected.set()
        self.workspace.touch("connections")
        lifetime = self._lifetime(connection)
        await connection.send(
            {
                "type": "hello",
                "num_connections": len(self.connections),
                "connection_info": {"app_id": self.workspace.app.id},
                "debug_info": {
                    "host": "sandbox",
                    "build_number": 1,
                    "approximate_connection_time": 18060 if lifetime is None else int(lifetime),
                },
            }
        )
        clocks = [spawn(self._ping(connection), name="sandbox pings")]
        if lifetime is not None:
            clocks.append(spawn(self._refresh(connection, lifetime), name="sandbox refresh"))
        try:
            await self._listen(connection)
        finally:
            for clock in clocks:
                clock.cancel()
            self._gone(connection)
        return socket

    async def _listen(self, connection: Connection) -> None:
        """Read until the connection is closed, from whichever side."""
        socket = connection.socket
        while not socket.closed:
            message = await socket.receive()
            if connection.deaf == "dead":
                # Bytes that still come in go nowhere; only a torn wire ends this, and nothing tells of that.
                while connection.request.transport is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                return
            if message.type is WSMsgType.TEXT:
                self._receive(message.data)
            elif message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await socket.pong(message.data)
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                with contextlib.suppress(ConnectionError, RuntimeError):
                    await socket.close()
                return

    def _lifetime(self, connection: Connection) -> float | None:
        """How long this connection may live: between half of the time and all of it, far from its neighbours."""
        if self.refresh_seconds is None:
            return None
        # Multiples of the golden ratio, without their whole part, never come close to each other.
        return self.refresh_seconds * (0.5 + 0.5 * (connection.number * 0.618034 % 1.0))

    async def _refresh(self, connection: Connection, lifetime: float) -> None:
        warning = min(self.workspace.limits.warning_seconds, lifetime / 2)
        await asyncio.sleep(lifetime - warning)
        await connection.send(_disconnect("warning"))
        await asyncio.sleep(warning)
        # From here on it gets nothing new; what it was given may still be answered.
        connection.leaving = True
        await connection.send(_disconnect("refresh_requested"))
        await asyncio.sleep(min(1.0, lifetime / 4))
        if not connection.deaf:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await connection.socket.close()

    async def _ping(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(self.workspace.limits.ping_seconds)
            await connection.ping()

    def deafen(self, *, pongs: bool = False) -> int:
        """Make the connections there are now deaf without closing them; how many there were.

        Nothing is read, sent or answered on them any more. With *pongs* the app's pings are still answered, as by a
        proxy whose other side is gone. New connections are sound.
        """
        for connection in self.connections:
            connection.deaf = "mute" if pongs else "dead"
        return len(self.connections)

    def _gone(self, connection: Connection) -> None:
        if not connection.closed.done():
            connection.closed.set_result(None)
        if connection in self.connections:
            self.connections.remove(connection)
        if not self.connections:
            self.connected.clear()
        self.workspace.touch("connections")

    def _receive(self, text: str) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("envelope_id"), str):
            self.workspace.violation("bad_ack", f"not an acknowledgement: {text[:80]}")
            return
        envelope = answer["envelope_id"]
        payload = answer.get("payload")
        if payload is not None and not isinstance(payload, dict):
            self.workspace.violation("bad_ack", f"the payload is not an object: {str(payload)[:80]}")
            payload = None
        if pending := self._pending.pop(envelope, None):
            self._remember(envelope, pending.what)
            if not pending.answer.done():
                pending.answer.set_result(payload)
        elif envelope in self._late:
            # The violation was recorded when time was up.
            self._remember(envelope, self._late.pop(envelope).what)
        elif envelope in self._done:
            self.workspace.violation("duplicate_ack", f"{self._done[envelope]} was acknowledged twice")
        else:
            self.workspace.violation("unknown_ack", f"no envelope {envelope[:60]}")

    def _remember(self, envelope: str, what: str) -> None:
        self._done[envelope] = what
        while len(self._done) > 2000:
            self._done.popitem(last=False)

    async def deliver(
        self,
        kind: str,
        payload: Json,
        what: str,
        *,
        accepts: bool,
        retry: int = 0,
        reason: str = "",
    ) -> Outcome:
        """Send one envelope to one connection and wait for its acknowledgement as long as Slack does."""
        if not self.connections:
            return Outcome(False, error="not_connected")
        staying = [connection for connection in self.connections if not connection.leaving]
        connection = self.faults.random.choice(staying or self.connections)
        envelope: Json = {
            "envelope_id": secrets.token_hex(16),
            "type": kind,
            "payload": payload,
            "accepts_response_payload": accepts,
        }
        if kind == "events_api":
            envelope |= {"retry_attempt": retry, "retry_reason": reason}
        return await self._exchange(connection, envelope, what)

    async def _exchange(self, connection: Connection, envelope: Json, what: str) -> Outcome:
        number = envelope["envelope_id"]
        repeat = self.faults.repeat()
        pending = self._await(number, what)
        if not await connection.send(envelope):
            self._pending.pop(number, None)
            return Outcome(False, error="disconnected")
        if repeat == "same":
            # The app cannot know that the second copy is one, so both of its acks are in order.
            self._late[number] = pending
            await connection.send(envelope)
            answer = await self._first(connection, pending)
        elif repeat == "new":
            again = envelope | {"envelope_id": secrets.token_hex(16)}
            if envelope["type"] == "events_api":
                again |= {"retry_attempt": 1, "retry_reason": "timeout"}
            twin = self._await(again["envelope_id"], f"{what} (duplicate)")
            await connection.send(again)
            answer = await self._first(connection, pending)
            late = await self._first(connection, twin)
            self._judge(again["envelope_id"], twin, late, connection)
        else:
            answer = await self._first(connection, pending)
        return self._judge(number, pending, answer, connection)

    def _await(self, number: str, what: str) -> Pending:
        loop = asyncio.get_running_loop()
        pending = Pending(what, time.monotonic(), loop.create_future())
        self._pending[number] = pending
        return pending

    async def _first(self, connection: Connection, pending: Pending) -> tuple[bool, Any]:
        """Whether the answer came before time ran out or the wire was cut, and what it was."""
        left = self.workspace.limits.ack_seconds - (time.monotonic() - pending.sent)
        awaited: set[asyncio.Future[Any]] = {pending.answer, connection.closed}
        await asyncio.wait(awaited, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        if pending.answer.done():
            return True, pending.answer.result()
        return False, None

    def _judge(self, number: str, pending: Pending, answer: tuple[bool, Any], connection: Connection) -> Outcome:
        elapsed = (time.monotonic() - pending.sent) * 1000
        if answer[0]:
            return Outcome(True, answer[1], elapsed)
        self._pending.pop(number, None)
        if connection.closed.done():
            return Outcome(False, ms=elapsed, error="disconnected")
        self._late[number] = pending
        while len(self._late) > 2000:
            self._late.popitem(last=False)
        limit = self.workspace.limits.ack_seconds
        if not connection.deaf:  # else the app never heard of it
            self.workspace.violation("late_ack", f"{pending.what} was not acknowledged within {limit:g} s")
        return Outcome(False, ms=elapsed, error="operation_timeout")

    def kill(self) -> int:
        """Cut every connection without a goodbye; how many there were."""
        doomed = list(self.connections)
        for connection in doomed:
            connection.kill()
        return len(doomed)

    async def disconnect(self, reason: str = "refresh_requested") -> int:
        """Ask every connection to be replaced; Slack closes it from its side when it feels like it."""
        asked = list(self.connections)
        for connection in asked:
            await connection.send(_disconnect(reason))
        return len(asked)

    async def close(self) -> None:
        for connection in list(self.connections):
            if connection.deaf:
                connection.kill()
                continue
            with contextlib.suppress(ConnectionError, RuntimeError):
                await connection.socket.close()


def _disconnect(reason: str) -> Json:
    return {"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}}
