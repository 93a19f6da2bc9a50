"""What stands between a client and another system: it keeps every byte that is sent, or answers with all of them."""

import asyncio
import contextlib

from bot.kit.tasks import spawn


class Tap:
    """A local port that passes everything on to *port*, and keeps what the client says."""

    def __init__(self, port: int) -> None:
        self.behind = port
        self.sent = bytearray()

    async def __aenter__(self) -> "Tap":
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def text(self) -> str:
        return self.sent.decode(errors="replace")

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.behind)
        answers = spawn(self._copy(there, writer), name="tap")
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                self.sent += piece
                back.write(piece)
                await back.drain()
        back.close()
        await answers

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()


class Echo:
    """A server of HTTP that answers each request with *status*, and says all that it was sent: headers, keys and all.

    As a debugging proxy or a web server's error page would.
    """

    def __init__(self, status: int) -> None:
        self.status = status
        self.heard: list[bytes] = []

    async def __aenter__(self) -> "Echo":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            lines = [line.partition(b":") for line in head.split(b"\r\n")]
            lengths = [int(value) for name, _, value in lines if name.lower() == b"content-length"]
            body = await reader.readexactly(lengths[0]) if lengths else b""
            self.heard.append(head + body)
            said = head + body
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Type: text/plain\r\nLocation: /\r\nRetry-After: 1\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (self.status, len(said)) + said
            )
            await writer.drain()
        writer.close()
