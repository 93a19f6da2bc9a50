"""A run of a runbook and its steps, row by row."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class RunState(StrEnum):
    """Where a run stands. `asking` waits for a person: a write was started and nobody knows whether it finished.

    `waiting_approval` waits for people to say yes; `expired` is the no of nobody, `rejected` the no of somebody.
    """

    QUEUED = "queued"
    RUNNING = "running"
    ASKING = "asking"
    WAITING = "waiting_approval"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    ROLLBACK_FAILED = "rollback_failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"
    DRY_RUN = "dry_run"


PAUSED = (RunState.ASKING, RunState.WAITING)
ENDED = tuple(state for state in RunState if state not in (RunState.QUEUED, RunState.RUNNING, *PAUSED))
# Ends after which what was changed is taken back, where the runbook says how.
UNWOUND = (RunState.FAILED, RunState.TIMED_OUT, RunState.REJECTED, RunState.EXPIRED)


class Phase(StrEnum):
    """Which part of a runbook is carried out. After `steps` nothing new of the steps is begun."""

    STEPS = "steps"
    ROLLBACK = "rollback"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"


class Trigger(StrEnum):
    """What started a run."""

    PERSON = "person"
    AUTO = "auto"
    SCHEDULE = "schedule"
    COMMAND = "command"


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
    """One run: who or what started it, what exactly (the whole parsed runbook), with which values, and its end.

    *uses* are the runbooks that it calls, as they were. *held*: it waits until others on the same key have ended.
    *break_glass* is the reason with which a commander went without approvals. *because* is why nobody had to start it.
    *raised* is what its rules `raises` found at its end; None where nothing was looked at.
    """

    __tablename__ = "run"
    __table_args__ = (
        sa.Index("run_by_key", "concurrency_key", "state"),
        sa.Index("run_by_runbook", "runbook", "requested_at"),
    )

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    number: int
    runbook: str
    sha256: str
    git_commit: str | None = None
    schema_version: int = 1
    definition: dict[str, Any] = Field(sa_type=Json)
    uses: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    dry_run: bool = False
    trigger: str = Trigger.PERSON
    trigger_key: str | None = None
    because: str = ""
    requested_by: str
    requester_email: str | None = None
    break_glass: str | None = None
    concurrency_key: str
    held: bool = False
    state: str
    phase: str = Phase.STEPS
    round: int = 1
    cancelled_by: str | None = None
    failure: dict[str, Any] | None = Field(default=None, sa_type=Json)
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    raised: list[dict[str, Any]] | None = Field(default=None, sa_type=Json)
    requested_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    revision: int = 1


class RunStep(SQLModel, table=True):
    """One attempt at one step: written before it starts and again when it ends.

    *path* is where the step stands in the run: ``steps.2``, ``steps.2[0]`` for the first item of a foreach,
    ``steps.2.rollback.0``, ``steps.3/steps.0`` in a runbook that was called, ``always.0``. *position* is the order in
    which the steps of a run were first begun.
    """

    __tablename__ = "run_step"
    __table_args__ = (sa.UniqueConstraint("run_id", "path", "attempt"),)

    id: str = Field(primary_key=True, max_length=32)
    run_id: str = Field(foreign_key="run.id", index=True, max_length=32)
    path: str
    phase: str = Phase.STEPS
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


class RunFile(SQLModel, table=True):
    """Something a step made that is shared in the channel; *content* is kept until it was."""

    __tablename__ = "run_file"

    id: str = Field(primary_key=True, max_length=32)
    run_id: str = Field(foreign_key="run.id", index=True, max_length=32)
    step_id: str = Field(max_length=32)
    name: str
    title: str = ""
    size: int
    content: bytes | None = None
    made_at: datetime
    shared_at: datetime | None = None


class ApprovalState(StrEnum):
    """Where a question stands. Only `approved` is a yes."""

    ASKED = "asked"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    VOID = "void"


class Approval(SQLModel, table=True):
    """A question whether a run may go on, with exactly what was asked. *digest* is of all that the yes would be for.

    *inputs* are the parameters that the answer fills in, by name, as the runbook declares them.
    """

    __tablename__ = "approval"
    __table_args__ = (sa.Index("approval_by_state", "state", "expires_at"),)

    id: str = Field(primary_key=True, max_length=32)
    run_id: str = Field(foreign_key="run.id", index=True, max_length=32)
    step_id: str = Field(max_length=32)
    incident_id: str = Field(max_length=32)
    prompt: str
    plan: list[str] = Field(default_factory=list, sa_type=Json)
    who: list[str] = Field(default_factory=list, sa_type=Json)
    count: int = 1
    not_requester: bool = True
    require_reason: bool = False
    inputs: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    sha256: str
    digest: str
    state: str = ApprovalState.ASKED
    told: str = ""
    asked_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    revision: int = 1


class Vote(SQLModel, table=True):
    """What one person answered; each answers once."""

    __tablename__ = "vote"
    __table_args__ = (sa.UniqueConstraint("approval_id", "person"),)

    id: str = Field(primary_key=True, max_length=32)
    approval_id: str = Field(foreign_key="approval.id", index=True, max_length=32)
    person: str
    email: str | None = None
    yes: bool
    reason: str = ""
    inputs: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    at: datetime


class Decision(SQLModel, table=True):
    """What was decided about starting a runbook by itself for one episode of an alert: once, and for good."""

    __tablename__ = "auto_decision"

    id: str = Field(primary_key=True, max_length=32)
    runbook: str
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    alert_id: str = Field(max_length=32)
    episode_id: str = Field(max_length=32)
    decision: str
    reason: str
    run_id: str | None = Field(default=None, max_length=32)
    at: datetime


class Switch(SQLModel, table=True):
    """Whether people want a runbook to start by itself, and since when; the one called `*` is for all of them.

    Automatic runs that failed before *changed_at* are not held against it any more.
    """

    __tablename__ = "automation"

    runbook: str = Field(primary_key=True)
    off: bool
    by: str
    changed_at: datetime


class Clockwork(SQLModel, table=True):
    """How far the schedule of a runbook has been followed. With another *spec* it begins anew."""

    __tablename__ = "schedule"

    runbook: str = Field(primary_key=True)
    spec: str
    handled_at: datetime


class Audit(SQLModel, table=True):
    """One line of the audit: what was done in a run, by whom, chained to the line before it.

    *hash* covers everything else in the row; *prev_hash* is the *hash* of the row with the number before.
    """

    __tablename__ = "audit"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: datetime
    actor: str
    action: str
    run_id: str | None = Field(default=None, index=True, max_length=32)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    prev_hash: str
    hash: str


class AssetReport(SQLModel, table=True):
    """What a run said last of an asset: of its backup, its drift, its patches. *ok* is None where it could not tell."""

    __tablename__ = "asset_report"

    asset: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    ok: bool | None = None
    text: str = ""
    runbook: str
    run_id: str = Field(foreign_key="run.id", max_length=32)
    at: datetime
