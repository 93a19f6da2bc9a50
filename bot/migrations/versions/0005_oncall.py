"""Who is on call, who stands in, and what is left of error budgets."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "roster",
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("duties", JSON, nullable=False),
        sa.Column("checked_at", AT, nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("shift", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("place"),
    )
    op.create_table(
        "cover",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("starts_at", AT, nullable=False),
        sa.Column("ends_at", AT, nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("made_at", AT, nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_cover_place"), "cover", ["place"])
    op.create_table(
        "budget",
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("failed", sa.Float(), nullable=True),
        sa.Column("recent", sa.Float(), nullable=True),
        sa.Column("checked_at", AT, nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("service"),
    )


def downgrade() -> None:
    op.drop_table("budget")
    op.drop_table("cover")
    op.drop_table("roster")
