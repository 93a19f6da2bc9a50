"""A small Kubernetes API, as strict as the real one: TLS, a bearer token, and no path, verb or query that is not in
its documentation. What it refuses for another reason than a test's is kept in `violations`.

Pods and deployments of one namespace, their replica sets, events, the scale of a deployment, logs, Secrets; discovery
and OpenAPI as far as kubectl asks for them.
"""

import asyncio
import copy
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TOKEN = "eyJ-a-token-of-the-cluster"
LOCKED = "locked"  # a namespace that the token may not see
PATCHES = {
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/json-patch+json",
    "application/apply-patch+yaml",
}
READING = {"limit", "continue", "labelSelector", "fieldSelector", "watch", "resourceVersion", "timeoutSeconds"}
READING |= {"allowWatchBookmarks", "resourceVersionMatch", "sendInitialEvents", "includeObject", "pretty"}
WRITING = {"dryRun", "fieldManager", "fieldValidation", "force", "pretty"}
LOGS = {"container", "tailLines", "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "limitBytes"}

KINDS = {
    ("", "pods"): ("Pod", True, ["get", "list", "watch", "create", "delete", "patch", "update"]),
    ("", "secrets"): ("Secret", True, ["get", "list", "watch", "create", "delete", "patch", "update"]),
    ("", "configmaps"): ("ConfigMap", True, ["get", "list", "watch", "create", "delete", "patch", "update"]),
    ("", "events"): ("Event", True, ["get", "list", "watch"]),
    ("", "nodes"): ("Node", False, ["get", "list", "watch", "patch"]),
    ("apps", "deployments"): ("Deployment", True, ["get", "list", "watch", "create", "delete", "patch", "update"]),
    ("apps", "replicasets"): ("ReplicaSet", True, ["get", "list", "watch"]),
}
SHORT = {"pods": "po", "deployments": "deploy", "replicasets": "rs", "configmaps": "cm", "nodes": "no", "events": "ev"}


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """An answer that is not 2xx, as the API words it."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details or {}


@dataclass
class Cluster:
    """What is there, what was asked, and what should go wrong."""

    folder: Path
    url: str = ""
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    trouble: dict[str, int] = field(default_factory=dict)  # part of a path → status
    slow: set[str] = field(default_factory=set)  # part of a path that never answers
    logs: str = "starting\nready\n"
    token: str = TOKEN
    version: int = 100

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def put(self, resource: str, value: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
        self.version += 1
        meta = {"namespace": namespace, "uid": f"uid-{self.version}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        value["metadata"] = {**meta, **value["metadata"], "resourceVersion": str(self.version)}
        self.objects[(resource, namespace, value["metadata"]["name"])] = value
        return value

    def get(self, resource: str, name: str, namespace: str = "shop") -> dict[str, Any]:
        return self.objects[(resource, namespace, name)]

    def writes(self) -> list[str]:
        return [line for line in self.asked if not line.startswith("GET ")]


def deployment(name: str, image: str, replicas: int = 2, revision: int = 2) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "generation": 3,
            "labels": {"app": name},
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template(name, image),
        },
        "status": {
            "observedGeneration": 3,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
        },
    }


def template(name: str, image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": name, "image": image}]}}


def replicaset(owner: dict[str, Any], image: str, revision: int) -> dict[str, Any]:
    name, digest = owner["metadata"]["name"], f"{revision}f00"
    made = template(name, image)
    made["metadata"]["labels"]["pod-template-hash"] = digest
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{digest}",
            "labels": {"app": name, "pod-template-hash": digest},
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": name,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name, "pod-template-hash": digest}},
            "template": made,
        },
        "status": {"replicas": 0},
    }


def pod(name: str, app: str, phase: str = "Running", restarts: int = 0) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": "node-1", "containers": [{"name": app, "image": "registry.example.com/web:2"}]},
        "status": {
            "phase": phase,
            "podIP": "10.1.0.7",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {
                    "name": app,
                    "ready": phase == "Running",
                    "restartCount": restarts,
                    "image": "registry.example.com/web:2",
                    "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        },
    }


def fill(cluster: Cluster) -> None:
    """A shop with one deployment at its second revision, two pods, and what belongs to them."""
    owner = cluster.put("deployments", deployment("web", "registry.example.com/web:2"))
    for revision in (1, 2):
        cluster.put("replicasets", replicaset(owner, f"registry.example.com/web:{revision}", revision))
    for name, phase, restarts in (("web-1", "Running", 0), ("web-2", "Pending", 7)):
        cluster.put("pods", pod(name, "web", phase, restarts))
    cluster.put(
        "events",
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "web-2.1"},
            "involvedObject": {"kind": "Pod", "name": "web-2", "namespace": "shop"},
            "reason": "FailedScheduling",
            "message": "0/3 nodes are available",
            "type": "Warning",
            "count": 4,
            "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:10:00Z",
            "source": {"component": "default-scheduler"},
        },
    )
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "type": "Opaque"}
    cluster.put("secrets", {**secret, "data": {"password": "Y29ycmVjdC1ob3JzZQ=="}})
    cluster.put(
        "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"A": "1"}}
    )


# -- answering -------------------------------------------------------------------------------------------------------


class Api:
    """Answers for one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.cluster.asked.append(f"{request.method} {request.path_qs}")
        try:
            return await self._answer(request)
        except Refused as refused:
            return self._status(refused)

    def _status(self, refused: Refused) -> web.Response:
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(refused)}
        return web.json_response(
            {**body, "reason": refused.reason, "details": refused.details, "code": refused.code}, status=refused.code
        )

    def _violation(self, request: web.Request, code: int, reason: str, told: str) -> Refused:
        self.cluster.violations.append(f"{request.method} {request.path_qs}: {told}")
        return Refused(code, reason, told)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if strange := [name for name in request.headers if name.lower().startswith("impersonate-")]:
            raise self._violation(request, 403, "Forbidden", f"nobody is to be impersonated: {strange}")
        if request.headers.get("Authorization") != f"Bearer {self.cluster.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if any(part in request.path for part in self.cluster.slow):
            await asyncio.sleep(60)
        for part, code in self.cluster.trouble.items():
            if part in request.path:
                raise Refused(
                    code, {429: "TooManyRequests", 503: "ServiceUnavailable"}.get(code, "InternalError"), "busy"
                )
        if (found := self._discovery(request.path)) is not None:
            if request.method != "GET":
                raise self._violation(request, 405, "MethodNotAllowed", "only GET here")
            return web.json_response(found)
        if request.path.startswith("/openapi/v2"):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        if request.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            # kubectl sends it as Protocol Buffers; the verb stands in there as it is.
            allowed = b"delete" not in await request.read()
            review = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": {}}
            return web.json_response({**review, "status": {"allowed": allowed}}, status=201)
        return await self._resource(request)

    def _discovery(self, path: str) -> dict[str, Any] | None:
        if path == "/version":
            version = {"major": "1", "minor": "32", "gitVersion": "v1.32.4", "gitCommit": "x", "gitTreeState": "clean"}
            return {
                **version,
                "buildDate": "2026-01-01T00:00:00Z",
                "goVersion": "go1.23",
                "compiler": "gc",
                "platform": "linux/amd64",
            }
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [
                {
                    "name": name,
                    "versions": [{"groupVersion": f"{name}/v1", "version": "v1"}],
                    "preferredVersion": {"groupVersion": f"{name}/v1", "version": "v1"},
                }
                for name in ("apps", "authorization.k8s.io")
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/apis/authorization.k8s.io/v1":
            row = {"name": "selfsubjectaccessreviews", "singularName": "", "namespaced": False, "verbs": ["create"]}
            row["kind"] = "SelfSubjectAccessReview"
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": "authorization.k8s.io/v1",
                "resources": [row],
            }
        if path == "/openapi/v3":
            return {
                "paths": {of: {"serverRelativeURL": f"/openapi/v3/{of}?hash=1"} for of in ("api/v1", "apis/apps/v1")}
            }
        if path in ("/openapi/v3/api/v1", "/openapi/v3/apis/apps/v1"):
            return _openapi("apps" if "apps" in path else "")
        group = {"/api/v1": "", "/apis/apps/v1": "apps"}.get(path)
        if group is None:
            return None
        rows = [
            {"name": name, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": verbs}
            | ({"shortNames": [SHORT[name]]} if name in SHORT else {})
            for (of, name), (kind, namespaced, verbs) in KINDS.items()
            if of == group
        ]
        if group == "apps":
            scale = {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]}
            rows.append({"name": "deployments/scale", "singularName": "", "namespaced": True, **scale})
        version = "apps/v1" if group else "v1"
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows}

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[2:]) if parts[:2] == ["api", "v1"] else ("apps", parts[3:])
        if parts[:2] != ["api", "v1"] and parts[:3] != ["apis", "apps", "v1"]:
            raise self._violation(request, 404, "NotFound", "no such path")
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) == 2 and request.method == "GET":
            return web.json_response({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": rest[1]}})
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource, name, sub = [*rest, "", "", ""][:3]
        if (group, resource) not in KINDS or len(rest) > 3:
            raise self._violation(request, 404, "NotFound", "no such resource")
        if namespace == LOCKED:
            told = f'{resource} is forbidden: User "bot" cannot {request.method} resource "{resource}" in "{LOCKED}"'
            raise Refused(403, "Forbidden", told)
        if sub == "log":
            return self._log(request, namespace, name)
        if sub == "exec" and resource == "pods":
            return await self._exec(request, namespace, name)
        if request.method == "GET":
            self._known(request, READING)
            if name:
                return web.json_response(
                    self._scale(self._one(resource, namespace, name)) if sub else self._one(resource, namespace, name)
                )
            return await self._list(request, group, resource, namespace)
        return await self._write(request, group, resource, namespace, name, sub)

    def _known(self, request: web.Request, names: set[str]) -> None:
        if strange := set(request.query) - names:
            raise self._violation(request, 400, "BadRequest", f"unknown query {sorted(strange)}")

    def _one(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        found = self.cluster.objects.get((resource, namespace, name))
        if found is None:
            raise Refused(404, "NotFound", f'{resource} "{name}" not found', {"name": name, "kind": resource})
        return found

    def _log(self, request: web.Request, namespace: str, name: str) -> web.Response:
        self._known(request, LOGS)
        self._one("pods", namespace, name)
        lines = self.cluster.logs.splitlines(keepends=True)
        if "tailLines" in request.query:
            lines = lines[-int(request.query["tailLines"]) :]
        return web.Response(text="".join(lines))

    async def _exec(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """A program in a container that prints what it was called with, and ends with a code if it is `exit`."""
        self._known(request, {"command", "container", "stdin", "stdout", "stderr", "tty"})
        self._one("pods", namespace, name)
        if {"stdin", "tty"} & {key for key, value in request.query.items() if value in ("true", "1")}:
            raise self._violation(request, 400, "BadRequest", "nobody sits there")
        protocol = "v5.channel.k8s.io"
        if protocol not in request.headers.get("Sec-WebSocket-Protocol", ""):
            raise self._violation(request, 400, "BadRequest", "only WebSockets are understood here")
        words = request.query.getall("command")
        socket = web.WebSocketResponse(protocols=[protocol])
        await socket.prepare(request)
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if words[0] == "exit":
            causes = {"causes": [{"reason": "ExitCode", "message": words[1]}]}
            told = f"command terminated with non-zero exit code: exit status {words[1]}"
            status = {**status, "status": "Failure", "reason": "NonZeroExitCode", "message": told, "details": causes}
            await socket.send_bytes(b"\x02connection refused\n")
        await socket.send_bytes(b"\x01" + " ".join(words).encode() + b"\n")
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
        return socket

    async def _list(self, request: web.Request, group: str, resource: str, namespace: str) -> web.StreamResponse:
        found = [
            value
            for (of, where, _), value in sorted(self.cluster.objects.items())
            if of == resource and namespace in ("", where) and self._selected(request, value)
        ]
        if request.query.get("watch") in ("true", "1"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            for value in found:
                await response.write(json.dumps({"type": "ADDED", "object": value}).encode() + b"\n")
            await asyncio.sleep(30)
            return response
        kind = KINDS[(group, resource)][0]
        if "as=Table" in request.headers.get("Accept", ""):
            columns = [
                {"name": "Name", "type": "string", "priority": 0},
                {"name": "Status", "type": "string", "priority": 0},
            ]
            rows = [
                {
                    "cells": [one["metadata"]["name"], one.get("status", {}).get("phase", "")],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": "meta.k8s.io/v1",
                        "metadata": one["metadata"],
                    },
                }
                for one in found
            ]
            table = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns}
            return web.json_response({**table, "rows": rows})
        version = "apps/v1" if group else "v1"
        meta = {"resourceVersion": str(self.cluster.version)}
        return web.json_response({"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": found})

    def _selected(self, request: web.Request, value: dict[str, Any]) -> bool:
        labels = value["metadata"].get("labels", {})
        for part in filter(None, request.query.get("labelSelector", "").split(",")):
            key, _, wanted = part.partition("=")
            if labels.get(key) != wanted.removeprefix("="):
                return False
        for part in filter(None, request.query.get("fieldSelector", "").split(",")):
            key, _, wanted = part.partition("=")
            here: Any = value
            for step in key.split("."):
                here = here.get(step, "") if isinstance(here, dict) else ""
            if str(here) != wanted.removeprefix("="):
                return False
        return True

    def _scale(self, value: dict[str, Any]) -> dict[str, Any]:
        replicas = value["spec"]["replicas"]
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {key: value["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")},
            "spec": {"replicas": replicas},
            "status": {"replicas": replicas, "selector": "app=web"},
        }

    async def _write(
        self, request: web.Request, group: str, resource: str, namespace: str, name: str, sub: str
    ) -> web.Response:
        self._known(
            request, WRITING | ({"propagationPolicy", "gracePeriodSeconds"} if request.method == "DELETE" else set())
        )
        dry = request.query.get("dryRun")
        if dry not in (None, "All"):
            raise self._violation(request, 400, "BadRequest", "dryRun must be All")
        keep = dry is None
        if request.method == "POST" and not name:
            value = await self._json(request)
            called = value["metadata"]["name"]
            if (resource, namespace, called) in self.cluster.objects:
                raise Refused(
                    409, "AlreadyExists", f'{resource} "{called}" already exists', {"name": called, "kind": resource}
                )
            value = self.cluster.put(resource, value, namespace) if keep else value
            return web.json_response(value, status=201)
        found = self._one(resource, namespace, name)
        if request.method == "DELETE":
            if request.can_read_body and "All" in ((await request.json()).get("dryRun") or []):
                keep = False
            if keep:
                del self.cluster.objects[(resource, namespace, name)]
            return web.json_response(
                {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": name}}
            )
        if request.method not in ("PATCH", "PUT"):
            raise self._violation(request, 405, "MethodNotAllowed", "no such method here")
        value = await self._changed(request, found, sub)
        value = self.cluster.put(resource, value, namespace) if keep else value
        return web.json_response(self._scale(value) if sub == "scale" else value)

    async def _json(self, request: web.Request) -> Any:
        try:
            return await request.json()
        except ValueError:
            raise self._violation(request, 415, "UnsupportedMediaType", "only JSON is understood here") from None

    async def _changed(self, request: web.Request, found: dict[str, Any], sub: str) -> dict[str, Any]:
        body = await self._json(request)
        value = copy.deepcopy(found)
        if request.method == "PUT":
            stale = body["metadata"].get("resourceVersion")
            if stale is not None and stale != found["metadata"]["resourceVersion"]:
                name = found["metadata"]["name"]
                told = f'Operation cannot be fulfilled on "{name}": the object has been modified; please apply'
                raise Refused(
                    409, "Conflict", f"{told} your changes to the latest version and try again", {"name": name}
                )
            return (
                body if sub != "scale" else {**value, "spec": {**value["spec"], "replicas": body["spec"]["replicas"]}}
            )
        kind = request.headers.get("Content-Type", "").partition(";")[0]
        if kind not in PATCHES:
            raise self._violation(request, 415, "UnsupportedMediaType", f"patch of type {kind!r}")
        if kind == "application/json-patch+json":
            for change in body:
                _set(value, change["path"].strip("/").split("/"), change["op"], change.get("value"))
            return value
        return _merged(value, body)


def _openapi(group: str) -> dict[str, Any]:
    """What kubectl looks for: what can be sent with a patch, and what kinds look like."""
    paths, schemas = {}, {}
    for (of, resource), (kind, _, _) in KINDS.items():
        if of != group:
            continue
        about = {"group": group, "version": "v1", "kind": kind}
        sent = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in ("dryRun", "fieldValidation")]
        root = "/apis/apps/v1" if group else "/api/v1"
        patch = {
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": about,
            "parameters": sent,
            "responses": {},
        }
        paths[f"{root}/namespaces/{{namespace}}/{resource}/{{name}}"] = {"patch": patch}
        name = f"io.k8s.api.{group or 'core'}.v1.{kind}"
        fields = {"apiVersion": {"type": "string", "description": "which version"}}
        schemas[name] = {
            "type": "object",
            "description": f"{kind} is one of the kinds of this cluster.",
            "properties": fields,
            "x-kubernetes-group-version-kind": [about],
        }
    info = {"title": "Kubernetes", "version": "v1.32.4"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _set(value: Any, path: list[str], op: str, new: Any) -> None:
    *above, last = [step.replace("~1", "/").replace("~0", "~") for step in path]
    for step in above:
        value = value[step]
    if op == "remove":
        value.pop(last, None)
    elif op in ("add", "replace"):
        value[last] = new


def _merged(value: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(value, dict):
        return patch
    merged = {**value, **{key: _merged(value.get(key, {}), item) for key, item in patch.items() if item is not None}}
    return {key: item for key, item in merged.items() if patch.get(key, item) is not None}


# -- running ---------------------------------------------------------------------------------------------------------


def certificates(folder: Path) -> None:
    """An authority (`ca.pem`) and a certificate of it for 127.0.0.1 (`server.pem`, `server.key`)."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *ec, "-days", "2", "-subj", "/CN=cluster", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-new", *ec, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.pem")


@asynccontextmanager
async def kubernetes(folder: Path) -> AsyncIterator[Cluster]:
    """One that runs; *folder* holds what `certificates` made."""
    cluster = Cluster(folder)
    fill(cluster)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", Api(cluster).answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = TestServer(application, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    cluster.url = str(server.make_url("")).rstrip("/")
    try:
        yield cluster
    finally:
        await server.close()
