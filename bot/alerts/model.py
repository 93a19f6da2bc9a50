"""An alert, in one shape whatever sent it, and the rows that remember it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class AlertStatus(StrEnum):
    """What the sender says."""

    FIRING = "firing"
    RESOLVED = "resolved"


class AlertState(StrEnum):
    """What we hold."""

    FIRING = "firing"
    RESOLVED = "resolved"
    STALE = "stale"


class Severity(StrEnum):
    """How bad an alert is, in one vocabulary for all senders."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"


@dataclass(frozen=True)
class Alert:
    """What a source understood of one alert.

    `fingerprint` is the sender's own identity where it gives one, `dedup_key` what people know it by (the same
    unless the sender has both). `starts_at` and `ends_at` are the sender's, aware UTC; None where it gave none.
    """

    status: AlertStatus
    title: str
    fingerprint: str
    dedup_key: str
    severity: Severity = Severity.MEDIUM
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    url: str | None = None
    runbook_url: str | None = None
    description: str = ""


class Delivery(SQLModel, table=True):
    """One accepted webhook body, as it came (zlib-compressed)."""

    __tablename__ = "delivery"

    id: str = Field(primary_key=True, max_length=32)
    connection: str = Field(index=True)
    source: str
    received_at: datetime = Field(index=True)
    sha256: str
    body: bytes = Field(sa_type=sa.LargeBinary)
    size: int
    alerts: int
    outcome: str
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=Json)


class AlertRow(SQLModel, table=True):
    """The newest that is known of one alert of one connection.

    `ends_at` is the sender's, None where it gave none; the episode holds when it really ended.
    """

    __tablename__ = "alert"
    __table_args__ = (sa.UniqueConstraint("connection", "fingerprint"),)

    id: str = Field(primary_key=True, max_length=32)
    connection: str
    source: str
    fingerprint: str
    dedup_key: str
    state: str = Field(index=True)
    title: str
    severity: str
    labels: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    annotations: dict[str, str] = Field(default_factory=dict, sa_type=Json)
    url: str | None = None
    starts_at: datetime
    ends_at: datetime | None = None
    first_seen_at: datetime
    last_seen_at: datetime
    seen: int = 1
    episode_id: str = Field(max_length=32)
    incident_id: str | None = Field(default=None, foreign_key="incident.id", index=True, max_length=32)


class Episode(SQLModel, table=True):
    """One stretch from firing to resolved."""

    __tablename__ = "episode"

    id: str = Field(primary_key=True, max_length=32)
    alert_id: str = Field(index=True, max_length=32)
    number: int
    starts_at: datetime
    ends_at: datetime | None = None
    incident_id: str | None = Field(default=None, foreign_key="incident.id", index=True, max_length=32)
    delivery_id: str = Field(max_length=32)
    decision: str
