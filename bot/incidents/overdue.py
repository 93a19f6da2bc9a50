"""Pages that nobody has answered, or that could not be sent: somebody looks after them until a person is reached.

A page that nobody acknowledges is sent again, then goes one level up, then the channel is told and the pagers that
stand in are raised. A page that cannot be sent for a while is raised by those as well. Each of it once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine, Tx, Work
from bot.incidents import lifecycle, paging, timeline
from bot.incidents.hearing import Move
from bot.incidents.model import Incident, Page
from bot.incidents.pager import Looks, Said, Seen, Word
from bot.incidents.paging import BOT, FAILED, SENDING, SENT, TOLD, Paging
from bot.incidents.timeline import React
from bot.kit.clock import Clock, duration_text
from bot.kit.db import unavailable
from bot.kit.errors import PermanentError, TemporaryError

log = structlog.get_logger()

# What each level does, and what people are told of it.
STEPS = ("again", "escalate", "tell")
SAYS = {
    "again": "paging again",
    "escalate": "going one level up in the escalation policy",
}
MOST = 100
# A page takes a second or two; one that waits for longer than this is worth a word.
SLOW = timedelta(seconds=20)


@dataclass
class Overdue:
    """The tick, and the workflow `overdue`."""

    engine: Engine
    react: React
    paging: Paging
    clock: Clock

    async def tick(self) -> None:
        """Promise to look after each page whose time has come. Every process looks; the id makes it one."""
        now = self.clock()
        query = sa.select(col(Page.id), col(Page.due_at)).where(col(Page.due_at) <= now).limit(MOST)
        try:
            async with self.engine.db.read() as session:
                due = (await session.execute(query)).all()
            if not due:
                return
            async with self.engine.transaction() as tx:
                for page_id, at in ((name, at) for name, at in due if at is not None):
                    tx.enqueue(Work("overdue", f"overdue:{page_id}:{at.timestamp():.6f}", (page_id, at.isoformat())))
        except sa.exc.SQLAlchemyError as error:
            if not unavailable(error):
                raise
            log.warning("pages.not_looked", reason=type(error).__name__)

    async def overdue(self, page_id: str, due: str) -> None:
        """Do what is next for a page that was due at *due*, if nothing has come of it since."""
        async with self.engine.db.read() as session:
            page = await session.get(Page, page_id)
            if page is None or not _still(page, due):
                return
            incident = await lifecycle.find(session, page.incident_id)
        seen = await self._look(incident, page) if page.outcome == SENT and not paging.over(page, incident) else None
        async with self.engine.transaction() as tx:
            page = await paging.locked(tx.session, page)
            incident = await lifecycle.find(tx.session, page.incident_id)
            if not _still(page, due):
                return
            page.due_at, now = None, self.clock()
            tx.session.add(page)
            await tx.session.flush()
            if page.outcome == SENDING:
                await self._unsent(tx, incident, page, now)
            elif page.outcome == SENT and not paging.over(page, incident):
                if seen is not None and seen.status in ("acknowledged", "resolved"):
                    await self._answered(tx, incident, page, seen, now)
                elif paging.waits(page):
                    await self._unanswered(tx, incident, page, now)

    async def _look(self, incident: Incident, page: Page) -> Seen | None:
        """How the page stands in the pager: its word may have been lost. If it does not say, nobody has answered."""
        pager = self.paging.of(page)
        if not isinstance(pager, Looks):
            return None
        try:
            return await pager.look(self.paging.request(incident, page))
        except (TemporaryError, PermanentError) as error:
            log.warning("page.not_seen", pager=page.pager, reason=str(error))
            return None

    async def _unsent(self, tx: Tx, incident: Incident, page: Page, now: datetime) -> None:
        waited = duration_text(now - page.at)
        why = f"{page.pager} cannot be reached"
        told = self.paging.instead(page)
        text = f"The page could not be sent for {waited}: {why}; it is tried on and on, and {told}"
        data = {"pager": page.pager, "number": page.number, "seconds": int((now - page.at).total_seconds())}
        await timeline.touch(tx.session, incident.id)
        await timeline.record(
            tx, self.react, incident.id, "page.delayed", text, now=now, actor=BOT, data=data, once=str(page.number)
        )
        await self.paging.fall_back(tx, page, why, "away", now=now)

    async def _answered(self, tx: Tx, incident: Incident, page: Page, seen: Seen, now: datetime) -> None:
        """It was answered, and we had not heard of it."""
        paging.look_of(page, seen)
        said: Said = "acknowledged" if seen.status == "acknowledged" else "resolved"
        word = Word(f"look:{page.id}:{page.level}:{now.isoformat()}", said, now, page.dedup_key, seen.external_id,
                    seen.url, seen.by, None, seen.assigned)  # fmt: skip
        await Move(tx, self.react, incident, page, word, page.pager, now, None, self.paging.rules).made()

    async def _unanswered(self, tx: Tx, incident: Incident, page: Page, now: datetime) -> None:
        step = STEPS[min(page.level, len(STEPS) - 1)]
        page.level += 1
        length = self.paging.rules.acknowledge.get(incident.severity)
        page.due_at = now + length if length is not None and page.level < TOLD else None
        tx.session.add(page)
        await tx.session.flush()
        waited = duration_text(now - page.at)
        told = self.paging.instead(page) if step == "tell" else SAYS[step]
        text = f"Nobody has acknowledged the page for {waited}; {told}"
        data = {"pager": page.pager, "number": page.number, "level": page.level, "next": step}
        await timeline.touch(tx.session, incident.id)
        await timeline.record(
            tx, self.react, incident.id, "page.unanswered", text,
            now=now, actor=BOT, data=data, once=f"{page.number}:{page.level}",
        )  # fmt: skip
        why = "nobody has acknowledged"
        if step == "again":
            key = f"again:{page.number}"
            await paging.wake(
                tx, self.react, incident.id, why, key=key, now=now,
                service=page.service, pager=page.pager, level=TOLD,
            )  # fmt: skip
        elif step == "tell":
            await self.paging.fall_back(tx, page, why, "unanswered", now=now)


async def trouble(session: AsyncSession, pager: str, now: datetime) -> str | None:
    """What is wrong with paging itself: the newest page by *pager* could not be sent, for now or for good."""
    mine = sa.select(Page).where(col(Page.pager) == pager).order_by(col(Page.at).desc()).limit(1)
    page = (await session.scalars(mine)).first()
    if page is None or page.outcome not in (SENDING, FAILED):
        return None
    if page.outcome == FAILED:
        return f"the newest page by {pager} failed: {page.detail}"
    if now - page.at < SLOW:
        return None
    return f"a page waits since {duration_text(now - page.at)} for {pager}, which cannot be reached"


def _still(page: Page, due: str) -> bool:
    return page.due_at is not None and page.due_at.isoformat() == due and page.outcome != FAILED
