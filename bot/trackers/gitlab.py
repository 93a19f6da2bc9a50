"""GitLab issues: found again by a label, known by the number of their project and their own in it."""

import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from bot.catalog.config import Strict
from bot.catalog.tracking import Access
from bot.incidents.tracker import Gone, Heard, Issue, Move, Tracker, Wish
from bot.kit.api import Api, Refused
from bot.kit.errors import PermanentError
from bot.kit.text import clean, clip, one_line, tame
from bot.runs.redact import Redactor

TITLE, TEXT = 255, 200_000
PAGE = 100


class Options(Strict):
    """`options` of a tracker of kind gitlab."""

    project: str = Field(
        pattern=r"^([0-9]{1,12}|[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+)$", description="`group/name`, or its number"
    )
    labels: tuple[str, ...] = Field(default=(), description="further labels of every issue")
    severities: dict[Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"], str] = Field(
        default_factory=dict, description="label of each severity; without it no label says it"
    )
    confidential: bool = Field(default=False, description="whether issues are only for members of the project")


class GitLab:
    """The issues of one project."""

    def __init__(self, access: Access) -> None:
        self.access, self.options = access, access.options
        self.project = f"/api/v4/projects/{quote(access.options.project, safe='')}"

    async def create(self, wish: Wish) -> Issue:
        """Looked for by its label first."""
        query = {"labels": wish.key, "state": "all", "order_by": "created_at", "sort": "asc", "per_page": "1"}
        found = await self._call("GET", f"{self.project}/issues", query)
        if isinstance(found, list) and found:
            return self._issue(found[0])
        labels = [*self.options.labels, wish.key, *filter(None, [self.options.severities.get(wish.severity)])]
        issue: dict[str, Any] = {
            "title": clip(one_line(clean(wish.title)), TITLE),
            "description": clip(tame(wish.body), TEXT) + (f"\n\n<{wish.url}>" if wish.url else ""),
            "labels": ",".join(labels),
            "confidential": self.options.confidential,
        }
        if wish.due:
            issue["due_date"] = wish.due
        return self._issue(await self._call("POST", f"{self.project}/issues", json=issue))

    async def find(self, text: str) -> Issue:
        """By `#7` or an address."""
        number = re.fullmatch(r"(?:#?|https?://\S+/-/(?:issues|work_items)/)([0-9]{1,9})(?:[?#].*)?", text.strip())
        if number is None:
            raise PermanentError(
                f"“{clip(one_line(text), 100)}” names no issue of GitLab; write its number or its address"
            )
        if (
            "://" in text
            and f"/{self.options.project}/".casefold() not in text.casefold()
            and not self.options.project.isdigit()
        ):
            raise PermanentError(f"this is not an issue of {self.options.project}")
        return self._issue(await self._call("GET", f"{self.project}/issues/{number[1]}"))

    async def read(self, id_: str) -> Issue:
        """By `123#7`."""
        return self._issue(await self._call("GET", _path(id_)))

    async def move(self, id_: str, move: Move) -> Issue:
        """Opened or closed; there is nothing else."""
        if move.status is not None and move.status.casefold() not in ("opened", "closed"):
            raise PermanentError(f"an issue of GitLab is opened or closed, and never {move.status!r}")
        now, done = await self.read(id_), move.done if move.status is None else move.status.casefold() == "closed"
        if now.done == done:
            return now
        change = {"state_event": "close" if done else "reopen"}
        return self._issue(await self._call("PUT", _path(id_), json=change))

    async def rank(self, id_: str, severity: str) -> None:
        """The label of the severity, in the place of those of others."""
        names = self.options.severities
        if names:
            others = [name for sev, name in names.items() if sev != severity]
            change = {"remove_labels": ",".join(others), "add_labels": names.get(severity, "")}
            await self._call("PUT", _path(id_), json={name: labels for name, labels in change.items() if labels})

    async def comment(self, id_: str, text: str, key: str) -> None:
        """The key stands at its end."""
        mark = f"[{key}]"
        if not await self._noted(id_, tame(mark)):
            body = f"{clip(tame(text), TEXT)}\n\n{tame(mark)}"
            await self._call("POST", f"{_path(id_)}/notes", json={"body": body})

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        """Uploaded to the project, then linked in a note, once under its name."""
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        mark = f"File {plain}:"
        if await self._noted(id_, mark):
            return
        edge = secrets.token_hex(16)
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{plain}"\r\n'
        body = (
            f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}"}
        made = await self._call("POST", f"{self.project}/uploads", body=body, headers=headers)
        link = str(made.get("markdown") or "") if isinstance(made, dict) else ""
        await self._call("POST", f"{_path(id_)}/notes", json={"body": f"{mark} {link}"})

    # -- how it is asked ------------------------------------------------------------------------------------------

    async def _noted(self, id_: str, mark: str) -> bool:
        page = 1
        while True:
            query = {"per_page": str(PAGE), "page": str(page)}
            found = await self._call("GET", f"{_path(id_)}/notes", query)
            if any(mark in str(one.get("body") or "") for one in found):
                return True
            if len(found) < PAGE:
                return False
            page += 1

    def _issue(self, found: Any) -> Issue:
        if not isinstance(found, dict) or not isinstance(found.get("iid"), int) or "state" not in found:
            raise PermanentError(f"{self.access.name} answered with an issue that has no iid or no state")
        return Issue(
            id=f"{found.get('project_id')}#{found['iid']}",
            reference=f"{self.options.project.rpartition('/')[2]}#{found['iid']}",
            url=str(found.get("web_url") or ""),
            status=str(found["state"]),
            done=found["state"] == "closed",
            title=str(found.get("title") or ""),
        )

    async def _call(self, method: str, path: str, params: Mapping[str, str] | None = None, **more: Any) -> Any:
        secret = await self.access.secret()
        headers = {"PRIVATE-TOKEN": secret, **more.pop("headers", {})}
        hide = Redactor([secret]).text
        api = Api(self.access.name, self.access.url, headers, hide, self.access.hint, ca=self.access.ca)
        try:
            answer = await api.call(method, path, params=list((params or {}).items()), **more)
        except Refused as error:
            if error.status == 404:
                raise Gone(f"{self.access.name} has no such issue or project, or does not show it to us") from None
            raise
        return answer.json()


def make(access: Access) -> Tracker:
    """The tracker that *access* opens."""
    return GitLab(access)


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`X-Gitlab-Token`, the secret itself."""
    return hmac.compare_digest(headers.get("X-Gitlab-Token", "").encode("utf-8", "replace"), secret.encode())


def heard(headers: Mapping[str, str], payload: Any) -> Heard | None:
    """Issue and confidential-issue hooks, and notes below an issue."""
    if not isinstance(payload, dict):
        raise PermanentError("the body is not a JSON object")
    kind, user = payload.get("object_kind"), payload.get("user")
    issue = payload.get("object_attributes") if kind == "issue" else payload.get("issue") if kind == "note" else None
    project = payload.get("project")
    if not isinstance(issue, dict) or not isinstance(project, dict):
        return None
    number, place = issue.get("iid"), project.get("id")
    if not isinstance(number, int) or not isinstance(place, int):
        return None
    return Heard(
        id=f"{place}#{number}",
        delivery=headers.get("X-Gitlab-Event-UUID") or headers.get("Idempotency-Key"),
        what=f"{kind}.{issue.get('action') or ''}",
        by=str(user.get("name") or "") if isinstance(user, dict) else "",
    )


def _path(id_: str) -> str:
    found = re.fullmatch(r"([0-9]{1,12})#([0-9]{1,9})", id_)
    if found is None:
        raise Gone(f"{clip(id_, 60)} is not an issue of GitLab")
    return f"/api/v4/projects/{found[1]}/issues/{found[2]}"
