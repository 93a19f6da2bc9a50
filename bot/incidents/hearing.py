"""What a pager tells by itself: kept, then made of it what it means here, once, in whatever order it comes."""

import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.alerts.model import Alert
from bot.alerts.source import decode
from bot.engine import Engine, Tx, Work
from bot.incidents import lifecycle, paging, roles, timeline
from bot.incidents.intake import Incoming, Receipt
from bot.incidents.model import Incident, Page, PagerWord, RoleName
from bot.incidents.pager import STATES, Hears, Pager, Word, incident_of
from bot.incidents.paging import BOT, SENT
from bot.incidents.timeline import React
from bot.kit.clock import Clock, parse_time
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id
from bot.kit.text import clip, one_line

log = structlog.get_logger()

WAITING = "waiting"
JOINS = ("accepted", "joined")
# What may become of a word, beside `alert`: of what the pager raised itself, it is an alert like any other.
APPLIED, KNOWN, OURS, LATE, UNKNOWN, FOREIGN, IGNORED, REFUSED = (
    *("applied", "known", "ours", "late"),
    *("unknown", "foreign", "ignored", "refused"),
)


@dataclass
class Hearing:
    """The workflow `hear`, and what stores words for it.

    *alerts* reads the alerts of a payload, by pager, where what is raised there shall be alerts here; *find* knows a
    person of the chat by e-mail address.
    """

    engine: Engine
    react: React
    pagers: Mapping[str, Pager]
    rules: paging.Rules
    clock: Clock
    accept: Callable[[Incoming], Awaitable[Receipt]]
    alerts: Mapping[str, Callable[..., list[Alert]]] = field(default_factory=dict)
    find: Callable[[str], str | None] = lambda address: None

    async def store(self, pager: str, name: str, body: bytes) -> tuple[str, bool]:
        """Keep a word; its id, and whether it is new."""
        row = derived_id("word", pager, name)
        values = PagerWord(id=row, pager=pager, received_at=self.clock(), body=zlib.compress(body, 1)).model_dump()
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            insert = insert_for(connection, PagerWord).values(**values).on_conflict_do_nothing(index_elements=["id"])
            new = (await connection.execute(insert.returning(col(PagerWord.id)))).scalar_one_or_none() is not None
            if new:
                tx.enqueue(Work("hear", f"hear:{row}", (row,)))
        if not new:
            self.engine.metrics.told(pager, "repeat")
        return row, new

    async def hear(self, word_id: str) -> None:
        """Make of a word what it means."""
        async with self.engine.db.read() as session:
            row = await session.get(PagerWord, word_id)
        if row is None or row.outcome != WAITING:
            return
        body = zlib.decompress(row.body)
        payload = decode(body)
        pager: object = self.pagers.get(row.pager)
        try:
            word = await pager.word(payload) if isinstance(pager, Hears) else None
        except PermanentError as error:
            await self._settle(row, REFUSED, str(error))
            return
        if word is None:
            await self._settle(row, IGNORED, "it is about no incident")
            return
        async with self.engine.db.read() as session:
            page = await page_of(session, row.pager, word)
        raised = incident_of(word.dedup_key) is None
        if raised and row.pager in self.alerts and (found := self._read(row, payload)):
            name = f"pager:{row.pager}"
            await self.accept(Incoming(name, row.pager, body, tuple(found), row.received_at))
            if page is None:
                await self._settle(row, "alert", found[0].title)
                return
        if page is not None:
            await self._move(row, page, word)
        elif raised:
            await self._settle(row, FOREIGN, f"{row.pager}'s incident {word.external_id} is not about one of ours")
        else:
            await self._settle(row, UNKNOWN, f"there is no page {clip(str(word.dedup_key), 80)} here")

    def _read(self, row: PagerWord, payload: Any) -> list[Alert]:
        try:
            return self.alerts[row.pager](payload, received_at=row.received_at)
        except PermanentError:
            return []

    async def _move(self, row: PagerWord, page: Page, word: Word) -> None:
        who = self.find(word.address) if word.address else None
        async with self.engine.transaction() as tx:
            there = await paging.locked(tx.session, page)
            incident = await lifecycle.find(tx.session, page.incident_id)
            move = Move(tx, self.react, incident, there, word, row.pager, self.clock(), who, self.rules)
            outcome = await move.made()
            await self._write(tx.session, row, outcome, str(word.said), incident.id)
        self.engine.metrics.told(row.pager, outcome)
        log.info("pager.heard", pager=row.pager, said=word.said, outcome=outcome, incident=incident.reference)

    async def _settle(self, row: PagerWord, outcome: str, detail: str) -> None:
        async with self.engine.transaction() as tx:
            await self._write(tx.session, row, outcome, detail, None)
        self.engine.metrics.told(row.pager, outcome)
        log.info("pager.heard", pager=row.pager, outcome=outcome, detail=detail)

    async def _write(self, session: AsyncSession, row: PagerWord, outcome: str, detail: str, about: str | None) -> None:
        values = {"outcome": outcome, "detail": clip(one_line(detail), 300), "incident_id": about}
        await session.execute(sa.update(PagerWord).where(col(PagerWord.id) == row.id).values(**values))


async def page_of(session: AsyncSession, pager: str, word: Word) -> Page | None:
    """The page that *word* is about: by its key the newest, rather the one that is known there by that name."""
    mine = col(Page.pager) == pager
    if word.dedup_key is not None:
        query = sa.select(Page).where(mine, col(Page.dedup_key) == word.dedup_key)
        found = list(await session.scalars(query.order_by(col(Page.number).desc())))
        if found:
            return next((page for page in found if page.external_id in (None, word.external_id)), found[0])
    if word.external_id is None:
        return None
    query = sa.select(Page).where(mine, col(Page.external_id) == word.external_id)
    return (await session.scalars(query.order_by(col(Page.number).desc()).limit(1))).first()


@dataclass
class Move:
    """One word, and the page it is about, in a transaction in which nobody else changes either."""

    tx: Tx
    react: React
    incident: Incident
    page: Page
    word: Word
    pager: str
    now: datetime
    who: str | None = None
    rules: paging.Rules = field(default_factory=paging.Rules)

    async def made(self) -> str:
        """Change what is to be changed; what became of the word."""
        page, word = self.page, self.word
        page.external_id, page.url = word.external_id or page.external_id, word.url or page.url
        outcome = await self._state() if word.said in STATES else await self._other()
        self.tx.session.add(page)
        await self.tx.session.flush()
        await timeline.touch(self.tx.session, page.incident_id)
        return outcome

    async def _state(self) -> str:
        page, word = self.page, self.word
        before = _at(page, "state_at")
        late = before is not None and word.at < before
        if word.assigned and not late:
            page.assigned = word.assigned
        if word.said == "triggered":
            return OURS if word.ours else KNOWN
        if late and not (word.said == "acknowledged" and page.resolved_at is not None):
            return LATE
        if not late:
            page.heard = {**page.heard, "state_at": word.at.isoformat()}
        changed = await {
            "acknowledged": self._acknowledged,
            "unacknowledged": self._unacknowledged,
            "resolved": self._resolved,
            "reopened": self._reopened,
        }[word.said]()
        return APPLIED if changed else OURS if word.ours else KNOWN

    async def _acknowledged(self) -> bool:
        page = self.page
        if page.resolved_at is None:
            page.heard = {**page.heard, "state": "acknowledged"}
        if page.acknowledged_at is not None or page.outcome not in (SENT, paging.SENDING):
            return False
        # Whoever has seen one page of a service has seen what the others of it are about.
        pages = [one for one in await paging.waiting(self.tx.session, self.incident.id) if one.service == page.service]
        for one in {each.id: each for each in (*pages, page)}.values():
            one.acknowledged_at, one.acknowledged_by, one.due_at = self.word.at, self.by, None
            self.tx.session.add(one)
        if self.incident.acknowledged_at is None:
            self.incident.acknowledged_at = self.word.at
            self.tx.session.add(self.incident)
        numbers = sorted({page.number, *(one.number for one in pages)})
        await self._record("page.acknowledged", f"{self.name} has acknowledged the page in {self.pager}", pages=numbers)
        return True

    async def _unacknowledged(self) -> bool:
        page = self.page
        page.heard = {**page.heard, "state": "triggered"}
        if page.acknowledged_at is None or page.resolved_at is not None:
            return False
        page.acknowledged_at = page.acknowledged_by = None
        self._due()
        text = f"The page is not acknowledged any more in {self.pager}{self._by}, so it wakes people again"
        await self._record("page.unacknowledged", text)
        return True

    async def _resolved(self) -> bool:
        page = self.page
        if page.resolved_at is not None:
            return False
        page.heard = {**page.heard, "state": "resolved"}
        page.resolved_at, page.due_at = self.word.at, None
        await self._record("page.resolved", f"The page was resolved in {self.pager}{self._by}")
        return True

    async def _reopened(self) -> bool:
        page = self.page
        if page.resolved_at is None:
            return False
        page.resolved_at = page.acknowledged_at = page.acknowledged_by = None
        # It is open there because somebody wants it so: the end of the incident here does not close it again.
        page.heard = {**page.heard, "state": "triggered" if self.incident.is_open else "reopened"}
        self._due()
        over = "" if self.incident.is_open else "; here the incident is over: `/inc reopen` if it is not after all"
        await self._record("page.reopened", f"The page was reopened in {self.pager}{self._by}{over}")
        return True

    async def _other(self) -> str:
        page, word = self.page, self.word
        match word.said:
            case "escalated" | "reassigned" | "delegated":
                before = _at(page, "people_at")
                if before is not None and word.at < before:
                    return LATE
                page.heard = {**page.heard, "people_at": word.at.isoformat()}
                known = word.assigned is None or word.assigned == page.assigned
                page.assigned = word.assigned or page.assigned
                if word.ours or (known and word.said != "escalated"):
                    return OURS if word.ours else KNOWN
                kind = "page.escalated" if word.said == "escalated" else "page.reassigned"
                what = "was escalated" if word.said == "escalated" else "has gone to somebody else"
                whom = f": now with {page.assigned}" if page.assigned else ""
                await self._record(kind, f"The page {what} in {self.pager}{self._by}{whom}")
            case "responder_asked":
                if word.ours:
                    return OURS
                await self._record("page.responder_asked", f"{self.name} is asked in {self.pager} to join")
            case "responder_answered":
                joins = word.text.lower() in JOINS
                said = "joins" if joins else f"was asked to join, and says: {word.text or 'no'}"
                await self._record("page.responder_answered", f"{self.name} {said} (in {self.pager})")
                if self.who is not None and joins:
                    await roles.assign(
                        self.tx, self.react, self.incident, RoleName.RESPONDER, self.who, by=BOT, now=self.now
                    )
            case "noted" | "status_update" if not word.ours and word.text:
                what = "notes" if word.said == "noted" else "tells everybody"
                await self._record("page.noted", f"{self.name} {what} in {self.pager}: {word.text}")
            case "priority" if not word.ours:
                said = word.text or "no priority"
                text = (
                    f"{self.name} has set the priority in {self.pager} to {said}; "
                    f"{self.incident.reference} stays {self.incident.severity}: severity is said here"
                )
                await self._record("page.updated", text)
            case _:
                return OURS if word.ours else IGNORED
        return APPLIED

    # -- words --------------------------------------------------------------------------------------------------------

    @property
    def by(self) -> str:
        """Who did it: a person of the chat where that is known, else their name in the pager."""
        return self.who or self.word.by or self.pager

    @property
    def name(self) -> str:
        """The same for a line of text."""
        return f"<@{self.who}>" if self.who else self.word.by or "Somebody"

    @property
    def _by(self) -> str:
        return f" by {self.name}" if self.who or self.word.by else ""

    def _due(self) -> None:
        length = self.rules.acknowledge.get(self.incident.severity)
        self.page.due_at = None
        over = paging.over(self.page, self.incident)
        if length is not None and not over and self.page.level < paging.TOLD:
            self.page.due_at = self.now + length

    async def _record(self, kind: str, text: str, *, pages: Sequence[int] | None = None) -> None:
        data: dict[str, Any] = {"pager": self.pager, "via": self.pager, "by": self.by}
        data |= {"number": self.page.number} if pages is None else {"pages": list(pages)}
        # Their clock may be ahead of ours; nothing on a timeline is in the future.
        await timeline.record(
            self.tx, self.react, self.incident.id, kind, text,
            now=self.now, at=min(self.word.at, self.now), actor=self.who, data=data, once=self.word.id,
        )  # fmt: skip


def _at(page: Page, side: str) -> datetime | None:
    return parse_time(page.heard[side]) if side in page.heard else None
