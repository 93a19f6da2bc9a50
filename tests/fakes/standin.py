"""What stand-ins of issue trackers share: a real server on a local port, faults on demand, a log of requests."""

import asyncio
import email
import json
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

TEXT = {"type": "string", "minLength": 1}


@dataclass
class Fault:
    """What befalls the next request to a path that holds *path*. *lost*: it is done, and nobody is told."""

    path: str
    method: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    lost: bool = False


@dataclass
class Call:
    """One request, and what it was answered with; 0 where the answer was lost."""

    method: str
    path: str
    body: Any
    status: int


class Standin:
    """The part that is the same for all. With *down*, everything is answered with 503."""

    token = "a-token-of-the-tests"

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.down = False
        self.revoked = False

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    def allowed(self, request: web.Request) -> bool:
        raise NotImplementedError

    async def start(self) -> "Standin":
        app = web.Application(middlewares=[self._around], client_max_size=32 * 1024**2)
        app.add_routes(self.routes())
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        return self

    async def stop(self) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/")).rstrip("/")

    def fault(self, path: str, **more: Any) -> None:
        self.faults.append(Fault(path, **more))

    def made(self, method: str, part: str = "") -> list[Call]:
        """The requests that were answered well, or whose answer was lost."""
        return [one for one in self.calls if one.method == method and part in one.path and one.status < 300]

    @property
    def refused(self) -> list[Call]:
        return [one for one in self.calls if 400 <= one.status < 500]

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw
        call = Call(request.method, request.path_qs, body, 0)
        self.calls.append(call)
        fault = next((f for f in self.faults if f.path in request.path and f.method in ("", request.method)), None)
        if fault is not None:
            self.faults.remove(fault)
            await asyncio.sleep(fault.seconds)
            if fault.lost:
                await handler(request)
                request.transport.close()
                return web.Response()
            if fault.status:
                call.status = fault.status
                return web.Response(status=fault.status, headers=fault.headers)
        try:
            if self.down:
                raise web.HTTPServiceUnavailable
            if self.revoked or not self.allowed(request):
                raise web.HTTPUnauthorized(text='{"error": "the credentials are not good"}')
            answer = await handler(request)
        except web.HTTPException as error:
            call.status = error.status
            raise
        call.status = answer.status
        return answer


async def read(request: web.Request, schema: dict[str, Any]) -> Any:
    """The body, if it is what the documentation allows."""
    try:
        found = await request.json()
        jsonschema.validate(found, schema)
    except ValueError:
        raise no(400, "the body is not JSON") from None
    except jsonschema.ValidationError as error:
        raise no(400, f"{'/'.join(map(str, error.path))}: {error.message}") from None
    return found


def no(status: int, why: str) -> web.HTTPException:
    kinds = {400: web.HTTPBadRequest, 403: web.HTTPForbidden, 404: web.HTTPNotFound, 422: web.HTTPUnprocessableEntity}
    return kinds[status](text=json.dumps({"errorMessages": [why]}), content_type="application/json")


def shape(properties: dict[str, Any], *required: str, more: bool = False) -> dict[str, Any]:
    """An object of exactly these keys."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": more}


def upload(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Name and content of the one file in a multipart body."""
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parts = message.get_payload()
    if (
        not message.is_multipart()
        or len(parts) != 1
        or parts[0].get_param("name", header="content-disposition") != "file"
    ):
        raise no(400, "one part is wanted, and it must be called file")
    return parts[0].get_filename(), parts[0].get_payload(decode=True)
