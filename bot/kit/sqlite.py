"""SQLite used well: its writers take turns instead of finding it locked, and no statement changes threads.

SQLite has one writer at a time. A second one asks again after 1, 2, 5 … 100 ms, and whoever asks at the right moment
is next; so those of this process queue up before they ask. Other processes still meet SQLite's own lock.

A statement inside a transaction waits for nobody and takes microseconds, less than it takes to hand it to a thread
and back. What may wait, for another writer or for the disk, stays in the connection's own thread: BEGIN and COMMIT.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import aiosqlite

SECONDS = 30.0  # for a turn, and for the lock of another process
WRITES = ("BEGIN IMMEDIATE", "INSERT", "UPDATE", "DELETE", "REPLACE")
IN_A_ROW = 4  # urgent ones before one of the others
URGENT = "/* urgent */"  # at the end of BEGIN IMMEDIATE
ENDS = ("commit", "rollback")


class Turns:
    """Who may write: in the order in which they came, but those for whom somebody waits go first.

    A turn is taken in one thread and given back in whichever ends the transaction.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken = False
        self._urgent: deque[threading.Event] = deque()
        self._others: deque[threading.Event] = deque()
        self._ahead = 0

    def take(self, *, urgent: bool = False, seconds: float = SECONDS) -> None:
        """Wait for a turn. OperationalError when it does not come, as from SQLite itself."""
        queue = self._urgent if urgent else self._others
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            queue.append(mine)
        if mine.wait(seconds):
            return
        with self._lock:
            if mine.is_set():  # just now
                return
            queue.remove(mine)
        raise sqlite3.OperationalError("database is locked")

    def give(self) -> None:
        """Hand the turn to whoever is next, so that nobody who comes just now gets in between."""
        with self._lock:
            urgent = bool(self._urgent) and (self._ahead < IN_A_ROW or not self._others)
            self._ahead = self._ahead + 1 if urgent else 0
            if urgent:
                self._urgent.popleft().set()
            elif self._others:
                self._others.popleft().set()
            else:
                self._taken = False


class _Cursor(sqlite3.Cursor):
    """Takes the turn before the first statement that writes."""

    connection: "_Connection"

    def execute(self, sql: str, parameters: Any = ()) -> "_Cursor":
        """As always."""
        self.connection.before(sql)
        try:
            super().execute(sql, parameters)
        finally:
            self.connection.after()
        return self

    def executemany(self, sql: str, parameters: Any) -> "_Cursor":
        """As always."""
        self.connection.before(sql)
        try:
            super().executemany(sql, parameters)
        finally:
            self.connection.after()
        return self


class _Connection(sqlite3.Connection):
    """Holds the turn as long as it is in a transaction that writes."""

    turns: Turns
    mine = False

    def before(self, sql: str) -> None:
        """About to run *sql*: if that begins to write, wait for the turn."""
        if not self.mine and not self.in_transaction and sql.lstrip()[:15].upper().startswith(WRITES):
            self.turns.take(urgent=sql.endswith(URGENT))
            self.mine = True

    def after(self) -> None:
        """Something was done: if no transaction is left, the next one may."""
        if self.mine and not self._writing():
            self.mine = False
            self.turns.give()

    def _writing(self) -> bool:
        try:
            return self.in_transaction
        except sqlite3.ProgrammingError:  # closed meanwhile
            return False

    def cursor(self, factory: Any = _Cursor) -> Any:
        """A cursor that takes turns."""
        return super().cursor(factory)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        """As always."""
        return self.cursor().execute(sql, parameters)

    def commit(self) -> None:
        """As always, and the turn goes on."""
        try:
            super().commit()
        finally:
            self.after()

    def rollback(self) -> None:
        """As always, and the turn goes on."""
        try:
            super().rollback()
        finally:
            self.after()

    def close(self) -> None:
        """As always; what was not committed is lost, and the turn goes on."""
        super().close()
        if self.mine:
            self.mine = False
            self.turns.give()


class _Near(aiosqlite.Connection):
    """Runs in its thread only what may wait."""

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # The private seam of aiosqlite 0.22 through which everything passes; test_sqlite.py holds it to its promise.
        if self._connection is None or _waits(fn, self._connection.in_transaction):
            return await super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return fn(*args, **kwargs)


def _waits(function: Callable[..., Any], in_transaction: bool) -> bool:
    name, owner = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    if name == "close":  # a connection's comes after whatever its thread is still at
        return isinstance(owner, sqlite3.Connection)
    return name in ENDS or (name.startswith("execute") and not in_transaction)


def connect(path: str, turns: Turns) -> sqlite3.Connection:
    """A connection that takes turns."""
    made = sqlite3.connect(path, timeout=SECONDS, factory=_Connection, check_same_thread=False)
    made.turns = turns
    return made


async def connect_async(path: str, turns: Turns) -> aiosqlite.Connection:
    """The same for the event loop."""
    made = _Near(partial(connect, path, turns), iter_chunk_size=64)
    made._thread.daemon = True  # as SQLAlchemy does: a connection nobody closed must not keep the process alive
    return await made
