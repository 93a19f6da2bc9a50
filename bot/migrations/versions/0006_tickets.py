"""Tickets in issue trackers, and what their webhooks said."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)


def upgrade() -> None:
    op.create_table(
        "ticket",
        sa.Column("id", ID, nullable=False),
        sa.Column("incident_id", ID, nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("tracker", "purpose", "key", "title", "body")),
        sa.Column("task_id", ID, nullable=True),
        sa.Column("asked", sa.String(), nullable=True),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("wanted_by", "state", "phase")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("standing", "severity")),
        *(sa.Column(name, sa.String(), nullable=True) for name in ("remote_id", "reference", "url", "status")),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("told", JSON, nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", AT, nullable=False),
        sa.Column("changed_at", AT, nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"]),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_ticket_incident_id"), "ticket", ["incident_id"])
    op.create_index("ticket_remote", "ticket", ["tracker", "remote_id"])
    op.create_table(
        "tracker_word",
        sa.Column("id", ID, nullable=False),
        sa.Column("tracker", sa.String(), nullable=False),
        sa.Column("ticket_id", ID, nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("received_at", AT, nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_tracker_word_received_at"), "tracker_word", ["received_at"])


def downgrade() -> None:
    for name in ("tracker_word", "ticket"):
        op.drop_table(name)
