"""The schema of our tables, version by version. The durable engine keeps its own tables itself.

A bot that runs only looks at the version; Alembic, 10 MB of it, is loaded where the schema is changed or compared.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlmodel import SQLModel

import bot.alerts.model
import bot.engine
import bot.incidents.budget
import bot.incidents.model
import bot.incidents.oncall
import bot.incidents.outgoing
import bot.postmortems.model
import bot.runs.model
from bot.kit.db import Database
from bot.kit.errors import UserError

TABLES = frozenset(
    {
        "alert",
        "approval",
        "audit",
        "auto_decision",
        "automation",
        "counter",
        "delivery",
        "episode",
        "executor_lease",
        "incident",
        "outgoing",
        "page",
        "pager_word",
        "part",
        "postmortem",
        "review",
    }
    | {"asset_report", "budget", "cover", "roster"}
    | {"request", "role", "run", "run_file", "run_step", "schedule", "task", "timeline", "vote"}
    | {"ticket", "tracker_word"}
)
_VERSIONS = "alembic_version"


def ours(name: str | None, kind: str, _parents: Any = None) -> bool:
    """Whether Alembic may look at a table: the durable engine's are none of its business."""
    return kind != "table" or name in TABLES


def _config() -> Any:
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def migrate(db: Database) -> str:
    """Bring *db* to this program's version, our tables and the engine's; return the version."""
    from alembic import command  # noqa: PLC0415 - see above

    if db.path:
        db.path.parent.mkdir(parents=True, exist_ok=True)
    engine = db.sync_engine()
    try:
        _refuse_newer(engine)
        with engine.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    bot.engine.migrate(db)
    return head()


def head() -> str:
    """The newest version this program knows."""
    return _known()[-1]


def _known() -> list[str]:
    """The versions there are, oldest first: a file's name begins with its version."""
    return sorted(path.name.partition("_")[0] for path in Path(__file__).parent.glob("versions/[0-9]*.py"))


def check(db: Database) -> str:
    """The version of *db*; raises UserError, naming the command that mends it, unless it is exactly this program's."""
    if db.path and not db.path.exists():
        raise UserError(f"There is no database at {db.path} yet. Run: tocsin migrate")
    engine = db.sync_engine()
    try:
        _refuse_newer(engine)
        found = _found(engine)
        if found is None:
            raise UserError("The database is empty. Run: tocsin migrate")
        if found != head():
            raise UserError(f"The database is at version {found}, this program needs {head()}. Run: tocsin migrate")
        return found
    except sa.exc.OperationalError as error:
        raise UserError(f"The database cannot be reached: {told(error)}") from None
    finally:
        engine.dispose()


def told(error: Exception) -> str:
    """The driver's own first line: it names host, port or file, and never a password."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]


def drift(db: Database) -> list[Any]:
    """How the tables of *db* differ from the models; empty when they agree."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - see above
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - see above

    engine = db.sync_engine()
    try:
        with engine.connect() as connection:
            options = {"include_name": ours, "compare_type": False}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata))
    finally:
        engine.dispose()


def _found(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(_VERSIONS):
            return None
        return connection.execute(sa.text(f"select version_num from {_VERSIONS}")).scalar_one_or_none()  # noqa: S608


def _refuse_newer(engine: sa.Engine) -> None:
    found = _found(engine)
    if found is not None and found not in _known():
        raise UserError(
            f"The database is at version {found}, which is newer than this program (it knows {head()}). "
            "Install the tocsin that made it, or restore a backup: pip install --upgrade tocsin"
        )
