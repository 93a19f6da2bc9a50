"""Runs that are governed: rollback, approvals, files, audit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AT = sa.DateTime(timezone=True)
ID = sa.String(length=32)


def upgrade() -> None:
    # One by one: SQLite would make the table anew for a batch, and other tables refer to it.
    op.add_column("run", sa.Column("git_commit", sa.String(), nullable=True))
    op.add_column("run", sa.Column("schema_version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("run", sa.Column("uses", JSON, nullable=False, server_default="{}"))
    op.add_column("run", sa.Column("trigger", sa.String(), nullable=False, server_default="person"))
    op.add_column("run", sa.Column("trigger_key", sa.String(), nullable=True))
    op.add_column("run", sa.Column("requester_email", sa.String(), nullable=True))
    op.add_column("run", sa.Column("break_glass", sa.String(), nullable=True))
    op.add_column("run", sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("run", sa.Column("phase", sa.String(), nullable=False, server_default="steps"))
    op.create_index("run_by_runbook", "run", ["runbook", "requested_at"])
    _steps()
    op.create_table(
        "run_file",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("step_id", ID, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("made_at", AT, nullable=False),
        sa.Column("shared_at", AT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_run_file_run_id"), "run_file", ["run_id"])
    op.create_table(
        "approval",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("step_id", ID, nullable=False),
        sa.Column("incident_id", ID, nullable=False),
        sa.Column("prompt", sa.String(), nullable=False),
        sa.Column("plan", JSON, nullable=False),
        sa.Column("who", JSON, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("not_requester", sa.Boolean(), nullable=False),
        sa.Column("require_reason", sa.Boolean(), nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("told", sa.String(), nullable=False),
        sa.Column("asked_at", AT, nullable=False),
        sa.Column("expires_at", AT, nullable=False),
        sa.Column("ended_at", AT, nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_approval_run_id"), "approval", ["run_id"])
    op.create_index("approval_by_state", "approval", ["state", "expires_at"])
    op.create_table(
        "vote",
        sa.Column("id", ID, nullable=False),
        sa.Column("approval_id", ID, nullable=False),
        sa.Column("person", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("yes", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("at", AT, nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approval.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("approval_id", "person"),
    )
    op.create_index(op.f("ix_vote_approval_id"), "vote", ["approval_id"])
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", AT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("run_id", ID, nullable=True),
        sa.Column("data", JSON, nullable=False),
        sa.Column("prev_hash", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index(op.f("ix_audit_run_id"), "audit", ["run_id"])
    _append_only("audit")


def _steps() -> None:
    """A step of a run is known by its path now, no longer by its number."""
    naming = {"uq": "uq_%(table_name)s_%(column_0_N_name)s"}
    with op.batch_alter_table("run_step", naming_convention=naming) as table:
        table.add_column(sa.Column("path", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("phase", sa.String(), nullable=False, server_default="steps"))
    op.execute("update run_step set path = 'steps.' || position")
    old = "run_step_run_id_position_attempt_key"
    if op.get_bind().dialect.name == "sqlite":
        old = "uq_run_step_run_id_position_attempt"
    with op.batch_alter_table("run_step", naming_convention=naming) as table:
        table.drop_constraint(old, type_="unique")
        table.create_unique_constraint("run_step_run_id_path_attempt_key", ["run_id", "path", "attempt"])


def _append_only(table: str) -> None:
    """Let the database itself refuse to change or delete a row of *table*."""
    if op.get_bind().dialect.name == "sqlite":
        for action in ("update", "delete"):
            op.execute(
                f"create trigger {table}_no_{action} before {action} on {table} "
                f"begin select raise(abort, 'the {table} is append-only: record a correction instead'); end"
            )
        return
    op.execute(
        f"create trigger {table}_append_only before update or delete on {table} "
        "for each row execute function refuse_change()"
    )
    op.execute(
        f"create trigger {table}_no_truncate before truncate on {table} "
        "for each statement execute function refuse_change()"
    )


def downgrade() -> None:
    for name in ("audit", "vote", "approval", "run_file"):
        op.drop_table(name)
    with op.batch_alter_table("run_step") as table:
        table.drop_constraint("run_step_run_id_path_attempt_key", type_="unique")
        table.create_unique_constraint("run_step_run_id_position_attempt_key", ["run_id", "position", "attempt"])
        table.drop_column("phase")
        table.drop_column("path")
    op.drop_index("run_by_runbook", table_name="run")
    for name in ("phase", "held", "break_glass", "requester_email", "trigger_key", "trigger", "uses"):
        op.drop_column("run", name)
    op.drop_column("run", "schema_version")
    op.drop_column("run", "git_commit")
