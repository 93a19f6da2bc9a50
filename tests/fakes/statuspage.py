"""A Statuspage of our own on a local port: it keeps incidents with their updates, and refuses what the vendor would."""

from dataclasses import dataclass, field
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

TEXT = {"type": "string", "minLength": 1}
COMPONENT = {"enum": ["operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"]}
INCIDENT = {
    "type": "object",
    "properties": {
        "incident": {
            "type": "object",
            "properties": {
                "name": {**TEXT, "maxLength": 255},
                "status": {"enum": ["investigating", "identified", "monitoring", "resolved"]},
                "body": {**TEXT, "maxLength": 25_000},
                "deliver_notifications": {"type": "boolean"},
                "metadata": {"type": "object", "additionalProperties": {"type": "object"}},
                "components": {"type": "object", "additionalProperties": COMPONENT},
                "component_ids": {"type": "array", "items": TEXT},
            },
            "additionalProperties": False,
        }
    },
    "required": ["incident"],
    "additionalProperties": False,
}


@dataclass
class StatuspageServer:
    """*answers* are the next ones: a status before anything is done, or ``lost`` once it is."""

    key: str
    page: str
    components: dict[str, str] = field(default_factory=dict)
    answers: list[Any] = field(default_factory=list)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "StatuspageServer":
        app = web.Application()
        base = f"/v1/pages/{self.page}/incidents"
        app.router.add_get(base, self._list)
        app.router.add_post(base, self._write)
        app.router.add_patch(base + "/{id}", self._write)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        self.url = str(self._server.make_url("/v1"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.calls.append(f"{request.method} {request.path}")
        if request.headers.get("Authorization") != f"OAuth {self.key}":
            return web.json_response({"error": "Could not authenticate"}, status=401)
        if self.answers and self.answers[0] != "lost":
            return web.json_response({"error": "as planned"}, status=self.answers.pop(0))
        return None

    async def _list(self, request: web.Request) -> web.Response:
        return self._refusal(request) or web.json_response(self.incidents[::-1][: int(request.query["limit"])])

    async def _write(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        content = await request.json()
        try:
            jsonschema.validate(content, INCIDENT)
        except jsonschema.ValidationError as error:
            return web.json_response({"error": error.message}, status=422)
        given = content["incident"]
        if unknown := set(given.get("components", ())) - set(self.components):
            return web.json_response({"error": f"no component {sorted(unknown)}"}, status=422)
        id_ = request.match_info.get("id")
        if id_ is None:
            if "name" not in given:
                return web.json_response({"error": "name can't be blank"}, status=422)
            id_ = f"p{len(self.incidents) + 1}"
            self.incidents.append({"id": id_, "updates": [], "shortlink": f"https://stspg.example.com/{id_}"})
        found = next(one for one in self.incidents if one["id"] == id_)
        found.update({name: value for name, value in given.items() if name != "body"})
        found["updates"].append({"status": given["status"], "body": given["body"]})
        self.components.update(given.get("components", {}))
        if self.answers and self.answers[0] == "lost":
            self.answers.pop(0)
            request.transport.close()
        return web.json_response(found, status=201 if request.method == "POST" else 200)
