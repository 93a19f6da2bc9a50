"""Durable work: what was promised in a transaction is done, whatever is killed in between.

A thin face over DBOS, and the only module that knows it. `transaction()` gives rows and the work that follows from
them one commit; after it the work starts at once, and a poll every few seconds is the fallback. The engine runs a
workflow at least once: each must look whether its result exists before it acts.

DBOS by itself recovers only what carries its own executor id. So every boot has an id of its own and a lease in the
database; every process looks for work whose owner's lease ran out and takes it over. A process that was wrongly taken
for dead does no harm: the engine refuses what it records after losing ownership. On SQLite one process holds a file
lock, so any other owner is dead and its work is taken over at once.
"""

import asyncio
import fcntl
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import IO, Any, TypeVar, cast

import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from dbos._core import execute_dequeued_workflow
from dbos._dbos import _get_dbos_instance
from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel

from bot.kit.db import Database, unavailable
from bot.kit.errors import BotError, PermanentError, TemporaryError, UserError
from bot.kit.tasks import spawn
from bot.metrics import Metrics

log = structlog.get_logger()

T = TypeVar("T")

NAME = "tocsin"
# Raise it only together with a plan for what is still queued under the old one: DBOS leaves other versions' work alone.
VERSION = "1"
MAIN, LINES, RUNS = "main", "lines", "runs"
# Few queues: each costs a thread and a query per poll. Two are partitioned, and a partition is worked at by one
# workflow at a time, whichever process it is in: RUNS by what a run touches, LINES by whatever must keep its turn, such
# as what is drawn in one channel, or what one person asked for.
QUEUES: dict[str, dict[str, Any]] = {
    MAIN: {},
    LINES: {"partition_concurrency": 1},
    RUNS: {"partition_concurrency": 1},
}
BREATH = 0.02  # seconds between two looks while somebody waits for an answer
LOOKING = 2  # threads that look for work at once; more would only wait for each other, and the loop for them
PARTITIONED = frozenset(name for name, options in QUEUES.items() if options)
# How the engine calls what is over. What it gave up reviving may be wanted yet, so that is not among them.
ENDED = ("SUCCESS", "ERROR", "CANCELLED")
BREATH = 0.05

# The second condition on the status is what makes the databases use DBOS's partial index.
_WAITING = {
    dialect: sa.text(
        f"select name, queue_partition_key from {table} where queue_name = :queue and status = 'ENQUEUED' "  # noqa: S608
        "and status in ('ENQUEUED', 'PENDING') and queue_partition_key is not null "
        f"and queue_partition_key in :partitions{lock}"
    ).bindparams(sa.bindparam("partitions", expanding=True))
    for dialect, table, lock in (
        ("sqlite", "workflow_status", ""),
        ("postgresql", "dbos.workflow_status", " for update skip locked"),
    )
}

Workflow = Callable[..., Awaitable[None]]
# A queue, and the partition of it if it has any.
Place = tuple[str | None, str | None]


class ExecutorLease(SQLModel, table=True):
    """A process that is alive, and when it last said so by the database's clock (epoch seconds)."""

    __tablename__ = "executor_lease"

    executor_id: str = Field(primary_key=True)
    beat: float = 0.0


@dataclass(frozen=True)
class Work:
    """A promise to run *workflow* with *args* once under *id*; promising the same id again changes nothing.

    With *merges*, one that waits already in the same partition and has not begun will do: for work that looks at how
    things stand when it begins, such as drawing a card.
    """

    workflow: str
    id: str
    args: tuple[Any, ...] = ()
    queue: str = MAIN
    partition: str | None = None
    delay_seconds: float = 0
    merges: bool = False


@dataclass
class Tx:
    """An open transaction: the session to write with, and the work that starts when it commits."""

    session: AsyncSession
    work: list[Work] = field(default_factory=list)
    last: datetime | None = None
    # What modules keep with a transaction, by their name, and what they do as its last statements.
    notes: dict[str, Any] = field(default_factory=dict)
    ends: list[Callable[[AsyncSession], Awaitable[None]]] = field(default_factory=list)

    def moment(self, now: datetime) -> datetime:
        """*now*, or a microsecond after the last one: what is written in one transaction keeps its order."""
        self.last = now if self.last is None or now > self.last else self.last + timedelta(microseconds=1)
        return self.last

    def enqueue(self, *work: Work) -> None:
        """Promise *work*, if this transaction commits."""
        self.work.extend(work)

    def finally_(self, end: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """Have *end* write the last of this transaction: after it nothing more is locked, so it may hold up others."""
        self.ends.append(end)


@dataclass
class Batch:
    """The same in a thread that carries it out whole: the connection to write with, and the work."""

    connection: sa.Connection
    work: list[Work] = field(default_factory=list)

    def enqueue(self, *work: Work) -> None:
        """Promise *work*, if this transaction commits."""
        self.work.extend(work)


@dataclass(frozen=True)
class Backlog:
    """Promised work of one kind that waits in a queue, or is being done; and how long ago its oldest was promised."""

    queue: str
    workflow: str
    running: bool
    count: int
    oldest_seconds: float


@dataclass(frozen=True)
class Retry:
    """How long a workflow that fails with TemporaryError is tried again before it is parked."""

    first: float = 0.5
    most: float = 120.0
    attempts: int = 60

    def wait(self, attempt: int) -> float:
        """How long after the failure of try *attempt* the next one comes."""
        return min(self.most, self.first * 2.0 ** min(attempt, 16))


class Superseded(BotError):  # noqa: N818 - not a fault: somebody else does it
    """This process was taken for dead, and another one does the work that this task was doing."""


@dataclass(frozen=True)
class _Task:
    """The workflow a task carries out, and how often the lease had lapsed when it began."""

    workflow_id: str
    lapses: int


_task: ContextVar[_Task] = ContextVar("task")


class Courtesy:
    """Those who wait for an answer go first: work begins when nobody has asked for a moment, or after a while."""

    MOMENT, WHILE = 0.01, 1.0

    def __init__(self) -> None:
        self._asking = 0
        self._last = -self.MOMENT
        self._calm: asyncio.Future[None] | None = None

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Somebody waits as long as this lasts."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            self._last = time.monotonic()

    def knock(self) -> None:
        """Somebody has come and will ask in a moment."""
        self._last = time.monotonic()

    def restless(self) -> bool:
        """Whether somebody waits, or did a moment ago."""
        return self._asking > 0 or time.monotonic() - self._last < self.MOMENT

    async def wait(self) -> None:
        """Return when work may begin."""
        await asyncio.sleep(0)  # while the loop was held up somebody may have come who is heard in this very turn
        if not self.restless():
            return
        if self._calm is None:  # one looks, however many wait
            self._calm = asyncio.get_running_loop().create_future()
            spawn(self._look(self._calm), name="engine.courtesy")
        await asyncio.wait((self._calm,))

    async def _look(self, calm: "asyncio.Future[None]") -> None:
        until = time.monotonic() + self.WHILE
        while self.restless() and time.monotonic() < until:  # noqa: ASYNC110 - it is about nothing happening
            await asyncio.sleep(self.MOMENT)
        self._calm = None
        calm.set_result(None)


class Engine:
    """One process's share in the durable work."""

    def __init__(
        self,
        db: Database,
        *,
        lease_seconds: float = 15.0,
        poll_seconds: float = 2.0,
        listen_seconds: float = 1.0,
        parked: Callable[[str, str, tuple[Any, ...], str], Awaitable[None]] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Make the engine; nothing runs before `start`.

        *listen_seconds* bounds how long `stop` waits for the engine's listener thread. *parked* is told
        ``(workflow, id, args, reason)`` when a workflow is given up.
        """
        self.db = db
        self.metrics = metrics or Metrics()
        self.lease_seconds = lease_seconds
        self.poll_seconds = poll_seconds
        self.listen_seconds = listen_seconds
        self.executor_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._parked = parked
        self._workflows: dict[str, tuple[Workflow, Retry]] = {}
        self._sys: sa.Engine | None = None
        self._client: DBOSClient | None = None
        self._lock: IO[str] | None = None
        self._lease: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: dict[str, Any] = {}
        self._poking: set[Place] = set()
        self._again: set[Place] = set()
        self._running: set[asyncio.Task[Any]] = set()
        self._doing: set[str] = set()
        self._idle: set[str] = set()
        self.courtesy = Courtesy()
        self._looking = asyncio.Semaphore(LOOKING)
        self._places: dict[str, Place] = {}
        self.serving = False
        # How often this process let its lease run out, and was open to be taken for dead.
        self._lapses = 0
        self.last_beat: float | None = None
        # How far the database's clock is ahead of this machine's.
        self.ahead = 0.0
        self.metrics.watch("tocsin_lease_age_seconds", self.lease_age)

    def workflow(self, name: str, run: Workflow, retry: Retry | None = None) -> None:
        """Register *run* under *name*; its arguments and nothing else are kept, as JSON."""
        self._workflows[name] = (run, retry or Retry())
        self.metrics.expect(workflow=name)

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the file lock (SQLite) or a lease, launch, and take over what dead processes left behind."""
        self._loop = asyncio.get_running_loop()
        if self.db.sqlite:
            self._lock = _only_process(self.db)
        self._sys = self.db.sync_engine()
        DBOS(
            config={
                "name": NAME,
                "application_version": VERSION,
                "executor_id": self.executor_id,
                "system_database_url": self.db.sync_url.render_as_string(hide_password=False),
                "system_database_engine": self._sys,
                "serializer": DBOSPortableJSONSerializer(),
                "max_executor_threads": 16,
                "notification_listener_polling_interval_sec": self.listen_seconds,
                # Nothing here waits for messages of the engine, and a pooler in between may not know LISTEN.
                "use_listen_notify": False,
                "log_level": "WARNING",
            }
        )
        # Its log goes where ours goes.
        speaker = logging.getLogger("dbos")
        speaker.handlers.clear()
        speaker.propagate = True
        for name, (run, retry) in self._workflows.items():
            DBOS.workflow(name=name, max_recovery_attempts=None)(self._guarded(name, run, retry))
        await self._beat()
        DBOS.launch()
        for name, options in QUEUES.items():
            self._queues[name] = await DBOS.register_queue_async(
                name, polling_interval_sec=self.poll_seconds, on_conflict="always_update", **options
            )
        self._connect()
        self.serving = True
        await self._take_over(everyone_else_is_dead=self.db.sqlite)
        self._lease = spawn(self._keep_lease(), name="engine.lease")

    async def stop(self, *, drain_seconds: float = 5.0) -> None:
        """Finish what can be finished in *drain_seconds*, leave the rest for whoever comes next."""
        self.serving = False
        if self._lease:
            self._lease.cancel()
        if self._running and drain_seconds:
            await asyncio.wait(set(self._running), timeout=drain_seconds)
        # A cancelled workflow is not recorded as ended, so the next process takes it over. DBOS warns of each.
        logging.getLogger("dbos").setLevel(logging.ERROR)
        left = set(self._running)
        for task in left:
            task.cancel()
        if left:  # one that does not let itself be cancelled is left to the end of the process
            await asyncio.wait(left, timeout=max(1.0, drain_seconds))
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)
        # DBOS had made its own executor this loop's, and has shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix=NAME))
        try:
            async with self.db.write() as session:
                await session.execute(sa.delete(ExecutorLease).where(sa.column("executor_id") == self.executor_id))
        except sa.exc.SQLAlchemyError as error:
            log.warning("engine.lease_kept", reason=str(error.__cause__ or error))
        await self.close()

    async def close(self) -> None:
        """Give up connections and the file lock."""
        if self._sys:
            self._sys.dispose()
        if self._lock:
            self._lock.close()
            self._lock = None

    # -- promises -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """Rows and the work that follows from them: all of it or nothing. The work starts right after the commit.

        No network call belongs in here.
        """
        async with self.db.write() as session:
            tx = Tx(session)
            yield tx
            if tx.work:
                await session.flush()
                connection = await session.connection()
                await connection.run_sync(self._promise, tx.work)
            for end in tx.ends:
                await end(session)
        self.poke(tx.work)

    async def batch(self, write: Callable[[Batch], T]) -> T:
        """What *write* writes and promises, in one transaction; somebody outside waits for the commit.

        *write* runs in a thread and knows nothing of the loop. Who stops waiting does not stop the transaction.
        """
        with self.courtesy.asked():
            result, work = await asyncio.get_running_loop().run_in_executor(self.db.writers, self._carry_out, write)
        self.poke(work)
        return result

    def _carry_out(self, write: Callable[[Batch], T]) -> tuple[T, list[Work]]:
        with self.db.write_now() as connection:
            batch = Batch(connection)
            result = write(batch)
            if batch.work:
                self._promise(connection, batch.work)
        return result, batch.work

    def _promise(self, connection: sa.Connection, work: Iterable[Work]) -> None:
        client = self._connect()
        waiting = self._waiting(connection, [item for item in work if item.merges])
        for item in work:
            if item.merges:
                if (item.workflow, item.partition) in waiting:
                    continue
                waiting.add((item.workflow, item.partition))
            options: dict[str, Any] = {
                "queue_name": item.queue,
                "workflow_name": item.workflow,
                "workflow_id": item.id,
            }
            if item.queue in PARTITIONED:
                options["queue_partition_key"] = item.partition or item.id
            if item.delay_seconds:
                options["delay_seconds"] = item.delay_seconds
            client.enqueue_in_transaction(connection, cast(Any, options), *item.args)

    def _waiting(self, connection: sa.Connection, work: Sequence[Work]) -> set[tuple[str, str | None]]:
        """The workflow and partition of what waits and will not begin before this transaction ends.

        On SQLite nothing can begin meanwhile. On Postgres the row is locked, and what is beginning just now is skipped.
        """
        found: set[tuple[str, str | None]] = set()
        queues: dict[str | None, set[str | None]] = {}
        for item in work:
            queues.setdefault(item.queue, set()).add(item.partition)
        for queue, partitions in queues.items():
            rows = connection.execute(
                _WAITING[connection.dialect.name], {"queue": queue, "partitions": sorted(map(str, partitions))}
            )
            found.update((name, partition) for name, partition in rows)
        return found

    def _connect(self) -> DBOSClient:
        """The client half works without `start`: a command beside a running bot promises work, the bot does it."""
        if self._client is None:
            self._sys = self._sys or self.db.sync_engine()
            self._client = DBOSClient(system_database_engine=self._sys, serializer=DBOSPortableJSONSerializer())
        return self._client

    def poke(self, work: Iterable[Work]) -> None:
        """Start what was just committed without waiting for the poll."""
        self._nudge(
            (item.queue, (item.partition or item.id) if item.queue in PARTITIONED else None)
            for item in work
            if not item.delay_seconds
        )

    def _nudge(self, keys: Iterable[Place]) -> None:
        """Look for work in these queues (and partitions) now."""
        if not self.serving:
            return
        busy = set(self._places.values())
        for key in {(queue, partition) for queue, partition in keys if queue in self._queues}:
            if key[1] is not None and key in busy:
                continue  # one at a time: `_ended` looks again
            if key in self._poking:
                self._again.add(key)
            else:
                self._poking.add(key)
                spawn(self._poke(*key), name="engine.poke")

    async def _poke(self, queue: str | None, partition: str | None) -> None:
        key = (queue, partition)
        lost = 0
        try:
            while self.serving:
                await self.courtesy.wait()
                self._again.discard(key)
                try:
                    async with self._looking:
                        await asyncio.to_thread(self._dequeue, queue or MAIN, partition)
                        if self.courtesy.restless():
                            await asyncio.sleep(BREATH)
                except sa.exc.SQLAlchemyError as error:
                    # Two processes that claim at once: the database lets one of them win, the other looks again.
                    if not _contended(error) or (lost := lost + 1) > 5:
                        raise
                    await asyncio.sleep(random.uniform(0.01, 0.05) * lost)
                    continue
                if key not in self._again:
                    break
        except sa.exc.SQLAlchemyError as error:
            log.warning("engine.poke_failed", reason=str(error.__cause__ or error))  # the poll will find it
        finally:
            self._poking.discard(key)

    def _ended(self, workflow_id: str) -> None:
        """Its outcome is recorded: what stood behind it in its partition can begin."""
        self._doing.discard(workflow_id)
        place = self._places.pop(workflow_id, None)
        if place is None and self.serving:  # the poll had started it, and did not say where it found it
            spawn(self._follow(workflow_id), name="engine.follow")
        elif place is not None and place[1] is not None:
            self._nudge([place])

    async def _follow(self, workflow_id: str) -> None:
        try:
            found = await asyncio.to_thread(_get_dbos_instance()._sys_db.get_workflow_statuses, [workflow_id])
        except sa.exc.SQLAlchemyError as error:
            log.warning("engine.poke_failed", reason=str(error.__cause__ or error))
            return
        places = [(status["queue_name"], status["queue_partition_key"]) for status in found]
        self._nudge(place for place in places if place[1] is not None)

    def _dequeue(self, queue: str, partition: str | None) -> None:
        # Private names of DBOS 3.4: claiming a queue's work is what its own poll does. `start_workflow` under the
        # same id would not take over the row that stands there already. test_engine.py holds this to its promise.
        dbos = _get_dbos_instance()
        owner = str(uuid.uuid4())
        ids, _ = dbos._sys_db.start_queued_workflows(
            self._queues[queue],
            GlobalParams.executor_id,
            GlobalParams.app_version,
            partition,
            0,
            owner_xid=owner,
        )
        for workflow_id in ids:
            self._places[workflow_id] = (queue, partition)
            try:
                for status in dbos._sys_db.get_workflow_statuses([workflow_id]):
                    execute_dequeued_workflow(dbos, status, owner)
            except sa.exc.SQLAlchemyError as error:  # claimed and not begun: `_find_orphans` finds it
                self._places.pop(workflow_id, None)
                log.warning("engine.not_begun", workflow=workflow_id, reason=str(error.__cause__ or error))

    # -- doing --------------------------------------------------------------------------------------------------

    def _guarded(self, name: str, run: Workflow, retry: Retry) -> Workflow:
        """*run*, tried again while it fails for now, and parked with a word to people when it fails for good."""

        async def guarded(*args: Any) -> None:
            if self._loop is not None and asyncio.get_running_loop() is not self._loop:
                # DBOS takes a loop of its own when ours stands still, as between two parts of a test.
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(guarded(*args), self._loop))
                return
            workflow_id = DBOS.workflow_id or name
            task = asyncio.current_task()
            self._doing.add(workflow_id)
            _task.set(_Task(workflow_id, self._lapses))
            if task is not None:
                self._running.add(task)
                task.add_done_callback(self._running.discard)
                task.add_done_callback(lambda _: self._ended(workflow_id))
            # The context of whoever happened to poke is not this work's.
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(workflow=workflow_id)
            for attempt in range(1, retry.attempts + 1):
                try:
                    await run(*args)
                    self.metrics.worked(name, "done")
                    return
                except Superseded as error:
                    log.warning("work.superseded", reason=str(error))
                    return
                except Exception as error:
                    if task is not None and task.cancelling():  # a failure on the way out, while the bot stops
                        raise asyncio.CancelledError from error
                    wait = retry.wait(attempt)
                    if isinstance(error, TemporaryError):
                        wait = max(wait, error.after)
                    elif not unavailable(error):
                        await self._give_up(name, workflow_id, args, error)
                        return
                    log.warning("work.again", attempt=attempt, wait_seconds=wait, reason=reason(error))
                    if attempt == retry.attempts:
                        await self._give_up(name, workflow_id, args, error)
                        return
                    self.metrics.worked(name, "again")
                    await asyncio.sleep(wait)

        return guarded

    async def _give_up(self, name: str, workflow_id: str, args: tuple[Any, ...], error: Exception) -> None:
        self.metrics.worked(name, "parked")
        log.error(
            "work.parked",
            exc_info=None if isinstance(error, PermanentError | UserError) else error,
            reason=reason(error),
        )
        while self._parked:
            try:
                await self._parked(name, workflow_id, args, reason(error))
                return
            except (sa.exc.SQLAlchemyError, OSError) as trouble:
                if not unavailable(trouble):
                    raise
                await asyncio.sleep(5)  # giving up without telling anybody would leave it looking alive

    # -- the lease ----------------------------------------------------------------------------------------------

    def _lapsed(self) -> bool:
        """Whether the lease has run out since it was last renewed; counted, for those whose work began before."""
        age = self.lease_age()
        lapsed = age is not None and age > self.lease_seconds
        self._lapses += lapsed
        return lapsed

    async def still_mine(self) -> None:
        """Go on only if nobody has taken over the workflow that runs in this task: to be asked before an effect.

        Costs nothing while the lease holds. Raises `Superseded` if somebody has. A process that was stopped for a
        while (a frozen machine, SIGSTOP) wakes up in the middle of work that others have done meanwhile.
        """
        if (task := _task.get(None)) is None:
            return
        if self._lapsed():
            await self._beat()  # first, or it could be taken over right after the look
        if task.lapses == self._lapses:
            return
        found = await asyncio.to_thread(_get_dbos_instance()._sys_db.get_workflow_statuses, [task.workflow_id])
        if not found or found[0]["executor_id"] != self.executor_id:
            raise Superseded("the lease of this process had run out, and another process does this now")

    async def _beat(self) -> None:
        self._lapsed()
        statement = sa.text(
            f"insert into executor_lease (executor_id, beat) values (:id, {self.db.now}) "  # noqa: S608 - our own SQL
            f"on conflict (executor_id) do update set beat = {self.db.now}"
        )
        async with self.db.write() as session:
            await session.execute(statement, {"id": self.executor_id})
            begun = time.time()
            there = await session.scalar(sa.text(f"select {self.db.now}"))
            if (ended := time.time()) - begun < 0.5:
                self.ahead = float(there) - (begun + ended) / 2
        self.last_beat = asyncio.get_running_loop().time()

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            try:
                await self._beat()
                await self._take_over()
            except Exception as error:  # noqa: BLE001 - without a lease the others take over what still runs here
                log.warning("engine.lease_failed", reason=str(error.__cause__ or error))

    async def _find_orphans(self, mine: set[str]) -> list[str]:
        """Work claimed by this process and not begun: the database went away in between. Nobody else would look."""
        idle = mine - self._doing
        orphans = sorted(idle & self._idle)  # seen at two beats, so not merely about to begin
        for workflow_id in orphans:
            found = _get_dbos_instance()._sys_db
            await asyncio.to_thread(found.reenqueue_for_recovery, workflow_id, [self.executor_id], INTERNAL_QUEUE_NAME)
            log.warning("engine.orphan_found", workflow=workflow_id)
        self._idle = idle
        return orphans

    async def _take_over(self, *, everyone_else_is_dead: bool = False) -> None:
        pending = await DBOS.list_workflows_async(status="PENDING", load_input=False, load_output=False)
        where = {item.workflow_id: (item.queue_name, item.queue_partition_key) for item in pending}
        mine = {item.workflow_id for item in pending if item.executor_id == self.executor_id}
        self._nudge([where[found] for found in await self._find_orphans(mine)])
        owners = {item.executor_id for item in pending} - {self.executor_id}
        if not owners:
            return
        live: set[str] = set()
        if not everyone_else_is_dead:
            recent = sa.text(f"select executor_id from executor_lease where beat > {self.db.now} - :lease")  # noqa: S608
            async with self.db.read() as session:
                live = {row[0] for row in await session.execute(recent, {"lease": self.lease_seconds})}
        dead = sorted(str(owner) for owner in owners - live)
        if dead:
            # Private name of DBOS 3.4; the public way round is resume_workflow_async, which forgets attempts.
            taken = await asyncio.to_thread(DBOS._recover_pending_workflows, dead)
            self.metrics.takeovers.inc(len(taken))
            log.warning("engine.took_over", workflows=len(taken), executors=dead)
            self._nudge(where[item.workflow_id] for item in taken)

    def lease_age(self) -> float | None:
        """Seconds since this process last renewed its lease; None before the first time."""
        return None if self.last_beat is None else asyncio.get_running_loop().time() - self.last_beat

    # -- how much there is ----------------------------------------------------------------------------------------

    async def backlog(self, session: AsyncSession) -> list[Backlog]:
        """What is promised and not done yet, in all processes, by queue and workflow."""
        table = "workflow_status" if self.db.sqlite else "dbos.workflow_status"
        query = sa.text(
            "select coalesce(queue_name, ''), coalesce(name, ''), status = 'PENDING', count(*), "  # noqa: S608 - our own SQL
            f"{self.db.now} - min(created_at) / 1000.0 from {table} "
            "where status in ('ENQUEUED', 'PENDING') group by 1, 2, 3"
        )
        found = await session.execute(query)
        return [
            Backlog(queue, name, bool(running), count, max(0.0, float(age)))
            for queue, name, running, count, age in found
        ]

    async def prune(self, before: datetime, *, batch: int = 100, batches: int = 200) -> int:
        """Delete what ended before *before*, with all that the engine kept of it; how many. What has not ended stays.

        A few at a time, with a breath in between: SQLite has one writer. Whoever promises an id again after that
        has it run again, so what must not happen twice has to be guarded by rows of ours as well.
        """
        client = self._connect()
        until = before.isoformat()
        gone = 0
        for _ in range(batches):
            ended = await client.list_workflows_async(
                status=list(ENDED),
                completed_before=until,
                end_time=until,  # it began before it ended: an index knows that
                limit=batch,
                load_input=False,
                load_output=False,
            )
            if ended:
                await client.delete_workflows_async([item.workflow_id for item in ended])
            gone += len(ended)
            if len(ended) < batch:
                break
            await asyncio.sleep(BREATH)
        return gone

    async def forget_dead(self, seconds: float = 86400.0) -> int:
        """Delete the leases of processes that did not come to delete their own, once they are *seconds* old."""
        old = sa.text(f"delete from executor_lease where beat < {self.db.now} - :seconds")  # noqa: S608
        async with self.db.write() as session:
            done = await session.execute(old, {"seconds": seconds})
            return max(0, int(done.rowcount))  # type: ignore[attr-defined]


def reason(error: BaseException) -> str:
    """One line for a log or a person; text of unknown errors stays out, since it may hold what it was given."""
    if isinstance(error, TemporaryError | PermanentError | UserError):
        return str(error)
    if unavailable(error):
        return "the database did not answer"
    return f"an unexpected {type(error).__name__}; the log holds the details"


def _contended(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether two transactions wanted the same: serialization failure, deadlock, or a row that is locked just now."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in ("40001", "40P01", "55P03")


def migrate(db: Database) -> None:
    """Create or update the engine's own tables; Alembic leaves them alone."""
    engine = db.sync_engine()
    try:
        DBOSClient(system_database_engine=engine, serializer=DBOSPortableJSONSerializer())._sys_db.run_migrations()
    finally:
        engine.dispose()


def _only_process(db: Database) -> IO[str]:
    path = f"{db.path}.lock"
    lock = open(path, "w")  # noqa: SIM115 - held open as long as the process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UserError(
            f"Another tocsin is running on {db.path} (it holds {path}). SQLite serves one process; stop the other one, "
            "or use Postgres: TOCSIN_DATABASE_URL=postgresql://…"
        ) from None
    return lock
