"""A local HTTP service that is what runbooks talk to: load balancer, health check, feature flags, Loki, Prometheus."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "opensesame77"


@dataclass
class Services:
    """What it holds, and what it was asked."""

    port: int = 0
    weights: list[tuple[str, int]] = field(default_factory=list)
    healthy: Callable[[], bool] = lambda: True
    flags: dict[str, bool] = field(default_factory=dict)
    switched: list[bool] = field(default_factory=list)
    lines: list[list[str]] = field(default_factory=list)
    searched: list[dict[str, str]] = field(default_factory=list)
    # The newest number for a query.
    number: Callable[[str], float] = lambda query: 0.0
    queries: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        parts = urlsplit(target)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        match method, *parts.path.strip("/").split("/"):
            case "GET", "healthz":
                return (200, {"status": "ok"}) if self.healthy() else (503, {"status": "starting"})
            case "PUT", "pools", str(), "members", str(host):
                if authorization != f"Bearer {TOKEN}":
                    self.refused.append(target)
                    return 401, {}
                self.weights.append((host, body["weight"]))
                return 200, {}
            case "GET", "flags", str(name) if name in self.flags:
                return 200, {"enabled": self.flags[name]}
            case "PUT", "flags", str(name) if name in self.flags:
                self.flags[name] = body["enabled"]
                self.switched.append(body["enabled"])
                return 200, {"enabled": self.flags[name]}
            case "GET", "loki", "api", "v1", "query_range":
                self.searched.append(asked)
                return 200, {"status": "success", "data": {"resultType": "streams", "result": self._streams()}}
            case _, "api", "v1", "query" | "query_range" as kind:
                return 200, self._numbers(kind, asked | (body or {}))
        return 404, {"error": f"there is no {method} {parts.path}"}

    def _streams(self) -> list[Any]:
        return [{"stream": {"service": "checkout"}, "values": self.lines}] if self.lines else []

    def _numbers(self, kind: str, asked: dict[str, str]) -> Any:
        self.queries.append(asked["query"])
        value = str(self.number(asked["query"]))
        if kind == "query":
            found = [{"metric": {}, "value": [float(asked.get("time", 1e9)), value]}]
            return {"status": "success", "data": {"resultType": "vector", "result": found}}
        start, end, step = (float(asked[key]) for key in ("start", "end", "step"))
        points = [[start + i * step, value] for i in range(int((end - start) / step) + 1)]
        return {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}}


@contextmanager
def services() -> Iterator[Services]:
    """One that runs, on a free port of this machine."""
    made = Services()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_PUT(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            form = "form" in (self.headers.get("Content-Type") or "")
            body = (
                {key: values[0] for key, values in parse_qs(raw.decode()).items()} if form else json.loads(raw or b"{}")
            )
            status, told = made.answer(self.command, self.path, body, self.headers.get("Authorization") or "")
            out = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
