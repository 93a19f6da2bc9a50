"""A Grafana of our own on a local port: it keeps annotations, and refuses what its documentation does not allow."""

from dataclasses import dataclass, field
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

TEXT = {"type": "string", "minLength": 1}
TIMES = {"time": {"type": "integer", "minimum": 10**12}, "timeEnd": {"type": "integer", "minimum": 10**12}}
ANNOTATION = {
    "type": "object",
    "properties": {
        **TIMES,
        "text": TEXT,
        "tags": {"type": "array", "items": {**TEXT, "maxLength": 100}},
        "dashboardUID": TEXT,
        "panelId": {"type": "integer"},
    },
    "required": ["text"],
    "additionalProperties": False,
}
PATCH = {**ANNOTATION, "required": [], "minProperties": 1}


@dataclass
class GrafanaServer:
    """*answers* are the next ones: a status before anything is done, or ``lost`` once it is."""

    token: str
    answers: list[Any] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "GrafanaServer":
        app = web.Application()
        app.router.add_get("/api/annotations", self._find)
        app.router.add_post("/api/annotations", self._make)
        app.router.add_patch("/api/annotations/{id}", self._patch)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        self.url = str(self._server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.calls.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"message": "Invalid API key"}, status=401)
        if self.answers and self.answers[0] != "lost":
            return web.json_response({"message": "as planned"}, status=self.answers.pop(0))
        return None

    def _lost(self, request: web.Request) -> None:
        if self.answers and self.answers[0] == "lost":
            self.answers.pop(0)
            request.transport.close()

    async def _find(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        wanted = set(request.query.getall("tags", []))
        return web.json_response([one for one in self.annotations if wanted <= set(one["tags"])])

    async def _make(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        content = await request.json()
        if wrong := _wrong(content, ANNOTATION):
            return wrong
        self.annotations.append({"id": len(self.annotations) + 1, "tags": [], **content})
        self._lost(request)
        return web.json_response({"message": "Annotation added", "id": len(self.annotations)})

    async def _patch(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        content = await request.json()
        if wrong := _wrong(content, PATCH):
            return wrong
        self.annotations[int(request.match_info["id"]) - 1].update(content)
        self._lost(request)
        return web.json_response({"message": "Annotation patched"})


def _wrong(content: Any, schema: dict[str, Any]) -> web.Response | None:
    try:
        jsonschema.validate(content, schema)
    except jsonschema.ValidationError as error:
        return web.json_response({"message": error.message}, status=400)
    return None
