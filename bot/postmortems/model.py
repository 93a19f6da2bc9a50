"""Post-mortems: the document revision by revision, and how its review stands."""

from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class Origin(StrEnum):
    """Where a revision comes from: the timeline, a file, or the form of one section."""

    TIMELINE = "timeline"
    FILE = "file"
    SECTION = "section"


class Postmortem(SQLModel, table=True):
    """One revision of the document of an incident; rows are added and never changed.

    `facts` is what the timeline said when the revision was made, `generated` the Markdown rendered from them where
    people have made another `text` of it, and `author` a Slack user id, a name from the command line, or ``bot``.
    """

    __tablename__ = "postmortem"
    __table_args__ = (sa.UniqueConstraint("incident_id", "revision"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", max_length=32)
    revision: int
    template: str
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    text: str
    generated: str = ""
    author: str = "bot"
    origin: str = Origin.TIMELINE
    sha256: str
    created_at: datetime

    @property
    def base(self) -> str:
        """What was rendered from the facts, whatever people made of it since."""
        return self.generated or self.text


class State(StrEnum):
    """How a post-mortem stands."""

    DRAFT = "draft"
    IN_REVIEW = "in_review"
    COMPLETED = "completed"
    WAIVED = "waived"


class Review(SQLModel, table=True):
    """What becomes of an incident's post-mortem; `due` is a day (ISO 8601).

    `reviewed` is the revision that was handed in or approved, `round` is raised whenever a new day is set or it is
    opened again, and `reminded` is the window of the last reminder.
    """

    __tablename__ = "review"
    __table_args__ = (sa.Index("review_due", "state", "due"),)

    incident_id: str = Field(primary_key=True, foreign_key="incident.id", max_length=32)
    state: str = State.DRAFT
    owner: str | None = None
    due: str | None = None
    reviewed: int = 0
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
    round: int = 1
    reminded: str = ""
    created_at: datetime
