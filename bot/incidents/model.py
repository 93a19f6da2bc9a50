"""Incident and what hangs from it: timeline, roles, the parts of its channel, pages, and what people asked for."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class Status(StrEnum):
    """Where an incident stands; each belongs to one category."""

    TRIAGE = "triage"
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    FIXING = "fixing"
    MONITORING = "monitoring"
    DOCUMENTING = "documenting"
    REVIEWING = "reviewing"
    CLOSED = "closed"
    DECLINED = "declined"
    CANCELED = "canceled"
    MERGED = "merged"

    @property
    def category(self) -> str:
        """triage, active, post_incident or closed."""
        return CATEGORY[self]


CATEGORY = {
    Status.TRIAGE: "triage",
    Status.INVESTIGATING: "active",
    Status.IDENTIFIED: "active",
    Status.FIXING: "active",
    Status.MONITORING: "active",
    Status.DOCUMENTING: "post_incident",
    Status.REVIEWING: "post_incident",
    Status.CLOSED: "closed",
    Status.DECLINED: "closed",
    Status.CANCELED: "closed",
    Status.MERGED: "closed",
}
OPEN = tuple(status for status, category in CATEGORY.items() if category in ("triage", "active"))
ACTIVE = tuple(status for status, category in CATEGORY.items() if category == "active")


class Kind(StrEnum):
    """Why an incident exists; only the standard ones count in metrics."""

    STANDARD = "standard"
    TEST = "test"
    DRILL = "drill"
    RETROSPECTIVE = "retrospective"
    MAINTENANCE = "maintenance"


# The number of the operations log, which is no incident: `bot/incidents/logbook.py`.
LOGBOOK = 0


class Sev(StrEnum):
    """How bad it is, worst first."""

    SEV1 = "SEV1"
    SEV2 = "SEV2"
    SEV3 = "SEV3"
    SEV4 = "SEV4"
    SEV5 = "SEV5"


class RoleName(StrEnum):
    """Who does what during an incident."""

    COMMANDER = "commander"
    COMMS = "comms"
    SCRIBE = "scribe"
    RESPONDER = "responder"


class Incident(SQLModel, table=True):
    """The state of one incident. How it came to that state is on the timeline."""

    __tablename__ = "incident"
    __table_args__ = (
        # One open incident for each group of alerts, whoever gets there first.
        sa.Index(
            "one_open_incident_per_group",
            "group_key",
            unique=True,
            sqlite_where=sa.text("is_open = 1"),
            postgresql_where=sa.text("is_open"),
        ),
    )

    id: str = Field(primary_key=True, max_length=32)
    number: int = Field(unique=True)
    title: str
    summary: str = ""
    severity: str
    status: str
    is_open: bool = True
    kind: str = Kind.STANDARD
    private: bool = False
    service: str | None = None
    route: str | None = None
    group_key: str | None = None
    runbooks: list[str] = Field(default_factory=list, sa_type=Json)
    declared_by: str | None = None
    team: str | None = None
    channel: str | None = Field(default=None, unique=True)
    channel_name: str | None = None
    detected_at: datetime
    opened_at: datetime
    acknowledged_at: datetime | None = None
    mitigated_at: datetime | None = None
    resolved_at: datetime | None = None
    revision: int = 1

    @property
    def reference(self) -> str:
        """What people call it: INC-42; OPS-0 is the operations log."""
        return f"OPS-{self.number}" if self.number == LOGBOOK else f"INC-{self.number}"


class Counter(SQLModel, table=True):
    """The last number given out, by name; locked while the next is taken, so no number is given twice or skipped."""

    __tablename__ = "counter"

    name: str = Field(primary_key=True)
    value: int


class TimelineEvent(SQLModel, table=True):
    """One thing that happened. Never changed or deleted; a correction is a new row that points at the old one."""

    __tablename__ = "timeline"
    __table_args__ = (sa.Index("timeline_page", "incident_id", "at", "recorded_at", "id"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", max_length=32)
    kind: str
    text: str
    at: datetime
    recorded_at: datetime
    actor: str | None = None
    data: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    corrects: str | None = Field(default=None, max_length=32)


class Role(SQLModel, table=True):
    """Who holds or held a role; `ended_at` is None while they hold it."""

    __tablename__ = "role"

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    name: str
    person: str
    assigned_by: str
    assigned_at: datetime
    ended_at: datetime | None = None


class Part(SQLModel, table=True):
    """One thing that an incident needs in the chat: channel, topic, card … with what is known of making it.

    `state` is started (an attempt was begun, so look before making it again), done or failed.
    """

    __tablename__ = "part"

    incident_id: str = Field(primary_key=True, foreign_key="incident.id", max_length=32)
    name: str = Field(primary_key=True)
    state: str
    attempts: int = 0
    result: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    error: str | None = None
    shown: int = 0
    changed_at: datetime


class Page(SQLModel, table=True):
    """One page: whom it is to wake, what the pager said of it, and what became of it.

    `outcome` is what came of sending it: sending (not known yet), sent, failed or nobody. `due_at` is when somebody has
    to look after it, because it is not sent or not acknowledged by then; `level` is how far that has gone. `heard` has
    the pager's own time of the newest word about each side of it, so that what comes late undoes nothing.
    """

    __tablename__ = "page"
    __table_args__ = (sa.Index("page_due", "due_at"), sa.Index("page_key", "dedup_key"))

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    number: int
    pager: str
    outcome: str
    detail: str
    at: datetime
    asked_at: datetime | None = None
    service: str | None = None
    why: str = ""
    dedup_key: str = ""
    external_id: str | None = None
    url: str | None = None
    assigned: str | None = None
    level: int = 0
    due_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    resolved_at: datetime | None = None
    heard: dict[str, str] = Field(default_factory=dict, sa_type=Json)

    @property
    def state(self) -> str:
        """sending, failed, nobody; or of one that was sent: sent, acknowledged, resolved."""
        if self.outcome != "sent":
            return self.outcome
        if self.resolved_at is not None:
            return "resolved"
        return "sent" if self.acknowledged_at is None else "acknowledged"


class PagerWord(SQLModel, table=True):
    """Something that a pager told by itself, as it came (zlib-compressed), and what was made of it."""

    __tablename__ = "pager_word"

    id: str = Field(primary_key=True, max_length=32)
    pager: str
    received_at: datetime = Field(index=True)
    body: bytes = Field(sa_type=sa.LargeBinary)
    outcome: str = "waiting"
    detail: str = ""
    incident_id: str | None = Field(default=None, max_length=32)


class TaskKind(StrEnum):
    """A task is done while the incident lasts, a follow-up after it."""

    TASK = "task"
    FOLLOWUP = "followup"


class TaskState(StrEnum):
    """Where it stands."""

    OPEN = "open"
    DONE = "done"
    DROPPED = "dropped"


class Task(SQLModel, table=True):
    """Something to do for an incident; `due` is a day (ISO 8601), `type` what a follow-up is good for."""

    __tablename__ = "task"
    __table_args__ = (sa.UniqueConstraint("incident_id", "number", name="one_task_per_number"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", max_length=32)
    number: int
    kind: str
    text: str
    owner: str | None = None
    due: str | None = None
    type: str | None = None
    state: str = TaskState.OPEN
    created_by: str
    created_at: datetime
    ended_by: str | None = None
    ended_at: datetime | None = None

    @property
    def label(self) -> str:
        """What people call it: T3; tasks and follow-ups of an incident share their numbers."""
        return f"T{self.number}"


class TicketState(StrEnum):
    """Whether there is a ticket: wanted, made, failed (a person must do something), or gone from its tracker."""

    WANTED = "wanted"
    MADE = "made"
    FAILED = "failed"
    GONE = "gone"


class Ticket(SQLModel, table=True):
    """A ticket in an issue tracker, as far as it is known here.

    `key` is what it is found again by, `asked` what a person named where they linked one that was there. `status` and
    `done` are what the tracker last said, `phase` is how our side stood when both agreed, and `standing` how it stands
    where no row says so (the ticket of a finding). `told` are the timeline events that were written below it, and
    `revision` is raised by each promise to bring it up to date.
    """

    __tablename__ = "ticket"
    __table_args__ = (sa.Index("ticket_remote", "tracker", "remote_id"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", index=True, max_length=32)
    tracker: str
    purpose: str
    key: str
    title: str = ""
    body: str = ""
    task_id: str | None = Field(default=None, foreign_key="task.id", max_length=32)
    asked: str | None = None
    wanted_by: str = "bot"
    state: str = TicketState.WANTED
    phase: str = ""
    standing: str = ""
    severity: str = ""
    remote_id: str | None = None
    reference: str | None = None
    url: str | None = None
    status: str | None = None
    done: bool = False
    told: list[str] = Field(default_factory=list, sa_type=Json)
    error: str | None = None
    revision: int = 1
    created_at: datetime
    changed_at: datetime


class TrackerWord(SQLModel, table=True):
    """What a tracker's webhook said, kept before it was answered; its id is made of the delivery, so it counts once."""

    __tablename__ = "tracker_word"

    id: str = Field(primary_key=True, max_length=32)
    tracker: str
    ticket_id: str = Field(foreign_key="ticket.id", max_length=32)
    what: str
    by: str
    received_at: datetime = Field(index=True)


class Request(SQLModel, table=True):
    """What a person asked for by command, button or form, kept before it is acknowledged.

    Times are epoch seconds by the clock of whoever wrote them: `deadline` by the bot, `recorded` by the database.
    A row recorded after its deadline is void: the person was told that nothing was done.
    """

    __tablename__ = "request"

    id: str = Field(primary_key=True, max_length=32)
    key: str = Field(unique=True)
    kind: str
    name: str
    person: str
    channel: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    deadline: float
    recorded: float
    received_at: datetime
    state: str = "waiting"
    answer: str | None = None
