"""A real Prometheus that watches the tests, and two real Alertmanagers that do not know of each other."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PROGRAMS = ("prometheus", "prometheus-alertmanager")

RULES = """\
groups:
  - name: tests
    rules:
      - alert: WorkFails
        expr: work_failing > 0
        labels: {severity: critical}
        annotations:
          summary: 'Work of {{ $labels.service }} fails'
          runbook_url: https://runbooks.example.com/work
"""

PROMETHEUS = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms, external_labels: {{at: test}}}}
rule_files: [rules.yml]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{one}', '{two}']}}]}}]}}
scrape_configs: [{{job_name: tests, static_configs: [{{targets: ['{metrics}']}}]}}]
"""

# What is called twice-… goes to both connections of the bot, and the second Alertmanager sends it as well.
FIRST = """\
route:
  receiver: tocsin
  group_by: [alertname, service]
  group_wait: 500ms
  group_interval: 500ms
  repeat_interval: 1h
  routes:
    - {{matchers: ['service=~"twice.*"'], receiver: tocsin, continue: true}}
    - {{matchers: ['service=~"twice.*"'], receiver: second}}
"""
SECOND = """\
route:
  receiver: nobody
  group_by: [alertname, service]
  group_wait: 500ms
  group_interval: 500ms
  repeat_interval: 1h
  routes:
    - {{matchers: ['service=~"twice.*"'], receiver: tocsin}}
"""
RECEIVERS = """\
receivers:
  - name: nobody
  - name: tocsin
    webhook_configs:
      - url: http://127.0.0.1:{bot}/alerts/prometheus
        http_config: {{authorization: {{type: Bearer, credentials: {token}}}}}
  - name: second
    webhook_configs:
      - url: http://127.0.0.1:{bot}/alerts/second
        http_config: {{authorization: {{type: Bearer, credentials: {token}}}}}
"""


@dataclass
class Monitoring:
    """What watches, and what it watches: a number for each service."""

    bot: int  # the port at which it expects the bot
    alertmanagers: list[int] = field(default_factory=list)
    failing: dict[str, int] = field(default_factory=dict)

    def fires(self, service: str) -> None:
        self.failing[service] = 1

    def ends(self, service: str) -> None:
        self.failing[service] = 0

    def active(self, service: str) -> list[dict[str, Any]]:
        """The alerts of *service* that the first Alertmanager knows of, silenced or not."""
        return json.loads(_ask(self.alertmanagers[0], f"/api/v2/alerts?filter=service%3D%22{service}%22"))

    def silence(self, service: str) -> None:
        matcher = {"name": "service", "value": service, "isRegex": False, "isEqual": True}
        moments = [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ahead)) for ahead in (-1, 3600)]
        words = {"startsAt": moments[0], "endsAt": moments[1], "createdBy": "tests", "comment": "known"}
        _ask(self.alertmanagers[0], "/api/v2/silences", json.dumps({"matchers": [matcher], **words}))

    def failures(self) -> float:
        """How often the first Alertmanager could not deliver to a webhook and tried again."""
        lines = _ask(self.alertmanagers[0], "/metrics").splitlines()
        name = 'alertmanager_notification_requests_failed_total{integration="webhook"}'
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextmanager
def monitoring(folder: Path, token: str) -> Iterator[Monitoring]:
    """All of it, started and ready."""
    made = Monitoring(bot=_port())
    server = _metrics(made)
    one, two, prometheus = _port(), _port(), _port()
    receivers = RECEIVERS.format(bot=made.bot, token=token)
    (folder / "one.yml").write_text(FIRST.format() + receivers)
    (folder / "two.yml").write_text(SECOND.format() + receivers)
    (folder / "rules.yml").write_text(RULES)
    metrics = f"127.0.0.1:{server.server_address[1]}"
    (folder / "prometheus.yml").write_text(
        PROMETHEUS.format(one=f"127.0.0.1:{one}", two=f"127.0.0.1:{two}", metrics=metrics)
    )
    running: list[subprocess.Popen[bytes]] = []

    def run(name: str, *command: str) -> None:
        with (folder / f"{name}.log").open("wb") as log:
            running.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))

    try:
        for name, port in (("one", one), ("two", two)):
            run(
                name,
                "prometheus-alertmanager",
                f"--config.file={name}.yml",
                f"--storage.path={name}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            )
        run(
            "prometheus",
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=prometheus",
            f"--web.listen-address=127.0.0.1:{prometheus}",
            "--rules.alert.resend-delay=1s",
        )
        for name, port in (("one", one), ("two", two), ("prometheus", prometheus)):
            _ready(port, folder / f"{name}.log")
        made.alertmanagers = [one, two]
        yield made
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)
        server.shutdown()
        server.server_close()


def _metrics(made: Monitoring) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = [f'work_failing{{service="{name}"}} {value}' for name, value in list(made.failing.items())]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(("\n".join(["# TYPE work_failing gauge", *lines]) + "\n").encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(port: int, path: str, body: str | None = None) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise ConnectionError(f"{path}: {response.status} {text[:200]}")
    return text


def _ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            _ask(port, "/-/ready")
        except OSError:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)
        else:
            return
