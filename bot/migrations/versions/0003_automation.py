"""What starts by itself: decisions, switches, schedules, and what a run found to raise."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)


def upgrade() -> None:
    with op.batch_alter_table("run") as table:
        table.add_column(sa.Column("because", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("raised", JSON, nullable=True))
    op.create_table(
        "auto_decision",
        sa.Column("id", ID, nullable=False),
        sa.Column("runbook", sa.String(), nullable=False),
        sa.Column("incident_id", ID, nullable=False),
        sa.Column("alert_id", ID, nullable=False),
        sa.Column("episode_id", ID, nullable=False),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("at", AT, nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_auto_decision_incident_id"), "auto_decision", ["incident_id"])
    op.create_table(
        "automation",
        sa.Column("runbook", sa.String(), nullable=False),
        sa.Column("off", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("changed_at", AT, nullable=False),
        sa.PrimaryKeyConstraint("runbook"),
    )
    op.create_table(
        "schedule",
        sa.Column("runbook", sa.String(), nullable=False),
        sa.Column("spec", sa.String(), nullable=False),
        sa.Column("handled_at", AT, nullable=False),
        sa.PrimaryKeyConstraint("runbook"),
    )


def downgrade() -> None:
    for name in ("schedule", "automation", "auto_decision"):
        op.drop_table(name)
    with op.batch_alter_table("run") as table:
        table.drop_column("raised")
        table.drop_column("because")
