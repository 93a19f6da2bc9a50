"""Tickets for what runbooks find, by rule: opened while it holds, closed when it does not any more.

A finding is known by runbook, rule, key and item, as its alert is. The same drift tomorrow is the same ticket.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlmodel import col

from bot.catalog.tracking import FindingRule, Tracking
from bot.engine import Engine, Tx
from bot.incidents import lifecycle, tickets
from bot.incidents.model import Incident, Ticket, TicketState
from bot.kit.clock import Clock
from bot.kit.ids import derived_id
from bot.runs import raising
from bot.runs.model import Run
from bot.runs.raising import Finding, Firing

# An alert's words, and what a tracker's priorities are listed by.
SEVERITY: Mapping[str, str] = {"critical": "SEV1", "high": "SEV2", "medium": "SEV3", "low": "SEV4", "info": "SEV5"}


@dataclass
class Filing:
    """Brings what runs found into the trackers that rules of trackers.yaml name."""

    engine: Engine
    clock: Clock
    tracking: Tracking

    async def file(self, run: Run, runbook: str, found: Finding) -> None:
        """What *found* says of everything under its key. Doing it again changes nothing."""
        rules = [rule for rule in self.tracking.file.findings if met(rule, runbook, found)]
        if found.problem is not None or not rules:
            return
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, run.incident_id, lock=True)
            if incident.private:  # what it found stays in it
                return
            for tracker in dict.fromkeys(rule.tracker for rule in rules):
                await self._under(tx, run, incident, tracker, runbook, found)

    async def _under(self, tx: Tx, run: Run, incident: Incident, tracker: str, runbook: str, found: Finding) -> None:
        scope = f"{self.tracking.file.prefix}-{derived_id('finding', raising.scope(runbook, found))[:12]}-"
        mine = (col(Ticket.tracker) == tracker, col(Ticket.key).startswith(scope, autoescape=True))
        before = {row.key: row for row in await tx.session.scalars(sa.select(Ticket).where(*mine))}
        for one in found.firing:
            key = scope + derived_id("item", one.item)[:12]
            row = before.pop(key, None)
            if row is None or row.state == TicketState.FAILED:
                await self._want(tx, run, incident, tracker, runbook, found, one, key)
            elif row.standing == "resolved":  # it is back
                row.standing = ""
                await tickets.promise(tx, row)
        for row in before.values():
            if row.standing != "resolved":
                row.standing = "resolved"
                await tickets.promise(tx, row)

    async def _want(
        self,
        tx: Tx,
        run: Run,
        incident: Incident,
        tracker: str,
        runbook: str,
        found: Finding,
        one: Firing,
        key: str,
    ) -> None:
        labels = [f"{name}: {value}" for name, value in one.labels.items()]
        about = [f"Found by the runbook {runbook}, run {run.number} of {incident.reference}.", *labels]
        body = "\n\n".join(part for part in (one.description, "\n".join(about)) if part)
        await tickets.want(
            tx,
            incident,
            tracker,
            key,
            now=self.clock(),
            purpose="finding",
            title=one.title,
            body=body,
            severity=SEVERITY.get(found.severity, "SEV3"),
        )


def met(rule: FindingRule, runbook: str, found: Finding) -> bool:
    """Whether what *found* says becomes tickets by *rule*."""
    return (
        (not rule.runbook or runbook in rule.runbook)
        and (not rule.rule or found.rule in rule.rule)
        and (not rule.severity or found.severity in rule.severity)
    )
