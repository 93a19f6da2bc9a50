"""A Jira of our own on a local port, Cloud or Data Center: it keeps state, and refuses what the documentation does not
allow. Sources: developer.atlassian.com/cloud/jira/platform/rest/v3, …/apis/document/structure, and version 2.
"""

import hashlib
import hmac
import json
import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

from tests.fakes.standin import TEXT, Standin, no, read, shape, upload

CATEGORY = {
    "To Do": "new",
    "In Progress": "indeterminate",
    "In Review": "indeterminate",
    "Done": "done",
    "Won't Do": "done",
}
NAMED = shape({"name": TEXT}, "name")
LABEL = {"type": "string", "pattern": r"^\S{1,255}$"}
WIKI = {"type": "string", "maxLength": 32_767}
NODE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"enum": ["paragraph", "text", "hardBreak"]},
        "text": TEXT,
        "content": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        "marks": {
            "type": "array",
            "items": shape({"type": {"const": "link"}, "attrs": shape({"href": TEXT}, "href")}, "type", "attrs"),
        },
    },
    "required": ["type"],
    "additionalProperties": False,
    "if": {"properties": {"type": {"const": "text"}}},
    "then": {"required": ["text"]},
    "else": {"not": {"required": ["text"]}},
}
ADF = shape(
    {"type": {"const": "doc"}, "version": {"const": 1}, "content": {"type": "array", "items": NODE}},
    "type", "version", "content",
)  # fmt: skip


def fields(body: dict[str, Any]) -> dict[str, Any]:
    return shape(
        {
            "project": shape({"key": TEXT}, "key"),
            "issuetype": NAMED,
            "summary": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\n]*$"},
            "description": body,
            "labels": {"type": "array", "items": LABEL},
            "priority": NAMED,
            "duedate": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
        },
        "project", "issuetype", "summary",
    )  # fmt: skip


@dataclass
class Issue:
    id: str
    key: str
    fields: dict[str, Any]
    status: str = "To Do"
    resolution: str | None = None
    comments: list[Any] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)


class JiraServer(Standin):
    """*lag* is how many searches an issue needs until it is found; with *strict*, Done is reached from In Progress."""

    def __init__(self, edition: str = "cloud") -> None:
        super().__init__()
        self.cloud = edition == "cloud"
        self.root = "/rest/api/3" if self.cloud else "/rest/api/2"
        self.body = ADF if self.cloud else WIKI
        self.project, self.types, self.priorities = "OPS", ("Task", "Bug", "Incident"), ("Highest", "High", "Low")
        self.issues: list[Issue] = []
        self.lag, self.wants_resolution, self.strict = 0, False, False
        self._numbers = count(1)

    def routes(self) -> list[web.RouteDef]:
        root, issue = self.root, self.root + "/issue/{id}"
        return [
            web.post(f"{root}/search/jql" if self.cloud else f"{root}/search", self._search),
            web.post(f"{root}/issue", self._create),
            web.get(issue, self._get),
            web.put(issue, self._edit),
            web.get(f"{issue}/transitions", self._transitions),
            web.post(f"{issue}/transitions", self._transition),
            web.get(f"{issue}/comment", self._comments),
            web.post(f"{issue}/comment", self._comment),
            web.post(f"{issue}/attachments", self._attach),
        ]

    def allowed(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        return given.startswith("Basic ") if self.cloud else given == f"Bearer {self.token}"

    # -- the API --------------------------------------------------------------------------------------------------

    async def _search(self, request: web.Request) -> web.Response:
        limits = {"jql": TEXT, "maxResults": {"type": "integer"}, "fields": {"type": "array", "items": TEXT}}
        body = await read(request, shape(limits, "jql"))
        asked = re.fullmatch(r'project = "([A-Z]+)" AND labels = "(\S+)" ORDER BY created ASC', body["jql"])
        if asked is None:
            raise no(400, "Error in the JQL Query")
        if self.issues and self.lag:
            self.lag -= 1
            return web.json_response({"issues": []})
        found = [one for one in self.issues if asked[2] in one.fields["labels"]]
        return web.json_response({"issues": [self._told(one) for one in found[: body.get("maxResults", 50)]]})

    async def _create(self, request: web.Request) -> web.Response:
        schema = {**shape({"fields": fields(self.body)}, "fields"), "$defs": {"node": NODE}}
        body = (await read(request, schema))["fields"]
        if body["project"]["key"] != self.project:
            raise no(400, "project: valid project is required")
        if body["issuetype"]["name"] not in self.types:
            raise no(400, "issuetype: Specify a valid issue type")
        if body.get("priority", {"name": "High"})["name"] not in self.priorities:
            raise no(400, "priority: The priority selected is invalid.")
        n = next(self._numbers)
        made = Issue(str(10_000 + n), f"{self.project}-{n}", body)
        self.issues.append(made)
        return web.json_response({"id": made.id, "key": made.key, "self": f"{self.url}/{made.id}"}, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._told(self._issue(request)))

    async def _edit(self, request: web.Request) -> web.Response:
        body = await read(request, shape({"fields": shape({"priority": NAMED})}, "fields"))
        if body["fields"]["priority"]["name"] not in self.priorities:
            raise no(400, "priority: The priority selected is invalid.")
        self._issue(request).fields |= body["fields"]
        return web.Response(status=204)

    def _ways(self, issue: Issue) -> dict[str, str]:
        ways = {str(n): name for n, name in enumerate(CATEGORY, 11) if name != issue.status}
        if self.strict and issue.status == "To Do":
            ways = {n: name for n, name in ways.items() if name == "In Progress"}
        return ways

    async def _transitions(self, request: web.Request) -> web.Response:
        issue, told = self._issue(request), []
        for n, name in self._ways(issue).items():
            way: dict[str, Any] = {"id": n, "name": f"Go to {name}", "to": self._status(name)}
            if request.query.get("expand") == "transitions.fields":
                way["fields"] = {}
                if self.wants_resolution and CATEGORY[name] == "done":
                    allowed = [{"name": "Fixed"}, {"name": "Won't Do"}]
                    way["fields"] = {"resolution": {"required": True, "allowedValues": allowed}}
            told.append(way)
        return web.json_response({"transitions": told})

    async def _transition(self, request: web.Request) -> web.Response:
        parts = {"transition": shape({"id": TEXT}, "id"), "fields": shape({"resolution": NAMED})}
        body = await read(request, shape(parts, "transition"))
        issue = self._issue(request)
        to = self._ways(issue).get(body["transition"]["id"])
        if to is None:
            raise no(400, "It seems that you have tried to perform a workflow operation that is not valid")
        resolution = body.get("fields", {}).get("resolution", {}).get("name")
        if self.wants_resolution and CATEGORY[to] == "done" and resolution not in ("Fixed", "Won't Do"):
            raise no(400, "resolution: Resolution is required.")
        if resolution and not self.wants_resolution:
            raise no(400, "Field 'resolution' cannot be set. It is not on the appropriate screen, or unknown.")
        issue.status, issue.resolution = to, resolution
        return web.Response(status=204)

    async def _comments(self, request: web.Request) -> web.Response:
        return web.json_response({"comments": [{"body": body} for body in reversed(self._issue(request).comments)]})

    async def _comment(self, request: web.Request) -> web.Response:
        body = await read(request, {**shape({"body": self.body}, "body"), "$defs": {"node": NODE}})
        self._issue(request).comments.append(body["body"])
        return web.json_response({"id": "1"}, status=201)

    async def _attach(self, request: web.Request) -> web.Response:
        if request.headers.get("X-Atlassian-Token") != "no-check":
            raise no(403, "XSRF check failed")
        name, content = upload(request.headers["Content-Type"], await request.read())
        self._issue(request).files.append((name, content))
        return web.json_response([{"filename": name}])

    # -- what people do there ---------------------------------------------------------------------------------------

    def set(self, key: str, status: str) -> Issue:
        """Somebody moved an issue."""
        issue = next(one for one in self.issues if one.key == key)
        issue.status = status
        return issue

    def word(self, issue: Issue, secret: str, *, event: str = "jira:issue_updated", delivery: str | None = "d1",
             by: str = "A person") -> tuple[bytes, dict[str, str]]:  # fmt: skip
        """The webhook about it: body and headers."""
        told = {"timestamp": 1, "webhookEvent": event, "issue": self._told(issue), "user": {"displayName": by}}
        body = json.dumps(told).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"X-Hub-Signature": f"sha256={signature}", "Content-Type": "application/json"}
        if delivery is not None:
            headers["X-Atlassian-Webhook-Identifier"] = delivery
        return body, headers

    def text(self, body: Any) -> str:
        """What a reader sees of a text."""
        if isinstance(body, str):
            return body
        inner = "".join("\n" if part["type"] == "hardBreak" else self.text(part) for part in body.get("content", ()))
        return body.get("text", "") + inner + ("\n" if body["type"] == "paragraph" else "")

    def _issue(self, request: web.Request) -> Issue:
        wanted = request.match_info["id"]
        found = next((one for one in self.issues if wanted in (one.id, one.key)), None)
        if found is None:
            raise no(404, "Issue does not exist or you do not have permission to see it.")
        return found

    def _status(self, name: str) -> dict[str, Any]:
        return {"name": name, "statusCategory": {"key": CATEGORY[name]}}

    def _told(self, issue: Issue) -> dict[str, Any]:
        files = [{"filename": name, "size": len(content)} for name, content in issue.files]
        told = {
            **issue.fields,
            "status": self._status(issue.status),
            "resolution": issue.resolution and {"name": issue.resolution},
            "attachment": files,
        }
        return {"id": issue.id, "key": issue.key, "fields": told}
