"""A page has a life: acknowledged, resolved, due; and what pagers tell by themselves is kept."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)
NEW = (
    *("service", "why", "dedup_key", "external_id", "url", "assigned", "level", "due_at", "asked_at"),
    *("acknowledged_at", "acknowledged_by", "resolved_at", "heard"),
)


def upgrade() -> None:
    with op.batch_alter_table("page") as table:
        for name in ("service", "external_id", "url", "assigned", "acknowledged_by"):
            table.add_column(sa.Column(name, sa.String(), nullable=True))
        for name in ("why", "dedup_key"):
            table.add_column(sa.Column(name, sa.String(), nullable=False, server_default=""))
        for name in ("asked_at", "due_at", "acknowledged_at", "resolved_at"):
            table.add_column(sa.Column(name, AT, nullable=True))
        table.add_column(sa.Column("level", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("heard", JSON, nullable=False, server_default="{}"))
    # What was sent before went out under the incident's own key.
    op.execute("update page set dedup_key = 'tocsin-' || incident_id")
    op.create_index("page_due", "page", ["due_at"])
    op.create_index("page_key", "page", ["dedup_key"])
    op.create_table(
        "pager_word",
        sa.Column("id", ID, nullable=False),
        sa.Column("pager", sa.String(), nullable=False),
        sa.Column("received_at", AT, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("incident_id", ID, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_pager_word_received_at"), "pager_word", ["received_at"])


def downgrade() -> None:
    op.drop_table("pager_word")
    op.drop_index("page_key", "page")
    op.drop_index("page_due", "page")
    with op.batch_alter_table("page") as table:
        for name in NEW:
            table.drop_column(name)
