"""What is sent: alerts as Alertmanager sends them, slash commands as Slack sends them."""

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from bench import load
from bench.floors import SECRET
from bot.sandbox.signed import FORM, sign

TOKEN = "bench-token-0123456789"
JSON = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}


def alert(name: str, service: str) -> dict[str, Any]:
    """A notification with one firing alert."""
    labels = {
        "alertname": name,
        "severity": "critical",
        "service": service,
        "namespace": "prod",
        "instance": "10.0.0.1:9100",
    }
    annotations = {
        "summary": f"error rate of {service} above 5 %",
        "description": "5xx ratio is 7.3 % for 10m",
        "runbook_url": "https://runbooks.example.com/errors",
    }
    item = {
        "status": "firing",
        "labels": labels,
        "annotations": annotations,
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=errors",
        "fingerprint": hashlib.sha256(f"{name} {service}".encode()).hexdigest()[:16],
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "tocsin",
        "groupLabels": {"alertname": name},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "http://alertmanager.example.com",
        "alerts": [item],
    }


def wire(body: Mapping[str, Any], path: str = "/alerts/am") -> bytes:
    """A notification as it goes over the wire; signed as well, so that the floors read the very same bytes."""
    raw = json.dumps(body).encode()
    return load.request(path, raw, {**JSON, **_signed(SECRET, raw)})


def mix(count: int, incidents: int, tag: str) -> list[bytes]:
    """*count* notifications: nine of ten repeat what `known` sent, the tenth is new and joins one of the incidents."""
    repeats = [wire(body) for body in known(incidents)]
    new = (wire(alert(f"New-{tag}-{n}", f"service-{n % incidents}")) for n in range(count))
    return [next(new) if n % 10 == 9 else repeats[(n * 7) % len(repeats)] for n in range(count)]


def known(incidents: int, each: int = 10) -> list[dict[str, Any]]:
    """The alerts that fire all the time: *each* for every incident, the incident's first one first."""
    return [alert(f"Known-{n}", f"service-{i}") for n in range(each) for i in range(incidents)]


def slash(payload: Mapping[str, str], secret: str) -> bytes:
    """A slash command, signed, as it goes over the wire."""
    raw = urlencode(payload).encode()
    return load.request("/slack/events", raw, {"Content-Type": FORM, **_signed(secret, raw)})


def _signed(secret: str, raw: bytes) -> dict[str, str]:
    at = str(int(time.time()))
    return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": sign(secret, at, raw)}
