"""Post-mortem drafts, revision by revision."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from bot.kit.db import Json


class Postmortem(SQLModel, table=True):
    """One revision of the document of an incident; rows are added and never changed.

    `facts` is what the timeline said when the revision was made, `text` the Markdown rendered from it.
    """

    __tablename__ = "postmortem"
    __table_args__ = (sa.UniqueConstraint("incident_id", "revision"),)

    id: str = Field(primary_key=True, max_length=32)
    incident_id: str = Field(foreign_key="incident.id", max_length=32)
    revision: int
    template: str
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=Json)
    text: str
    sha256: str
    created_at: datetime
