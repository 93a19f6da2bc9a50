"""What the intake writes in the database's own words is what SQLAlchemy would have written."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import SQLModel

from bot.alerts.model import AlertRow, Delivery, Episode
from bot.incidents import statements
from bot.incidents.model import TimelineEvent
from bot.kit.db import Database

HERE = datetime(2026, 3, 1, 10, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
WHOLE = datetime(2026, 3, 1, 10, tzinfo=UTC)
ODD = 'é"\\\n\u2028%s ? :x'

ROWS: list[tuple[type[SQLModel], dict[str, Any]]] = [
    (
        AlertRow,
        {
            "connection": "am", "source": "alertmanager", "dedup_key": ODD, "state": "firing", "title": ODD,
            "severity": "critical", "labels": {ODD: ODD}, "annotations": {}, "url": None, "starts_at": HERE,
            "ends_at": None, "first_seen_at": WHOLE, "last_seen_at": HERE, "seen": 3, "episode_id": "e",
            "incident_id": None,
        },
    ),
    (
        Episode,
        {
            "alert_id": "a", "number": 2, "starts_at": WHOLE, "ends_at": HERE, "incident_id": None,
            "delivery_id": "d", "decision": ODD,
        },
    ),
    (
        Delivery,
        {
            "connection": "am", "source": "alertmanager", "received_at": HERE, "sha256": "0", "body": b"\x00\xff'",
            "size": 3, "alerts": 1, "outcome": "stored", "detail": {"results": {"repeat": 1}},
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize(("model", "row"), ROWS, ids=[model.__name__ for model, _ in ROWS])
def test_a_row_is_written_as_sqlalchemy_writes_it(database: Database, model: type[SQLModel], row: dict[str, Any]):
    table = sa.inspect(model).local_table
    assert isinstance(table, sa.Table)
    named = {"fingerprint": "ours"} if model is AlertRow else {}
    theirs = {"fingerprint": "theirs"} if model is AlertRow else {}
    with database.write_now() as connection:
        statements.words(connection).add(connection, table, [{**row, "id": "ours", **named}])
        connection.execute(sa.insert(table), [{**row, "id": "theirs", **theirs}])
        shown = ", ".join(column.name for column in table.c if column.name not in ("id", "fingerprint"))
        found = connection.exec_driver_sql(f"select {shown} from {table.name} order by id").all()

    assert found[0] == found[1]


def test_every_table_the_intake_adds_to_can_be_said_plainly(database: Database):
    with database.write_now() as connection:
        for model in (AlertRow, Episode, Delivery, TimelineEvent):
            statements.words(connection).add(connection, sa.inspect(model).local_table, [])  # type: ignore[arg-type]


def test_a_column_nobody_thought_of_is_refused_and_not_written_somehow(database: Database):
    odd = sa.Table("odd", sa.MetaData(), sa.Column("share", sa.Numeric()))

    with database.write_now() as connection, pytest.raises(TypeError, match=r"odd\.share"):
        statements.words(connection).add(connection, odd, [])
