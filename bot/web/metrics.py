"""GET /metrics: the numbers of this process, and those that only the database knows, for Prometheus."""

import asyncio
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine
from bot.incidents.model import OPEN, Counter, Incident, Kind, Page, Request, Sev, Status
from bot.incidents.outgoing import WAITING, Outgoing
from bot.incidents.probing import failing
from bot.incidents.retention import PRUNED
from bot.kit.tasks import spawn
from bot.metrics import KINDS, Metrics
from bot.postmortems.model import Postmortem
from bot.runs.model import ENDED, Run, RunState, RunStep, Trigger

log = structlog.get_logger()

PATIENCE = 2.0
# Counting years of history takes a while. When it took longer than this, the counts stand for so many times as long.
QUICK, REST = 0.05, 20.0
COUNTING = 120.0  # seconds after which it is given up

Series = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Family:
    """One metric that is read from the database: what it tells, by which labels, and whether it only ever grows."""

    text: str
    labels: tuple[str, ...] = ()
    grows: bool = False

    def made(self, name: str, series: Series) -> Metric:
        """The metric with its values."""
        kind = CounterMetricFamily if self.grows else GaugeMetricFamily
        family = kind(name, self.text, labels=self.labels)
        for labels, value in series.items():
            family.add_metric(labels, value)
        return family


FAMILIES = {
    "tocsin_work_waiting": Family("Pieces of work that wait in a queue", ("queue", "workflow")),
    "tocsin_work_running": Family("Pieces of work being done, or left by a dead process", ("queue", "workflow")),
    "tocsin_work_oldest_waiting_seconds": Family(
        "How long ago the oldest waiting work was promised", ("queue", "workflow")
    ),
    "tocsin_requests_total": Family(
        "What people asked for: done, refused, or void (they were told that nothing was done)",
        ("kind", "outcome"),
        grows=True,
    ),
    "tocsin_incidents_open": Family("Open incidents, and suggestions nobody answered yet", ("severity", "status")),
    "tocsin_incidents": Family("Incidents ever opened, by the severity they have now", ("severity",)),
    "tocsin_runs_total": Family(
        "Runs of runbooks that are over, by how they ended", ("runbook", "outcome"), grows=True
    ),
    "tocsin_automatic_runs_total": Family(
        "Runs that nobody started, by what did (auto, schedule) and how they ended", ("trigger", "outcome"), grows=True
    ),
    "tocsin_runs_open": Family("Runs that are not over; asking ones wait for a person", ("state",)),
    "tocsin_run_steps_total": Family(
        "Attempts at steps that are over, by how they ended", ("type", "outcome"), grows=True
    ),
    "tocsin_pages_total": Family(
        "Pages by outcome: sent (with proof), failed, or nobody was woken", ("outcome",), grows=True
    ),
    "tocsin_sink_deliveries_waiting": Family("Events that a sink was not told of yet", ("sink",)),
    "tocsin_pages_open": Family("Pages that wait: to be sent (sending), or for an acknowledgement (sent)", ("state",)),
    "tocsin_pager_troubled": Family("Pagers that would not let us in, or did not answer, when asked last", ("pager",)),
    "tocsin_postmortem_drafts_total": Family("Revisions of post-mortem drafts written", grows=True),
}
SCRAPE_OK = Family("Whether a part of this page could be read: 1, or 0", ("part",))
UNASKED = (Trigger.AUTO, Trigger.SCHEDULE)
NEVER_AN_INCIDENT = (Status.TRIAGE, Status.DECLINED, Status.MERGED)


def routes(metrics: Metrics, engine: Engine, token: str | None = None) -> list[web.RouteDef]:
    """The page, open to whoever reaches the port unless there is a *token*."""
    stored = Stored(engine)
    metrics.registry.register(stored)

    async def page(request: web.Request) -> web.Response:
        if token is not None and not _allowed(request.headers.get("Authorization", ""), token):
            return web.json_response(
                {"error": "TOCSIN_METRICS_TOKEN is needed, as a bearer token"},
                status=401,
                headers={"WWW-Authenticate": 'Bearer realm="tocsin"'},
            )
        await stored.look()
        encode, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics.registry), headers={"Content-Type": kind})

    return [web.get("/metrics", page)]


def _allowed(header: str, token: str) -> bool:
    scheme, _, given = header.partition(" ")
    same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())
    return same and scheme.lower() == "bearer"


@dataclass(eq=False)
class Stored(Collector):
    """What only the database knows, read anew for each scrape. The same on every process of one database."""

    engine: Engine
    patience: float = PATIENCE
    rest: float = REST
    found: dict[str, Series] = field(default_factory=dict)
    _looking: asyncio.Task[None] | None = None
    _counting: asyncio.Task[None] | None = None
    _history: dict[str, Series] = field(default_factory=dict)
    _until: float = 0.0

    async def look(self) -> None:
        """Read it, for at most *patience* seconds. Whoever asks meanwhile waits for the same answer."""
        if self._looking is None or self._looking.done():
            self._looking = spawn(self._look(), name="metrics.look")
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(self.patience), self.engine.db.read() as session:
                backlog = await self._backlog(session)
        except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("metrics.database_unread", reason=type(error).__name__)
            self.found = {}
            return
        if (self._counting is None or self._counting.done()) and asyncio.get_running_loop().time() >= self._until:
            self._counting = spawn(self._count(), name="metrics.count")
        if self._counting is not None:  # a long history is counted to its end; the page has what was counted before
            await asyncio.wait((self._counting,), timeout=self.patience)
        self.found = backlog | self._history

    async def _count(self) -> None:
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(COUNTING), self.engine.db.read() as session:
                self._history = await self._read(session)
        except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
            log.warning("metrics.history_unread", reason=type(error).__name__)
        took = clock() - begun
        self._until = clock() + (self.rest * took if took > QUICK else 0)

    async def _backlog(self, session: AsyncSession) -> dict[str, Series]:
        waiting: Series = {}
        running: Series = {}
        oldest: Series = {}
        for item in await self.engine.backlog(session):
            where = (item.queue, item.workflow)
            (running if item.running else waiting)[where] = item.count
            if not item.running:
                oldest[where] = item.oldest_seconds
        return {
            "tocsin_work_waiting": waiting,
            "tocsin_work_running": running,
            "tocsin_work_oldest_waiting_seconds": oldest,
        }

    async def _read(self, session: AsyncSession) -> dict[str, Series]:
        found: dict[str, Series] = {"tocsin_requests_total": {}, "tocsin_runs_total": {}}
        await self._incidents(session, found)
        await self._runs(session, found)
        await self._requests(session, found["tocsin_requests_total"])
        pages: Series = {("sent",): 0, ("failed",): 0, ("nobody",): 0}
        sent = col(Page.outcome) != "sending"
        found["tocsin_pages_total"] = pages | await _counted(session, Page.outcome, where=sent)
        open_ = sa.and_(
            col(Page.outcome).in_(("sending", "sent")),
            col(Page.acknowledged_at).is_(None),
            col(Page.resolved_at).is_(None),
            col(Incident.is_open).is_(True),
        )
        query = sa.select(col(Page.outcome), sa.func.count()).join(Incident, col(Incident.id) == col(Page.incident_id))
        standing: Series = {("sending",): 0, ("sent",): 0}
        rows = await session.execute(query.where(open_).group_by(col(Page.outcome)))
        found["tocsin_pages_open"] = standing | {(outcome,): int(count) for outcome, count in rows}
        waiting = col(Outgoing.state) == WAITING
        found["tocsin_sink_deliveries_waiting"] = await _counted(session, Outgoing.sink, where=waiting)
        found["tocsin_pager_troubled"] = {(name,): 1 for name in await failing(session)}
        drafts = await session.scalar(sa.select(sa.func.count()).select_from(Postmortem))
        found["tocsin_postmortem_drafts_total"] = {(): int(drafts or 0)}
        return found

    async def _incidents(self, session: AsyncSession, found: dict[str, Series]) -> None:
        standing = found["tocsin_incidents_open"] = {(sev, status): 0 for sev in Sev for status in OPEN}
        ever = found["tocsin_incidents"] = {(sev,): 0 for sev in Sev}
        real = col(Incident.kind) == Kind.STANDARD
        for (sev, status), count in (await _counted(session, Incident.severity, Incident.status, where=real)).items():
            if status in OPEN:
                standing[sev, status] = count
            if status not in NEVER_AN_INCIDENT:
                ever[sev,] = ever.get((sev,), 0) + count

    async def _runs(self, session: AsyncSession, found: dict[str, Series]) -> None:
        found["tocsin_runs_open"] = {(state,): 0 for state in RunState if state not in ENDED}
        for (runbook, state), count in (await _counted(session, Run.runbook, Run.state)).items():
            if state in ENDED:
                found["tocsin_runs_total"][runbook, state] = count
            else:
                found["tocsin_runs_open"][state,] += count
        alone = sa.and_(col(Run.trigger).in_(UNASKED), col(Run.state).in_(ENDED))
        automatic: Series = {(trigger, RunState.SUCCEEDED): 0 for trigger in UNASKED}
        found["tocsin_automatic_runs_total"] = automatic | await _counted(session, Run.trigger, Run.state, where=alone)
        over = col(RunStep.ended_at).is_not(None)
        found["tocsin_run_steps_total"] = await _counted(session, RunStep.type, RunStep.state, where=over)

    async def _requests(self, session: AsyncSession, series: Series) -> None:
        """Those that are kept and those that are not any more, in one query: a row is never in both or in neither."""
        kept = sa.select(col(Request.kind), col(Request.state), sa.func.count()).where(col(Request.state) != "waiting")
        name = sa.func.substr(col(Counter.name), len(PRUNED) + 1)
        gone = sa.select(name, sa.literal(""), col(Counter.value)).where(col(Counter.name).startswith(PRUNED))
        series |= {(kind, "void"): 0 for kind in KINDS}
        rows = await session.execute(kept.group_by(col(Request.kind), col(Request.state)).union_all(gone))
        for kind, state, count in rows:
            key = tuple(kind.split(".")) if not state else (kind, state)
            series[key] = series.get(key, 0) + count

    def describe(self) -> Iterable[Metric]:
        """Every metric without its values."""
        yield SCRAPE_OK.made("tocsin_scrape_ok", {})
        for name, family in FAMILIES.items():
            yield family.made(name, {})

    def collect(self) -> Iterable[Metric]:
        """What was read last; nothing where the database did not answer, rather than what was true once."""
        yield SCRAPE_OK.made("tocsin_scrape_ok", {("database",): 1 if self.found else 0})
        for name, family in FAMILIES.items():
            yield family.made(name, self.found.get(name, {}))


async def _counted(session: AsyncSession, *columns: Any, where: Any = None) -> Series:
    """How many rows there are with each combination of values."""
    query = sa.select(*columns, sa.func.count()).group_by(*columns)
    rows: Sequence[Any] = (await session.execute(query if where is None else query.where(where))).all()
    return {tuple(map(str, row[:-1])): int(row[-1]) for row in rows}
