"""Old things that are not the record are deleted: finished work, raw alert bodies, requests, leases of the dead.

Timeline, incidents, alerts, runs, pages and post-mortems are the record, and nothing here touches them.
"""

import asyncio
from collections import Counter as Tally
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.alerts.model import Delivery
from bot.catalog.config import Retention
from bot.engine import BREATH, Engine
from bot.incidents.model import Counter, PagerWord, Request, TrackerWord
from bot.incidents.outgoing import WAITING, Outgoing
from bot.kit.db import insert_for

log = structlog.get_logger()

# Rows in one transaction, and transactions in one round. What is left over is the next round's.
BATCH, BATCHES = 100, 200
# The names of the counters that remember how many requests there were of each kind and outcome.
PRUNED = "pruned.request."


@dataclass
class Pruning:
    """The workflow `prune`. Running it again, or twice at once, deletes nothing more."""

    engine: Engine
    keep: Retention

    async def prune(self, now: str) -> None:
        """Delete what is older, at *now* (ISO 8601), than the configuration says."""
        at = datetime.fromisoformat(now)
        gone = {"leases": await self.engine.forget_dead()}
        if (before := _before(at, self.keep.workflows)) is not None:
            gone["workflows"] = await self.engine.prune(before, batch=BATCH, batches=BATCHES)
        if (before := _before(at, self.keep.deliveries)) is not None:
            gone["deliveries"] = await self._rounds(Delivery, col(Delivery.received_at) < before)
            old = sa.and_(col(PagerWord.received_at) < before, col(PagerWord.outcome) != "waiting")
            gone["words"] = await self._rounds(PagerWord, old)
            gone["words"] += await self._rounds(TrackerWord, col(TrackerWord.received_at) < before)
            told = sa.and_(col(Outgoing.created_at) < before, col(Outgoing.state) != WAITING)
            gone["outgoing"] = await self._rounds(Outgoing, told)
        if (before := _before(at, self.keep.requests)) is not None:
            old = sa.and_(col(Request.received_at) < before, col(Request.state) != "waiting")
            gone["requests"] = await self._rounds(Request, old)
        for what, count in gone.items():
            self.engine.metrics.pruned[(what,)].inc(count)
        if any(gone.values()):
            log.info("history.pruned", **gone)

    async def _rounds(self, model: Any, old: Any) -> int:
        gone = 0
        for _ in range(BATCHES):
            deleted = await self._delete(model, old)
            gone += deleted
            if deleted < BATCH:
                break
            await asyncio.sleep(BREATH)
        return gone

    async def _delete(self, model: Any, old: Any) -> int:
        """One batch, in a transaction of its own. Requests stay counted: /metrics shows how many there ever were."""
        counted = model is Request
        told = (col(Request.kind), col(Request.state)) if counted else (col(model.id),)
        some = sa.select(col(model.id)).where(old).limit(BATCH)
        async with self.engine.db.write() as session:
            connection = await session.connection()
            deleted = (await connection.execute(sa.delete(model).where(col(model.id).in_(some)).returning(*told))).all()
            tally = Tally(f"{PRUNED}{kind}.{state}" for kind, state in deleted) if counted else Tally[str]()
            for name, count in sorted(tally.items()):
                insert = insert_for(connection, Counter).values(name=name, value=count)
                more = {"value": col(Counter.value) + count}
                await connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=more))
        return len(deleted)


def _before(now: datetime, keep: timedelta | None) -> datetime | None:
    return None if keep is None else now - keep
