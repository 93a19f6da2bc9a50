"""A PagerDuty of our own on a local port: it keeps state, and refuses what the vendor's documentation does not allow.

It also tells what happens to its incidents, by signed webhooks, and lets people do there what they do.

Sources: https://developer.pagerduty.com/docs/send-alert-event, …/send-change-event, …/webhooks-overview and the
reference of the REST API.
"""

import asyncio
import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiohttp
import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

TEXT = {"type": "string", "minLength": 1}
LINKS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"href": {"type": "string", "pattern": "^https?://"}, "text": TEXT},
        "required": ["href"],
        "additionalProperties": False,
    },
}
PAYLOAD = {
    "type": "object",
    "properties": {
        "summary": {**TEXT, "maxLength": 1024},
        "source": TEXT,
        "severity": {"enum": ["critical", "error", "warning", "info"]},
        "timestamp": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"},
        **dict.fromkeys(("component", "group", "class"), TEXT),
        "custom_details": {"type": "object"},
    },
    "required": ["summary", "source", "severity"],
    "additionalProperties": False,
}
ALERT = {
    "type": "object",
    "properties": {
        "routing_key": TEXT,
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": {**TEXT, "maxLength": 255},
        "payload": PAYLOAD,
        "client": TEXT,
        "client_url": {"type": "string", "pattern": "^https?://"},
        "links": LINKS,
    },
    "required": ["routing_key", "event_action"],
    "additionalProperties": False,
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"required": ["dedup_key"], "maxProperties": 3},
}
CHANGE = {
    "type": "object",
    "properties": {
        "routing_key": TEXT,
        "payload": {**PAYLOAD, "required": ["summary"]},
        "links": LINKS,
    },
    "required": ["routing_key", "payload"],
    "additionalProperties": False,
}
NOTE = {
    "type": "object",
    "properties": {
        "note": {
            "type": "object",
            "properties": {"content": {**TEXT, "maxLength": 65_535}},
            "required": ["content"],
            "additionalProperties": False,
        }
    },
    "required": ["note"],
    "additionalProperties": False,
}
UPDATE = {
    "type": "object",
    "properties": {
        "incident": {
            "type": "object",
            "properties": {
                "type": {"enum": ["incident", "incident_reference"]},
                "status": {"enum": ["resolved", "acknowledged"]},
                "escalation_level": {"type": "integer", "minimum": 1},
                "priority": {
                    "type": "object",
                    "properties": {"id": TEXT, "type": {"enum": ["priority", "priority_reference"]}},
                    "required": ["id", "type"],
                    "additionalProperties": False,
                },
            },
            "required": ["type"],
            "additionalProperties": False,
        }
    },
    "required": ["incident"],
    "additionalProperties": False,
}
REQUEST = {
    "type": "object",
    "properties": {
        "requester_id": {"type": "string", "pattern": "^P[A-Z0-9]+$"},
        "message": TEXT,
        "responder_request_targets": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "responder_request_target": {
                        "type": "object",
                        "properties": {
                            "id": TEXT,
                            "type": {"enum": ["user_reference", "escalation_policy_reference"]},
                        },
                        "required": ["id", "type"],
                        "additionalProperties": False,
                    }
                },
                "required": ["responder_request_target"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["requester_id", "message", "responder_request_targets"],
    "additionalProperties": False,
}
STATUS_UPDATE = {
    "type": "object",
    "properties": {"message": TEXT, "subject": TEXT, "html_message": TEXT},
    "required": ["message"],
    "additionalProperties": False,
}
QUERIES = {
    "/escalation_policies": {"query", "limit", "offset"},
    "/incidents": {"incident_key", "statuses[]", "date_range", "since", "until", "sort_by", "limit", "offset"},
    "/users": {"query", "limit", "offset"},
    "/oncalls": {"escalation_policy_ids[]", "user_ids[]", "schedule_ids[]", "limit", "offset"},
}


def reference(kind: str, id_: str, summary: str) -> dict[str, str]:
    return {"id": id_, "type": f"{kind}_reference", "summary": summary}


@dataclass
class Incident:
    id: str
    number: int
    dedup_key: str
    routing_key: str
    title: str
    status: str = "triggered"
    level: int = 1
    triggers: int = 1
    looks: int = 0
    notes: list[dict[str, Any]] = field(default_factory=list)
    responders: list[dict[str, Any]] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    acks: list[str] = field(default_factory=list)
    priority: str | None = None
    assignee: str | None = None


@dataclass
class Hook:
    """A webhook subscription. *tries* is how often an event is sent until it is taken; more than one secret signs."""

    url: str
    secrets: list[str]
    tries: int = 5
    wait: float = 0.05


@dataclass
class Fault:
    """What befalls the next request to a path that begins with *path*. *lost*: it is done, and nobody is told."""

    path: str
    method: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    body: bytes = b""
    lost: bool = False
    endless: bool = False


class PagerDutyServer:
    """Events at `/v2/…`, the REST API beside it. *lag* is how many looks an event needs until it shows."""

    def __init__(self) -> None:
        self.services = {"r" * 32: "checkout", "s" * 32: "search"}
        self.token = "t" * 20
        self.users = {
            "PALICE": "alice@example.com",
            "PBOB": "bob@example.com",
            "PCAROL": "carol@example.com",
            "PBOT": "bot@example.com",
        }
        self.oncall = {1: "PALICE", 2: "PBOB", 3: "PCAROL"}
        self.incidents: list[Incident] = []
        self.changes: list[dict[str, Any]] = []
        self.seen: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.faults: list[Fault] = []
        self.lag = 0
        self.read_only = False
        self.down = False
        self.limited = False
        self.slow = 0.0
        self.priorities: dict[str, str] = {"PPRIO1": "P1", "PPRIO2": "P2", "PPRIO3": "P3"}
        self.policies: dict[str, str] = {"PPOLICY": "Everybody", "PDATABASE": "Database"}
        self.hooks: list[Hook] = []
        self.told: list[tuple[str, int]] = []
        self.sent: list[dict[str, Any]] = []
        self.log: list[str] = []
        self._telling: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    async def start(self) -> "PagerDutyServer":
        app = web.Application(middlewares=[self._around])
        app.add_routes(
            [
                web.post("/v2/enqueue", self._enqueue),
                web.post("/v2/change/enqueue", self._change),
                web.get("/incidents", self._list),
                web.get("/incidents/{id}", self._get),
                web.put("/incidents/{id}", self._update),
                web.get("/incidents/{id}/notes", self._notes),
                web.post("/incidents/{id}/notes", self._note),
                web.post("/incidents/{id}/responder_requests", self._request),
                web.post("/incidents/{id}/status_updates", self._status_update),
                web.get("/priorities", self._priorities),
                web.get("/abilities", self._abilities),
                web.get("/escalation_policies", self._policies),
                web.get("/users", self._users),
                web.get("/users/{id}", self._user),
                web.get("/oncalls", self._oncalls),
            ]
        )
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        return self

    async def stop(self) -> None:
        for task in self._telling:
            task.cancel()
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/")).rstrip("/")

    def fault(self, path: str, **more: Any) -> None:
        self.faults.append(Fault(path, **more))

    def paths(self, method: str = "POST") -> list[str]:
        return [path for made, path in self.seen if made == method]

    # -- every request ----------------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        if self.down:
            request.transport.close()
            return web.Response()
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.limited:
            self.log.append(f"{request.method} {request.path} 429")
            return web.Response(status=429, headers={"ratelimit-reset": "1"})
        fault = next(
            (f for f in self.faults if request.path.startswith(f.path) and f.method in ("", request.method)), None
        )
        if fault is not None:
            self.faults.remove(fault)
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            if fault.endless:
                return await self._without_end(request)
            if fault.lost:
                await handler(request)
                request.transport.close()
                return web.Response()
            if fault.status:
                return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        try:
            if not request.path.startswith("/v2/"):
                self._rest(request)
            answer = await handler(request)
            self.log.append(f"{request.method} {request.path} {answer.status}")
            return answer
        except web.HTTPException as refused:
            self.log.append(f"{request.method} {request.path} {refused.status}")
            self.refused.append(f"{request.method} {request.path}: {refused.status} {refused.text}")
            raise

    async def _without_end(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" " * 65536)

    def _rest(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Token token={self.token}":
            raise self._no(web.HTTPUnauthorized, 2006, "Authentication failed")
        if request.headers.get("Accept") != "application/vnd.pagerduty+json;version=2":
            raise self._no(web.HTTPNotAcceptable, 2005, "Unsupported version")
        if unknown := set(request.query) - QUERIES.get(request.path, set()):
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", f"{unknown} is not known")
        if request.method in ("POST", "PUT"):
            if request.content_type != "application/json":
                raise self._no(web.HTTPUnsupportedMediaType, 2001, "Content-Type must be application/json")
            if request.headers.get("From") not in self.users.values():
                raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "From header is not a user")
            if self.read_only:
                raise self._no(web.HTTPForbidden, 2010, "Access Denied")

    def _no(self, kind: type[web.HTTPError], code: int, message: str, *errors: str) -> web.HTTPError:
        error = {"code": code, "message": message, "errors": list(errors)}
        return kind(text=json.dumps({"error": error}), content_type="application/json")

    async def _body(self, request: web.Request, schema: dict[str, Any], *, event: bool = False) -> dict[str, Any]:
        try:
            body = await request.json()
            jsonschema.validate(body, schema)
        except (ValueError, jsonschema.ValidationError) as error:
            told = error.message if isinstance(error, jsonschema.ValidationError) else "JSON parse error"
            if event:
                raise self._event_no(told) from None
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", told) from None
        return body

    def _event_no(self, told: str) -> web.HTTPError:
        said = {"status": "invalid event", "message": "Event object is invalid", "errors": [told]}
        return web.HTTPBadRequest(text=json.dumps(said), content_type="application/json")

    # -- events -----------------------------------------------------------------------------------------------------

    async def _event(self, request: web.Request, schema: dict[str, Any]) -> dict[str, Any]:
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
        body = await self._body(request, schema, event=True)
        if body["routing_key"] not in self.services:
            raise self._event_no(f"Invalid routing key {body['routing_key']}")
        return body

    async def _enqueue(self, request: web.Request) -> web.Response:
        body = await self._event(request, ALERT)
        key, route = body.get("dedup_key") or f"made-{len(self.incidents)}", body["routing_key"]
        open_ = next(
            (i for i in self.incidents if (i.dedup_key, i.routing_key) == (key, route) and i.status != "resolved"), None
        )
        match body["event_action"]:
            case "trigger" if open_ is None:
                number = len(self.incidents) + 1
                made = Incident(f"PINC{number}", number, key, route, body["payload"]["summary"])
                self.incidents.append(made)
                self.tell(made, "triggered", None)
            case "trigger":
                open_.triggers += 1
            case action if open_ is not None and open_.status != f"{action}d":
                open_.status = f"{action}d"
                integration = reference("events_api_v2_inbound_integration", "PINTEGRATION", "Tocsin")
                self.tell(open_, open_.status, integration)
        for incident in self.incidents:
            incident.looks = 0
        return web.json_response({"status": "success", "message": "Event processed", "dedup_key": key}, status=202)

    async def _change(self, request: web.Request) -> web.Response:
        self.changes.append(await self._event(request, CHANGE))
        return web.json_response({"status": "success", "message": "Change event processed"}, status=202)

    # -- the REST API -----------------------------------------------------------------------------------------------

    def _find(self, request: web.Request) -> Incident:
        for incident in self.incidents:
            if incident.id == request.match_info["id"]:
                return incident
        raise self._no(web.HTTPNotFound, 2100, "Not Found")

    def _shown(self, incident: Incident) -> dict[str, Any]:
        who = incident.assignee or self.oncall.get(incident.level)
        return {
            **reference("incident", incident.id, f"[#{incident.number}] {incident.title}"),
            "type": "incident",
            "incident_number": incident.number,
            "title": incident.title,
            "status": incident.status,
            "service": reference("service", "PSVC", self.services[incident.routing_key]),
            "escalation_policy": reference("escalation_policy", "PPOLICY", "Everybody"),
            "assignments": []
            if incident.status == "resolved" or who is None
            else [{"at": "2026-01-01T00:00:00Z", "assignee": reference("user", who, self.users[who])}],
            "incidents_responders": incident.responders,
            "html_url": f"https://example.pagerduty.com/incidents/{incident.id}",
            "priority": self._priority(incident),
            "acknowledgements": [
                {"at": "2026-01-01T00:00:00Z", "acknowledger": reference("user", who, self.users[who])}
                for who in incident.acks
            ],
        }

    def _priority(self, incident: Incident) -> dict[str, str] | None:
        if incident.priority is None:
            return None
        return {**reference("priority", incident.priority, self.priorities[incident.priority]), "type": "priority"}

    async def _list(self, request: web.Request) -> web.Response:
        key, statuses = request.query.get("incident_key"), request.query.getall("statuses[]", [])
        if set(statuses) - {"triggered", "acknowledged", "resolved"}:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "statuses[]")
        found = []
        for incident in self.incidents:
            incident.looks += 1
            if incident.looks > self.lag and key in (None, incident.dedup_key) and incident.status in statuses:
                found.append(self._shown(incident))
        return web.json_response({"incidents": found[::-1], "limit": 25, "offset": 0, "more": False, "total": None})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response({"incident": self._shown(self._find(request))})

    async def _update(self, request: web.Request) -> web.Response:
        incident = self._find(request)
        change = (await self._body(request, UPDATE))["incident"]
        level, agent = change.get("escalation_level", incident.level), self._agent(request)
        if level not in self.oncall:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "Escalation level is not valid")
        if (priority := change.get("priority")) is not None:
            if priority["id"] not in self.priorities:
                raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "Priority is not valid")
            incident.priority = priority["id"]
            self.tell(incident, "priority_updated", agent)
        if level != incident.level:
            incident.level, incident.assignee = level, None
            self.tell(incident, "escalated", agent)
        if change.get("status", incident.status) != incident.status:
            incident.status = change["status"]
            self.tell(incident, incident.status, agent)
        return web.json_response({"incident": self._shown(incident)})

    async def _notes(self, request: web.Request) -> web.Response:
        return web.json_response({"notes": self._find(request).notes})

    async def _note(self, request: web.Request) -> web.Response:
        incident = self._find(request)
        content = (await self._body(request, NOTE))["note"]["content"]
        note = {"id": f"PNOTE{len(incident.notes) + 1}", "content": content, "created_at": "2026-01-01T00:00:00Z"}
        incident.notes.append(note)
        self.tell(incident, "annotated", self._agent(request), {"type": "incident_note", "content": content})
        return web.json_response({"note": note}, status=201)

    async def _request(self, request: web.Request) -> web.Response:
        incident = self._find(request)
        body = await self._body(request, REQUEST)
        if self.users.get(body["requester_id"]) != request.headers["From"]:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "Requester is not valid")
        for target in body["responder_request_targets"]:
            who = target["responder_request_target"]["id"]
            if who not in (self.users | self.policies):
                raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "Target is not valid")
            asked = self._responder(who)
            incident.responders.append({"state": "pending", **asked, "message": body["message"]})
            about = {"type": "incident_responder", "state": "pending", **asked, "message": body["message"]}
            self.tell(incident, "responder.added", self._agent(request), about)
        return web.json_response({"responder_request": {"message": body["message"]}})

    async def _status_update(self, request: web.Request) -> web.Response:
        incident = self._find(request)
        message = (await self._body(request, STATUS_UPDATE))["message"]
        incident.updates.append(message)
        about = {"type": "incident_status_update", "message": message, "trimmed": False}
        self.tell(incident, "status_update_published", self._agent(request), about)
        update = {"id": f"PUPDATE{len(incident.updates)}", "message": message, "created_at": "2026-01-01T00:00:00Z"}
        return web.json_response({"status_update": update})

    async def _abilities(self, request: web.Request) -> web.Response:
        return web.json_response({"abilities": ["teams", "priorities"]})

    async def _priorities(self, request: web.Request) -> web.Response:
        found = [
            {"id": id_, "type": "priority", "name": name, "summary": name} for id_, name in self.priorities.items()
        ]
        return web.json_response({"priorities": found, "more": False})

    async def _policies(self, request: web.Request) -> web.Response:
        asked = request.query.get("query", "").lower()
        found = [
            {**reference("escalation_policy", id_, name), "type": "escalation_policy", "name": name}
            for id_, name in self.policies.items()
            if asked in name.lower()
        ]
        return web.json_response({"escalation_policies": found, "more": False})

    async def _user(self, request: web.Request) -> web.Response:
        mail = self.users.get(request.match_info["id"])
        if mail is None:
            raise self._no(web.HTTPNotFound, 2100, "Not Found")
        found = {**reference("user", request.match_info["id"], mail), "type": "user", "email": mail}
        return web.json_response({"user": found})

    async def _users(self, request: web.Request) -> web.Response:
        asked = request.query.get("query", "")
        found = [
            {**reference("user", id_, mail), "type": "user", "email": mail, "name": mail.partition("@")[0]}
            for id_, mail in self.users.items()
            if asked.partition("@")[0][:2].lower() in mail  # its search is generous
        ]
        return web.json_response({"users": found, "more": False})

    async def _oncalls(self, request: web.Request) -> web.Response:
        found = [
            {
                "escalation_policy": reference("escalation_policy", "PPOLICY", "Everybody"),
                "escalation_level": level,
                "user": reference("user", who, self.users[who]),
                "schedule": None,
                "start": None,
                "end": None,
            }
            for level, who in self.oncall.items()
        ]
        return web.json_response({"oncalls": found, "more": False})

    # -- people do something ------------------------------------------------------------------------------------------

    def acknowledge(self, incident: Incident, who: str) -> None:
        incident.status = "acknowledged"
        incident.acks.append(who)
        self.tell(incident, "acknowledged", self.person(who))

    def unacknowledge(self, incident: Incident) -> None:
        """By itself, when an acknowledgement has grown old."""
        incident.status = "triggered"
        incident.acks.clear()
        self.tell(incident, "unacknowledged", reference("service", "PSVC", "checkout"))

    def resolve(self, incident: Incident, who: str) -> None:
        incident.status = "resolved"
        self.tell(incident, "resolved", self.person(who))

    def reopen(self, incident: Incident, who: str) -> None:
        incident.status = "triggered"
        self.tell(incident, "reopened", self.person(who))

    def escalate(self, incident: Incident, who: str) -> None:
        incident.level += 1
        self.tell(incident, "escalated", self.person(who))

    def reassign(self, incident: Incident, who: str, to: str) -> None:
        incident.assignee = to
        self.tell(incident, "reassigned", self.person(who))

    def note(self, incident: Incident, who: str, text: str) -> None:
        self.tell(incident, "annotated", self.person(who), {"type": "incident_note", "content": text})

    def reply(self, incident: Incident, who: str, state: str = "accepted") -> None:
        about = {"type": "incident_responder", "state": state, "user": self.person(who), "message": ""}
        self.tell(incident, "responder.replied", self.person(who), about)

    def prioritise(self, incident: Incident, who: str, priority: str) -> None:
        incident.priority = priority
        self.tell(incident, "priority_updated", self.person(who))

    def raised(self, title: str, who: str = "PALICE") -> Incident:
        """Somebody, or another integration, makes an incident that is none of the bot's."""
        number = len(self.incidents) + 1
        made = Incident(f"PINC{number}", number, f"foreign-{number}", "r" * 32, title)
        self.incidents.append(made)
        self.tell(made, "triggered", self.person(who))
        return made

    def person(self, who: str) -> dict[str, str]:
        return reference("user", who, self.users[who].partition("@")[0].title())

    def _agent(self, request: web.Request) -> dict[str, str] | None:
        mail = request.headers.get("From")
        return next((self.person(who) for who, address in self.users.items() if address == mail), None)

    def _responder(self, who: str) -> dict[str, Any]:
        if who in self.users:
            return {"user": self.person(who)}
        return {"escalation_policy": reference("escalation_policy", who, self.policies[who])}

    # -- what is told -------------------------------------------------------------------------------------------------

    def tell(
        self, incident: Incident, kind: str, agent: dict[str, str] | None, about: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Tell every subscription of an event, as one request after the other; the event."""
        who = incident.assignee or self.oncall.get(min(incident.level, max(self.oncall, default=1)))
        home = f"https://example.pagerduty.com/incidents/{incident.id}"
        data: dict[str, Any] = {
            "id": incident.id,
            "type": "incident",
            "html_url": home,
            "number": incident.number,
            "status": incident.status,
            "incident_key": incident.dedup_key,
            "created_at": "2026-01-01T00:00:00Z",
            "title": incident.title,
            "service": reference("service", "PSVC", self.services.get(incident.routing_key, "checkout")),
            "assignees": [] if incident.status == "resolved" or who is None else [self.person(who)],
            "escalation_policy": reference("escalation_policy", "PPOLICY", "Everybody"),
            "priority": self._priority(incident),
            "urgency": "high",
        }
        if about is not None:  # what is about an incident names it by its id alone
            of = {**reference("incident", incident.id, incident.title), "html_url": home}
            data = {"id": f"P{uuid.uuid4().hex[:8].upper()}", **about, "incident": of}
        event = {
            "id": uuid.uuid4().hex.upper(),
            "event_type": f"incident.{kind}",
            "resource_type": "incident",
            "occurred_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "agent": agent,
            "client": None,
            "data": data,
        }
        self.sent.append(event)
        for hook in self.hooks:
            self._deliver(hook, event)
        return event

    def _deliver(self, hook: Hook, event: dict[str, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._post(hook, event))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _post(self, hook: Hook, event: dict[str, Any]) -> None:
        body = json.dumps({"event": event}).encode()
        async with self._turn, aiohttp.ClientSession() as http:  # in the order of events
            for _ in range(hook.tries):
                try:
                    async with http.post(hook.url, data=body, headers=signed(body, *hook.secrets)) as answer:
                        status = answer.status
                except aiohttp.ClientError:
                    status = 0
                self.told.append((event["event_type"], status))
                self.log.append(f"webhook {event['event_type']} {status}")
                if 200 <= status < 500 and status != 429:
                    return
                await asyncio.sleep(hook.wait)


def signed(body: bytes, *secrets: str) -> dict[str, str]:
    """The headers of a webhook with *body*."""
    signs = (hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in secrets)
    return {
        "Content-Type": "application/json",
        "User-Agent": "PagerDuty-Webhook/V3.0",
        "X-PagerDuty-Signature": ",".join(f"v1={sign}" for sign in signs),
        "X-Webhook-Id": str(uuid.uuid4()),
    }
