"""What follows when a run has ended: alerts that it raises or takes back, and whether its runbook goes on by itself."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.alerts.identity import short
from bot.alerts.model import Alert, AlertRow, AlertState, AlertStatus, Severity
from bot.catalog.config import OWN
from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.intake import Incoming, Receipt
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.text import clip
from bot.runs import audit, auto, automation, raising
from bot.runs import run as runs
from bot.runs.auto import Policy
from bot.runs.model import ENDED, AssetReport, Run, RunState, Trigger
from bot.runs.raising import Finding, Firing
from bot.runs.runbook import Runbook

log = structlog.get_logger()

Accept = Callable[[Incoming], Awaitable[Receipt]]
# What a rule of a runbook found becomes tickets: the run, the runbook's id, and the finding.
File = Callable[[Run, str, Finding], Awaitable[None]]
BOT = "bot"
SHOWN, LONGEST = 10, 2000
# What became of an alert, for people; without a word it is no news.
WORDS = {"opened": "opened", "suggested": "suggested", "attached": "joined", "stored": "kept, no incident"}


async def _nowhere(run: Run, runbook: str, found: Finding) -> None:
    """There is no tracker."""


async def _nothing(run: Run) -> None:
    """There are no change requests."""


@dataclass
class Aftermath:
    """The workflow `aftermath`. *accept* is the intake's: what a runbook raises is an alert like any other."""

    engine: Engine
    react: React
    accept: Accept
    clock: Clock
    policy: Policy
    file: File = _nowhere
    conclude: Callable[[Run], Awaitable[None]] = _nothing

    async def weigh(self, run_id: str) -> None:
        """Say what came of a run. Doing it again says nothing twice."""
        async with self.engine.db.read() as session:
            run = await runs.find(session, run_id)
            incident = await lifecycle.find(session, run.incident_id)
        if run.state not in ENDED or run.dry_run:
            return  # it was taken up again, to be rolled back, or was none
        structlog.contextvars.bind_contextvars(run=run.id, incident=incident.id)
        runbook = runs.definition(run)
        for found in _findings(run, runbook):
            if found.into == raising.ASSET and found.problem is None:
                if not incident.private:
                    await self._report(run, found)
                continue  # how an asset is says nothing that somebody must do
            if found.problem is not None:
                await self._unsaid(run, found)
            elif found.into == "timeline" or incident.private:  # what a private incident found out stays in it
                await self._note(run, found)
            else:
                await self._raise(run, runbook, found)
            await self.file(run, found.runbook or runbook.id, found)
        await self.conclude(run)
        await self._judge(run, runbook)

    # -- alerts ---------------------------------------------------------------------------------------------------

    async def _raise(self, run: Run, runbook: Runbook, found: Finding) -> None:
        """What fires and what has ended, through the same door as everybody's alerts."""
        ended_at = run.ended_at or self.clock()
        before = await self._before(runbook, found)
        alerts: list[Alert] = []
        titles: dict[str, str] = {}
        for one in found.firing:
            alert = _firing(runbook, found, one)
            known = before.pop(alert.fingerprint, None)
            if known is not None and known.last_seen_at > ended_at:
                continue  # a later run has spoken of it already
            # Still firing is no news: it began when it began.
            began = known.starts_at if known is not None and known.state != AlertState.RESOLVED else ended_at
            alerts.append(replace(alert, starts_at=began))
            titles[alert.dedup_key] = alert.title
        over = [row for row in before.values() if row.state != AlertState.RESOLVED and row.last_seen_at <= ended_at]
        alerts += [_resolved(row, ended_at) for row in over]
        if not alerts:
            return
        body = json.dumps({"run": run.id, **found.model_dump()}).encode()
        receipt = await self.accept(Incoming(OWN, OWN, body, tuple(alerts), ended_at))
        said = [(titles[key], word, where) for key, word, where in receipt.results if key in titles]
        gone = [row.title for row in over]
        text = f"Run {run.number}: {_told(said, gone)}"
        data = {
            "rule": found.rule,
            "key": found.key,
            "firing": [title for title, _, _ in said[:SHOWN]],
            "resolved": gone[:SHOWN],
            "incidents": sorted({where for _, _, where in said if where}),
            "news": bool(gone) or any(word in WORDS for _, word, _ in said),
        }
        await self._record(run, "run.raised", text, data, once=_once(run, found))

    async def _before(self, runbook: Runbook, found: Finding) -> dict[str, AlertRow]:
        """What this rule has ever said under this key, by fingerprint."""
        mine = col(AlertRow.dedup_key).startswith(raising.scope(found.runbook or runbook.id, found), autoescape=True)
        query = sa.select(AlertRow).where(col(AlertRow.connection) == OWN, mine)
        async with self.engine.db.read() as session:
            return {row.fingerprint: row for row in await session.scalars(query)}

    async def _note(self, run: Run, found: Finding) -> None:
        """A finding on the timeline, and nothing more."""
        for one in found.firing:
            text = one.title + (f"\n{one.description}" if one.description else "")
            about = {"kind": "finding", "run": run.id, "number": run.number, "rule": found.rule}
            async with self.engine.transaction() as tx:
                await timeline.record(
                    tx, self.react, run.incident_id, "note.added", text,
                    now=self.clock(), actor=BOT, data=about, once=f"{_once(run, found)}:{one.item}",
                )  # fmt: skip

    async def _report(self, run: Run, found: Finding) -> None:
        """What is known of assets; a run that ended before another has nothing to add to what that one said."""
        at = run.ended_at or self.clock()
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            for asset, (ok, text) in raising.results(found).items():
                row = {"ok": ok, "text": text, "runbook": run.runbook, "run_id": run.id, "at": at}
                insert = insert_for(connection, AssetReport).values(asset=asset, kind=found.rule, **row)
                newer = insert.on_conflict_do_update(
                    index_elements=["asset", "kind"], set_=row, where=col(AssetReport.at) <= at
                )
                await connection.execute(newer)

    async def _unsaid(self, run: Run, found: Finding) -> None:
        """After a run that went well a rule should have something to say."""
        if run.state != RunState.SUCCEEDED:
            return
        text = f"Run {run.number} cannot say whether “{found.rule}” holds: {found.problem}"
        data = {"rule": found.rule, "problem": found.problem}
        await self._record(run, "run.unjudged", text, data, once=_once(run, found))

    # -- whether it goes on by itself -----------------------------------------------------------------------------

    async def _judge(self, run: Run, runbook: Runbook) -> None:
        """Say so when a runbook has failed too often to start by itself, and when it may again."""
        if run.trigger == Trigger.AUTO and run.state in auto.BROKEN:
            async with self.engine.db.read() as session:
                failed = auto.failures(await automation.history(session, runbook.id))
            if len(failed) < self.policy.failures or all(one.id != run.id for one in failed):
                return
            times = "failed" if len(failed) == 1 else f"failed {len(failed)} times in a row"
            text = (
                f"{runbook.name} has {times} when it started by itself, so it does not start by itself any more. A run "
                f"by hand that succeeds lets it start again, or somebody who says /inc auto on {runbook.id}"
            )
            data = {"runbook": runbook.id, "failures": len(failed)}
            once = f"{runbook.id}:{failed[-1].begun_at.isoformat()}"
            await self._tell(run, "automation.stopped", text, data, once)
        elif run.trigger != Trigger.AUTO and run.state == RunState.SUCCEEDED:
            async with self.engine.db.read() as session:
                past = await automation.history(session, runbook.id)
            older = [one for one in past.runs if one.begun_at < run.requested_at]
            if len(auto.failures(replace(past, runs=older))) >= self.policy.failures:
                text = f"{runbook.name} may start by itself again: run {run.number} succeeded"
                await self._tell(run, "automation.resumed", text, {"runbook": runbook.id}, run.id)

    # -- what is written down ---------------------------------------------------------------------------------------

    async def _record(self, run: Run, kind: str, text: str, data: Mapping[str, Any], *, once: str) -> None:
        now = self.clock()
        async with self.engine.transaction() as tx:
            there = await runs.find(tx.session, run.id, lock=True)
            await runs.event(tx, self.react, there, kind, text, now=now, actor=BOT, data=data, once=once)

    async def _tell(self, run: Run, kind: str, text: str, data: dict[str, Any], once: str) -> None:
        now = self.clock()
        async with self.engine.transaction() as tx:
            told = await timeline.record(
                tx, self.react, run.incident_id, kind, text, now=now, actor=BOT, data=data, once=once
            )
            if told is not None:
                audit.note(tx, audit.Line(now, BOT, kind, run.id, run.incident_id, data))


def _findings(run: Run, runbook: Runbook) -> list[Finding]:
    if run.raised is not None:
        return [Finding.model_validate(found) for found in run.raised]
    # It came to no end of its own, so nothing of its steps is known: it was given up, or lacked a secret.
    about = {"id": runbook.id, "name": runbook.name, "owner": runbook.owner, "risk": runbook.risk}
    known = {"params": run.params, "vars": runbook.vars, "runbook": about}
    return raising.findings(runbook, known, RunState(run.state), run.failure)


def _once(run: Run, found: Finding) -> str:
    """What is said of a rule once for each run; a runbook that was called may have found things under several keys."""
    called = f"{found.runbook}:{found.key}:" if found.runbook else ""
    return f"{run.id}:{called}{found.rule}"


def _firing(runbook: Runbook, found: Finding, one: Firing) -> Alert:
    name = found.runbook or runbook.id
    key = raising.dedup_key(name, found, one.item)
    about = {"alertname": f"{name}/{found.rule}", "runbook": name, "rule": found.rule}
    about |= {name: value for name, value in (("key", found.key), ("item", one.item)) if value}
    return Alert(
        status=AlertStatus.FIRING,
        title=one.title,
        fingerprint=short(key),
        dedup_key=key,
        severity=Severity(found.severity),
        labels={**about, **one.labels},
        annotations={"summary": one.title, "description": one.description} if one.description else {},
        description=one.description,
    )


def _resolved(row: AlertRow, ended_at: datetime) -> Alert:
    return Alert(
        status=AlertStatus.RESOLVED,
        title=row.title,
        fingerprint=row.fingerprint,
        dedup_key=row.dedup_key,
        severity=Severity(row.severity),
        labels=row.labels,
        ends_at=ended_at,
    )


def _told(said: Sequence[tuple[str, str, str | None]], gone: Sequence[str]) -> str:
    """What fires and what does not any more, in a line each."""
    lines = []
    for title, word, where in said[:SHOWN]:
        told = WORDS.get(word, "still fires")
        lines.append(f"“{title}”: {told}" if where is None else f"“{title}”: {told} {where}")
    lines += [f"“{title}” does not hold any more" for title in gone[:SHOWN]]
    if (more := len(said) + len(gone) - len(lines)) > 0:
        lines.append(f"and {more} more")
    return clip("; ".join(lines), LONGEST)
