"""Put one SQL statement to a database; it can only read unless `write: true` is said.

Reading is made safe by four things that hold together: a role that may do little, a read-only transaction whose first
statement is ours, a protocol that takes one statement at a time, and a ROLLBACK at the end. None of them is enough.
"""

import asyncio
import contextlib
import json
import math
import re
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types import datetime as times
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, StrictBool, model_validator

from bot.catalog.targets import Connection
from bot.kit import statement as statements
from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.fetch import Guard
from bot.kit.statement import Statement
from bot.kit.table import table
from bot.kit.text import clip, one_line
from bot.runs.expressions import evaluate, templated
from bot.runs.step import EXPRESSION, LITERAL, Cancelled, Duration, StepContext, StepResult, Text, refuse

EXACT = True  # its parameters say for sure whether it writes; a runbook cannot call it less
EFFECT = "write"  # what cannot be read as parameters is taken for the worse
RESULT = ("rows", "columns", "row_count", "truncated")
LOCK_SECONDS = 2.0
CONNECT_SECONDS = 10.0
LONGEST = timedelta(minutes=10)
MOST_ROWS = 1000
CELL = 4000  # letters of one value
SIZE = 1024 * 1024  # letters of all rows
ITEMS = 100
DEPTH = 8
PARTS = 100  # rows that a driver takes at once
COMMIT_SECONDS = 10.0

READS = frozenset({"SELECT", "VALUES", "TABLE", "SHOW", "EXPLAIN"})
WRITES = READS | frozenset(
    (
        *("INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "CALL", "REFRESH", "ANALYZE", "REINDEX"),
        *("CREATE", "ALTER", "DROP", "COMMENT", "CLUSTER", "NOTIFY"),
    )
)
EXPLAINED = frozenset({"SELECT", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"})
_BIND = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
T = TypeVar("T")


def _written_out(value: object) -> object:
    if templated(value):
        raise refuse("must be written out; whether and how a step writes is known before it runs")
    return value


def _readable(value: object) -> object:
    if isinstance(value, str):
        try:
            statements.read(value)
        except ValueError as error:
            raise refuse(str(error)) from None
    return value


def _binds(value: object) -> object:
    for name, given in value.items() if isinstance(value, dict) else ():
        if not _BIND.fullmatch(str(name)):
            raise refuse(f"{name!r} is not a name for a bind; use letters, digits and _")
        items = given if isinstance(given, list) else [given]
        if not all(item is None or isinstance(item, str | int | float) for item in items):
            raise refuse(f"{name} must be a text, a number, true, false, null or a list of such")
    return value


Literally = BeforeValidator(_written_out)


class Params(BaseModel):
    """The statement, and what is given to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: Text = Field(description="name of a connection of kind postgres or sqlite")
    query: Annotated[str, BeforeValidator(_readable), LITERAL] = Field(
        description="one statement, taken as it stands; values are named :like_this and listed in binds"
    )
    binds: Annotated[dict[str, Any], BeforeValidator(_binds)] = Field(
        default={}, description="the values, by name; they never become a part of the statement"
    )
    max_rows: Annotated[int, Literally, Field(ge=1, le=MOST_ROWS)] = Field(
        default=50, description="rows that are kept; more are not fetched"
    )
    write: Annotated[StrictBool, Literally] = Field(
        default=False, description="change something, through a connection that is made for it"
    )
    expect: Annotated[str | None, EXPRESSION] = Field(
        default=None, description="expression that must be true; sees rows, columns, row_count, truncated"
    )
    table: Annotated[StrictBool, Literally] = Field(default=True, description="show the rows as a table")
    statement_timeout: Annotated[Duration, Literally] = Field(
        default=timedelta(seconds=15), description="how long the database may take, at most 10m"
    )

    @model_validator(mode="after")
    def _fits(self) -> "Params":
        verb, known = self.statement.verb, WRITES if self.write else READS
        if verb not in known:
            why = (
                "cannot be a step" if self.write or verb not in WRITES else "changes something; that takes write: true"
            )
            raise refuse(f"{clip(verb, 30)} {why}; there is {', '.join(sorted(known))}")
        if verb == "EXPLAIN" and not self.write and self.statement.explains not in EXPLAINED:
            # PostgreSQL carries out EXPLAIN ANALYZE CREATE TABLE … AS even in a transaction that may only read.
            raise refuse(
                f"a step that reads explains only {', '.join(sorted(EXPLAINED))}, without parentheses around it"
            )
        if missing := [name for name in dict.fromkeys(self.statement.binds) if name not in self.binds]:
            raise refuse(f"the query names :{missing[0]}, and binds has no {missing[0]}")
        if unused := [name for name in self.binds if name not in self.statement.binds]:
            raise refuse(f"binds has {unused[0]}, and the query has no :{unused[0]}")
        if not timedelta(milliseconds=10) <= self.statement_timeout <= LONGEST:
            raise refuse("statement_timeout must be between 10ms and 10m")
        return self

    @property
    def statement(self) -> Statement:
        """The query, taken apart."""
        return statements.read(self.query)


@dataclass(frozen=True)
class Found:
    """What came back. *count*: how many rows were changed or given, which may be more than are kept."""

    columns: tuple[str, ...]
    rows: list[Sequence[Any]]
    count: int
    more: bool = False


class Session(Protocol):
    """A database within one transaction of ours."""

    async def put(self, statement: Statement, params: Params) -> Found: ...

    async def commit(self) -> None: ...


@dataclass
class _Progress:
    """Whether the transaction is being committed: from then on it is not given up half-way."""

    committing: bool = False


def effect(params: Params) -> Literal["read", "write"]:
    """It reads, unless it says that it writes."""
    return "write" if params.write else "read"


def needs(params: Params) -> list[tuple[str, str]]:
    """The connection it uses."""
    return [("connection", params.connection)]


def preview(params: Params) -> str:
    """The statement and where it would go; the values by name."""
    told = f"would put to {params.connection}: {clip(one_line(params.query), 500)}"
    return told + (f" (with {', '.join(params.binds)})" if params.binds else "")


async def run(context: StepContext, params: Params) -> StepResult:
    """Put it once. A write is only kept if `expect` is true of what it gave."""
    connection = context.reach.connection(params.connection, "postgres", "sqlite")
    _allowed(context, params, connection)
    progress = _Progress()
    work = asyncio.ensure_future(_carried_out(context, params, connection, progress))
    stop = asyncio.ensure_future(context.cancelled.wait())
    try:
        await asyncio.wait({work, stop}, timeout=context.timeout, return_when=asyncio.FIRST_COMPLETED)
        if not work.done() and progress.committing:
            await asyncio.wait({work}, timeout=COMMIT_SECONDS)
        if work.done():
            return work.result()
        if progress.committing:
            raise PermanentError(_unsure(params.connection))
        if stop.done():
            raise Cancelled("the statement was stopped; nothing of it remains")
        raise TemporaryError(f"{params.connection} gave no answer within {context.timeout:g} s")
    finally:
        work.cancel()
        stop.cancel()
        await asyncio.gather(work, stop, return_exceptions=True)


def _allowed(context: StepContext, params: Params, connection: Connection) -> None:
    if params.write and context.dry_run:
        raise PermanentError("a dry run writes nothing")
    if params.write and not connection.write:
        raise PermanentError(
            f"the connection {params.connection} is for reading; a step that writes takes another one, which says "
            "write: true in targets.yaml"
        )
    if connection.write and not params.write:
        raise PermanentError(
            f"the connection {params.connection} is for writing; a step that reads takes another one, whose role may "
            "only read"
        )


async def _carried_out(context: StepContext, params: Params, connection: Connection, progress: _Progress) -> StepResult:
    password = ""
    if connection.password is not None:
        password = await context.reach.reveal(connection.password, f"password of {params.connection}")
        context = replace(context, redact=context.redact.knowing(password))
    if connection.kind == "postgres":
        opened = _postgres(context, params, connection, password)
    else:
        opened = _sqlite(context, params, connection)
    async with opened as session:
        found = await session.put(params.statement, params)
        result = _judged(context, params, found)
        if params.write and result.ok:
            progress.committing = True
            await session.commit()
    return result


def _unsure(name: str) -> str:
    return f"the connection to {name} was lost while it committed; look whether the change was made before you go on"


# -- PostgreSQL ------------------------------------------------------------------------------------------------------

# Who may do this could do anything: write files, run programs, become a superuser.
_TOO_MUCH = ("pg_execute_server_program", "pg_write_server_files")
# Not stopped by a read-only transaction.
_TOO_MUCH_TO_READ = (*_TOO_MUCH, "pg_signal_backend")
_POWERS = """\
select r.rolname from pg_catalog.pg_roles r
where (r.rolsuper or r.rolname = any($1))
and (pg_catalog.pg_has_role(session_user, r.oid, 'member') or pg_catalog.pg_has_role(current_user, r.oid, 'member'))
order by r.rolsuper desc, r.rolname limit 3"""

_PASSING = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05"})
_FOR_GOOD = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist|not permitted to log in|"
    r"certificate|does not support SSL|invalid (?:connection option|sslmode|port|URI)|no encryption",
    re.IGNORECASE,
)
# What would lead around the guard, or hold a secret where everybody can read it.
_NOT_IN_URL = ("password", "hostaddr", "service", "passfile", "options", "sslpassword", "sslkeylogfile")


def _lenient(loader: type[psycopg.adapt.Loader]) -> type[psycopg.adapt.Loader]:
    """Dates that Python does not know, such as `infinity`, stay texts."""

    class Lenient(loader):  # type: ignore[misc, valid-type]
        def load(self, data: Any) -> Any:
            try:
                return super().load(data)
            except psycopg.DataError:
                return bytes(data).decode("utf-8", "replace")

    return Lenient


_LOADERS = (
    ("date", times.DateLoader),
    ("time", times.TimeLoader),
    ("timetz", times.TimetzLoader),
    ("timestamp", times.TimestampLoader),
    ("timestamptz", times.TimestamptzLoader),
    ("interval", times.IntervalLoader),
)


@dataclass
class _Postgres:
    """A transaction on PostgreSQL. Errors of the driver leave it as ours."""

    connection: psycopg.AsyncConnection[Any]
    name: str
    context: StepContext

    async def begin(self, write: bool, seconds: float) -> None:
        """Ours are the first statements, and after a query nothing can make the transaction writable again."""
        waits = {
            "statement_timeout": seconds,
            "lock_timeout": LOCK_SECONDS,
            "idle_in_transaction_session_timeout": seconds + 30,
        }
        settings = [f"set local {name} = {math.ceil(value * 1000)}" for name, value in waits.items()]
        settings += ["set local timezone = 'UTC'", "set local datestyle = 'ISO, YMD'"]
        begin = f"begin transaction read {'write' if write else 'only'}"
        await self.connection.execute("; ".join([begin, *settings]).encode())
        powers = list(_TOO_MUCH if write else _TOO_MUCH_TO_READ)
        cursor = await self.connection.execute(_POWERS.encode(), [powers])
        if found := [str(row[0]) for row in await cursor.fetchall()]:
            raise PermanentError(
                f"the role of {self.name} may do too much for a runbook: it is or can become {', '.join(found)}; "
                "give the connection a role of its own that may do no more than it needs"
            )

    async def put(self, statement: Statement, params: Params) -> Found:
        """One statement. Rows of a query are fetched through a cursor, so that no more are made than are wanted."""
        values = [params.binds[name] for name in statement.binds]
        try:
            if params.write:
                return await self._change(statement, values, params.max_rows)
            if statement.verb in ("SHOW", "EXPLAIN"):
                return await self._rows(statement.numbered, values, params.max_rows)
            # `binary` is how psycopg is told to use the protocol that takes one statement only.
            declared = f"declare tocsin no scroll cursor for {statement.numbered}"
            await self.connection.execute(declared.encode(), values or None, binary=True)
            return await self._rows(f"fetch forward {params.max_rows + 1} from tocsin", [], params.max_rows)
        except psycopg.Error as error:
            raise _told(error, self.name, self.context) from None
        except RecursionError:
            raise PermanentError(f"{self.name}: a value holds JSON that is nested too deeply to be read") from None
        except ValueError as error:  # half a letter, or bytes that are no text
            raise PermanentError(f"{self.name}: {clip(self.context.redact.text(str(error)), 200)}") from None

    async def _change(self, statement: Statement, values: Sequence[Any], keep: int) -> Found:
        if statement.verb in READS or statement.returning:
            return await self._rows(statement.numbered, values, keep, whole=True)
        cursor = await self.connection.execute(statement.numbered.encode(), values or None, binary=True)
        if cursor.description is None:
            return Found((), [], max(0, cursor.rowcount))
        rows = await cursor.fetchmany(keep + 1)
        return Found(_columns(cursor), rows[:keep], cursor.rowcount, len(rows) > keep)

    async def _rows(self, text: str, values: Sequence[Any], keep: int, *, whole: bool = False) -> Found:
        """At most *keep* rows. With *whole* the others are made too and thrown away: the statement has an effect."""
        rows: list[Sequence[Any]] = []
        count = size = 0
        async with self.connection.cursor() as cursor:
            stream: Any = cursor.stream(text.encode(), values or None, size=PARTS)
            async with aclosing(stream):
                async for row in stream:
                    count += 1
                    size += sum(len(str(value)) for value in row)
                    if count <= keep and size <= 4 * SIZE:
                        rows.append(row)
                    elif size > 4 * SIZE and not whole:
                        break
            columns = _columns(cursor)
        return Found(columns, rows, count if whole else len(rows), count > len(rows))

    async def commit(self) -> None:
        """Keep it."""
        try:
            await self.connection.execute("commit")
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                raise PermanentError(_unsure(self.name)) from None
            raise _told(error, self.name, self.context) from None
        except psycopg.Error as error:
            raise _told(error, self.name, self.context) from None

    async def end(self) -> None:
        """Undo what was not committed; where the connection is gone, the database does that by itself."""
        with contextlib.suppress(psycopg.Error, TimeoutError):
            async with asyncio.timeout(LOCK_SECONDS):
                await self.connection.rollback()
                # Behind a pooler the session outlives us, and with it locks and settings that a statement has left.
                await self.connection.execute("discard all")
        await self.connection.close()


def _columns(cursor: psycopg.AsyncCursor[Any]) -> tuple[str, ...]:
    return tuple(column.name for column in cursor.description or ())


@asynccontextmanager
async def _postgres(context: StepContext, params: Params, target: Connection, password: str) -> AsyncIterator[Session]:
    options = await _options(context, params.connection, target)
    try:
        # An empty password, and a file that is not there, keep those of the bot's own environment out.
        connection = await psycopg.AsyncConnection.connect(
            **options,
            password=password,
            passfile="/dev/null/none",
            autocommit=True,
            prepare_threshold=None,
            cursor_factory=psycopg.AsyncRawCursor,
        )
    except psycopg.Error as error:
        told = f"{params.connection} lets nobody in: {_line(context, str(error))}"
        raise (PermanentError(told) if _FOR_GOOD.search(str(error)) else TemporaryError(told)) from None
    for name, loader in _LOADERS:
        connection.adapters.register_loader(name, _lenient(loader))
    session = _Postgres(connection, params.connection, context)
    try:
        try:
            await session.begin(params.write, min(params.statement_timeout.total_seconds(), context.timeout))
        except psycopg.Error as error:
            raise _told(error, params.connection, context) from None
        yield session
    finally:
        await session.end()


async def _options(context: StepContext, name: str, target: Connection) -> dict[str, Any]:
    """What libpq is told: addresses that were checked, and to check certificates unless the network is private."""
    try:
        given = conninfo_to_dict(target.url)
    except psycopg.Error:
        raise PermanentError(f"the url of {name} cannot be read; write postgresql://host:5432/database") from None
    if bad := [key for key in _NOT_IN_URL if given.get(key)]:
        raise PermanentError(f"the url of {name} must not hold {bad[0]}; targets.yaml has a place for a password")
    hosts = str(given.get("host") or "").split(",")
    ports = [port or "5432" for port in str(given.get("port") or "").split(",")]
    if not all(hosts) or len(ports) not in (1, len(hosts)) or not all(port.isdecimal() for port in ports):
        raise PermanentError(f"the url of {name} must name a host, and a port for each or one for all")
    guard = Guard(context.allow_private, context.resolve, target.private)
    places: list[tuple[str, str, str]] = []
    for number, host in enumerate(hosts):
        port = ports[number % len(ports)]
        if host.startswith(("/", "@")):
            if not target.private:
                raise PermanentError(f"{name} is on this machine; say private: true in targets.yaml if that is meant")
            places.append((host, "", port))
        else:
            places += [(host, address, port) for address in await guard.addresses(host, int(port))]
    options: dict[str, Any] = {
        "sslmode": "prefer" if target.private and target.ca is None else "verify-full",
        "application_name": "tocsin",
        "gssencmode": "disable",
        "connect_timeout": max(2, math.ceil(min(CONNECT_SECONDS, context.timeout))),
        **given,
        "host": ",".join(host for host, _, _ in places),
        "hostaddr": ",".join(address for _, address, _ in places) if any(address for _, address, _ in places) else None,
        "port": ",".join(port for _, _, port in places),
        "client_encoding": "UTF8",
    }
    if target.username is not None:
        options["user"] = target.username
    if target.ca is not None:
        options["sslrootcert"] = str(context.reach.path(target.ca))
    elif options["sslmode"] == "verify-full":
        options.setdefault("sslrootcert", "system")
    return options


def _told(error: psycopg.Error, name: str, context: StepContext) -> BotError:
    """The driver's error in our words: what may pass, and what a person has to do about the rest."""
    state = error.sqlstate
    told = _line(context, error.diag.message_primary or str(error))
    if error.diag.message_hint:
        told = f"{told} ({_line(context, error.diag.message_hint)})"
    if state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return TemporaryError(f"the connection to {name} was lost: {told}")
    if state == "25006":
        return PermanentError(
            f"{name}: the statement changes something, and a step without write: true may not: {told}"
        )
    if state == "57014":
        return PermanentError(f"{name}: the statement took too long and was stopped; statement_timeout is the limit")
    if state == "55P03":
        return TemporaryError(f"{name}: somebody else holds what the statement needs, for more than {LOCK_SECONDS:g} s")
    if state is not None and (state in _PASSING or state.startswith(("08", "53"))):
        return TemporaryError(f"{name}: {told}")
    return PermanentError(f"{name}: {told}")


def _line(context: StepContext, text: str) -> str:
    return clip(one_line(context.redact.text(text)), 300)


# -- SQLite ----------------------------------------------------------------------------------------------------------

_MAY_READ = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE))
_MAY_WRITE = _MAY_READ | frozenset((sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE))
_NO_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"})
_STEPS = 1000  # of SQLite's machine, between two looks at the clock


@dataclass
class _Sqlite:
    """A transaction on a SQLite file. What blocks is done in a thread, and ends when it is told to."""

    name: str
    context: StepContext
    connection: sqlite3.Connection
    deadline: float
    stopped: threading.Event = field(default_factory=threading.Event)

    async def put(self, statement: Statement, params: Params) -> Found:
        """One statement, of which no more rows are made than are wanted."""
        if any(isinstance(value, list) for value in params.binds.values()):
            raise PermanentError("SQLite has no lists; give one value to each bind")
        return await self._aside(lambda: self._put(statement, params))

    def _put(self, statement: Statement, params: Params) -> Found:
        self.connection.set_authorizer(_authorizer(params.write))
        self.connection.set_progress_handler(self._late, _STEPS)
        cursor = self.connection.execute(statement.text, params.binds)
        columns = tuple(str(column[0]) for column in cursor.description or ())
        rows: list[Sequence[Any]] = []
        count = size = 0
        for row in cursor:
            count += 1
            size += sum(len(str(value)) for value in row)
            if count <= params.max_rows and size <= 4 * SIZE:
                rows.append(row)
            elif not params.write:
                break
        changed = max(count, cursor.rowcount) if params.write else len(rows)
        return Found(columns, rows, changed, count > len(rows))

    async def commit(self) -> None:
        """Keep it."""

        def commit() -> None:
            self.connection.set_authorizer(None)
            self.connection.execute("COMMIT")

        await self._aside(commit)

    async def _aside(self, work: Callable[[], T]) -> T:
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.stopped.set()
            self.connection.interrupt()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is known why it ends
            await asyncio.wait({task}, timeout=LOCK_SECONDS + 1)
            raise
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _sqlite_told(error, self.name, self.context) from None
        except (ValueError, OverflowError) as error:
            raise PermanentError(f"{self.name}: {_line(self.context, str(error))}") from None

    def _late(self) -> bool:
        return self.stopped.is_set() or time.monotonic() > self.deadline


def _sqlite_told(error: Exception, name: str, context: StepContext) -> BotError:
    told = _line(context, str(error))
    if "interrupted" in told:
        return PermanentError(f"{name}: the statement took too long and was stopped; statement_timeout is the limit")
    if "locked" in told or "busy" in told:
        return TemporaryError(f"{name}: somebody else holds the database, for more than {LOCK_SECONDS:g} s")
    if "readonly" in told:
        return PermanentError(f"{name}: the statement changes something, and a step without write: true may not")
    if "not authorized" in told or "prohibited" in told:
        return PermanentError(f"{name}: this is not allowed to a runbook: {told}")
    return PermanentError(f"{name}: {told}")


def _authorizer(write: bool) -> Callable[..., int]:
    allowed = _MAY_WRITE if write else _MAY_READ

    def decide(action: int, first: str | None, second: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_FUNCTION and str(second).lower() in _NO_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    return decide


@asynccontextmanager
async def _sqlite(context: StepContext, params: Params, target: Connection) -> AsyncIterator[Session]:
    path = context.reach.path(Path(target.url.removeprefix("sqlite:///")))
    seconds = min(params.statement_timeout.total_seconds(), context.timeout)

    def open_() -> sqlite3.Connection:
        if not path.is_file():
            raise PermanentError(f"{params.connection}: there is no database at {path}")
        place = f"file:{quote(str(path.absolute()))}?mode={'rw' if params.write else 'ro'}"
        opened = sqlite3.connect(
            place, uri=True, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=0
        )
        try:
            opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * SIZE)
            opened.execute("PRAGMA trusted_schema = OFF")
            opened.execute(f"PRAGMA query_only = {'OFF' if params.write else 'ON'}")
            opened.execute("BEGIN IMMEDIATE" if params.write else "BEGIN")
        except BaseException:
            opened.close()
            raise
        return opened

    try:
        connection = await asyncio.to_thread(open_)
    except sqlite3.Error as error:
        raise _sqlite_told(error, params.connection, context) from None
    session = _Sqlite(params.connection, context, connection, time.monotonic() + seconds)
    try:
        yield session
    finally:
        await asyncio.to_thread(connection.close)  # which undoes what was not committed


# -- what comes back -------------------------------------------------------------------------------------------------


def _judged(context: StepContext, params: Params, found: Found) -> StepResult:
    columns = _named(found.columns)
    rows: list[JsonValue] = []
    cells: list[list[str]] = []
    size, more = 0, found.more
    for raw in found.rows:
        plain = {name: _plain(value) for name, value in zip(columns, raw, strict=True)}
        shown = context.redact.value(plain)
        size += len(json.dumps(shown, ensure_ascii=False))
        if size > SIZE:
            more = True
            break
        rows.append(shown)
        # Numbers and moments are shown as exactly as they came, unless something was hidden.
        exact = zip(columns, raw, strict=True)
        cells.append([_cell(value if shown.get(name) == plain[name] else shown.get(name)) for name, value in exact])
    values: dict[str, JsonValue] = {
        "rows": rows,
        "columns": list[JsonValue](columns),
        "row_count": found.count if params.write else len(rows),
        "truncated": more,
    }
    right = [all(_is_number(raw[n]) for raw in found.rows) for n in range(len(columns))]
    output = table(columns, cells, right=right) if params.table and columns else ""
    if more and output:
        output += "\n… there are more rows"
    summary = _summary(params, values)
    if params.expect is None or evaluate(params.expect, {**context.values, **values}):
        return StepResult(True, summary, output, values)
    undone = "; nothing was kept" if params.write else ""
    return StepResult(False, f"{summary}, expected {params.expect}{undone}", output, values)


def _summary(params: Params, values: Mapping[str, Any]) -> str:
    count = values["row_count"]
    told = f"{count} row" + ("" if count == 1 else "s")
    if values["truncated"] and not params.write:
        told = f"the first {told}"
    rows = values["rows"]
    if len(rows) == 1 and 0 < len(rows[0]) <= 4:
        told += f": {', '.join(f'{name} {clip(_cell(value), 60)}' for name, value in rows[0].items())}"
    return told


def _named(columns: Sequence[str]) -> list[str]:
    """Names that tell the columns apart, although two may have the same."""
    named: list[str] = []
    for name in columns:
        short, number = clip(name, 128), 2
        while short in named:
            short, number = f"{clip(name, 120)}_{number}", number + 1
        named.append(short)
    return named


def _plain(value: Any, depth: int = DEPTH) -> JsonValue:
    """*value* as JSON: moments as ISO 8601, lengths of time in seconds, what is no number as null."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return clip(value, CELL)
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return _decimal(value)
        case datetime() | date() | clock_time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            raw = bytes(value[: CELL // 2])
            return f"\\x{raw.hex()}" + ("…" if len(value) > len(raw) else "")
        case list() | tuple() if depth:
            return [_plain(item, depth - 1) for item in value[:ITEMS]]
        case dict() if depth:
            return {clip(str(key), 128): _plain(item, depth - 1) for key, item in list(value.items())[:ITEMS]}
        case list() | tuple() | dict():
            return "…"
        case _:
            return clip(str(value), CELL)


def _decimal(value: Decimal) -> int | float | None:
    if not value.is_finite():
        return None
    if value.adjusted() < 30 and value == value.to_integral_value():
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str() | int() | float() | Decimal():
            return clip(str(value), CELL)
        case datetime():
            return value.isoformat(" ", "milliseconds" if value.microsecond else "seconds")
        case timedelta():
            return str(value)
        case list() | tuple() | dict():
            return clip(json.dumps(_plain(value), ensure_ascii=False), CELL)
        case _:
            return clip(str(_plain(value)), CELL)
