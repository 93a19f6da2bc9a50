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
    socket: web.WebSocketResponse
    request: web.Request
    closed: asyncio.Future[None]

    async def send(self, envelope: Json) -> bool:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self.socket.send_str(json.dumps(envelope))
            return True
        return False

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
    """The app's open connections; each envelope goes to one of them."""

    name = "socket"

    def __init__(self, workspace: Workspace, faults: FaultPlan) -> None:
        self.workspace = workspace
        self.faults = faults
        self.tickets: set[str] = set()
        self.connections: list[Connection] = []
        self.connected = asyncio.Event()
        self._pending: dict[str, Pending] = {}
        self._done: OrderedDict[str, str] = OrderedDict()
        self._late: OrderedDict[str, Pending] = OrderedDict()

    def issue(self) -> str:
        """A ticket for one connection."""
        ticket = secrets.token_urlsafe(24)
        self.tickets.add(ticket)
        return ticket

    async def handle(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self.tickets:
            return web.json_response({"ok": False, "error": "invalid_ticket"}, status=403)
        self.tickets.discard(ticket)
        socket = web.WebSocketResponse(autoping=True, timeout=0.5)
        await socket.prepare(request)
        connection = Connection(socket, request, asyncio.get_running_loop().create_future())
        if len(self.connections) >= self.workspace.limits.connections:
            await connection.send({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        self.connections.append(connection)
        self.connected.set()
        self.workspace.touch("connections")
        await connection.send(
            {
                "type": "hello",
                "num_connections": len(self.connections),
                "connection_info": {"app_id": self.workspace.app.id},
                "debug_info": {
                    "host": "sandbox",
                    "build_number": 1,
                    "approximate_connection_time": 18060,
                },
            }
        )
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._receive(message.data)
        finally:
            self._gone(connection)
        return socket

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
        connection = self.faults.random.choice(self.connections)
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
            await connection.send({"type": "disconnect", "reason": reason, "debug_info": {"host": "sandbox"}})
        return len(asked)

    async def close(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(ConnectionError, RuntimeError):
                await connection.socket.close()
