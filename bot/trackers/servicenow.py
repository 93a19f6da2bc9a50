"""ServiceNow by its table API: incidents found again by `correlation_id`, in which every value is a text.

Times are UTC and say so nowhere; states are numbers. Its webhooks are a business rule of yours (docs/trackers.md).
"""

import hmac
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pydantic import Field

from bot.catalog.config import Strict
from bot.catalog.tracking import Access
from bot.incidents.tracker import ChangeType, Gone, Heard, Issue, Move, Tracker, Wish
from bot.kit.api import Api, Refused
from bot.kit.errors import PermanentError
from bot.kit.text import clean, clip, one_line
from bot.runs.redact import Redactor

SHORT, TEXT, CLOSE = 160, 4000, 4000
FIELDS = "sys_id,number,short_description,state,correlation_id,approval,type,sys_updated_on"
CHANGE = "change_request"
STATES = {"1": "New", "2": "In Progress", "3": "On Hold", "6": "Resolved", "7": "Closed", "8": "Canceled"}
RESOLVED, IN_PROGRESS, CANCELED = "6", "2", "8"
DONE = ("6", "7", "8")
# States of a change, and the way it goes: what asks for approval, and from the approval to the end.
STEPS = {
    "-5": "New", "-4": "Assess", "-3": "Authorize", "-2": "Scheduled", "-1": "Implement", "0": "Review", "3": "Closed",
    "4": "Canceled",
}  # fmt: skip
NEW, IMPLEMENT, CLOSED_CHANGE = "-5", "-1", "3"
ASKS: Mapping[ChangeType, str] = {"normal": "-4", "standard": "-2", "emergency": "-3"}
ONWARD = {"-2": "-1", "-1": "0", "0": "3"}
# Impact and urgency, 1 the highest; ServiceNow makes the priority of both.
RANK = {"SEV1": ("1", "1"), "SEV2": ("1", "2"), "SEV3": ("2", "2"), "SEV4": ("2", "3"), "SEV5": ("3", "3")}


class Options(Strict):
    """`options` of a tracker of kind servicenow."""

    table: str = Field(default="incident", pattern=r"^[a-z][a-z0-9_]{0,79}$", description="where tickets are kept")
    close_code: str = Field(
        default="Resolved by caller", description="what it is resolved with; it must be a choice there"
    )
    assignment_group: str | None = Field(default=None, description="sys_id of the group that gets it")
    caller_id: str | None = Field(default=None, description="sys_id of whoever calls")
    fields: dict[str, str] = Field(default_factory=dict, description="further fields, such as `category`")
    change_fields: dict[str, str] = Field(default_factory=dict, description="the same for change requests")


class ServiceNow:
    """One table of one instance."""

    def __init__(self, access: Access) -> None:
        self.access, self.options = access, access.options
        self.table = f"/api/now/table/{access.options.table}"

    async def create(self, wish: Wish) -> Issue:
        """Looked for by its correlation id first, so that a retry never doubles it."""
        query = {"sysparm_query": f"correlation_id={wish.key}^ORDERBYsys_created_on", "sysparm_limit": "1"}
        found = await self._ask("GET", self.table, params=query)
        rows = found if isinstance(found, list) else []
        if rows:
            return self._issue(rows[0])
        impact, urgency = RANK.get(wish.severity, ("2", "2"))
        body = wish.body + (f"\n\n{wish.url}" if wish.url else "")
        row = {
            **self.options.fields,
            "short_description": clip(one_line(clean(wish.title)), SHORT),
            "description": clip(clean(body), TEXT),
            "correlation_id": wish.key,
            "correlation_display": "Tocsin",
            "impact": impact,
            "urgency": urgency,
        }
        for name in ("assignment_group", "caller_id"):
            if value := getattr(self.options, name):
                row[name] = value
        return self._issue(await self._ask("POST", self.table, json=row))

    async def find(self, text: str) -> Issue:
        """By number, sys_id, or an address with a sys_id in it."""
        if found := re.search(r"(?:^|sys_id(?:=|%3D))([0-9a-f]{32})(?![0-9a-f])", text.strip()):
            return await self.read(found[1])
        if (number := re.search(r"(?:^|[=/])([A-Z]{2,6}[0-9]{5,12})(?![0-9])", text.strip())) is None:
            told = f"“{clip(one_line(text), 100)}” names no ticket of ServiceNow"
            raise PermanentError(f"{told}; write its number, or an address with its sys_id")
        rows = await self._ask("GET", self.table, params={"sysparm_query": f"number={number[1]}", "sysparm_limit": "1"})
        if not rows:
            raise Gone(f"{self.access.name} has no {number[1]}, or does not show it to us")
        return self._issue(rows[0])

    async def read(self, id_: str) -> Issue:
        """By sys_id."""
        return self._issue(await self._ask("GET", f"{self.table}/{quote(id_, safe='')}"))

    async def move(self, id_: str, move: Move) -> Issue:
        """By its state. What is resolved needs a code and a note; what is closed there stays closed."""
        now = await self.read(id_)
        if now.done == move.done and (move.status is None or _same(now.status, move.status)):
            return now
        state = self._state(move)
        change = {"state": state}
        if state in (RESOLVED, "7"):
            note = clip(clean(move.note).strip(), CLOSE) or "Resolved in Tocsin"
            change |= {"close_code": self.options.close_code, "close_notes": note}
        return self._issue(await self._ask("PATCH", f"{self.table}/{quote(id_, safe='')}", json=change))

    async def rank(self, id_: str, severity: str) -> None:
        """Impact and urgency; the priority follows from them."""
        if severity in RANK:
            impact, urgency = RANK[severity]
            await self._ask("PATCH", f"{self.table}/{quote(id_, safe='')}", json={"impact": impact, "urgency": urgency})

    async def comment(self, id_: str, text: str, key: str) -> None:
        """A work note, which callers do not see."""
        await self._note(self.options.table, id_, text, key)

    async def attach(self, id_: str, name: str, content: bytes) -> None:
        """A file of the same name is there already."""
        plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
        query = f"table_sys_id={id_}^file_name={plain}"
        if await self._ask("GET", "/api/now/attachment", params={"sysparm_query": query, "sysparm_limit": "1"}):
            return
        where = {"table_name": self.options.table, "table_sys_id": id_, "file_name": plain}
        headers = {"Content-Type": "application/octet-stream"}
        await self._ask("POST", "/api/now/attachment/file", params=where, body=content, headers=headers)

    # -- changes --------------------------------------------------------------------------------------------------

    async def propose(self, wish: Wish, kind: ChangeType) -> Issue:
        """A change request, moved to where its approval is asked for."""
        path = f"/api/now/table/{CHANGE}"
        query = {"sysparm_query": f"correlation_id={wish.key}^ORDERBYsys_created_on", "sysparm_limit": "1"}
        rows = await self._ask("GET", path, params=query)
        row = rows[0] if isinstance(rows, list) and rows else None
        if row is None:
            change = {
                **self.options.change_fields,
                "type": kind,
                "short_description": clip(one_line(clean(wish.title)), SHORT),
                "description": clip(clean(wish.body), TEXT),
                "correlation_id": wish.key,
                "correlation_display": "Tocsin",
            }
            row = await self._ask("POST", path, json=change)
        issue = self._issue(row, CHANGE)
        if row.get("state") == NEW and row.get("approval") != "rejected":
            issue = self._issue(await self._change(issue.id, {"state": ASKS[kind]}), CHANGE)
        return issue

    async def verdict(self, id_: str) -> bool | None:
        """What is scheduled is approved; a normal change that was rejected is new again."""
        row = await self._ask("GET", f"/api/now/table/{CHANGE}/{quote(id_, safe='')}")
        state, approval = str(row.get("state")), str(row.get("approval"))
        if approval == "rejected" or state == "4":
            return False
        return True if state in ONWARD or state == CLOSED_CHANGE else None

    async def begin(self, id_: str) -> None:
        """To Implement, if it is scheduled."""
        row = await self._ask("GET", f"/api/now/table/{CHANGE}/{quote(id_, safe='')}")
        if row.get("state") == "-2":
            await self._change(id_, {"state": IMPLEMENT})

    async def conclude(self, id_: str, key: str, *, ok: bool, note: str) -> Issue:
        """Through Review to Closed, one state after the other."""
        row = await self._ask("GET", f"/api/now/table/{CHANGE}/{quote(id_, safe='')}")
        if row.get("state") not in ONWARD:
            if row.get("state") not in (CLOSED_CHANGE, "4"):
                await self._note(CHANGE, id_, note, key)
            return self._issue(row, CHANGE)
        while (state := ONWARD.get(str(row.get("state")))) is not None:
            change = {"state": state}
            if state == CLOSED_CHANGE:
                change |= {
                    "close_code": "successful" if ok else "unsuccessful",
                    "close_notes": clip(clean(note), CLOSE),
                }
            row = await self._change(id_, change)
        return self._issue(row, CHANGE)

    async def _change(self, id_: str, values: Mapping[str, str]) -> Any:
        return await self._ask("PATCH", f"/api/now/table/{CHANGE}/{quote(id_, safe='')}", json=dict(values))

    # -- how it is asked ------------------------------------------------------------------------------------------

    async def _note(self, table: str, id_: str, text: str, key: str) -> None:
        mark = f"[{key}]"
        query = f"element_id={id_}^element=work_notes^valueENDSWITH{mark}"
        journal = {"sysparm_query": query, "sysparm_limit": "1", "sysparm_fields": "sys_id"}
        if await self._ask("GET", "/api/now/table/sys_journal_field", params=journal):
            return
        note = {"work_notes": f"{clip(clean(text), TEXT)}\n\n{mark}"}
        await self._ask("PATCH", f"/api/now/table/{table}/{quote(id_, safe='')}", json=note)

    def _state(self, move: Move) -> str:
        if move.status is None:
            return (CANCELED if move.dropped else RESOLVED) if move.done else IN_PROGRESS
        known = next((number for number, name in STATES.items() if _same(name, move.status)), None)
        if known is None and not re.fullmatch(r"-?[0-9]{1,4}", move.status):
            raise PermanentError(f"ServiceNow has no state {move.status!r}; there is: {', '.join(STATES.values())}")
        return known or move.status

    def _issue(self, row: Any, table: str | None = None) -> Issue:
        if not isinstance(row, dict) or not row.get("sys_id") or not row.get("number"):
            raise PermanentError(f"{self.access.name} answered with a ticket that has no sys_id or no number")
        state = str(row.get("state") or "")
        where = quote(f"{table or self.options.table}.do?sys_id={row['sys_id']}", safe="")
        names, over = (STEPS, ("3", "4")) if table == CHANGE else (STATES, DONE)
        return Issue(
            id=str(row["sys_id"]),
            reference=str(row["number"]),
            url=f"{self.access.url}/nav_to.do?uri={where}",
            status=names.get(state, state),
            done=state in over,
            title=str(row.get("short_description") or ""),
        )

    async def _ask(self, method: str, path: str, *, params: Mapping[str, str] | None = None, **more: Any) -> Any:
        """What stands under `result`. An unknown sys_id is a 404."""
        opened = await self.access.open()
        headers = {**opened.headers, "Accept": "application/json", **more.pop("headers", {})}
        hide = Redactor(opened.secrets).text
        api = Api(self.access.name, self.access.url, headers, hide, self.access.hint, ca=self.access.ca)
        query = {} if path.startswith("/api/now/attachment") or "sys_journal" in path else {"sysparm_fields": FIELDS}
        try:
            answer = await api.ask(method, path, params=list({**query, **(params or {})}.items()), **more)
        except Refused as error:
            if error.status == 404:
                raise Gone(f"{self.access.name} has no such ticket, or does not show it to us") from None
            raise
        return answer.get("result")


def make(access: Access) -> Tracker:
    """The tracker that *access* opens."""
    return ServiceNow(access)


def genuine(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """`Authorization: Bearer …`, which the business rule sends; ServiceNow signs nothing by itself."""
    given = headers.get("Authorization", "")
    return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {secret}".encode())


def heard(headers: Mapping[str, str], payload: Any) -> Heard | None:
    """What the business rule of docs/trackers.md sends: `sys_id`, `number`, `event`, `by`, `delivery`."""
    if not isinstance(payload, dict):
        raise PermanentError("the body is not a JSON object")
    sys_id = payload.get("sys_id")
    if not isinstance(sys_id, str) or not re.fullmatch(r"[0-9a-f]{32}", sys_id):
        raise PermanentError("the body has no sys_id of 32 hex digits")
    delivery = payload.get("delivery")
    return Heard(
        id=sys_id,
        delivery=delivery if isinstance(delivery, str) and delivery else None,
        what=str(payload.get("event") or ""),
        by=str(payload.get("by") or ""),
    )


def _same(status: str, wanted: str | None) -> bool:
    return wanted is not None and status.casefold() == wanted.casefold()
