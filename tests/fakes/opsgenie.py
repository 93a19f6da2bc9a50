"""An Opsgenie of our own on a local port, and a Jira Service Management: they keep alerts, and refuse what the
vendor's documentation does not allow. Requests are carried out a look later.
"""

import base64
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

TEXT = {"type": "string", "minLength": 1}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
SAID = {"note": {**TEXT, "maxLength": 25_000}, "source": {**TEXT, "maxLength": 100}, "user": {**TEXT, "maxLength": 100}}


def alert(more: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "message": {**TEXT, "maxLength": 130},
            "alias": {**TEXT, "maxLength": 512},
            "description": {"type": "string", "maxLength": 15_000},
            "entity": {**TEXT, "maxLength": 512},
            "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
            "source": {**TEXT, "maxLength": 100},
            "tags": {"type": "array", "maxItems": 20, "items": {**TEXT, "maxLength": 50}},
            more: STRINGS,
        },
        "required": ["message"],
        "additionalProperties": False,
    }


ACTIONS = {
    "acknowledge": {"properties": SAID},
    "close": {"properties": SAID},
    "notes": {"properties": SAID, "required": ["note"]},
    "escalate": {
        "properties": {
            **SAID,
            "escalation": {
                "type": "object",
                "properties": {"name": TEXT},
                "additionalProperties": False,
                "minProperties": 1,
            },
        },
        "required": ["escalation"],
    },
    "responders": {
        "properties": {
            **SAID,
            "responder": {
                "type": "object",
                "properties": {
                    "type": {"enum": ["user", "team", "escalation", "schedule"]},
                    "username": TEXT,
                    "id": TEXT,
                },
                "required": ["type"],
                "additionalProperties": False,
            },
        },
        "required": ["responder"],
    },
}


@dataclass
class OpsgenieServer:
    """*refuses* is what the next requests answer when they are carried out; *statuses* are HTTP answers of the next."""

    key: str
    cloud_id: str | None = None
    user: str | None = None
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    never_done: bool = False
    calls: list[str] = field(default_factory=list)

    async def __aenter__(self) -> "OpsgenieServer":
        app = web.Application()
        base = f"/jsm/ops/api/{self.cloud_id}/v1/alerts" if self.cloud_id else "/v2/alerts"
        app.router.add_post(base, self._create)
        app.router.add_get(base + "/requests/{id}", self._request)
        if self.cloud_id:
            app.router.add_get(base + "/alias", self._alias)
        app.router.add_post(base + "/{alert}/{action}", self._act)
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        self.url = str(self._server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.calls.append(f"{request.method} {request.path.rsplit('alerts', 1)[1]}")
        if self.statuses:
            return web.json_response({"message": "as planned"}, status=self.statuses.pop(0))
        pair = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        wanted = f"Basic {pair}" if self.cloud_id else f"GenieKey {self.key}"
        if request.headers.get("Authorization") != wanted:
            return web.json_response({"message": "Could not authenticate"}, status=401)
        return None

    def _taken(self, done: dict[str, Any]) -> web.Response:
        id_ = f"req-{len(self.requests) + 1}"
        self.requests[id_] = {"looks": 0, "data": done}
        return web.json_response({"result": "Request will be processed", "took": 0.1, "requestId": id_}, status=202)

    def _outcome(self, alert: dict[str, Any] | None) -> dict[str, Any]:
        if self.refuses:
            return {"isSuccess": False, "success": False, "status": self.refuses.pop(0), "alertId": ""}
        if alert is None:
            return {"isSuccess": False, "success": False, "status": "Alert does not exist", "alertId": ""}
        return {"isSuccess": True, "success": True, "status": "done", "alertId": alert["id"], "alias": alert["alias"]}

    async def _create(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        content = await request.json()
        if wrong := _wrong(content, alert("extraProperties" if self.cloud_id else "details")):
            return wrong
        found = self.alerts.get(content["alias"])
        if not self.refuses:
            if found is not None and found["status"] == "open":
                found["count"] += 1
            else:
                id_ = f"alert-{len(self.alerts) + 1}"
                found = {"id": id_, "status": "open", "count": 1, "acknowledged": False, "notes": [], **content}
                self.alerts[content["alias"]] = found
        return self._taken(self._outcome(found))

    async def _act(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        action, named = request.match_info["action"], request.match_info["alert"]
        if self.cloud_id is None and request.query.get("identifierType") != "alias":
            return web.json_response({"message": "identifierType must be alias here"}, status=422)
        if action not in ACTIONS:
            return web.json_response({"message": "no such action"}, status=404)
        content = await request.json()
        if wrong := _wrong(content, {"type": "object", "additionalProperties": False, **ACTIONS[action]}):
            return wrong
        by = "id" if self.cloud_id else "alias"
        found = next((one for one in self.alerts.values() if one[by] == named), None)
        if found is not None and not self.refuses:
            match action:
                case "acknowledge":
                    found["acknowledged"] = True
                case "close":
                    found["status"] = "closed"
                case "notes":
                    found["notes"].append(content["note"])
                case _:
                    found[action] = content
        return self._taken(self._outcome(found))

    async def _request(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        found = self.requests[request.match_info["id"]]
        found["looks"] += 1
        if found["looks"] < 2 or self.never_done:
            return web.json_response({"message": "Request not found. It might not be processed, yet."}, status=404)
        data = found["data"]
        return web.json_response(data if self.cloud_id else {"data": data, "took": 0.1, "requestId": "x"})

    async def _alias(self, request: web.Request) -> web.Response:
        if refused := self._refusal(request):
            return refused
        found = self.alerts.get(request.query["alias"])
        return web.json_response(found) if found else web.json_response({"message": "not found"}, status=404)


def _wrong(content: Any, schema: dict[str, Any]) -> web.Response | None:
    try:
        jsonschema.validate(content, schema)
    except jsonschema.ValidationError as error:
        return web.json_response({"message": error.message}, status=422)
    return None
