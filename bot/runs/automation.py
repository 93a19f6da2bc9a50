"""Runbooks that start by themselves: looked at when an alert comes to an incident, and what people say about it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.alerts.model import AlertRow, AlertState
from bot.engine import Engine, Tx
from bot.incidents import lifecycle, timeline
from bot.incidents.model import ACTIVE, Incident, Kind
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.kit.text import clip, one_line
from bot.runs import audit, auto
from bot.runs import run as runs
from bot.runs.auto import History, Hold, Past, Policy, Start, Switched, Why
from bot.runs.books import Books
from bot.runs.model import ENDED, Decision, Run, Switch, Trigger
from bot.runs.runbook import Offer, Runbook, used

log = structlog.get_logger()

BOT, STARTED, EVERY = "bot", "started", "*"
# Of one incident at a time; a storm has more, and after the first few the answer is the same.
ALERTS, RUNS = 200, 100

Pairs = list[tuple[AlertRow, Offer]]


@dataclass
class Automation:
    """The workflow `automate`."""

    engine: Engine
    react: React
    clock: Clock
    books: Books
    policy: Policy

    async def consider(self, incident_id: str) -> None:
        """Decide, for every alert that fires and every runbook that may start by itself, whether it does."""
        structlog.contextvars.bind_contextvars(incident=incident_id)
        books = [book for book in self.books.runbooks.values() if any(offer.mode == "auto" for offer in book.offer)]
        if not self.policy.on or not books:
            return
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, incident_id)
            alerts = await _firing(session, incident_id)
        for book in sorted(books, key=lambda book: book.id):
            pairs = [(alert, offer) for alert in alerts if (offer := auto.offered(book, alert, incident.service))]
            if pairs:
                await self._consider(incident_id, book, pairs)

    async def _consider(self, incident_id: str, book: Runbook, pairs: Pairs) -> None:
        counted: list[str] = []
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            if incident.status not in ACTIVE or incident.kind != Kind.STANDARD:
                return
            await _alone(tx.session, book.id)
            known = await _decided(tx.session, book.id, [alert.episode_id for alert, _ in pairs])
            past = await history(tx.session, book.id)
            now = self.clock()
            for alert, offer in pairs:
                if alert.episode_id in known:
                    continue
                decision = auto.decide(book, offer, alert, incident, past, self.policy, now)
                if isinstance(decision, Start):
                    decision, past = await self._start(tx, incident, book, alert, decision, past, now)
                if isinstance(decision, Hold) and decision.told:
                    await self._withhold(tx, incident, book, alert, decision, now)
                if isinstance(decision, Start) or decision.told:
                    await self._keep(tx, incident, book, alert, decision, now)
                counted.append(STARTED if isinstance(decision, Start) else decision.why)
        for decided in counted:
            self.engine.metrics.decided(decided)

    async def _start(
        self, tx: Tx, incident: Incident, book: Runbook, alert: AlertRow, start: Start, past: History, now: datetime
    ) -> tuple[Start | Hold, History]:
        """The decision and the start are one transaction: none of them is ever there without the other."""
        asked = runs.Asked(BOT, trigger=Trigger.AUTO, key=alert.episode_id, because=start.because)
        books = used(book, self.books.runbooks)
        run_id = _run_id(book.id, alert.episode_id)
        try:
            run = await runs.start(
                tx, self.react, incident, book, start.values,
                asked=asked, now=now, run_id=run_id, uses=books, commit=self.books.commit,
            )  # fmt: skip
        except UserError as error:
            return Hold(Why.REFUSED, str(error), alert.episode_id), past
        log.info("run.started_by_itself", runbook=book.id, run=run.id)
        this = _past(run, incident)
        return start, replace(past, runs=[this, *past.runs], at_work=[*past.at_work, this])

    async def _withhold(
        self, tx: Tx, incident: Incident, book: Runbook, alert: AlertRow, hold: Hold, now: datetime
    ) -> None:
        title = clip(one_line(alert.title), 150)
        text = f"{book.name} did not start by itself for “{title}”: {hold.reason}"
        data = {"runbook": book.id, "name": book.name, "why": hold.why, "reason": hold.reason, "alert": alert.id}
        once = f"{book.id}:{hold.why}:{hold.about}"
        await timeline.record(
            tx, self.react, incident.id, "runbook.withheld", text, now=now, actor=BOT, data=data, once=once
        )

    async def _keep(
        self, tx: Tx, incident: Incident, book: Runbook, alert: AlertRow, decision: Start | Hold, now: datetime
    ) -> None:
        word, reason, run_id = STARTED, "", None
        if isinstance(decision, Start):
            reason, run_id = decision.because, _run_id(book.id, alert.episode_id)
        else:
            word, reason = decision.why, decision.reason
        row = Decision(
            id=derived_id("decision", book.id, alert.episode_id),
            runbook=book.id,
            incident_id=incident.id,
            alert_id=alert.id,
            episode_id=alert.episode_id,
            decision=word,
            reason=reason,
            run_id=run_id,
            at=now,
        )
        tx.session.add(row)
        await tx.session.flush()


async def switch(
    tx: Tx, react: React, places: Iterable[Incident], runbook: str, *, off: bool, by: str, now: datetime
) -> str:
    """A person says whether *runbook*, or every one (`*`), may start by itself: in what words it is on record.

    The record is the timelines of *places*, and the audit.
    """
    row = {"runbook": runbook, "off": off, "by": by, "changed_at": now}
    connection = await tx.session.connection()
    insert = insert_for(connection, Switch).values(**row)
    set_ = {key: value for key, value in row.items() if key != "runbook"}
    await connection.execute(insert.on_conflict_do_update(index_elements=["runbook"], set_=set_))
    if off:
        text = "No runbook starts" if runbook == EVERY else f"{runbook} does not start"
        text += " by itself any more"
    else:
        text = "Runbooks start" if runbook == EVERY else f"{runbook} starts"
        text += " by itself again" if runbook != EVERY else " by themselves again"
    kind, data = "automation.stopped" if off else "automation.resumed", {"runbook": runbook}
    for incident in places:
        await timeline.record(tx, react, incident.id, kind, f"{text} (<@{by}>)", now=now, actor=by, data=data)
    audit.note(tx, audit.Line(now, by, kind, data=data))
    return text


async def switched(session: AsyncSession) -> dict[str, Switched]:
    """What people said last, by runbook."""
    rows = await session.scalars(sa.select(Switch).execution_options(populate_existing=True))
    return {row.runbook: Switched(row.off, row.by, row.changed_at) for row in rows}


async def history(session: AsyncSession, runbook: str) -> History:
    """What was before, as far as it matters for *runbook* starting by itself."""
    query = sa.select(Run, Incident).join(Incident, col(Incident.id) == col(Run.incident_id))
    query = query.execution_options(populate_existing=True)
    mine = query.where(col(Run.runbook) == runbook, ~col(Run.dry_run))
    newest = mine.order_by(col(Run.requested_at).desc(), col(Run.id).desc()).limit(RUNS)
    at_work = query.where(col(Run.state).not_in(ENDED))
    said = await switched(session)
    return History(
        runs=_pasts(await session.execute(newest)),
        at_work=_pasts(await session.execute(at_work)),
        switched=said.get(runbook),
        all_switched=said.get(EVERY),
    )


def _pasts(rows: Iterable[tuple[Run, Incident]]) -> list[Past]:
    return [_past(run, incident) for run, incident in rows]


def _past(run: Run, incident: Incident) -> Past:
    return Past(
        id=run.id,
        number=run.number,
        trigger=run.trigger,
        state=run.state,
        key=run.concurrency_key,
        about=run.trigger_key,
        begun_at=run.requested_at,
        ended_at=run.ended_at,
        incident=None if incident.private else incident.reference,
    )


async def _firing(session: AsyncSession, incident_id: str) -> list[AlertRow]:
    """The alerts of an incident that fire, the oldest first."""
    mine = (col(AlertRow.incident_id) == incident_id, col(AlertRow.state) == AlertState.FIRING)
    query = sa.select(AlertRow).where(*mine).order_by(col(AlertRow.starts_at), col(AlertRow.id)).limit(ALERTS)
    return list(await session.scalars(query))


async def _decided(session: AsyncSession, runbook: str, episodes: Collection[str]) -> set[str]:
    ids = {derived_id("decision", runbook, episode): episode for episode in episodes}
    found = await session.scalars(sa.select(col(Decision.id)).where(col(Decision.id).in_(list(ids))))
    return {ids[one] for one in found}


async def _alone(session: AsyncSession, runbook: str) -> None:
    """One decision about a runbook at a time, whichever incident it is for; SQLite has one writer anyway."""
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        await session.execute(sa.text("select pg_advisory_xact_lock(hashtext(:key))"), {"key": f"auto:{runbook}"})


def _run_id(runbook: str, episode: str) -> str:
    return derived_id("run", "auto", runbook, episode)
