"""What alerts cost when they pour in, in each database's own words: nothing is built or bound by type on the way.

One statement for many rows, and on SQLite one row for many: at each step Python lets go of its lock, and the thread
that writes must wait for it until the loop has nothing to do.

Everything here says the same as SQLAlchemy would, to the byte; for what is rare the intake speaks SQLAlchemy.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

# Of an alert: what tells one row from another, then what each repeat changes.
ROW: tuple[str, ...] = ("id", "state", "starts_at", "ends_at", "episode_id", "incident_id", "title", "severity")
ROW += ("labels", "annotations", "url")
REPEATED = ("fingerprint", "seen", "last_seen_at")
ROWS = 64  # in one INSERT

Way = Callable[[Any], Any]


class _Adding:
    """An INSERT of however many rows, and how the values of a row are handed over."""

    def __init__(self, table: str, ways: Mapping[str, Way], marks: Sequence[str]) -> None:
        self.ways = tuple(ways.items())
        self._start = f"insert into {table} ({', '.join(ways)}) values "  # noqa: S608 - our own names
        self._row = f"({', '.join(marks)})"
        self._said: dict[int, str] = {}

    def statement(self, count: int) -> str:
        if count not in self._said:
            self._said[count] = self._start + ", ".join([self._row] * count)
        return self._said[count]

    def values(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
        return tuple([None if (value := row[name]) is None else way(value) for row in rows for name, way in self.ways])


@dataclass(frozen=True)
class Words:
    """One database's way to say things, and how it is told a list and a moment."""

    look: str
    seen: str
    groups: str
    touched: str
    mark: str
    json_mark: str
    rows: Callable[[sa.CursorResult[Any]], Iterable[Sequence[Any]]]
    listed: Callable[[Sequence[str]], Any]
    moment: Callable[[datetime], Any]
    read: Callable[[Any], datetime]
    _adding: dict[str, _Adding] = field(default_factory=dict)

    def add(self, connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert *rows*, each with a value for every column."""
        adding = self._adding.get(table.name)
        if adding is None:
            marks = [self.json_mark if _is_json(column) else self.mark for column in table.c]
            ways = {column.name: self._way(column) for column in table.c}
            adding = self._adding[table.name] = _Adding(table.name, ways, marks)
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            connection.exec_driver_sql(adding.statement(len(some)), adding.values(some))

    def _way(self, column: sa.Column[Any]) -> Way:
        if _is_json(column):
            return json.dumps
        kind = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
        if isinstance(kind, sa.DateTime):
            return self.moment
        if isinstance(kind, (sa.String, sa.Integer, sa.LargeBinary)):
            return _plain
        raise TypeError(f"{column} is a {kind!r}: nobody has said how that is handed over")


def words(connection: sa.Connection) -> Words:
    """Those of the database behind *connection*."""
    return _WORDS[connection.dialect.name]


def _is_json(column: sa.Column[Any]) -> bool:
    return isinstance(column.type, sa.JSON)


def _plain(value: Any) -> Any:
    return value


def _text(moment: datetime) -> str:
    """As SQLAlchemy writes it on SQLite."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _read(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


_WORDS = {
    "sqlite": Words(
        look=f"select json_group_array(json_array({', '.join((*ROW, *REPEATED))})) from alert where connection = ? "  # noqa: S608 - our own SQL
        "and fingerprint in (select value from json_each(?))",
        seen="update alert set seen = seen + ?, last_seen_at = ? where id in (select value from json_each(?))",
        groups="select group_key, id, number, severity from incident "
        "where group_key in (select value from json_each(?)) and is_open = 1 order by id",
        touched="update incident set revision = revision + 1 where id in (select value from json_each(?))",
        mark="?",
        json_mark="?",
        rows=lambda found: json.loads(found.scalar_one()),
        listed=json.dumps,
        moment=_text,
        read=_read,
    ),
    "postgresql": Words(
        look="select "  # noqa: S608
        + ", ".join(f"{name}::text" if name in ("labels", "annotations") else name for name in (*ROW, *REPEATED))
        + " from alert where connection = %s and fingerprint = any(%s)",
        seen="update alert set seen = seen + %s, last_seen_at = %s where id = any(%s)",
        # For update: a person may be closing it right now.
        groups="select group_key, id, number, severity from incident "
        "where group_key = any(%s) and is_open order by id for update",
        touched="update incident set revision = revision + 1 where id = any(%s)",
        mark="%s",
        json_mark="%s::jsonb",
        rows=lambda found: found.all(),
        listed=list,
        moment=_plain,
        read=_plain,
    ),
}
