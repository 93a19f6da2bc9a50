"""A server on a local port that keeps what it is sent, and answers as a test plans."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class Got:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """*answers* are the next ones: a status, a whole response, or ``lost`` (taken, and the connection is cut)."""

    answers: list[Any] = field(default_factory=list)
    got: list[Got] = field(default_factory=list)
    usual: Any = 200
    slow: float = 0

    async def __aenter__(self) -> "Receiver":
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self._take)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        self.url = str(self._server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Got(request.method, request.path, dict(request.query), headers, await request.read())
        self.got.append(got)
        if self.slow:
            await asyncio.sleep(self.slow)
        answer = self.answers.pop(0) if self.answers else self.usual
        if callable(answer):
            answer = answer(got)
        if answer == "lost":
            request.transport.close()
            return web.Response()
        return answer if isinstance(answer, web.StreamResponse) else web.Response(status=answer)
