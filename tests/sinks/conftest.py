"""What the tests of sinks share: a sink as sinks.yaml describes it, and messages about an incident."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.app import shelves
from bot.catalog import sinks
from bot.catalog.sinks import Configured
from bot.incidents.sink import Message, Subject

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a-secret-of-the-tests-0123456789-0123456789"
SHELF = shelves().sinks
SUBJECT = Subject(
    "0" * 31 + "1", "INC-42", "Payments are down", "SEV1", "investigating", "standard", "checkout", False, NOW,
    url="https://tocsin.example.com",
)  # fmt: skip


def configured(folder: Path, text: str, **env: str) -> Configured:
    (folder / "sinks.yaml").write_text(f"version: 1\nsinks:\n  it:\n{text}")
    kinds = {name: SHELF[name].Settings for name in SHELF}
    return sinks.load(folder, {"SECRET": SECRET, **env}, kinds)["it"]


def said(kind: str = "incident.opened", *, id_: str | None = None, **more: Any) -> Message:
    subject = replace(SUBJECT, **{name: more.pop(name) for name in list(more) if hasattr(SUBJECT, name)})
    usual = {"text": "INC-42 opened by an alert: Payments are down", "actor": "bot", "data": {"to": "SEV1"}, "at": NOW}
    return Message(
        id=id_ or f"{kind:-<32}",
        kind=kind,
        recorded_at=NOW + timedelta(seconds=1),
        subject=subject,
        **{**usual, **more},
    )


@pytest.fixture
def sink(tmp_path: Path) -> Callable[..., Configured]:
    return lambda text, **env: configured(tmp_path, text, **env)
