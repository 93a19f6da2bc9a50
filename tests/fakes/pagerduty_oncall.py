"""The part of PagerDuty that knows who is on call, on a local port: it keeps state and refuses what is not documented.

Sources: the reference of the REST API: list all on-calls, list a user's contact methods, list and create overrides.
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot.kit.clock import parse_time

OVERRIDES = {
    "type": "object",
    "properties": {
        "overrides": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {
                    "start": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"},
                    "end": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"},
                    "user": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}, "type": {"enum": ["user_reference", "user"]}},
                        "required": ["id", "type"],
                        "additionalProperties": False,
                    },
                    "time_zone": {"type": "string"},
                },
                "required": ["start", "end", "user"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["overrides"],
    "additionalProperties": False,
}
QUERIES = {
    "oncalls": {
        *("escalation_policy_ids[]", "schedule_ids[]", "user_ids[]", "include[]", "since", "until", "earliest"),
        *("limit", "offset", "total", "time_zone"),
    },
    "users": {"query", "limit", "offset", "include[]"},
    "contact_methods": set(),
    "overrides": {"since", "until", "editable", "overflow"},
}


@dataclass
class Entry:
    """Somebody on call by a policy, at a level, through a schedule or directly."""

    policy: str
    level: int
    user: str
    schedule: str | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass
class Override:
    id: str
    user: str
    start: datetime
    end: datetime


@dataclass
class Fault:
    """What befalls the next requests to a path that begins with *path*; with *for_good*, all of them."""

    path: str
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    for_good: bool = False


class OnCallServer:
    """*entries* is who is on call now; an override of a schedule replaces its people while it lasts."""

    def __init__(self) -> None:
        self.token = "t" * 20
        self.users = {
            "PALICE": ("Alice Example", "alice@example.com"),
            "PBOB": ("Bob Example", "bob@example.com"),
            "PCAROL": ("Carol Example", "carol@elsewhere.example.com"),
            "PBOT": ("Bot", "bot@example.com"),
        }
        self.phones = {"PALICE": ("phone", "5550100", 1), "PBOB": ("sms", "5550101", 49)}
        self.schedules = {"PSDB": "Database first", "PSEMPTY": "Empty"}
        self.policies = {"PPAY": "Payments"}
        self.entries: list[Entry] = []
        self.overrides: dict[str, list[Override]] = {}
        self.page = 25
        self.seen: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.faults: list[Fault] = []
        self.now = lambda: datetime.now(UTC)

    async def start(self) -> "OnCallServer":
        app = web.Application(middlewares=[self._around])
        app.add_routes(
            [
                web.get("/oncalls", self._oncalls),
                web.get("/users", self._users),
                web.get("/users/{id}/contact_methods", self._contacts),
                web.get("/schedules/{id}/overrides", self._listed),
                web.post("/schedules/{id}/overrides", self._override),
            ]
        )
        self._server = TestServer(app, host="127.0.0.1")
        await self._server.start_server()
        return self

    async def stop(self) -> None:
        await self._server.close()

    @property
    def url(self) -> str:
        return str(self._server.make_url("/")).rstrip("/")

    def on_call(
        self, user: str, *, schedule: str | None = "PSDB", policy: str = "PPAY", level: int = 1, hours: int = 8
    ):
        """Somebody is on call from an hour ago, for *hours*; for ever with 0."""
        start = self.now().replace(microsecond=0) - timedelta(hours=1)
        end = start + timedelta(hours=hours) if hours else None
        self.entries.append(Entry(policy, level, user, schedule, start if hours else None, end))

    def fault(self, path: str = "/", **more: Any) -> None:
        self.faults.append(Fault(path, **more))

    def paths(self, method: str = "GET") -> list[str]:
        return [path for made, path in self.seen if made == method]

    # -- every request ----------------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        fault = next((one for one in self.faults if request.path.startswith(one.path)), None)
        if fault is not None:
            if not fault.for_good:
                self.faults.remove(fault)
            await asyncio.sleep(fault.seconds)
            if fault.status:
                return web.Response(status=fault.status, headers=fault.headers)
        try:
            self._allowed(request)
            return await handler(request)
        except web.HTTPException as refused:
            self.refused.append(f"{request.method} {request.path}: {refused.status} {refused.text}")
            raise

    def _allowed(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"Token token={self.token}":
            raise self._no(web.HTTPUnauthorized, 2006, "Authentication failed")
        if request.headers.get("Accept") != "application/vnd.pagerduty+json;version=2":
            raise self._no(web.HTTPNotAcceptable, 2005, "Unsupported version")
        allowed = QUERIES[request.path.rpartition("/")[2]] if request.method == "GET" else set()
        if unknown := set(request.query) - allowed:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", f"{unknown} is not known")
        if int(request.query.get("limit", "25")) > 100:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "limit is at most 100")

    def _no(self, kind: type[web.HTTPError], code: int, message: str, *errors: str) -> web.HTTPError:
        error = {"code": code, "message": message, "errors": list(errors)}
        return kind(text=json.dumps({"error": error}), content_type="application/json")

    # -- who is on call ---------------------------------------------------------------------------------------------

    def _current(self) -> list[Entry]:
        now = self.now()
        found = [one for one in self.entries if (one.start or now) <= now and (one.end is None or now < one.end)]
        told = []
        for one in found:
            over = next((o for o in self.overrides.get(one.schedule or "", []) if o.start <= now < o.end), None)
            told.append(
                one if over is None else Entry(one.policy, one.level, over.user, one.schedule, over.start, over.end)
            )
        return told

    async def _oncalls(self, request: web.Request) -> web.Response:
        query = request.query
        schedules, policies = query.getall("schedule_ids[]", []), query.getall("escalation_policy_ids[]", [])
        found = [
            one
            for one in self._current()
            if (not schedules or one.schedule in schedules) and (not policies or one.policy in policies)
        ]
        start, limit = int(query.get("offset", "0")), min(self.page, int(query.get("limit", "25")))
        whole = "users" in query.getall("include[]", [])
        return web.json_response(
            {
                "oncalls": [self._entry(one, whole=whole) for one in found[start : start + limit]],
                "limit": limit,
                "offset": start,
                "more": start + limit < len(found),
                "total": None,
            }
        )

    def _entry(self, one: Entry, *, whole: bool) -> dict[str, Any]:
        name, email = self.users[one.user]
        user: dict[str, Any] = {"id": one.user, "type": "user_reference", "summary": name}
        if whole:
            user |= {"type": "user", "name": name, "email": email, "time_zone": "Etc/UTC", "contact_methods": []}
        schedule = {"id": one.schedule, "type": "schedule_reference", "summary": self.schedules.get(one.schedule or "")}
        return {
            "escalation_policy": {
                "id": one.policy,
                "type": "escalation_policy_reference",
                "summary": self.policies.get(one.policy, one.policy),
            },
            "escalation_level": one.level,
            "schedule": schedule if one.schedule else None,
            "user": user,
            "start": _told(one.start),
            "end": _told(one.end),
        }

    async def _users(self, request: web.Request) -> web.Response:
        asked = request.query.get("query", "").lower()
        found = [
            {"id": id_, "type": "user", "name": name, "email": email}
            for id_, (name, email) in self.users.items()
            if asked.partition("@")[0][:3] in email  # its search is generous
        ]
        return web.json_response({"users": found, "more": False})

    async def _contacts(self, request: web.Request) -> web.Response:
        user = request.match_info["id"]
        if user not in self.users:
            raise self._no(web.HTTPNotFound, 2100, "Not Found")
        found = [
            {"id": "PCM1", "type": "email_contact_method", "label": "Work", "address": self.users[user][1]},
            {"id": "PCM2", "type": "push_notification_contact_method", "label": "A phone", "address": "d" * 64},
        ]
        if user in self.phones:
            kind, number, country = self.phones[user]
            more = {"id": "PCM3", "type": f"{kind}_contact_method", "label": "Mobile"}
            found.append({**more, "address": number, "country_code": country})
        return web.json_response({"contact_methods": found})

    # -- standing in ------------------------------------------------------------------------------------------------

    def _schedule(self, request: web.Request) -> str:
        found = request.match_info["id"]
        if found not in self.schedules:
            raise self._no(web.HTTPNotFound, 2100, "Not Found")
        return found

    async def _listed(self, request: web.Request) -> web.Response:
        if not {"since", "until"} <= set(request.query):
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", "since and until are required")
        return web.json_response(
            {"overrides": [self._shown(one) for one in self.overrides.get(self._schedule(request), [])]}
        )

    async def _override(self, request: web.Request) -> web.Response:
        schedule = self._schedule(request)
        try:
            body = await request.json()
            jsonschema.validate(body, OVERRIDES)
        except (ValueError, jsonschema.ValidationError) as error:
            raise self._no(web.HTTPBadRequest, 2001, "Invalid Input Provided", str(error)[:200]) from None
        answer = []
        for wish in body["overrides"]:
            start, end, user = parse_time(wish["start"]), parse_time(wish["end"]), wish["user"]["id"]
            if user not in self.users or start is None or end is None or start >= end or end <= self.now():
                answer.append({"status": 400, "errors": ["Override must end in the future"]})
                continue
            made = Override(f"POV{sum(map(len, self.overrides.values())) + 1}", user, start, end)
            self.overrides.setdefault(schedule, []).append(made)
            answer.append({"status": 201, "override": self._shown(made)})
        return web.json_response(answer, status=201)

    def _shown(self, one: Override) -> dict[str, Any]:
        user = {"id": one.user, "type": "user_reference", "summary": self.users[one.user][0]}
        return {"id": one.id, "start": _told(one.start), "end": _told(one.end), "user": user}


def _told(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
