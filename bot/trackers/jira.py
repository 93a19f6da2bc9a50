"""Jira, Cloud and Data Center: issues found again by a label, moved by whatever transition leads there.

Cloud speaks version 3 of the API, in which texts are documents; Data Center version 2, in which they are wiki markup.
"""

import hashlib
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
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

SUMMARY, TEXT, COMMENT = 255, 32_767, 8_000
FIELDS = ["summary", "status", "labels"]
COMMENTS = 100
# What was created a moment ago may not be found by a search yet; a retry comes after that.
SETTLES = 15.0


class Options(Strict):
    """`options` of a tracker of kind jira."""

    project: str = Field(pattern=r"^[A-Z][A-Z0-9_]{1,20}$", description="key of the project")
    edition: Literal["cloud", "datacenter"] = Field(default="cloud", description="which Jira it is")
    issue_type: str = Field(default="Task", description="type of an incident's issue")
    followup_type: str = Field(default="Task", description="type of a follow-up's issue")
    priorities: dict[Literal["SEV1", "SEV2", "SEV3", "SEV4", "SEV5"], str] = Field(
        default_factory=dict, description="priority of each severity; without it the priority is left alone"
    )
    resolution: str = Field(default="Done", description="given where a transition asks for a resolution")
    dropped: str = Field(default="Won't Do", description="the same for what nobody will do")
    due: bool = Field(default=False, description="whether the day of a follow-up goes into `duedate`")
    fields: dict[str, Any] = Field(
        default_factory=dict, description="further fields, such as what the project requires"
    )


class Jira:
    """One project of it."""

    def __init__(self, access: Access, *, settles: float = SETTLES) -> None:
        self.access, self.options, self.settles = access, access.options, settles
        self.cloud = access.options.edition == "cloud"
        self.root = f"/rest/api/{3 if self.cloud else 2}"

    async def create(self, wish: Wish) -> Issue:
        """Looked for by its label first. The search lags, so after a lost answer it is looked for a while later."""
        if (found := await self._labelled(wish.key)) is not None:
            return found
        api = await self._api()
        try:
            made = await api.ask("POST", f"{self.root}/issue", json={"fields": self._fields(wish)})
        except TemporaryError as error:
            raise TemporaryError(str(error), after=max(error.after, self.settles)) from None
        return await self.read(str(made.get("id") or made.get("key")))

    async def find(self, text: str) -> Issue:
        """By key, or by an address with /browse/ in it."""
        key = re.search(r"(?:^|/browse/|selectedIssue=)([A-Z][A-Z0-9_]{1,20}-[0-9]{1,9})(?![A-Za-z0-9-])", text.strip())
        if key is None:
            raise PermanentError(f"“{clip(one_line(text), 100)}” names no issue of Jira; write its key or its address")
        return await self.read(key[1])

    async def read(self, id_: str) -> Issue:
        """By id or key."""
        return self._issue(await self._about(id_, "GET", f"?fields={','.join(FIELDS)}"))

    async def move(self, id_: str, move: Move) -> Issue:
        """By the transition that leads to the status, or to one of the right category."""
        now = await self.read(id_)
        if (move.status is None and now.done == move.done) or _same(now.status, move.status):
            return now
        there = (await self._about(id_, "GET", "/transitions?expand=transitions.fields")).get("transitions")
        listed = [one for one in there or () if isinstance(one, dict)]
        chosen = next((one for one in listed if _leads(one, move)), None)
        if chosen is None:
            wanted = (
                f"to {move.status!r}" if move.status else "to a status that is done" if move.done else "back to work"
            )
            known = ", ".join(sorted({_target(one)[0] for one in listed})) or "nowhere"
            raise PermanentError(
                f"no transition of {now.reference} leads {wanted}; from {now.status!r} it goes to: {known}"
            )
        wish: dict[str, Any] = {"transition": {"id": str(chosen.get("id"))}}
        if "resolution" in (chosen.get("fields") or {}):
            wish["fields"] = {"resolution": {"name": self._resolution(chosen["fields"]["resolution"], move)}}
        await self._about(id_, "POST", "/transitions", json=wish)
        return await self.read(id_)

    async def rank(self, id_: str, severity: str) -> None:
        """The priority, if the severity has one."""
        if name := self.options.priorities.get(severity):
            await self._about(id_, "PUT", "", json={"fields": {"priority": {"name": name}}})

    async def comment(self, id_: str, text: str, key: str) -> None:
        """The key stands at its end."""
        mark = f"[{key}]"
        found = await self._about(id_, "GET", f"/comment?maxResults={COMMENTS}&orderBy=-created")
        if any(mark in _flat(one.get("body")) for one in found.get("comments") or () if isinstance(one, dict)):
            return
        body = self._text(f"{clip(clean(text), COMMENT)}\n\n{mark}")
        await self._about(id_, "POST", "/comment", json={"body": body})

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        """A file of the same name and size is there already."""
        fields = (await self._about(id_, "GET", "?fields=attachment")).get("fields") or {}
        there = [(one.get("filename"), one.get("size")) for one in fields.get("attachment") or ()]
        if (name, len(content)) in there:
            return
        edge = secrets.token_hex(16)
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{_file(name)}"\r\n'
        body = (
            f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + f"\r\n--{edge}--\r\n".encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={edge}", "X-Atlassian-Token": "no-check"}
        await self._reached(id_, "POST", "/attachments", body=body, headers=headers)

    # -- what is sent ---------------------------------------------------------------------------------------------

    def _fields(self, wish: Wish) -> dict[str, Any]:
        options = self.options
        fields: dict[str, Any] = {
            **options.fields,
            "project": {"key": options.project},
            "issuetype": {"name": options.followup_type if wish.purpose == "followup" else options.issue_type},
            "summary": clip(one_line(clean(wish.title)), SUMMARY),
            "description": self._text(wish.body, wish.url),
            "labels": [*options.fields.get("labels", ()), wish.key],
        }
        if name := options.priorities.get(wish.severity):
            fields["priority"] = {"name": name}
        if options.due and wish.due:
            fields["duedate"] = wish.due
        return fields

    def _text(self, text: str, url: str | None = None) -> Any:
        plain = clip(clean(text).strip(), TEXT - 1000)
        if not self.cloud:
            # In wiki markup these could mention somebody, include something or run a macro.
            escaped = re.sub(r"([\[\]{}!|])", r"\\\1", plain)
            return clip(escaped + (f"\n\n{url}" if url else ""), TEXT)
        content = [_paragraph(part) for part in plain.split("\n\n") if part.strip()]
        if url:
            content.append({"type": "paragraph", "content": [_words(url, url)]})
        return {"type": "doc", "version": 1, "content": content or [{"type": "paragraph", "content": []}]}

    def _resolution(self, field: Mapping[str, Any], move: Move) -> str:
        """The one that is wanted, if it is allowed, else the first that is."""
        wanted = self.options.dropped if move.dropped else self.options.resolution
        allowed = [str(one.get("name")) for one in field.get("allowedValues") or () if isinstance(one, dict)]
        return wanted if wanted in allowed or not allowed else allowed[0]

    # -- what comes back ------------------------------------------------------------------------------------------

    async def _labelled(self, key: str) -> Issue | None:
        api = await self._api()
        path = f"{self.root}/search/jql" if self.cloud else f"{self.root}/search"
        jql = f'project = "{self.options.project}" AND labels = "{key}" ORDER BY created ASC'
        found = await api.ask("POST", path, json={"jql": jql, "maxResults": 1, "fields": FIELDS})
        return next((self._issue(one) for one in found.get("issues") or ()), None)

    def _issue(self, found: Mapping[str, Any]) -> Issue:
        fields = found.get("fields") or {}
        status = fields.get("status") or {}
        key = str(found.get("key") or "")
        if not key or not status.get("name"):
            raise PermanentError(f"{self.access.name} answered with an issue that has no key or no status")
        return Issue(
            id=str(found.get("id")),
            reference=key,
            url=f"{self.access.url}/browse/{quote(key)}",
            status=str(status["name"]),
            done=(status.get("statusCategory") or {}).get("key") == "done",
            title=str(fields.get("summary") or ""),
        )

    async def _about(self, id_: str, method: str, path: str, *, json: Any = None) -> dict[str, Any]:
        answer = await self._reached(id_, method, path, json=json)
        return answer if isinstance(answer, dict) else {}

    async def _reached(self, id_: str, method: str, path: str, **more: Any) -> Any:
        api = await self._api()
        try:
            answer = await api.call(method, f"{self.root}/issue/{quote(id_, safe='')}{path}", **more)
        except Refused as error:
            if error.status == 404:
                raise Gone(f"{self.access.name} has no issue {id_}, or does not show it to us") from None
            raise
        return answer.json()

    async def _api(self) -> Api:
        opened = await self.access.open()
        headers = {**opened.headers, "Accept": "application/json"}
        hide = Redactor(opened.secrets).text
        return Api(self.access.name, self.access.url, headers, hide, self.access.hint, ca=self.access.ca)


def make(access: Access) -> Tracker:
    """The tracker that *access* opens."""
    return Jira(access)


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`X-Hub-Signature: sha256=…`, as both editions send it."""
    made = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(made.encode(), headers.get("X-Hub-Signature", "").encode("utf-8", "replace"))


def heard(headers: Mapping[str, str], payload: Any) -> Heard | None:
    """Something was done to an issue: `jira:issue_updated`, `comment_created` and so on."""
    if not isinstance(payload, dict):
        raise PermanentError("the body is not a JSON object")
    issue, user = payload.get("issue"), payload.get("user")
    if not isinstance(issue, dict) or not isinstance(issue.get("id"), str | int) or issue["id"] == "":
        return None
    return Heard(
        id=str(issue["id"]),
        delivery=headers.get("X-Atlassian-Webhook-Identifier"),
        what=str(payload.get("webhookEvent") or ""),
        by=str(user.get("displayName") or "") if isinstance(user, dict) else "",
    )


def _leads(transition: Mapping[str, Any], move: Move) -> bool:
    name, done = _target(transition)
    return _same(name, move.status) if move.status else done == move.done


def _target(transition: Mapping[str, Any]) -> tuple[str, bool]:
    to = transition.get("to") or {}
    return str(to.get("name") or ""), (to.get("statusCategory") or {}).get("key") == "done"


def _same(status: str, wanted: str | None) -> bool:
    return wanted is not None and status.casefold() == wanted.casefold()


def _paragraph(text: str) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    for line in text.split("\n"):
        if content:
            content.append({"type": "hardBreak"})
        if line:
            content.append(_words(line))
    return {"type": "paragraph", "content": content}


def _words(text: str, url: str | None = None) -> dict[str, Any]:
    link = {"marks": [{"type": "link", "attrs": {"href": url}}]} if url else {}
    return {"type": "text", "text": text, **link}


def _flat(body: Any) -> str:
    """The text of a comment, whichever way it is written."""
    if isinstance(body, str):
        return body.replace("\\", "")
    if isinstance(body, dict):
        return str(body.get("text") or "") + "".join(_flat(part) for part in body.get("content") or ())
    return ""


def _file(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._ -]", "_", name)
