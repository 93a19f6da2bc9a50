"""One database, SQLite or Postgres, behind one face: a read, a write, and what differs between the two."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from bot.kit import sqlite as sqlite_kit
from bot.kit.errors import UserError

# JSON that Postgres can index and compare.
Json = sa.JSON().with_variant(JSONB(), "postgresql")

# What an unreachable or overloaded database looks like from here: trying again may help.
UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeout, ConnectionError)

# A process that hangs or is cut off in the middle of a transaction holds its locks no longer than this on Postgres.
IDLE_SECONDS = 15.0
WRITERS = 16  # no more than connections
# SQLAlchemy's name for it: https://docs.sqlalchemy.org/en/21/errors.html#error-8s2b
LOST = "8s2b"

BEGIN = "BEGIN IMMEDIATE"
PRAGMAS = ("journal_mode=WAL", "busy_timeout=30000", "synchronous=FULL", "foreign_keys=ON")
# Copying SQLite's log into the database takes milliseconds, and whoever commits at 1,000 pages does it. Somebody for
# whom nobody waits comes by every few seconds; those who are waited for leave it to them until it is 32 MB.
SPARED = "wal_autocheckpoint=8000"


class Meter(Protocol):
    """Who wants to know how long statements take."""

    def stated(self, kind: str, seconds: float) -> None:
        """A statement (read, write, commit) was answered after *seconds*."""
        ...

    def stumbled(self, kind: str) -> None:
        """A statement failed: unavailable or refused."""
        ...

    def watch(self, name: str, ask: Callable[[], float | None]) -> None:
        """*ask* tells a number of that name whenever it is wanted."""
        ...


class Unmetered:
    """Nobody."""

    def stated(self, kind: str, seconds: float) -> None:
        """Not counted."""

    def stumbled(self, kind: str) -> None:
        """Not counted."""

    def watch(self, name: str, ask: Callable[[], float | None]) -> None:
        """Not asked."""


class Database:
    """The engine and the few things that are written differently for SQLite and Postgres."""

    def __init__(self, url: str, meter: Meter | None = None, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Accept ``sqlite:///file.db`` and ``postgresql://…``; nothing is opened yet. Time is told to *meter*.

        Raises UserError on any other URL.
        """
        try:
            parsed = sa.make_url(url)
        except ArgumentError:
            raise UserError(
                "TOCSIN_DATABASE_URL is not a database URL; use sqlite:///tocsin.db or postgresql://user@host/name"
            ) from None
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise UserError(
                f"TOCSIN_DATABASE_URL names {backend!r}; Tocsin runs on sqlite:///file.db or postgresql://…"
            )
        self.sqlite = backend == "sqlite"
        if self.sqlite and parsed.database in (None, "", ":memory:"):
            raise UserError("SQLite needs a file: TOCSIN_DATABASE_URL=sqlite:///tocsin.db")
        self.path = Path(parsed.database or "") if self.sqlite else None
        self.url = parsed.set(drivername="sqlite+aiosqlite" if self.sqlite else "postgresql+psycopg")
        self.sync_url = parsed.set(drivername="sqlite" if self.sqlite else "postgresql+psycopg")
        if self.sqlite:
            path = parsed.database or ""
            self.turns = sqlite_kit.Turns()
            self.engine: AsyncEngine = create_async_engine(
                self.url, hide_parameters=True, async_creator=partial(sqlite_kit.connect_async, path, self.turns)
            )
            self.urgent = sa.create_engine(
                self.sync_url,
                hide_parameters=True,
                max_overflow=WRITERS - 5,
                creator=partial(sqlite_kit.connect, path, self.turns),
                execution_options={"tocsin_begin": f"{BEGIN} {sqlite_kit.URGENT}"},
            )
            for engine in (self.engine.sync_engine, self.urgent):
                event.listen(engine, "connect", _pragmas)
                event.listen(engine, "begin", _begin)
            event.listen(self.urgent, "connect", _spared)
        else:
            self.engine = create_async_engine(
                self.url,
                hide_parameters=True,  # errors end in logs, and parameters may be secret
                pool_pre_ping=True,
                pool_size=10,
                max_overflow=10,
                pool_timeout=10,
            )
            self.urgent = sa.create_engine(
                self.sync_url,
                hide_parameters=True,
                pool_pre_ping=True,
                pool_size=4,
                max_overflow=WRITERS - 4,
                pool_timeout=10,
            )
            for engine in (self.engine.sync_engine, self.urgent):
                event.listen(engine, "connect", _not_idle(idle_seconds))
        # Where `write_now` happens. A second thread is needed only while the first one's transaction hangs.
        self.writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._meter = meter or Unmetered()
        _measure((self.engine.sync_engine, self.urgent), self._meter)

    def sync_engine(self) -> sa.Engine:
        """A second, synchronous engine on the same database (for the durable engine and migrations)."""
        if self.sqlite:
            creator = partial(sqlite_kit.connect, str(self.path), self.turns)
            engine = sa.create_engine(self.sync_url, hide_parameters=True, creator=creator)
            event.listen(engine, "connect", _immediate)
            return engine
        return sa.create_engine(self.sync_url, pool_size=10, max_overflow=5, pool_pre_ping=True, hide_parameters=True)

    @property
    def now(self) -> str:
        """SQL for the database's own clock, as epoch seconds."""
        return "((julianday('now') - 2440587.5) * 86400.0)" if self.sqlite else "extract(epoch from clock_timestamp())"

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction that may write; on SQLite it takes the write lock at once, so what it reads stays true."""
        async with self.engine.connect() as connection, connection.begin() as transaction:
            async with AsyncSession(
                connection, expire_on_commit=False, join_transaction_mode="rollback_only"
            ) as session:
                yield session
                await session.flush()
            begun = time.perf_counter()
            await transaction.commit()
            self._meter.stated("commit", time.perf_counter() - begun)

    @contextmanager
    def write_now(self) -> Iterator[sa.Connection]:
        """A `write` for a thread that carries it out whole, from BEGIN to COMMIT, for somebody outside who waits.

        Without a hop to the loop and back at each statement the same costs a third. On SQLite, of those that wait
        for the write lock, these go first.
        """
        with self.urgent.connect() as connection, connection.begin() as transaction:
            yield connection
            begun = time.perf_counter()
            transaction.commit()
            self._meter.stated("commit", time.perf_counter() - begun)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Something to read from that locks out nobody: a snapshot on SQLite, query by query on Postgres."""
        # On Postgres BEGIN and ROLLBACK would be two round trips around queries that need neither.
        options = {"tocsin_begin": "BEGIN"} if self.sqlite else {"isolation_level": "AUTOCOMMIT"}
        async with self.engine.connect() as plain:
            connection = await plain.execution_options(**options)
            async with AsyncSession(bind=connection, expire_on_commit=False) as session:
                yield session

    def insert(self, table: Any) -> Any:
        """An INSERT that knows ON CONFLICT, in this database's dialect."""
        return (sqlite.insert if self.sqlite else postgresql.insert)(table)

    async def close(self) -> None:
        """Give the connections back."""
        await self.engine.dispose()
        self.writers.shutdown(wait=False)
        self.urgent.dispose()


def insert_for(connection: AsyncConnection | sa.Connection, table: Any) -> Any:
    """`Database.insert` for code that has only the connection."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def unavailable(error: BaseException) -> bool:
    """Whether *error* means that the database is away, and not that the statement was wrong."""
    if isinstance(error, PendingRollbackError):
        return error.code == LOST  # the connection went away while a transaction was open
    return isinstance(error, UNAVAILABLE) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _spared(connection: Any, _record: Any) -> None:
    connection.execute(f"PRAGMA {SPARED}")


def _not_idle(seconds: float) -> Callable[[Any, Any], None]:
    """What tells the server to end a transaction in which nothing is said for *seconds*.

    Said after connecting, not while: a pooler in between refuses a connection that begins with options.
    """

    def tell(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = {round(seconds * 1000)}")
        cursor.close()
        connection.commit()

    return tell


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("tocsin_begin", BEGIN))


def _immediate(connection: Any, _record: Any) -> None:
    connection.isolation_level = "IMMEDIATE"
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


# Everything else that is said to a database, pragmas say, takes part in neither reading nor writing.
_KINDS = {"SELECT": "read", "WITH": "read", "INSERT": "write", "UPDATE": "write", "DELETE": "write", "BEGIN": "begin"}


def _measure(engines: Sequence[sa.Engine], meter: Meter) -> None:
    """Tell *meter* how long each statement took, which failed, and how many connections are at work."""

    def before(_connection: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        context.tocsin_begun = time.perf_counter()

    def after(_connection: Any, _cursor: Any, statement: str, _parameters: Any, context: Any, _many: bool) -> None:
        words = statement[:20].split(None, 1)
        kind = _KINDS.get(words[0].upper()) if words else None
        if kind is not None:
            meter.stated(kind, time.perf_counter() - context.tocsin_begun)

    def failed(context: Any) -> None:
        error = context.sqlalchemy_exception or context.original_exception
        if isinstance(error, Exception):  # and not a cancelled wait
            meter.stumbled("unavailable" if unavailable(error) else "refused")

    for engine in engines:
        event.listen(engine, "before_cursor_execute", before)
        event.listen(engine, "after_cursor_execute", after)
        event.listen(engine, "handle_error", failed)
    meter.watch("tocsin_database_connections_in_use", lambda: sum(_in_use(engine.pool) for engine in engines))


def _in_use(pool: Any) -> float:
    return float(pool.checkedout())
