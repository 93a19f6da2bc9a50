"""A run of a runbook and its steps, row by row."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class RunState(StrEnum):
    """Where a run stands. `asking` waits for a person: a write was started and nobody knows whether it finished."""

    QUEUED = "queued"
    RUNNING = "running"
    ASKING = "asking"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    DRY_RUN = "dry_run"


ENDED = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.TIMED_OUT, RunState.DRY_RUN)


class StepState(StrEnum):
    """Where one attempt at a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FAILED_IGNORED = "failed_ignored"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    PREVIEWED = "previewed"


class Run(SQLModel, table=True):
    """One press of a runbook button: who, what exactly (the whole parsed runbook), with which values, and its end."""

    __tablename__ = "run"
    __table_args__ = (sa.Index("run_by_key", "concurrency_key", "state"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    number: int
    runbook: str
    sha256: str
    definition: dict[str, Any] = Field(sa_type=Json)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    dry_run: bool = False
    requested_by: str
    concurrency_key: str
    state: str
    round: int = 1
    cancelled_by: str | None = None
    failure: dict[str, Any] | None = Field(default=None, sa_type=Json)
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    revision: int = 1


class RunStep(SQLModel, table=True):
    """One attempt at one step: written before it starts and again when it ends."""

    __tablename__ = "run_step"
    __table_args__ = (sa.UniqueConstraint("run_id", "position", "attempt"),)

    id: str = Field(primary_key=True, max_length=32)
    run_id: str = Field(foreign_key="run.id", index=True, max_length=32)
    position: int
    attempt: int
    step: str
    name: str
    type: str
    effect: str
    state: str
    summary: str = ""
    output: str = ""
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    error: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
