"""A page's life: asked for, sent with proof, acknowledged by whoever is first, resolved with its incident.

What is wanted stands in the rows; `sync` brings the pager to it and remembers what the pager is known to have. So
nothing is told twice, and what comes back from the pager goes nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.alerts.model import AlertRow
from bot.catalog.config import General
from bot.engine import LINES, Engine, Tx, Work
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Incident, Page, TimelineEvent
from bot.incidents.pager import Action, ActResult, Acts, Follows, Kind, Pager, PageRequest, Seen, dedup_key, incident_of
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.kit.ids import derived_id
from bot.kit.text import clean, clip

log = structlog.get_logger()

BOT = "bot"
SENDING, SENT, FAILED, NOBODY = "sending", "sent", "failed", "nobody"
# Nobody looks after a page at this level: the channel has been told, or another page stands for it.
TOLD = 3
# How long a page waits for an acknowledgement where nothing else is said and what people do there can be seen.
MINUTES = {"SEV1": 5, "SEV2": 15}
WHY = 500


@dataclass(frozen=True)
class Rules:
    """How persistent paging is: `acknowledge` within so long by severity, then again, then up, then the channel."""

    acknowledge: Mapping[str, timedelta] = field(default_factory=dict)
    fallback: tuple[str, ...] = ()
    patience: timedelta = timedelta(seconds=60)
    raised: Literal["tell", "escalate", "nothing"] = "tell"
    updates: bool = False

    @classmethod
    def of(cls, general: General, *, sees: bool) -> "Rules":
        """What tocsin.yaml says. Where nothing is seen of the pager, only what is said there counts."""
        minutes: Mapping[str, int] = MINUTES if sees else {}
        if general.page_ack_minutes is not None:
            minutes = {str(name): many for name, many in general.page_ack_minutes.items()}
        return cls(
            {name: timedelta(minutes=many) for name, many in minutes.items()},
            general.fallback_pagers,
            timedelta(seconds=general.fallback_after_seconds),
            general.page_on_severity,
            general.page_updates,
        )


# What people and rules ask for -------------------------------------------------------------------------------------


async def wake(
    tx: Tx,
    react: React,
    incident_id: str,
    why: str,
    *,
    key: str,
    now: datetime,
    service: str | None = None,
    pager: str = "",
    actor: str = BOT,
    again: bool = True,
    level: int = 0,
) -> Page | None:
    """Wake somebody because of *why*: the incident's on-call, or that of *service*. Once for each *key*.

    *again*: also if they were woken for it before. *pager* is another one than the usual. None if it was done.
    """
    incident = await lifecycle.find(tx.session, incident_id, lock=True)  # no two pages get one number
    row = derived_id("page", incident_id, key)
    if await tx.session.get(Page, row) is not None:
        return None
    other = service if service != incident.service else None
    number = await next_number(tx.session, incident_id)
    name = dedup_key(incident_id, other)
    if again and (other is None or await _known(tx.session, incident_id, name)):
        name = dedup_key(incident_id, other, number)
    page = Page(
        id=row, incident_id=incident_id, number=number, pager=pager, outcome=SENDING, detail="", at=now, asked_at=now,
        service=other, why=clip(clean(why), WHY), dedup_key=name, level=level,
    )  # fmt: skip
    tx.session.add(page)
    await tx.session.flush()
    await timeline.touch(tx.session, incident_id)
    whom = f" of {service}" if service else ""
    by = f" by {pager}" if pager else ""
    asked = f"<@{actor}> pages" if actor != BOT else "Paging"
    text = f"{asked} the on-call{whom}{by}" + (f": {page.why}" if page.why else "")
    data = {"number": number, "pager": pager or None, "service": service, "why": page.why}
    await timeline.record(tx, react, incident_id, "page.asked", text, now=now, actor=actor, data=data, once=key)
    return page


async def acknowledge(tx: Tx, react: React, incident: Incident, *, by: str, now: datetime) -> list[Page]:
    """Somebody has seen it, says the chat: every page that waits for that, and the incident, if nobody had."""
    pages = await waiting(tx.session, incident.id)
    if incident.acknowledged_at is None:
        incident.acknowledged_at = now
        tx.session.add(incident)
    elif not pages:
        return []
    for page in pages:
        page.acknowledged_at, page.acknowledged_by, page.due_at = now, by, None
        tx.session.add(page)
    await tx.session.flush()
    await timeline.touch(tx.session, incident.id)
    data = {"pages": [page.number for page in pages], "by": by, "via": "slack"}
    text = f"<@{by}> has acknowledged {'the page' if pages else incident.reference}"
    await timeline.record(tx, react, incident.id, "page.acknowledged", text, now=now, actor=by, data=data)
    return pages


async def ask(
    tx: Tx, react: React, incident: Incident, act: Literal["escalate", "add_responder"], *, by: str, now: datetime,
    once: str, user: str | None = None, message: str = "",
) -> None:  # fmt: skip
    """Somebody wants more people: whoever is above in the escalation policy, or *user* by name."""
    page = await current(tx.session, incident.id)
    if page is None:
        raise UserError(
            f"No page of {incident.reference} is open, so nobody can be called to it. Page first: `/inc page`"
        )
    what = "asks for the next level of the escalation policy" if act == "escalate" else f"asks for {user}"
    message = clip(clean(message).strip(), WHY)
    text = f"<@{by}> {what}" + (f": {message}" if message else "")
    data = {"act": act, "number": page.number, "user": user, "message": message}
    await timeline.record(tx, react, incident.id, "help.asked", text, now=now, actor=by, data=data, once=once)


# Rows --------------------------------------------------------------------------------------------------------------


async def pages_of(session: AsyncSession, incident_id: str) -> list[Page]:
    """Every page of an incident, in order."""
    query = sa.select(Page).where(col(Page.incident_id) == incident_id).order_by(col(Page.number))
    return list(await session.scalars(query.execution_options(populate_existing=True)))


async def waiting(session: AsyncSession, incident_id: str) -> list[Page]:
    """Those that nobody has acknowledged: sent, or on their way."""
    return [page for page in await pages_of(session, incident_id) if waits(page)]


def waits(page: Page) -> bool:
    """Whether somebody could acknowledge *page*."""
    return page.outcome in (SENDING, SENT) and page.acknowledged_at is None and page.resolved_at is None


def over(page: Page, incident: Incident) -> bool:
    """Whether what *page* was about is over: the incident has ended since. What was asked for later is not."""
    ended = incident.resolved_at
    return not incident.is_open and ended is not None and (page.asked_at or page.at) <= ended


async def current(session: AsyncSession, incident_id: str) -> Page | None:
    """The page that more people are called to: the first open one of the incident's own on-call, else of any."""
    there = [page for page in await pages_of(session, incident_id) if page.state in ("sent", "acknowledged")]
    return next((page for page in there if page.service is None), there[0] if there else None)


async def next_number(session: AsyncSession, incident_id: str) -> int:
    """The number of the next page. The first belongs to the one that an incident begins with, even if it is late."""
    last = await session.scalar(sa.select(sa.func.max(col(Page.number))).where(col(Page.incident_id) == incident_id))
    return max(last or 1, 1) + 1


async def _known(session: AsyncSession, incident_id: str, name: str) -> bool:
    query = sa.select(col(Page.id)).where(col(Page.incident_id) == incident_id, col(Page.dedup_key) == name).limit(1)
    return await session.scalar(query) is not None


async def numbered(session: AsyncSession, incident_id: str, number: int) -> Page | None:
    """The page of that number."""
    query = sa.select(Page).where(col(Page.incident_id) == incident_id, col(Page.number) == number)
    return await session.scalar(query.execution_options(populate_existing=True))


async def locked(session: AsyncSession, page: Page) -> Page:
    """The row of *page* as it is now; nobody else changes it or its incident until the commit."""
    await lifecycle.find(session, page.incident_id, lock=True)  # always first, so that no two wait for each other
    query = sa.select(Page).where(col(Page.id) == page.id).execution_options(populate_existing=True)
    return (await session.scalars(query)).one()


def look_of(page: Page, seen: Seen | None) -> None:
    """Take over what the pager shows of *page*."""
    if seen is not None:
        page.external_id = seen.external_id or page.external_id
        page.url = seen.url or page.url
        page.assigned = seen.assigned or page.assigned


# The workflows -----------------------------------------------------------------------------------------------------


@dataclass
class Paging:
    """The workflows `page`, `page_again`, `sync_pages` and `press`, by the pager called *name* or one that stands in.

    *public_url* goes along with each page.
    """

    engine: Engine
    react: React
    pager: Pager
    name: str
    public_url: str | None
    clock: Clock
    rules: Rules = field(default_factory=Rules)
    others: Mapping[str, Pager] = field(default_factory=dict)
    adopts: str | None = None  # the source whose alerts are incidents of this pager already

    async def page(self, incident_id: str, number: int) -> None:
        """Wake somebody, and write down what the pager said about it."""
        page = await self._begun(incident_id, number)
        if page is None or page.outcome != SENDING:
            return
        structlog.contextvars.bind_contextvars(incident=incident_id)
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            raised = await self._raised(session, incident) if number == 1 else None
        seen: Seen | None = None
        key = page.dedup_key
        if over(page, incident) or (number == 1 and not incident.is_open):
            outcome, detail = NOBODY, f"{incident.reference} was over before anybody could be woken"
        elif raised is not None:
            seen = Seen("triggered", raised.labels.get("pagerduty_incident"), raised.url)
            outcome, key = SENT, raised.dedup_key
            detail = f"{self.name} raised this itself, so whoever is on call there has been woken"
        else:
            try:
                await self.engine.still_mine()
                result = await self.of(page).page(self.request(incident, page))
                outcome, detail, seen = result.outcome, result.detail, result.seen
            except PermanentError as error:
                outcome, detail = FAILED, str(error)
            except TemporaryError as error:
                self.engine.metrics.paged(page.pager, "again")
                log.warning("page.not_sent", pager=page.pager, number=number, reason=str(error))
                raise
        await self._ended(page, outcome, detail, seen, key)
        self.engine.metrics.paged(page.pager, outcome)

    async def give_up(self, tx: Tx, incident_id: str, number: int, why: str) -> None:
        """The pager could not be reached for hours."""
        page = await numbered(tx.session, incident_id, number)
        if page is not None and page.outcome == SENDING:
            await self._write(tx, page, FAILED, f"it was given up: {why}", None)

    async def sync(self, incident_id: str) -> None:
        """Have the pager know what is known here: acknowledged, resolved. What it knows already is not told."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            pages = await pages_of(session, incident_id)
        for page in pages:
            wanted = _wanted(page, incident)
            if wanted is not None:
                await self._tell(incident, page, "ack" if wanted == "acknowledged" else "resolve", wanted)

    async def press(self, incident_id: str, event_id: str) -> None:
        """Call more people to a page, or have the pager know of a change, as an event says."""
        async with self.engine.db.read() as session:
            event = await session.get(TimelineEvent, event_id)
            incident = await lifecycle.find(session, incident_id)
            pages = await pages_of(session, incident_id)
        if event is None:
            return
        for kind, page, message, user in self._pressed(event, incident, pages):
            await self._press(incident, page, event, kind, message, user)

    async def again(self, incident_id: str, event_id: str) -> None:
        """The incident was reopened: whoever was woken for it is woken again, unless their page is open still."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            pages = await pages_of(tx.session, incident_id)
            if not incident.is_open or all(page.outcome == NOBODY for page in pages):
                return
            if any(page.state in ("sending", "sent", "acknowledged") for page in pages if page.service is None):
                return
            why, key = "the incident was reopened", f"reopened:{event_id}"
            # Under the same key: what was resolved there is opened anew.
            await wake(tx, self.react, incident_id, why, key=key, now=now, again=False)

    def request(self, incident: Incident, page: Page) -> PageRequest:
        """What the pager is told of a page."""
        made = request(incident, self.public_url, page.service)
        return replace(
            made,
            title=f"{page.why}: {made.title}" if page.why and not incident.private else made.title,
            dedup_key=page.dedup_key or made.dedup_key,
            external_id=page.external_id,
        )

    def fallen(self, page: Page) -> tuple[str, ...]:
        """The pagers that stand in for that of *page*."""
        return self.rules.fallback if page.pager == self.name else ()

    def instead(self, page: Page) -> str:
        """What is done where the pager of *page* does not help, for people."""
        names = self.fallen(page)
        if names:
            return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} tried instead"
        if page.pager != self.name:
            return "call somebody by other means"
        return "call somebody by other means: tocsin.yaml names no fallback_pagers"

    async def fall_back(self, tx: Tx, page: Page, why: str, cause: str, *, now: datetime) -> None:
        """Raise the alarm by the pagers that stand in."""
        for name in self.fallen(page):
            key = f"fallback:{page.number}:{cause}:{name}"
            await wake(
                tx, self.react, page.incident_id, why, key=key, now=now, service=page.service, pager=name, level=TOLD
            )

    # -- sending --------------------------------------------------------------------------------------------------

    def of(self, page: Page) -> Pager:
        """The pager of *page*; PermanentError if there is none of that name any more."""
        if page.pager == self.name:
            return self.pager
        if page.pager in self.others:
            return self.others[page.pager]
        raise PermanentError(f"tocsin.yaml does not name the pager {page.pager!r} any more")

    async def _begun(self, incident_id: str, number: int) -> Page | None:
        """The row of a page, whose sending begins now at the latest."""
        async with self.engine.db.read() as session:
            page = await numbered(session, incident_id, number)
        if page is not None and (page.outcome != SENDING or page.due_at is not None):
            return page
        now = self.clock()
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            page = await numbered(tx.session, incident_id, number)
            if page is None and number == 1:
                row, name = derived_id("page", incident_id, number), dedup_key(incident_id)
                page = Page(
                    id=row, incident_id=incident.id, number=number, pager=self.name, outcome=SENDING, detail="",
                    at=now, asked_at=now, dedup_key=name,
                )  # fmt: skip
            if page is not None:
                page.pager = page.pager or self.name
                page.due_at = now + self.rules.patience
                tx.session.add(page)
        return page

    async def _raised(self, session: AsyncSession, incident: Incident) -> AlertRow | None:
        """The alert of an incident, if it is the pager that raised it."""
        if self.adopts is None:
            return None
        for alert in await lifecycle.alerts(session, incident.id, limit=1):
            if alert.source == self.adopts and incident_of(alert.dedup_key) is None:
                return alert
        return None

    async def _ended(self, page: Page, outcome: str, detail: str, seen: Seen | None, key: str) -> None:
        async with self.engine.transaction() as tx:
            page = await locked(tx.session, page)
            if page.outcome == SENDING:
                page.dedup_key = key
                await self._write(tx, page, outcome, detail, seen)

    async def _write(self, tx: Tx, page: Page, outcome: str, detail: str, seen: Seen | None) -> None:
        now = self.clock()
        incident = await lifecycle.find(tx.session, page.incident_id, lock=True)
        page.outcome, page.detail, page.at, page.due_at = outcome, detail, now, None
        look_of(page, seen)
        if outcome == SENT:
            page.due_at = self.due(incident, page, now)
            if over(page, incident) or page.acknowledged_at is not None:
                tx.enqueue(synced(incident.id, f"late:{page.number}"))
        tx.session.add(page)
        await tx.session.flush()
        told = f"{detail}; {self.instead(page)}" if outcome == FAILED else detail
        await timeline.touch(tx.session, incident.id)
        data = {"pager": page.pager, "number": page.number, "detail": detail}
        await timeline.record(
            tx, self.react, incident.id, f"page.{outcome}", told, now=now, actor=BOT, data=data, once=str(page.number)
        )
        if outcome == FAILED:
            await self.fall_back(tx, page, "the pager failed", "failed", now=now)

    def due(self, incident: Incident, page: Page, now: datetime) -> datetime | None:
        """Until when somebody should have acknowledged *page*; None if nobody looks after it."""
        length = self.rules.acknowledge.get(incident.severity)
        if length is None or page.level >= TOLD or page.acknowledged_at is not None or page.resolved_at is not None:
            return None
        return now + length

    # -- telling the pager ------------------------------------------------------------------------------------------

    async def _tell(self, incident: Incident, page: Page, kind: Kind, wanted: str) -> None:
        try:
            result = await self._act(incident, page, kind, key=f"{kind}:{page.id}")
        except PermanentError as error:
            await self._refused(incident, page, kind, str(error), once=f"{page.number}:{kind}")
            result = None
        now = self.clock()
        async with self.engine.transaction() as tx:
            there = await locked(tx.session, page)
            if there.heard.get("state") == wanted:
                return
            there.heard = {**there.heard, "state": wanted}
            if wanted == "resolved":
                there.due_at, there.resolved_at = None, there.resolved_at or now
            tx.session.add(there)
            await tx.session.flush()
            await timeline.touch(tx.session, incident.id)
            if result is not None and wanted == "resolved":
                data = {"pager": page.pager, "number": page.number, "via": "slack", "detail": result.detail}
                await timeline.record(
                    tx, self.react, incident.id, "page.resolved", result.detail,
                    now=now, actor=BOT, data=data, once=str(page.number),
                )  # fmt: skip

    async def _act(
        self, incident: Incident, page: Page, kind: Kind, *, key: str, message: str = "", user: str | None = None
    ) -> ActResult | None:
        """Have the pager do it; None if it is of a kind that only wakes people."""
        pager: object = self.of(page)
        if not isinstance(pager, Acts):
            return None
        if kind in ("severity", "status_update") and not (isinstance(pager, Follows) and kind in pager.follows):
            return None
        await self.engine.still_mine()
        said = "" if incident.private else message
        named = page.service is not None
        return await pager.act(Action(kind, self.request(incident, page), key, said, user, named))

    def _pressed(
        self, event: TimelineEvent, incident: Incident, pages: list[Page]
    ) -> list[tuple[Kind, Page, str, str | None]]:
        """What follows from an event for which pages: the act, the page, what is said, and whom it is about."""
        data, there = event.data, [page for page in pages if page.state in ("sent", "acknowledged")]
        numbered_ = [page for page in there if page.number == data.get("number")]
        mine = [page for page in there if page.pager == self.name and page.service is None][:1]
        match event.kind:
            case "help.asked":
                by = f"asked for from {incident.reference} in Slack"
                message = str(data.get("message") or by)
                return [(data["act"], page, message, data.get("user")) for page in numbered_]
            case "page.unanswered" if data.get("next") == "escalate":
                return [("escalate", page, "Nobody has acknowledged.", None) for page in numbered_ if waits(page)]
            case "severity.changed":
                return self._worse(data, mine, event.text)
            case "status.changed" if self.rules.updates and not incident.private:
                return [("status_update", page, f"{incident.reference}: {event.text}", None) for page in mine]
        return []

    def _worse(self, data: Mapping[str, Any], mine: list[Page], text: str) -> list[tuple[Kind, Page, str, str | None]]:
        if self.rules.raised == "nothing":
            return []
        found: list[tuple[Kind, Page, str, str | None]] = [("severity", page, text, None) for page in mine]
        if self.rules.raised == "escalate" and str(data.get("to")) < str(data.get("from")):
            found += [("escalate", page, text, None) for page in mine]
        return found

    async def _press(
        self, incident: Incident, page: Page, event: TimelineEvent, kind: Kind, message: str, user: str | None
    ) -> None:
        try:
            result = await self._act(incident, page, kind, key=f"event:{event.id}:{kind}", message=message, user=user)
        except PermanentError as error:
            await self._refused(incident, page, kind, str(error), once=f"{event.id}:{kind}")
            return
        if result is None:
            if event.kind == "help.asked":
                why = f"the pager {page.pager!r} can only page"
                await self._refused(incident, page, kind, why, once=f"{event.id}:{kind}")
            return
        now = self.clock()
        done = {"escalate": "page.escalated", "add_responder": "page.responder_asked"}.get(kind, "page.updated")
        async with self.engine.transaction() as tx:
            there = await locked(tx.session, page)
            look_of(there, result.seen)
            tx.session.add(there)
            await tx.session.flush()
            await timeline.touch(tx.session, incident.id)
            data = {"pager": page.pager, "number": page.number, "via": "slack", "detail": result.detail, "act": kind}
            await timeline.record(
                tx, self.react, incident.id, done, result.detail,
                now=now, actor=BOT, data=data, once=f"{event.id}:{kind}",
            )  # fmt: skip

    async def _refused(self, incident: Incident, page: Page, kind: Kind, why: str, *, once: str) -> None:
        now = self.clock()
        async with self.engine.transaction() as tx:
            text = f"{WORDS.get(kind, kind)} did not work: {why}"
            data = {"pager": page.pager, "number": page.number, "act": kind, "reason": why}
            await timeline.record(
                tx, self.react, incident.id, "page.refused", text, now=now, actor=BOT, data=data, once=once
            )


WORDS = {
    "ack": "Telling the pager that the page is acknowledged",
    "resolve": "Telling the pager that it is over",
    "escalate": "Escalating",
    "add_responder": "Asking for that responder",
    "severity": "Telling the pager of the severity",
    "status_update": "Telling the pager of the status",
}


def _wanted(page: Page, incident: Incident) -> str | None:
    """What the pager should be told of *page*; None if nothing."""
    if page.outcome != SENT or page.resolved_at is not None or page.heard.get("state") in ("resolved", "reopened"):
        return None
    if over(page, incident):
        return "resolved"
    if page.acknowledged_at is not None and page.heard.get("state") != "acknowledged":
        return "acknowledged"
    return None


def synced(incident_id: str, cause: str) -> Work:
    """The promise to bring the pager to what is known here."""
    return Work(
        "sync_pages", f"sync_pages:{incident_id}:{cause}", (incident_id,),
        queue=LINES, partition=f"pages:{incident_id}",
    )  # fmt: skip


def request(incident: Incident, url: str | None, service: str | None = None) -> PageRequest:
    """The page of *incident*, or its page of another *service*. A private title does not leave its channel."""
    other = service if service != incident.service else None
    return PageRequest(
        reference=incident.reference,
        title="a private incident; its channel in Slack says more" if incident.private else incident.title,
        severity=incident.severity,
        service=other or incident.service,
        dedup_key=dedup_key(incident.id, other),
        url=url,
    )
