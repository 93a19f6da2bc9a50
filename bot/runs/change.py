"""A change request around a run that writes: asked for before the first write, waited for, closed with the outcome.

Where a rule of trackers.yaml wants one, nothing is written without it. What cannot be asked for is a no.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from bot.catalog.tracking import ChangeRule, Tracking
from bot.engine import Engine, Tx
from bot.incidents import lifecycle, tickets, timeline
from bot.incidents.model import Incident, Ticket, TicketState
from bot.incidents.timeline import React
from bot.incidents.tracker import Changes, Tracker, Wish
from bot.kit.clock import Clock, duration_text
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.ids import derived_id
from bot.kit.text import clip, one_line
from bot.runs.model import Run, RunState
from bot.runs.runbook import Runbook

log = structlog.get_logger()

BOT = "bot"
POLL_SECONDS = 15.0
# How our side of it stands: asked for, given or refused there, only noted (nobody waits for it), and closed.
ASKED, APPROVED, REFUSED, NOTED, CLOSED = "asked", "approved", "refused", "noted", "closed"
WENT = (RunState.SUCCEEDED,)


@dataclass
class Clearing:
    """What the interpreter asks before a run's first write, and the aftermath after its end."""

    engine: Engine
    react: React
    clock: Clock
    tracking: Tracking
    trackers: Mapping[str, Tracker]
    poll_seconds: float = POLL_SECONDS

    async def waited(self, run: Run) -> float:
        """How many seconds the run has waited for its change so far: they are not of its own time."""
        row = await self._found(run)
        if row is None or row.phase == NOTED:
            return 0.0
        until = self.clock() if row.phase == ASKED else row.changed_at
        return max(0.0, (until - row.created_at).total_seconds())

    async def clear(self, run: Run, incident: Incident, runbook: Runbook, stopping: asyncio.Event) -> str | None:
        """Return once the run may write, or is stopped; why it may not otherwise. Asking again asks for nothing new."""
        rule = next((rule for rule in self.tracking.file.changes if met(rule, incident, runbook)), None)
        if rule is None:
            return None
        row = await self._row(run, incident, runbook, rule)
        tracker = self.trackers.get(rule.tracker)
        if not isinstance(tracker, Changes):
            return await self._refused(row, run, f"{rule.tracker} has no change requests; see changes in trackers.yaml")
        ends_at = row.created_at + rule.within
        while row.phase == ASKED and not stopping.is_set():
            wait = self.poll_seconds
            try:
                row = await self._look(row, run, rule, tracker)
            except TemporaryError as error:
                log.warning("change.again", change=row.key, reason=str(error))
                wait = max(wait, error.after) if error.after != TemporaryError("").after else wait
            except PermanentError as error:
                return await self._refused(row, run, str(error))
            if row.phase != ASKED:
                break
            if self.clock() >= ends_at:
                what = row.reference or f"a change in {row.tracker}"
                return await self._refused(row, run, f"{what} was not approved within {duration_text(rule.within)}")
            try:
                async with asyncio.timeout(wait):
                    await stopping.wait()
            except TimeoutError:
                continue
        return row.error if row.phase == REFUSED else None

    async def conclude(self, run: Run) -> None:
        """The run has ended: its change is closed with how it went."""
        if await self._found(run) is None:
            return
        async with self.engine.transaction() as tx:
            row = await tx.session.get(Ticket, _id(run), with_for_update=True, populate_existing=True)
            if row is None or row.remote_id is None or row.phase == CLOSED:
                return
            incident = await lifecycle.find(tx.session, run.incident_id)
            row.standing = "done" if run.state in WENT else "failed"
            said = "" if incident.private else str((run.failure or {}).get("message") or "")
            told = f"Run {run.number} ended: {run.state.replace('_', ' ')}" + (f". {said}" if said else "")
            row.body = clip(one_line(told), 1000)
            await tickets.promise(tx, row)

    # -- one look ---------------------------------------------------------------------------------------------------

    async def _look(self, row: Ticket, run: Run, rule: ChangeRule, tracker: Changes) -> Ticket:
        await self.engine.still_mine()
        if row.remote_id is None:
            wish = Wish(row.key, row.title, row.body, "", purpose="change")
            issue = await tracker.propose(wish, rule.type)
            waits = rule.wait and not run.break_glass
            text = f"Run {run.number}: change {issue.reference} opened in {row.tracker}" + (
                "; nothing is changed before it is approved there" if waits else ""
            )
            seen = {"remote_id": issue.id, "reference": issue.reference, "url": issue.url, "status": issue.status}
            phase = ASKED if waits else NOTED
            row = await self._put(row, run, "change.opened", text, state=TicketState.MADE, phase=phase, **seen)
        if row.phase != ASKED or row.remote_id is None:
            return row
        verdict = await tracker.verdict(row.remote_id)
        if verdict is None:
            return row
        if not verdict:
            why = f"{row.reference} was rejected in {row.tracker}"
            return await self._put(row, run, "change.refused", f"Run {run.number}: {why}", phase=REFUSED, error=why)
        await self.engine.still_mine()
        await tracker.begin(row.remote_id)
        text = f"Run {run.number}: {row.reference} was approved in {row.tracker}"
        return await self._put(row, run, "change.approved", text, phase=APPROVED)

    async def _refused(self, row: Ticket, run: Run, why: str) -> str:
        why = f"no change request, so nothing is changed: {why}"
        await self._put(row, run, "change.refused", f"Run {run.number}: {why}", phase=REFUSED, error=why)
        return why

    # -- rows -------------------------------------------------------------------------------------------------------

    async def _found(self, run: Run) -> Ticket | None:
        async with self.engine.db.read() as session:
            return await session.get(Ticket, _id(run))

    async def _row(self, run: Run, incident: Incident, runbook: Runbook, rule: ChangeRule) -> Ticket:
        """What is known of the run's change; written down before anything is asked for."""
        now, hidden = self.clock(), incident.private
        about = f"{incident.reference}: {tickets.PRIVATE if hidden else incident.title}"
        lines = [f"Run {run.number} of the runbook {runbook.name} ({runbook.id}), risk {runbook.risk}."]
        if not hidden:
            lines += [f"{name} = {value}" for name, value in sorted(run.params.items())]
        row = Ticket(
            id=_id(run),
            incident_id=incident.id,
            tracker=rule.tracker,
            purpose="change",
            key=f"{tickets.incident_key(self.tracking, incident)}-R{run.number}",
            title=f"{runbook.name} for {about}",
            body="\n".join([*lines, f"For {about}"]),
            phase=ASKED,
            created_at=now,
            changed_at=now,
        )
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            insert = insert_for(connection, Ticket).values(**row.model_dump())
            await connection.execute(insert.on_conflict_do_nothing(index_elements=["id"]))
        return await self._found(run) or row

    async def _put(self, row: Ticket, run: Run, kind: str, text: str, **values: Any) -> Ticket:
        async with self.engine.transaction() as tx:
            there = await tx.session.get(Ticket, row.id, with_for_update=True, populate_existing=True)
            there = there or row
            for name, value in values.items():
                setattr(there, name, value)
            there.changed_at = self.clock()
            tx.session.add(there)
            await tx.session.flush()
            await self._record(tx, there, run, kind, text)
        return there

    async def _record(self, tx: Tx, row: Ticket, run: Run, kind: str, text: str) -> None:
        data = {
            "change": row.id,
            "run": run.id,
            "number": run.number,
            "tracker": row.tracker,
            "reference": row.reference,
            "url": row.url,
        }
        await timeline.record(
            tx, self.react, row.incident_id, kind, text, now=self.clock(), actor=BOT, data=data, once=run.id
        )


def met(rule: ChangeRule, incident: Incident, runbook: Runbook) -> bool:
    """Whether a run of *runbook* in *incident* needs a change by *rule*."""
    return (
        (not rule.runbook or runbook.id in rule.runbook)
        and (not rule.risk or runbook.risk in rule.risk)
        and (not rule.service or incident.service in rule.service)
    )


def _id(run: Run) -> str:
    return derived_id("ticket", "change", run.id)
