"""A Kestra of our own on a local port, after its documentation and controllers: strict about what it is asked.

An execution passes through the states it was planned to pass through, one a look. As in a real one, a new execution
is queued first and shows a little later.
"""

import asyncio
import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TERMINAL = {"SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "RETRIED", "SKIPPED"}
START = {"wait", "labels", "revision", "scheduleDate", "breakpoints", "kind"}
FILTER = re.compile(r"filters\[(\w+)\]\[(\w+)\](?:\[([^\]]+)\])?")


@dataclass
class Flow:
    """A flow: the inputs it needs, and what its executions go through."""

    states: Sequence[str] = ("CREATED", "RUNNING", "SUCCESS")
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    logs: Sequence[str] = ()
    disabled: bool = False


@dataclass
class Execution:
    id: str
    flow: str
    states: list[str]
    labels: list[dict[str, str]]
    inputs: dict[str, str]
    hidden: int = 0
    killed: bool = False
    resumed: list[dict[str, str]] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.states[0]


@dataclass
class Fault:
    method: str
    path: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    seconds: float = 0.0
    body: bytes = b""


class KestraServer:
    """One tenant. *lag*: how many looks a new execution stays unseen; *filters*: whether it knows the newer filters,
    or else the older parameters, or with None neither; *stubborn*: a kill is taken and not obeyed.
    """

    def __init__(self, api: str = "/api/v1/main", *, filters: bool | None = True) -> None:
        self.api = api
        self.filters = filters
        self.flows: dict[str, Flow] = {"ops/restart": Flow()}
        self.executions: list[Execution] = []
        self.authorization = "Basic " + base64.b64encode(b"bot@example.com:kestra-password").decode()
        self.seen: list[tuple[str, str]] = []
        self.refused: list[str] = []
        self.faults: list[Fault] = []
        self.lag = 0
        self.stubborn = False
        self.url_of_answers: str | None = None
        self.started = asyncio.Event()

    async def start(self) -> "KestraServer":
        app = web.Application(middlewares=[self._around])
        base = self.api
        app.add_routes(
            [
                web.get(f"{base}/executions/search", self._search),
                web.get(f"{base}/executions/{{id}}", self._get),
                web.delete(f"{base}/executions/{{id}}/kill", self._kill),
                web.post(f"{base}/executions/{{id}}/resume", self._resume),
                web.post(f"{base}/executions/{{namespace}}/{{flow}}/validate", self._validate),
                web.post(f"{base}/executions/{{namespace}}/{{flow}}", self._create),
                web.get(f"{base}/logs/{{id}}", self._logs),
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

    def fault(self, method: str, path: str, **more: Any) -> None:
        self.faults.append(Fault(method, path, **more))

    def made(self, method: str) -> list[str]:
        return [path for one, path in self.seen if one == method]

    # -- every request ----------------------------------------------------------------------------------------------

    @web.middleware
    async def _around(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = request.path.removeprefix(self.api)
        self.seen.append((request.method, path))
        fault = next((f for f in self.faults if f.method == request.method and re.search(f.path, path)), None)
        if fault is not None:
            self.faults.remove(fault)
            await asyncio.sleep(fault.seconds)
            if fault.lost:
                await handler(request)
                request.transport.close()
                return web.Response()
            if fault.status:
                return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        try:
            if request.headers.get("Authorization") != self.authorization:
                raise self._no(web.HTTPUnauthorized, "Unauthorized")
            return await handler(request)
        except web.HTTPException as refused:
            self.refused.append(f"{request.method} {path}: {refused.status} {refused.text}")
            raise

    def _no(self, kind: type[web.HTTPError], message: str) -> web.HTTPError:
        return kind(text=json.dumps({"message": message}), content_type="application/json")

    def _known(self, request: web.Request, names: set[str]) -> None:
        if unknown := set(request.query) - names:
            raise self._no(web.HTTPUnprocessableEntity, f"unknown parameters {unknown}")

    async def _form(self, request: web.Request) -> dict[str, str]:
        """The parts of a multipart form; a body of any other kind is not taken."""
        body = await request.read()
        if request.content_type != "multipart/form-data":
            raise self._no(web.HTTPUnsupportedMediaType, f"Content Type [{request.content_type}] not allowed")
        head = Message()
        head["Content-Type"] = request.headers["Content-Type"]
        border = b"--" + str(head.get_param("boundary")).encode()
        pieces = body.split(border)
        if pieces[0] != b"" or pieces[-1] != b"--\r\n":
            raise self._no(web.HTTPBadRequest, "malformed multipart body")
        found: dict[str, str] = {}
        for piece in pieces[1:-1]:
            top, gap, value = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            name = re.fullmatch(r'Content-Disposition: form-data; name="([^"\r\n]+)"', top.decode())
            if not gap or name is None or not value.endswith(b"\r\n") or name[1] in found:
                raise self._no(web.HTTPBadRequest, f"malformed part {top!r}")
            found[name[1]] = value.removesuffix(b"\r\n").decode()
        return found

    def _labels(self, request: web.Request) -> list[dict[str, str]]:
        found: dict[str, str] = {}
        for label in request.query.getall("labels", []):
            parts = label.split(":")
            if len(parts) != 2 or not parts[0].strip() or not parts[1].strip() or re.search(r"\s", parts[0]):
                raise self._no(web.HTTPUnprocessableEntity, "Invalid queryString parameter")
            if parts[0] in found:
                raise self._no(web.HTTPUnprocessableEntity, "The queryString parameter keys contains duplicities")
            if parts[0].startswith("system."):
                raise self._no(web.HTTPUnprocessableEntity, "System labels can only be set by Kestra itself")
            found[parts[0]] = parts[1]
        return [{"key": key, "value": value} for key, value in found.items()]

    # -- the endpoints ------------------------------------------------------------------------------------------------

    def _flow(self, request: web.Request) -> tuple[str, Flow]:
        name = f"{request.match_info['namespace']}/{request.match_info['flow']}"
        if name not in self.flows:
            raise self._no(web.HTTPNotFound, "Not Found")
        flow = self.flows[name]
        if flow.disabled:
            raise self._no(web.HTTPConflict, "Illegal state: Cannot execute a disabled flow")
        return name, flow

    def _wrong(self, flow: Flow, inputs: dict[str, str]) -> dict[str, str]:
        wrong = {name: "missing required input" for name in flow.inputs if name not in inputs}
        for name, value in inputs.items():
            kind = flow.inputs.get(name)
            try:
                if kind == "INT":
                    int(value)
                elif kind == "BOOLEAN":
                    assert value in ("true", "false")
                elif kind in ("JSON", "ARRAY"):
                    json.loads(value)
            except (ValueError, AssertionError):
                wrong[name] = f"Invalid input for `{name}`, expected `{kind}`"
        return wrong

    async def _create(self, request: web.Request) -> web.Response:
        self._known(request, START)
        if request.query.get("wait") not in (None, "true", "false"):
            raise self._no(web.HTTPBadRequest, "wait")
        name, flow = self._flow(request)
        inputs, labels = await self._form(request), self._labels(request)
        if wrong := self._wrong(flow, inputs):
            raise self._no(web.HTTPUnprocessableEntity, f"Invalid entity: {'; '.join(wrong.values())}")
        made = Execution(f"exec{len(self.executions) + 1}", name, list(flow.states), labels, inputs, hidden=self.lag)
        self.executions.append(made)
        self.started.set()
        return web.json_response({**self._shown(made), "url": self.url_of_answers or f"/ui/main/executions/{made.id}"})

    async def _validate(self, request: web.Request) -> web.Response:
        self._known(request, {"labels", "revision"})
        name, flow = self._flow(request)
        inputs = await self._form(request)
        wrong = self._wrong(flow, inputs)
        shown = [
            {
                "input": {"id": one, "type": kind},
                "value": inputs.get(one),
                "enabled": True,
                "errors": [{"message": wrong[one]}] if one in wrong else [],
            }
            for one, kind in flow.inputs.items()
        ]
        return web.json_response({"id": name.partition("/")[2], "namespace": name.partition("/")[0], "inputs": shown})

    def _find(self, request: web.Request) -> Execution:
        for execution in self.executions:
            if execution.id == request.match_info["id"] and not execution.hidden:
                return execution
            if execution.id == request.match_info["id"]:
                execution.hidden -= 1
        raise self._no(web.HTTPNotFound, "Not Found")

    def _shown(self, execution: Execution) -> dict[str, Any]:
        namespace, _, flow = execution.flow.partition("/")
        done = execution.state in ("SUCCESS", "WARNING")
        return {
            "id": execution.id,
            "namespace": namespace,
            "flowId": flow,
            "flowRevision": 1,
            "inputs": execution.inputs,
            "outputs": self.flows[execution.flow].outputs if done else None,
            "labels": execution.labels,
            "state": {"current": execution.state, "histories": []},
        }

    async def _get(self, request: web.Request) -> web.Response:
        self._known(request, set())
        execution = self._find(request)
        shown = self._shown(execution)
        if execution.killed and not self.stubborn:
            execution.states = ["KILLED"]
        elif len(execution.states) > 1 and execution.state != "PAUSED":
            execution.states.pop(0)
        return web.json_response(shown)

    async def _search(self, request: web.Request) -> web.Response:
        wanted: dict[str, str] = {}
        namespace = None
        for key, value in request.query.items():
            if found := FILTER.fullmatch(key):
                if not self.filters:
                    continue
                if found[1] == "labels" and found[2] == "EQUALS":
                    wanted[found[3]] = value
                elif found[1] == "namespace" and found[2] == "EQUALS":
                    namespace = value
                else:
                    raise self._no(web.HTTPUnprocessableEntity, f"unknown filter {key}")
            elif self.filters is False and key == "labels":
                wanted |= dict([value.split(":")])
            elif self.filters is False and key == "namespace":
                namespace = value
            elif key == "sort" and value.rpartition(":")[2] not in ("asc", "desc"):
                raise self._no(web.HTTPUnprocessableEntity, "sort")
        results = [
            self._shown(execution)
            for execution in self.executions[::-1]
            if not execution.hidden
            and (namespace is None or execution.flow.startswith(namespace))
            and all({"key": key, "value": value} in execution.labels for key, value in wanted.items())
        ]
        for execution in self.executions:
            execution.hidden = max(0, execution.hidden - 1)
        return web.json_response({"results": results[: int(request.query.get("size", 10))], "total": len(results)})

    async def _kill(self, request: web.Request) -> web.Response:
        self._known(request, {"isOnKillCascade"})
        execution = self._find(request)
        if execution.state in TERMINAL:
            raise self._no(web.HTTPConflict, "Illegal state: Execution is already finished, can't kill it")
        execution.killed = True
        execution.states = ["KILLING", *(["KILLED"] if not self.stubborn else [])]
        return web.Response(status=202)

    async def _resume(self, request: web.Request) -> web.Response:
        self._known(request, set())
        execution = self._find(request)
        if execution.state != "PAUSED":
            raise self._no(web.HTTPConflict, "Illegal state: Execution is not paused, can't resume it")
        execution.resumed.append(await self._form(request))
        execution.states.pop(0)
        return web.Response(status=204)

    async def _logs(self, request: web.Request) -> web.Response:
        self._known(request, {"minLevel", "taskRunId", "taskId", "attempt"})
        execution = self._find(request)
        lines = self.flows[execution.flow].logs
        shown = lines if execution.state in TERMINAL else lines[: len(lines) // 2]
        return web.json_response(
            [
                {"taskId": "task", "level": line.partition(" ")[0], "message": line.partition(" ")[2], "timestamp": "x"}
                for line in shown
            ]
        )
