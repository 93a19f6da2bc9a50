"""What alerts cost when they pour in, in each database's own words: nothing is built or bound by type on the way.

One statement for many rows, and on SQLite one row for many: at each step Python lets go of its lock, and the thread
that writes must wait for it until the loop has nothing to do.

Everything here says the same as SQLAlchemy would, to the byte; for what is rare the intake speaks SQLAlchemy.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import sqlalchemy as sa

# Of an alert: what tells one row from another, then what each repeat changes.
ROW: tuple[str, ...] = ("id", "state", "starts_at", "ends_at", "episode_id", "incident_id", "title", "severity")
ROW += ("labels", "annotations", "url")
REPEATED = ("fingerprint", "seen", "last_seen_at")
ROWS = 64  # in one INSERT

Row = Mapping[str, Any]
Way = Callable[[Any], Any]


class _Values:
    """An INSERT of however many rows, each value a parameter."""

    def __init__(self, table: sa.Table) -> None:
        self.ways = tuple((column.name, _way(column, {"json": json.dumps, "moment": _text})) for column in table.c)
        self._start = f"insert into {table.name} ({_names(table)}) values "  # noqa: S608 - our own names
        self._row = f"({', '.join('?' for _ in table.c)})"
        self._said: dict[int, str] = {}

    def said(self, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement, and what it is given."""
        count = len(rows)
        if count not in self._said:
            self._said[count] = self._start + ", ".join([self._row] * count)
        return self._said[count], tuple(
            [None if (value := row[name]) is None else way(value) for row in rows for name, way in self.ways]
        )


class _Records:
    """An INSERT of however many rows, all of them one JSON text: to take in a parameter costs more than to read it."""

    TYPES: ClassVar = {"json": "jsonb", "moment": "timestamptz", "bytes": "text", "number": "bigint", "text": "text"}

    def __init__(self, table: sa.Table) -> None:
        ways: dict[str, Way] = {"moment": datetime.isoformat, "bytes": bytes.hex}
        self.ways = tuple((column.name, _way(column, ways)) for column in table.c)
        wanted = ", ".join(f"decode({c.name}, 'hex')" if _kind(c) == "bytes" else c.name for c in table.c)
        types = ", ".join(f"{column.name} {self.TYPES[_kind(column)]}" for column in table.c)
        self._statement = (
            f"insert into {table.name} ({_names(table)}) "  # noqa: S608 - our own names
            f"select {wanted} from json_to_recordset(%s::json) as row ({types})"
        )

    def said(self, rows: Sequence[Row]) -> tuple[str, tuple[Any, ...]]:
        """The statement, and what it is given."""
        told = [{name: None if (v := row[name]) is None else way(v) for name, way in self.ways} for row in rows]
        return self._statement, (json.dumps(told),)


def _names(table: sa.Table) -> str:
    return ", ".join(column.name for column in table.c)


def _kind(column: sa.Column[Any]) -> str:
    """What sort of value a column holds."""
    kind = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
    for known, name in _KINDS:
        if isinstance(kind, known):
            return name
    raise TypeError(f"{column} is a {kind!r}: nobody has said how that is handed over")


_KINDS = (
    (sa.JSON, "json"),
    (sa.DateTime, "moment"),
    (sa.LargeBinary, "bytes"),
    (sa.Integer, "number"),
    (sa.String, "text"),
)


def _way(column: sa.Column[Any], ways: Mapping[str, Way]) -> Way:
    return ways.get(_kind(column), _plain)


@dataclass(frozen=True)
class Words:
    """One database's way to say things, and how it is told a list and a moment."""

    look: str
    seen: str
    groups: str
    touched: str
    adding: Callable[[sa.Table], "_Values | _Records"]
    listed: Callable[[Sequence[str]], Any]
    moment: Callable[[datetime], Any]
    _adding: dict[str, "_Values | _Records"] = field(default_factory=dict)

    def add(self, connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
        """Insert *rows*, each with a value for every column."""
        adding = self._adding.get(table.name)
        if adding is None:
            adding = self._adding[table.name] = self.adding(table)
        for start in range(0, len(rows), ROWS):
            connection.exec_driver_sql(*adding.said(rows[start : start + ROWS]))


def moment(text: str) -> datetime:
    """A time as `look` gives it."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def words(connection: sa.Connection) -> Words:
    """Those of the database behind *connection*."""
    return _WORDS[connection.dialect.name]


def _plain(value: Any) -> Any:
    return value


def _text(moment: datetime) -> str:
    """As SQLAlchemy writes it on SQLite."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


# On Postgres every document as the text it is, so that it can be compared without being read.
_TEXTS = ", ".join(f"{name}::text" if name in ("labels", "annotations") else name for name in (*ROW, *REPEATED))

_WORDS = {
    "sqlite": Words(
        look=f"select json_group_array(json_array({', '.join((*ROW, *REPEATED))})) from alert where connection = ? "  # noqa: S608 - our own SQL
        "and fingerprint in (select value from json_each(?))",
        seen="update alert set seen = seen + ?, last_seen_at = ? where id in (select value from json_each(?))",
        groups="select group_key, id, number, severity from incident "
        "where group_key in (select value from json_each(?)) and is_open = 1 order by id",
        touched="update incident set revision = revision + 1 where id in (select value from json_each(?))",
        adding=_Values,
        listed=json.dumps,
        moment=_text,
    ),
    "postgresql": Words(
        look=f"select coalesce(json_agg(json_build_array({_TEXTS})), '[]')::text from alert where connection = %s "  # noqa: S608
        "and fingerprint = any(%s)",
        seen="update alert set seen = seen + %s, last_seen_at = %s where id = any(%s)",
        # For update: a person may be closing it right now.
        groups="select group_key, id, number, severity from incident "
        "where group_key = any(%s) and is_open order by id for update",
        touched="update incident set revision = revision + 1 where id = any(%s)",
        adding=_Records,
        listed=list,
        moment=_plain,
    ),
}
