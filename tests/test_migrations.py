"""The schema: complete, checked, append-only."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from bot import migrations
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.kit.ids import new_id
from tests.conftest import KINDS


def test_the_tables_are_those_of_the_models(database_url):
    assert migrations.drift(Database(database_url)) == []


def test_a_migrated_database_passes_the_check(database_url):
    assert migrations.check(Database(database_url)) == migrations.head()


def test_migrating_twice_changes_nothing(database_url):
    assert migrations.migrate(Database(database_url)) == migrations.head()


def test_an_empty_database_is_refused_with_the_command_that_mends_it(tmp_path):
    with pytest.raises(UserError, match="tocsin migrate"):
        migrations.check(Database(f"sqlite:///{tmp_path}/none.db"))


@pytest.mark.parametrize(("version", "word"), [("0000", "newer"), ("9999", "newer")])
def test_a_database_of_an_unknown_version_is_refused(database_url, version, word):
    db = Database(database_url)
    engine = db.sync_engine()
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = :v"), {"v": version})
    engine.dispose()

    with pytest.raises(UserError, match=word):
        migrations.check(db)
    with pytest.raises(UserError, match=word):
        migrations.migrate(db)


def test_a_database_without_versions_counts_as_behind(database_url):
    db = Database(database_url)
    engine = db.sync_engine()
    with engine.begin() as connection:
        connection.execute(sa.text("delete from alembic_version"))
    engine.dispose()

    with pytest.raises(UserError, match="tocsin migrate"):
        migrations.check(db)


@pytest.mark.parametrize("statement", ["update timeline set text = 'x'", "delete from timeline"])
async def test_the_timeline_cannot_be_changed_or_deleted_even_by_hand(database, statement):
    incident, now = new_id(), utc_now()
    async with database.write() as session:
        await session.execute(
            sa.text(
                "insert into incident (id, number, title, summary, severity, status, is_open, kind, private, runbooks,"
                " detected_at, opened_at, revision) values (:id, 1, 't', '', 'SEV3', 'investigating', :yes, 'standard',"
                " :no, '[]', :now, :now, 1)"
            ),
            {"id": incident, "now": now, "yes": True, "no": False},
        )
        await session.execute(
            sa.text(
                "insert into timeline (id, incident_id, kind, text, at, recorded_at, data)"
                " values ('e1', :id, 'note.added', 'x', :now, :now, '{}')"
            ),
            {"id": incident, "now": now},
        )

    with pytest.raises(DatabaseError, match="append-only"):
        async with database.write() as session:
            await session.execute(sa.text(statement))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_the_version_before_keep_their_steps(kind, tmp_path, request):
    postgres = kind == "postgres" and request.getfixturevalue("postgres_server")
    db = Database(postgres.database() if postgres else f"sqlite:///{tmp_path}/old.db")
    _old_run(db)

    assert migrations.migrate(db) == migrations.head()
    assert migrations.drift(db) == []
    assert _steps(db) == [("steps.0", "steps"), ("steps.1", "steps")]


def _old_run(db: Database) -> None:
    """A database of version 0001 with a run of two steps."""
    from alembic import command  # noqa: PLC0415 - as in bot/migrations

    engine, now = db.sync_engine(), utc_now()
    with engine.begin() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        tables = sa.MetaData()
        tables.reflect(connection)

        def row(table: str, **given: object) -> None:
            filled = {}
            for column in tables.tables[table].columns:
                if not column.nullable and column.server_default is None and column.name not in given:
                    filled[column.name] = _something(column.type, now)
            connection.execute(tables.tables[table].insert().values(**{**filled, **given}))

        row("incident", id="i", number=1)
        row("run", id="r", incident_id="i", number=1)
        for position in (0, 1):
            row("run_step", id=f"s{position}", run_id="r", position=position, attempt=1)
    engine.dispose()


def _something(kind: sa.types.TypeEngine, now: object) -> object:
    if isinstance(kind, sa.JSON):
        return {}
    made = kind.python_type
    return now if made.__name__ == "datetime" else made()


def _steps(db: Database) -> list[tuple[str, str]]:
    engine = db.sync_engine()
    with engine.connect() as connection:
        found = connection.execute(sa.text("select path, phase from run_step order by position"))
        rows = [(row[0], row[1]) for row in found]
    engine.dispose()
    return rows
