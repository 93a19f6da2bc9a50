"""Whether the pagers could wake anybody now: asked from time to time, so that no incident has to find it out.

What was found last is the newest word about it in the operations log, and only a change is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine, Tx, Work
from bot.incidents import logbook, timeline
from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.pager import Pager, Probes
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import unavailable
from bot.kit.errors import PermanentError, TemporaryError

log = structlog.get_logger()

TROUBLED, MENDED = "pager.troubled", "pager.mended"
# A pager that does not answer is asked so often before it is called away.
LOOKS, PAUSE = 3, 20.0


@dataclass
class Probing:
    """The tick, and the workflow `probe`, every *seconds*. *open_log* opens the operations log."""

    engine: Engine
    react: React
    pagers: Mapping[str, Pager]
    clock: Clock
    open_log: Callable[..., Awaitable[Incident]]
    seconds: float = 300.0
    pause: float = PAUSE

    async def tick(self) -> None:
        """Promise to ask each pager; several processes may tick, the id makes it one question."""
        window = self.clock().timestamp() // self.seconds
        names = [name for name, pager in self.pagers.items() if isinstance(pager, Probes)]
        try:
            async with self.engine.transaction() as tx:
                for name in names:
                    tx.enqueue(Work("probe", f"probe:{name}:{window:.0f}", (name,)))
        except sa.exc.SQLAlchemyError as error:
            if not unavailable(error):
                raise
            log.warning("pager.not_asked", reason=type(error).__name__)

    async def probe(self, name: str) -> None:
        """Ask one, and tell people if it is another answer than the last one."""
        pager: object = self.pagers.get(name)
        if not isinstance(pager, Probes):
            return
        problem = await self._asked(pager)
        async with self.engine.db.read() as session:
            before = (await failing(session)).get(name)
        if (problem is None) == (before is None):
            return
        now = self.clock()
        async with self.engine.transaction() as tx:
            await self._tell(tx, name, problem, now)

    async def _asked(self, pager: Probes) -> str | None:
        """Why it could wake nobody now; None if it could."""
        for look in range(LOOKS):
            try:
                await pager.probe()
            except PermanentError as error:
                return str(error)
            except TemporaryError as error:
                problem = str(error)
                if look < LOOKS - 1:
                    await asyncio.sleep(self.pause)
            else:
                return None
        return problem

    async def _tell(self, tx: Tx, name: str, problem: str | None, now: datetime) -> None:
        incident = await self.open_log(tx, now=now)
        if problem is None:
            kind, text = MENDED, f"The pager {name} answers as it should again"
        else:
            kind, text = TROUBLED, f"The pager {name} may not wake anybody, or not say who was woken: {problem}"
        data = {"pager": name, "reason": problem}
        await timeline.record(tx, self.react, incident.id, kind, text, now=now, actor="bot", data=data)


async def failing(session: AsyncSession) -> dict[str, str]:
    """The pagers in trouble, and why."""
    query = (
        sa.select(TimelineEvent)
        .where(col(TimelineEvent.incident_id) == logbook.ID, col(TimelineEvent.kind).in_((TROUBLED, MENDED)))
        .order_by(col(TimelineEvent.at).desc(), col(TimelineEvent.recorded_at).desc())
        .limit(20)
    )
    found: dict[str, str | None] = {}
    for event in await session.scalars(query):
        found.setdefault(str(event.data.get("pager")), event.data.get("reason"))
    return {name: reason for name, reason in found.items() if reason is not None}
