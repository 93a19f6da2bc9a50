"""A ServiceNow of our own on a local port: its table API keeps state and refuses what a real instance would.

Sources: docs.servicenow.com, "Table API", "Attachment API"; the data policies are those of the base system.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from itertools import count

from aiohttp import web

from tests.fakes.standin import Standin, no, read

STATES = ("1", "2", "3", "6", "7", "8")
CLOSE_CODES = ("Resolved by caller", "Solution provided", "No resolution provided")
WRITABLE = {
    "incident": {
        *("short_description", "description", "correlation_id", "correlation_display", "impact", "urgency", "state"),
        *("close_code", "close_notes", "work_notes", "comments", "assignment_group", "caller_id", "category"),
    },
    "change_request": {
        *("type", "short_description", "description", "correlation_id", "correlation_display", "impact", "risk"),
        *("state", "close_code", "close_notes", "work_notes", "assignment_group", "std_change_producer_version"),
        "category",
    },
}
# The state model of the base system: normal by Assess and Authorize, standard straight to Scheduled.
WAYS = {
    "-5": ("-4", "-3", "-2", "4"), "-4": ("-3", "4"), "-3": ("-2", "4"), "-2": ("-1", "4"), "-1": ("0", "4"),
    "0": ("3",), "3": (), "4": (),
}  # fmt: skip
LONGEST = {"short_description": 160, "description": 4000, "close_notes": 4000, "correlation_id": 100}


@dataclass
class Row:
    table: str
    values: dict[str, str]
    notes: list[str] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def sys_id(self) -> str:
        return self.values["sys_id"]


class ServiceNowServer(Standin):
    """Tables `incident` and `change_request`."""

    username = "tocsin"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._numbers = count(1)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/now/table/{table}", self._query),
            web.post("/api/now/table/{table}", self._insert),
            web.get("/api/now/table/{table}/{id}", self._get),
            web.patch("/api/now/table/{table}/{id}", self._update),
            web.get("/api/now/attachment", self._files),
            web.post("/api/now/attachment/file", self._attach),
        ]

    def allowed(self, request: web.Request) -> bool:
        pair = base64.b64encode(f"{self.username}:{self.token}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {pair}"

    async def _query(self, request: web.Request) -> web.Response:
        table, query = request.match_info["table"], request.query.get("sysparm_query", "")
        if table == "sys_journal_field":
            asked = re.fullmatch(r"element_id=(\w+)\^element=work_notes\^valueENDSWITH(\[.+\])", query)
            if asked is None:
                raise no(400, f"Invalid query {query}")
            notes = [
                note for row in self.rows if row.sys_id == asked[1] for note in row.notes if note.endswith(asked[2])
            ]
            return web.json_response({"result": [{"sys_id": "0" * 32} for _ in notes]})
        asked = re.fullmatch(r"(correlation_id|number)=([^^]+)(?:\^ORDERBYsys_created_on)?", query)
        if asked is None:
            raise no(400, f"Invalid query {query}")
        found = [row for row in self._of(table) if row.values.get(asked[1]) == asked[2]]
        return web.json_response({"result": [row.values for row in found[: int(request.query["sysparm_limit"])]]})

    async def _insert(self, request: web.Request) -> web.Response:
        table = request.match_info["table"]
        body = await self._body(request, table)
        if not body.get("short_description"):
            raise no(403, "Data Policy Exception: the following fields are mandatory: Short description")
        n = next(self._numbers)
        number = f"{'CHG' if table == 'change_request' else 'INC'}{n:07}"
        opened = "-5" if table == "change_request" else "1"
        given = {"sys_id": f"{n:032x}", "number": number, "state": opened, "sys_updated_on": "2026-03-01 12:00:00"}
        if table == "change_request":
            given |= {"approval": "not requested", "type": "normal"}
            if body.get("type") not in ("normal", "standard", "emergency"):
                raise no(400, "a change is normal, standard or emergency")
        row = Row(table, {**given, **body})
        self.rows.append(row)
        return web.json_response({"result": row.values}, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response({"result": self._row(request).values})

    async def _update(self, request: web.Request) -> web.Response:
        row = self._row(request)
        body = await self._body(request, row.table)
        if note := body.pop("work_notes", None):
            row.notes.append(note)
        state = body.get("state", row.values["state"])
        if row.table == "incident":
            if row.values["state"] in ("7", "8") and state != row.values["state"]:
                raise no(403, "Operation Failed: a closed incident is read only")
            if state in ("6", "7") and not (
                body.get("close_code", row.values.get("close_code")) in CLOSE_CODES
                and body.get("close_notes", row.values.get("close_notes"))
            ):
                raise no(
                    403, "Data Policy Exception: the following fields are mandatory: Resolution code, Resolution notes"
                )
        elif state != row.values["state"] and state not in WAYS[row.values["state"]]:
            raise no(403, f"Operation Failed: a change does not go from {row.values['state']} to {state}")
        elif state == "3" and not (body.get("close_code") and body.get("close_notes")):
            raise no(403, "Data Policy Exception: the following fields are mandatory: Close code, Close notes")
        row.values |= body
        return web.json_response({"result": row.values})

    async def _files(self, request: web.Request) -> web.Response:
        asked = re.fullmatch(r"table_sys_id=(\w+)\^file_name=(.+)", request.query.get("sysparm_query", ""))
        if asked is None:
            raise no(400, "Invalid query")
        there = [name for row in self.rows if row.sys_id == asked[1] for name, _ in row.files if name == asked[2]]
        return web.json_response({"result": [{"file_name": name} for name in there]})

    async def _attach(self, request: web.Request) -> web.Response:
        wanted = request.query
        row = next((row for row in self._of(wanted["table_name"]) if row.sys_id == wanted["table_sys_id"]), None)
        if row is None:
            raise no(404, "No Record found")
        row.files.append((wanted["file_name"], await request.read()))
        return web.json_response({"result": {"file_name": wanted["file_name"]}}, status=201)

    # -- what people do there ---------------------------------------------------------------------------------------

    def set(self, number: str, **values: str) -> Row:
        """Somebody changed a row."""
        row = next(row for row in self.rows if row.values["number"] == number)
        row.values |= values
        return row

    def word(
        self, row: Row, secret: str, *, delivery: str = "d1", by: str = "A person"
    ) -> tuple[bytes, dict[str, str]]:
        """What the business rule of docs/trackers.md sends: body and headers."""
        told = {"sys_id": row.sys_id, "number": row.values["number"], "event": "update", "by": by, "delivery": delivery}
        return json.dumps(told).encode(), {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}

    async def _body(self, request: web.Request, table: str) -> dict[str, str]:
        if table not in WRITABLE:
            raise no(400, f"Invalid table {table}")
        schema = {"type": "object", "additionalProperties": {"type": "string"}}
        body = await read(request, schema)
        for name, value in body.items():
            # A real instance ignores an unknown field; here it would be a mistake of ours.
            if name not in WRITABLE[table]:
                raise no(400, f"unknown field {name}")
            if len(value) > LONGEST.get(name, 10_000):
                raise no(400, f"{name} is too long")
        if table == "incident" and body.get("state", "1") not in STATES:
            raise no(400, "invalid state")
        return body

    def _of(self, table: str) -> list[Row]:
        return [row for row in self.rows if row.table == table]

    def _row(self, request: web.Request) -> Row:
        wanted = request.match_info["id"]
        found = next((row for row in self._of(request.match_info["table"]) if row.sys_id == wanted), None)
        if found is None:
            raise no(404, "No Record found")
        return found
