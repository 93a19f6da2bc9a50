"""A run that is kept nowhere but here: for tests of a runbook, and for a look at what it would do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bot.alerts.model import AlertRow
from bot.incidents.model import Incident, Sev, Status
from bot.kit.clock import Clock, parse_time
from bot.kit.ids import new_id
from bot.kit.text import clip, one_line
from bot.runs import approval as approvals
from bot.runs.journal import SUMMARY, Opened, Outcome, Place, begun, paused
from bot.runs.model import ENDED, PAUSED, Approval, ApprovalState, Phase, Run, RunState, RunStep, StepState, Vote
from bot.runs.runbook import Alert, Runbook, Step
from bot.runs.step import Question

REQUESTER = "UREQUESTER"


def _nobody_listens(row: RunStep) -> None:
    """Nobody wants to know."""


@dataclass
class Memory:
    """The rows of one run, as the journal would keep them. *told* hears of every attempt that ended."""

    run: Run
    incident: Incident
    alerts: Sequence[AlertRow]
    clock: Clock
    told: Callable[[RunStep], None] = _nobody_listens
    rows: list[RunStep] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)

    async def begin(self, run_id: str, round_: int) -> Opened | None:
        """The run, from now on running, and copies of its rows: what is carried out changes nothing but by a call."""
        if self.run.state in ENDED or self.run.state in PAUSED or self.run.round != round_:
            return None
        self.run.state = RunState.RUNNING
        self.run.started_at = self.run.started_at or self.clock()
        rows: dict[str, list[RunStep]] = {}
        for row in sorted(self.rows, key=lambda row: (row.position, row.attempt)):
            rows.setdefault(row.path, []).append(RunStep(**row.model_dump()))
        waited = sum(((one.ended_at or one.asked_at) - one.asked_at for one in self.approvals), timedelta())
        return Opened(
            run=Run(**self.run.model_dump()),
            incident=self.incident,
            alerts=list(self.alerts),
            attempts=rows,
            paused_seconds=paused(rows) + waited.total_seconds(),
        )

    async def cancelled(self, run_id: str) -> bool:
        """Whether somebody asked for the end of the run."""
        return bool(self.run.cancelled_by)

    async def started(self, run: Run, step: Step, place: Place, attempt: int, name: str, effect: str) -> RunStep:
        """An attempt at a step begins."""
        row = begun(self.run, step, place, attempt, name, effect, StepState.RUNNING, self.clock())
        self.rows.append(row)
        return RunStep(**row.model_dump())

    async def still_mine(self) -> None:
        """Nobody else knows of the run."""

    async def skipped(self, run: Run, step: Step, place: Place, name: str, why: str) -> None:
        """A step is not needed."""
        row = begun(self.run, step, place, 1, name, "read", StepState.SKIPPED, self.clock())
        self.rows.append(row)
        row.summary, row.ended_at = clip(one_line(why), SUMMARY), row.started_at
        self.told(row)

    async def finished(
        self, row: RunStep, outcome: Outcome, state: StepState, *, ends: RunState | None = None, again: bool = False
    ) -> None:
        """An attempt ended."""
        there = next(one for one in self.rows if one.id == row.id)
        there.state, there.summary, there.output, there.ended_at = state, outcome.summary, outcome.output, self.clock()
        there.error = None if outcome.ok else outcome.summary
        there.result = {"values": dict(outcome.values), "outputs": dict(outcome.outputs)}
        if ends is not None:
            there.result["ends"] = ends
        self.told(there)

    async def unknown(self, row: RunStep, *, ask: bool) -> None:
        """A write was interrupted. Here nothing outlives the process, so nobody can be asked later."""
        there = next(one for one in self.rows if one.id == row.id)
        there.state = StepState.UNKNOWN

    async def asked(self, run: Run, row: RunStep, question: Question, plan: list[str], digest: str) -> Approval:
        """People are asked, and the run waits for them."""
        approval = approvals.asked(run, row.id, question, now=self.clock(), plan=plan, digest=digest)
        self.approvals.append(approval)
        self.run.state = RunState.WAITING
        return approval

    async def question(self, row: RunStep) -> tuple[Approval | None, list[Vote]]:
        """What this attempt asked, if it did, and what was answered."""
        found = next((one for one in self.approvals if one.step_id == row.id), None)
        return found, [vote for vote in self.votes if found is not None and vote.approval_id == found.id]

    async def void(self, run: Run, row: RunStep, why: str) -> None:
        """A yes does not hold any more."""
        for one in self.approvals:
            if one.step_id == row.id:
                one.state, one.told = ApprovalState.VOID, why

    async def turned(self, run: Run, phase: Phase, state: RunState, failure: Mapping[str, Any] | None) -> None:
        """The run has come to another phase."""
        self.run.phase = phase
        self.run.failure = {"step": "", "message": "", **(failure or {}), "state": state}

    async def ended(
        self,
        run_id: str,
        state: RunState,
        failure: dict[str, Any] | None,
        outputs: Mapping[str, Any],
        raised: Sequence[dict[str, Any]] | None = None,
    ) -> None:
        """The run is over."""
        self.run.state, self.run.failure, self.run.outputs = state, failure, dict(outputs)
        self.run.raised = None if raised is None else list(raised)
        self.run.ended_at = self.clock()

    # -- people ---------------------------------------------------------------------------------------------------

    def open_question(self) -> Approval | None:
        """What the run waits for."""
        return next((one for one in self.approvals if one.state == ApprovalState.ASKED), None)

    def close(self, approval: Approval, state: ApprovalState, told: str, votes: Sequence[Vote] = ()) -> int:
        """The question is answered; the round under which the run goes on."""
        approval.state, approval.told, approval.ended_at = state, told, self.clock()
        self.votes += votes
        self.run.state = RunState.QUEUED
        self.run.round += 1
        return self.run.round


def remembered(
    runbook: Runbook,
    params: Mapping[str, Any],
    alert: Alert | None,
    clock: Clock,
    *,
    uses: Mapping[str, Runbook],
    dry_run: bool = False,
    told: Callable[[RunStep], None] = _nobody_listens,
) -> Memory:
    """A run of *runbook* for an incident that exists nowhere but here."""
    now = clock()
    about = alert or Alert()
    incident = Incident(
        id="memory",
        number=1,
        title=about.title or runbook.name,
        severity=Sev.SEV3,
        status=Status.INVESTIGATING,
        service=about.labels.get("service"),
        declared_by=REQUESTER,
        detected_at=now,
        opened_at=now,
    )
    alerts = [] if alert is None else [_alert(alert, clock)]
    run = Run(
        id=new_id(),
        incident_id=incident.id,
        number=1,
        runbook=runbook.id,
        sha256=runbook.sha256,
        definition=runbook.as_json(),
        uses={name: book.as_json() for name, book in uses.items()},
        params=dict(params),
        dry_run=dry_run,
        requested_by=REQUESTER,
        concurrency_key=runbook.id,
        state=RunState.QUEUED,
        requested_at=now,
    )
    return Memory(run, incident, alerts, clock, told)


def _alert(alert: Alert, clock: Clock) -> AlertRow:
    now = clock()
    return AlertRow(
        id="memory",
        connection="memory",
        source="memory",
        fingerprint="memory",
        dedup_key="memory",
        state="firing",
        title=alert.title,
        severity=alert.severity,
        labels=dict(alert.labels),
        annotations=dict(alert.annotations),
        url=alert.url or None,
        starts_at=parse_time(alert.starts_at) or now,
        first_seen_at=now,
        last_seen_at=now,
        episode_id="memory",
    )
