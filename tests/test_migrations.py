"""The schema: complete, checked, append-only."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from bot import migrations
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.errors import UserError
from bot.kit.ids import new_id


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
