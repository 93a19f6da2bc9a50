"""GitHub's issues on a local port: state, and what https://docs.github.com/rest/issues refuses."""

import hashlib
import hmac
import json
from typing import Any

from aiohttp import web

from tests.fakes.standin import TEXT, Standin, no, read, shape

LABELS = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 50}}
TITLE = {"type": "string", "minLength": 1, "maxLength": 256}
BODY = {"type": "string", "maxLength": 65_536}
CHANGE = {
    "state": {"enum": ["open", "closed"]},
    "state_reason": {"enum": ["completed", "not_planned", "reopened"]},
    "labels": LABELS,
}


class GitHubServer(Standin):
    """One repository. With *may_label* false it drops labels, as GitHub does for those who may not push."""

    repository = "Example/Ops"

    def __init__(self) -> None:
        super().__init__()
        self.issues: list[dict[str, Any]] = []
        self.comments: dict[int, list[str]] = {}
        self.may_label, self.limited = True, False

    def routes(self) -> list[web.RouteDef]:
        issues = "/repos/{owner}/{name}/issues"
        return [
            web.get(issues, self._list),
            web.post(issues, self._create),
            web.get(f"{issues}/{{number}}", self._get),
            web.patch(f"{issues}/{{number}}", self._edit),
            web.get(f"{issues}/{{number}}/comments", self._comments),
            web.post(f"{issues}/{{number}}/comments", self._comment),
        ]

    def allowed(self, request: web.Request) -> bool:
        if self.limited:
            raise no(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
        if request.headers.get("Accept") != "application/vnd.github+json" or "User-Agent" not in request.headers:
            raise no(403, "Request forbidden by administrative rules.")
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    async def _list(self, request: web.Request) -> web.Response:
        self._repository(request)
        query = request.query
        found = [one for one in self.issues if query.get("state") == "all" or one["state"] == "open"]
        if label := query.get("labels"):
            found = [one for one in found if label in [each["name"] for each in one["labels"]]]
        found.sort(key=lambda one: one["number"], reverse=query.get("direction", "desc") == "desc")
        return web.json_response(found[: int(query.get("per_page", 30))])

    async def _create(self, request: web.Request) -> web.Response:
        self._repository(request)
        body = await read(request, shape({"title": TITLE, "body": BODY, "labels": LABELS}, "title"))
        number = len(self.issues) + 1
        made = {
            "number": number,
            "title": body["title"],
            "body": body.get("body"),
            "state": "open",
            "labels": [{"name": name} for name in body.get("labels", ())] if self.may_label else [],
            "repository_url": f"{self.url}/repos/{self.repository}",
            "html_url": f"https://github.example.com/{self.repository}/issues/{number}",
        }
        self.issues.append(made)
        self.comments[number] = []
        return web.json_response(made, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._issue(request))

    async def _edit(self, request: web.Request) -> web.Response:
        issue, body = self._issue(request), await read(request, shape(CHANGE))
        if body.get("state_reason") == "reopened" and body.get("state") != "open":
            raise no(422, "state_reason reopened is for open issues")
        if "labels" in body:
            body["labels"] = [{"name": name} for name in body["labels"]]
        issue |= body
        return web.json_response(issue)

    async def _comments(self, request: web.Request) -> web.Response:
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        found = self.comments[self._issue(request)["number"]]
        return web.json_response([{"body": body} for body in found[size * (page - 1) : size * page]])

    async def _comment(self, request: web.Request) -> web.Response:
        body = await read(request, shape({"body": {**TEXT, "maxLength": 65_536}}, "body"))
        self.comments[self._issue(request)["number"]].append(body["body"])
        return web.json_response({}, status=201)

    def word(self, number: int, secret: str, *, delivery: str = "d1", action: str = "closed",
             repository: str | None = None) -> tuple[bytes, dict[str, str]]:  # fmt: skip
        """The webhook about an issue: body and headers."""
        told = {
            "action": action,
            "issue": {"number": number, "state": "closed"},
            "repository": {"full_name": repository or self.repository},
            "sender": {"login": "kim"},
        }
        body = json.dumps(told).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return body, {
            "X-Hub-Signature-256": f"sha256={signature}",
            "X-GitHub-Event": "issues",
            "X-GitHub-Delivery": delivery,
            "Content-Type": "application/json",
        }

    def _repository(self, request: web.Request) -> None:
        if f"{request.match_info['owner']}/{request.match_info['name']}".lower() != self.repository.lower():
            raise no(404, "Not Found")

    def _issue(self, request: web.Request) -> dict[str, Any]:
        self._repository(request)
        found = next((one for one in self.issues if str(one["number"]) == request.match_info["number"]), None)
        if found is None:
            raise no(404, "Not Found")
        return found
