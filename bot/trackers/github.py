"""GitHub issues: found again by a label, or by a mark in their text where the token may not make labels.

An issue is known as `owner/name#7`, so that a webhook of another repository is never taken for one of this.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from bot.catalog.config import Strict
from bot.catalog.tracking import Access
from bot.incidents.tracker import Gone, Heard, Issue, Move, Tracker, Wish
from bot.kit.api import Api, Refused
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clean, clip, one_line, tame
from bot.runs.redact import Redactor

TITLE, TEXT = 256, 60_000
HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
PAGE = 100
# https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api: wait at least a minute.
LIMITED = 60.0


class Options(Strict):
    """`options` of a tracker of kind github."""

    repository: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$", description="`owner/name`")
    labels: tuple[str, ...] = Field(default=(), description="further labels of every issue")
    severities: dict[Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"], str] = Field(
        default_factory=dict, description="label of each severity; without it no label says it"
    )


class GitHub:
    """The issues of one repository."""

    def __init__(self, access: Access) -> None:
        self.access, self.options = access, access.options
        self.issues = f"/repos/{access.options.repository}/issues"

    async def create(self, wish: Wish) -> Issue:
        """Looked for first, by label and by mark: without the right to push, GitHub drops labels without a word."""
        mark = f"<!-- {wish.key} -->"
        for query in ({"labels": wish.key, "direction": "asc"}, {"direction": "desc"}):
            found = await self._call(
                "GET", self.issues, {**query, "state": "all", "sort": "created", "per_page": str(PAGE)}
            )
            rows = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            there = next((one for one in rows if mark in str(one.get("body") or "")), None)
            if there is not None:
                return self._issue(there)
        labels = [*self.options.labels, wish.key]
        if label := self.options.severities.get(wish.severity):
            labels.append(label)
        body = clip(tame(wish.body), TEXT) + (f"\n\n<{wish.url}>" if wish.url else "") + f"\n\n{mark}"
        issue = {"title": clip(one_line(clean(wish.title)), TITLE), "body": body, "labels": labels}
        return self._issue(await self._call("POST", self.issues, json=issue))

    async def find(self, text: str) -> Issue:
        """By `#7`, `owner/name#7` or an address."""
        repository = re.escape(self.options.repository)
        shapes = (
            rf"(?:(?i:{repository}))?#?([0-9]{{1,9}})",
            rf"https?://[^/]+/(?i:{repository})/issues/([0-9]{{1,9}})(?:[?#].*)?",
        )
        number = next((found[1] for shape in shapes if (found := re.fullmatch(shape, text.strip()))), None)
        if number is None:
            told = f"“{clip(one_line(text), 100)}” names no issue of {self.options.repository}"
            raise PermanentError(f"{told}; write its number or its address")
        return self._issue(await self._call("GET", f"{self.issues}/{number}"))

    async def read(self, id_: str) -> Issue:
        """By `owner/name#7`."""
        return self._issue(await self._call("GET", self._path(id_)))

    async def move(self, id_: str, move: Move) -> Issue:
        """Open or closed; there is nothing else."""
        if move.status is not None and move.status.casefold() not in ("open", "closed"):
            raise PermanentError(f"an issue of GitHub is open or closed, and never {move.status!r}")
        now, done = await self.read(id_), move.done if move.status is None else move.status.casefold() == "closed"
        if now.done == done:
            return now
        reason = ("not_planned" if move.dropped else "completed") if done else "reopened"
        change = {"state": "closed" if done else "open", "state_reason": reason}
        return self._issue(await self._call("PATCH", self._path(id_), json=change))

    async def rank(self, id_: str, severity: str) -> None:
        """The label of the severity, in the place of those of others."""
        names = self.options.severities
        if not names:
            return
        found = await self._call("GET", self._path(id_))
        before = [str(label.get("name")) for label in found.get("labels") or () if isinstance(label, dict)]
        after = [name for name in before if name not in names.values()] + [names[severity]] * (severity in names)
        if sorted(after) != sorted(before):
            await self._call("PATCH", self._path(id_), json={"labels": after})

    async def comment(self, id_: str, text: str, key: str) -> None:
        """With a mark that nobody sees."""
        mark, page = f"<!-- {key} -->", 1
        while True:
            query = {"per_page": str(PAGE), "page": str(page)}
            found = await self._call("GET", f"{self._path(id_)}/comments", query)
            if any(mark in str(one.get("body") or "") for one in found):
                return
            if len(found) < PAGE:
                break
            page += 1
        await self._call("POST", f"{self._path(id_)}/comments", json={"body": f"{clip(tame(text), TEXT)}\n\n{mark}"})

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        """Its API takes no files."""
        raise PermanentError("GitHub's API takes no files for an issue; attach it by hand, or link to it")

    # -- how it is asked ------------------------------------------------------------------------------------------

    def _path(self, id_: str) -> str:
        repository, _, number = id_.rpartition("#")
        if repository.casefold() != self.options.repository.casefold() or not number.isdigit():
            raise Gone(f"{id_} is not an issue of {self.options.repository}")
        return f"{self.issues}/{number}"

    def _issue(self, found: Any) -> Issue:
        if not isinstance(found, dict) or not isinstance(found.get("number"), int) or "state" not in found:
            raise PermanentError(f"{self.access.name} answered with an issue that has no number or no state")
        number, repository = found["number"], _repository(str(found.get("repository_url") or ""))
        return Issue(
            id=f"{repository or self.options.repository}#{number}".lower(),
            reference=f"{self.options.repository.rpartition('/')[2]}#{number}",
            url=str(found.get("html_url") or ""),
            status=str(found["state"]),
            done=found["state"] == "closed",
            title=str(found.get("title") or ""),
        )

    async def _call(self, method: str, path: str, params: Mapping[str, str] | None = None, **more: Any) -> Any:
        opened = await self.access.open()
        hide = Redactor(opened.secrets).text
        headers = {**opened.headers, **HEADERS}
        api = Api(self.access.name, self.access.url, headers, hide, self.access.hint, ca=self.access.ca)
        try:
            answer = await api.call(method, path, params=list((params or {}).items()), **more)
        except Refused as error:
            if error.status in (301, 404, 410):  # moved to another repository, hidden, or deleted
                raise Gone(f"{self.access.name} has no such issue or repository, or does not show it to us") from None
            if error.status == 403 and "rate limit" in str(error).lower():
                raise TemporaryError(f"{self.access.name} asks us to wait: too many requests", after=LIMITED) from None
            raise
        return answer.json()


def make(access: Access) -> Tracker:
    """The tracker that *access* opens."""
    return GitHub(access)


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`X-Hub-Signature-256: sha256=…`."""
    made = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(made.encode(), headers.get("X-Hub-Signature-256", "").encode("utf-8", "replace"))


def heard(headers: Mapping[str, str], payload: Any) -> Heard | None:
    """`issues` and `issue_comment`; nothing else is about an issue."""
    if not isinstance(payload, dict):
        raise PermanentError("the body is not a JSON object")
    issue, repository, sender = payload.get("issue"), payload.get("repository"), payload.get("sender")
    if headers.get("X-GitHub-Event") not in ("issues", "issue_comment") or not isinstance(issue, dict):
        return None
    name = repository.get("full_name") if isinstance(repository, dict) else None
    if not isinstance(name, str) or not isinstance(issue.get("number"), int):
        return None
    return Heard(
        id=f"{name}#{issue['number']}".lower(),
        delivery=headers.get("X-GitHub-Delivery"),
        what=f"{headers['X-GitHub-Event']}.{payload.get('action') or ''}",
        by=str(sender.get("login") or "") if isinstance(sender, dict) else "",
    )


def _repository(url: str) -> str | None:
    found = re.search(r"/repos/([^/]+/[^/]+)$", url)
    return found[1] if found else None
