"""The operations log: what runs by the clock has no incident, so it hangs on this one row instead.

It has a timeline and a channel that people made, and nothing else of an incident: whatever lists incidents, counts
them or lets people act on them leaves it out (docs/decisions/0011-operations-log.md).
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import LINES, Engine, Tx, Work
from bot.incidents import lifecycle, parts, timeline
from bot.incidents.chat import Chat
from bot.incidents.model import LOGBOOK, Incident, Kind, Sev, Status
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id

log = structlog.get_logger()

ID = derived_id("incident", "logbook")


async def find(session: AsyncSession) -> Incident | None:
    """The operations log, if anything was ever written into it."""
    return await session.get(Incident, ID)


async def opened(tx: Tx, *, now: datetime) -> Incident:
    """The operations log, made by whoever needs it first."""
    connection = await tx.session.connection()
    made = Incident(
        id=ID,
        number=LOGBOOK,
        title="Operations log",
        severity=Sev.SEV5,
        status=Status.MONITORING,
        kind=Kind.MAINTENANCE,
        detected_at=now,
        opened_at=now,
    )
    insert = insert_for(connection, Incident).values(**made.model_dump())
    await connection.execute(insert.on_conflict_do_nothing(index_elements=["id"]))
    return await lifecycle.find(tx.session, ID)


@dataclass
class Logbook:
    """The log and the channel that it speaks in; the workflow `logbook`.

    *channel* is a name or an id, None where there is nobody to tell.
    """

    engine: Engine
    react: React
    chat: Chat
    clock: Clock
    channel: str | None

    async def open(self, tx: Tx, *, now: datetime) -> Incident:
        """The log. Its channel is looked for where it is not known, or another one."""
        found = await opened(tx, now=now)
        if self.channel is not None and found.channel_name != self.channel:
            tx.enqueue(Work("logbook", f"logbook:{now.isoformat()}", queue=LINES, partition=ID, merges=True))
        return found

    async def settle(self) -> None:
        """Find the channel that the log speaks in."""
        if self.channel is None:
            return
        try:
            channel = await self.chat.place(self.channel)
        except PermanentError as error:  # the timeline has it all the same; the next time it is looked for again
            log.warning("logbook.no_channel", channel=self.channel, reason=str(error))
            return
        now = self.clock()
        async with self.engine.transaction() as tx:
            change = sa.update(Incident).where(col(Incident.id) == ID)
            await tx.session.execute(change.values(channel=channel, channel_name=self.channel))
            text = f"The operations log speaks in <#{channel}>"
            about = {"channel": channel, "name": self.channel}
            await timeline.record(
                tx, self.react, ID, "channel.opened", text, now=now, actor="bot", data=about, once=channel
            )
            for event_id in await parts.waiting(tx, ID):
                tx.enqueue(Work("notify", f"late:{event_id}", (ID, event_id)))
