"""Post-mortems that people edit and review."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)


def upgrade() -> None:
    # One by one and in place: the table refuses to be copied, since its rows may not be changed.
    op.add_column("postmortem", sa.Column("generated", sa.String(), nullable=False, server_default=""))
    op.add_column("postmortem", sa.Column("author", sa.String(), nullable=False, server_default="bot"))
    op.add_column("postmortem", sa.Column("origin", sa.String(), nullable=False, server_default="timeline"))
    op.create_table(
        "review",
        sa.Column("incident_id", ID, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("due", sa.String(), nullable=True),
        sa.Column("reviewed", sa.Integer(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", AT, nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("reminded", sa.String(), nullable=False),
        sa.Column("created_at", AT, nullable=False),
        sa.ForeignKeyConstraint(["incident_id"], ["incident.id"]),
        sa.PrimaryKeyConstraint("incident_id"),
    )
    op.create_index("review_due", "review", ["state", "due"])


def downgrade() -> None:
    op.drop_index("review_due", table_name="review")
    op.drop_table("review")
    for name in ("origin", "author", "generated"):
        op.drop_column("postmortem", name)
