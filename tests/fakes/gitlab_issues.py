"""GitLab's issues on a local port: state, and what https://docs.gitlab.com/api/issues refuses.

As GitLab does, it obeys a line of a text that begins with a slash.
"""

import json
import re
from typing import Any

from aiohttp import web

from tests.fakes.standin import TEXT, Standin, no, read, shape, upload

ISSUE = {
    "title": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": {"type": "string", "maxLength": 1_048_576},
    "labels": TEXT,
    "confidential": {"type": "boolean"},
    "due_date": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"},
}
CHANGE = {"state_event": {"enum": ["close", "reopen"]}, "add_labels": TEXT, "remove_labels": TEXT}


class GitLabServer(Standin):
    """One project, number 77, called group/ops."""

    def __init__(self) -> None:
        super().__init__()
        self.issues: list[dict[str, Any]] = []
        self.notes: dict[int, list[str]] = {}
        self.files: list[tuple[str, bytes]] = []
        self.obeyed: list[str] = []

    def routes(self) -> list[web.RouteDef]:
        project = "/api/v4/projects/{project}"
        return [
            web.get(f"{project}/issues", self._list),
            web.post(f"{project}/issues", self._create),
            web.get(f"{project}/issues/{{iid}}", self._get),
            web.put(f"{project}/issues/{{iid}}", self._edit),
            web.get(f"{project}/issues/{{iid}}/notes", self._notes),
            web.post(f"{project}/issues/{{iid}}/notes", self._note),
            web.post(f"{project}/uploads", self._upload),
        ]

    def allowed(self, request: web.Request) -> bool:
        return request.headers.get("PRIVATE-TOKEN") == self.token

    async def _list(self, request: web.Request) -> web.Response:
        self._project(request)
        label = request.query.get("labels")
        return web.json_response([one for one in self.issues if label is None or label in one["labels"]][:1])

    async def _create(self, request: web.Request) -> web.Response:
        self._project(request)
        body = await read(request, shape(ISSUE, "title"))
        self._obey(body.get("description", ""))
        iid = len(self.issues) + 1
        labels = body.get("labels", "").split(",")
        about = {"iid": iid, "project_id": 77, "state": "opened"}
        made = {**body, **about, "labels": labels, "web_url": f"https://gitlab.example.com/group/ops/-/issues/{iid}"}
        self.issues.append(made)
        self.notes[iid] = []
        return web.json_response(made, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._issue(request))

    async def _edit(self, request: web.Request) -> web.Response:
        issue, body = self._issue(request), await read(request, {**shape(CHANGE), "minProperties": 1})
        if event := body.get("state_event"):
            issue["state"] = "closed" if event == "close" else "opened"
        gone = body.get("remove_labels", "").split(",")
        issue["labels"] = [name for name in issue["labels"] if name not in gone]
        issue["labels"] += [name for name in body.get("add_labels", "").split(",") if name]
        return web.json_response(issue)

    async def _notes(self, request: web.Request) -> web.Response:
        size, page = int(request.query.get("per_page", 20)), int(request.query.get("page", 1))
        found = self.notes[self._issue(request)["iid"]]
        return web.json_response([{"body": body} for body in found[size * (page - 1) : size * page]])

    async def _note(self, request: web.Request) -> web.Response:
        body = await read(request, shape({"body": TEXT}, "body"))
        self._obey(body["body"])
        self.notes[self._issue(request)["iid"]].append(body["body"])
        return web.json_response({}, status=201)

    async def _upload(self, request: web.Request) -> web.Response:
        self._project(request)
        name, content = upload(request.headers["Content-Type"], await request.read())
        self.files.append((name, content))
        return web.json_response({"markdown": f"[{name}](/uploads/0/{name})"}, status=201)

    def word(self, iid: int, *, delivery: str = "d1", project: int = 77) -> tuple[bytes, dict[str, str]]:
        """The webhook about an issue: body and headers, without its token."""
        told = {
            "object_kind": "issue",
            "user": {"name": "Kim"},
            "project": {"id": project},
            "object_attributes": {"iid": iid, "action": "close"},
        }
        headers = {"X-Gitlab-Event": "Issue Hook", "X-Gitlab-Event-UUID": delivery, "Content-Type": "application/json"}
        return json.dumps(told).encode(), headers

    def _obey(self, text: str) -> None:
        self.obeyed += re.findall(r"^\s*(/[a-z_]+)", text, re.MULTILINE)

    def _project(self, request: web.Request) -> None:
        if request.match_info["project"] not in ("77", "group/ops"):
            raise no(404, "404 Project Not Found")

    def _issue(self, request: web.Request) -> dict[str, Any]:
        self._project(request)
        found = next((one for one in self.issues if str(one["iid"]) == request.match_info["iid"]), None)
        if found is None:
            raise no(404, "404 Not found")
        return found
