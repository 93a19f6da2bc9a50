"""How much of an error budget is left, as Prometheus counts it: asked by the clock, so that no card waits for it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, SQLModel, col

from bot.catalog.services import WINDOW, Service, Slo
from bot.engine import LINES, Engine, Work
from bot.kit.clock import Clock, plain_duration
from bot.kit.db import insert_for
from bot.kit.errors import BotError, TemporaryError
from bot.kit.text import clip, one_line

log = structlog.get_logger()

EVERY = 300.0
# Over how long it is looked how fast the budget goes.
RECENT = timedelta(hours=1)
# What was counted longer ago than this is not known any more.
KEPT = timedelta(hours=1)

# One number for a query, put to the connection of that name; None where there is none.
Ask = Callable[[str, str], Awaitable[float | None]]


class Budget(SQLModel, table=True):
    """What share failed, over the window of the objective and lately; *problem* is why it is not known (any more)."""

    __tablename__ = "budget"

    service: str = Field(primary_key=True)
    failed: float | None = None
    recent: float | None = None
    checked_at: datetime | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Spent:
    """How an objective stands. *left* is the share of the budget that is left, below 0 where more was spent than there
    was; *burn* is how many times faster than allowed it goes. Both are None where nothing is known, for *problem*.
    """

    objective: float
    window: timedelta
    left: float | None = None
    burn: float | None = None
    problem: str | None = None


def spent(slo: Slo, row: Budget | None, now: datetime) -> Spent:
    """How *slo* stands, by what was counted last."""
    nothing = Spent(slo.objective, slo.window, problem="not asked yet")
    if row is None:
        return nothing
    if row.checked_at is None or now - row.checked_at > KEPT:
        return Spent(slo.objective, slo.window, problem=row.problem or nothing.problem)
    allowed = 1 - slo.objective / 100
    return Spent(
        slo.objective,
        slo.window,
        None if row.failed is None else 1 - row.failed / allowed,
        None if row.recent is None else row.recent / allowed,
        row.problem,
    )


async def of_services(session: AsyncSession, services: Mapping[str, Service], now: datetime) -> dict[str, Spent]:
    """How the objectives of *services* stand."""
    asked = {name: service.slo for name, service in services.items() if service.slo is not None}
    query = sa.select(Budget).where(col(Budget.service).in_(list(asked)))
    rows = {row.service: row for row in await session.scalars(query)} if asked else {}
    return {name: spent(slo, rows.get(name), now) for name, slo in asked.items()}


def queries(slo: Slo) -> tuple[str, str]:
    """What share failed over the window, and lately, as questions to Prometheus."""
    whole = slo.errors if slo.errors is not None else f"1 - (({slo.good}) / ({slo.total}))"
    window, recent = (whole.replace(WINDOW, plain_duration(span)) for span in (slo.window, RECENT))
    return window, recent


@dataclass
class Budgets:
    """The tick, and the workflow `budgets`."""

    engine: Engine
    clock: Clock
    services: Mapping[str, Service]
    ask: Ask

    async def tick(self) -> None:
        """Every process ticks; the id makes it one look."""
        if any(service.slo is not None for service in self.services.values()):
            async with self.engine.transaction() as tx:
                name = f"budgets:{self.clock().timestamp() // EVERY:.0f}"
                tx.enqueue(Work("budgets", name, (), LINES, "budgets", merges=True))

    async def look(self) -> None:
        """Ask for every objective. A Prometheus that is away is not asked for the next service in the same round."""
        away: dict[str, str] = {}
        for name, service in self.services.items():
            if service.slo is None:
                continue
            slo, counted, problem = service.slo, None, away.get(service.slo.connection)
            if problem is None:
                try:
                    counted = [await self.ask(slo.connection, query) for query in queries(slo)]
                except BotError as error:
                    problem = clip(one_line(str(error)), 300)
                    log.warning("budget.not_counted", service=name, reason=problem)
                    if isinstance(error, TemporaryError):
                        away[slo.connection] = problem
            await self._write(name, counted, problem)

    async def _write(self, service: str, counted: list[float | None] | None, problem: str | None) -> None:
        row: dict[str, object] = {"problem": problem}
        if counted is not None:
            failed, recent = counted
            told = None if failed is not None else "the query gives no number"
            row = {"failed": failed, "recent": recent, "checked_at": self.clock(), "problem": told}
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            insert = insert_for(connection, Budget).values(service=service, **row)
            await connection.execute(insert.on_conflict_do_update(index_elements=["service"], set_=row))
