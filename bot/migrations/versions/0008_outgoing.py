"""What leaves for other systems."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)


def upgrade() -> None:
    op.create_table(
        "outgoing",
        sa.Column("id", ID, nullable=False),
        sa.Column("sink", sa.String(), nullable=False),
        sa.Column("incident_id", ID, nullable=False),
        sa.Column("event_id", ID, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("reference", sa.String(), nullable=True),
        sa.Column("recorded_at", AT, nullable=False),
        sa.Column("created_at", AT, nullable=False),
        sa.Column("tried_at", AT, nullable=True),
        sa.Column("next_at", AT, nullable=False),
        sa.Column("ended_at", AT, nullable=True),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outgoing_line", "outgoing", ["sink", "incident_id", "recorded_at", "event_id"])
    op.create_index("outgoing_due", "outgoing", ["state", "next_at"])


def downgrade() -> None:
    op.drop_table("outgoing")
