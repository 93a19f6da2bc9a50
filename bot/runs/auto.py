"""Whether a runbook starts by itself because of an alert: decided once for each episode, and with a reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Any

from bot.alerts.model import AlertRow
from bot.catalog.config import OWN, Config
from bot.catalog.quiet import QuietHours, quiet_until
from bot.incidents.model import ACTIVE, Incident, Kind
from bot.kit.clock import duration_text
from bot.kit.text import clip, one_line
from bot.runs import cron, params
from bot.runs.books import alert_values, incident_values
from bot.runs.model import ENDED, RunState, Trigger
from bot.runs.run import concurrency_key
from bot.runs.runbook import Offer, Runbook, score

# Ends that show that a runbook does not do what it is for. What people stopped or refused says nothing of that.
BROKEN = (RunState.FAILED, RunState.TIMED_OUT, RunState.ROLLED_BACK, RunState.ROLLBACK_FAILED)
HOUR = timedelta(hours=1)


class Why(StrEnum):
    """Why a runbook does not start by itself."""

    NOT_NOW = "not_now"  # no incident to do anything about
    DISABLED = "disabled"  # in tocsin.yaml
    AGAIN = "again"  # for this episode
    OFF = "off"  # by people
    UNVERIFIED = "unverified"
    OWN = "own"
    FAILURES = "failures"
    QUIET = "quiet_hours"
    CAP = "cap"
    PARAMS = "params"
    BUSY = "busy"
    COOLDOWN = "cooldown"
    REFUSED = "refused"


# Nobody wonders about these: they are how the bot is set up, or what was told before.
PLAIN = (Why.NOT_NOW, Why.DISABLED, Why.AGAIN)


@dataclass(frozen=True)
class Start:
    """It starts, with these values."""

    values: Mapping[str, Any]
    because: str


@dataclass(frozen=True)
class Hold:
    """It does not. What is held for the same *about* is told once."""

    why: Why
    reason: str
    about: str = ""

    @property
    def told(self) -> bool:
        """Whether a person would wonder."""
        return self.why not in PLAIN


@dataclass(frozen=True)
class Past:
    """A run, as far as it matters for the next one. *incident* is None where it is private."""

    number: int
    trigger: str
    state: str
    key: str
    about: str | None
    begun_at: datetime
    ended_at: datetime | None = None
    incident: str | None = None
    id: str = ""

    @property
    def at_work(self) -> bool:
        """Whether it has not ended."""
        return self.state not in ENDED


@dataclass(frozen=True)
class Switched:
    """What people said about a runbook starting by itself, or about all of them."""

    off: bool
    by: str
    at: datetime


@dataclass(frozen=True)
class History:
    """What was before: the runs of this runbook, newest first and without dry ones, and whatever is *at_work* now."""

    runs: Sequence[Past] = ()
    at_work: Sequence[Past] = ()
    switched: Switched | None = None
    all_switched: Switched | None = None


@dataclass(frozen=True)
class Policy:
    """What the operator lets start by itself: *on* by alerts, *schedules* by the clock.

    *doubts* says of each connection why its alerts are not enough.
    """

    on: bool = False
    failures: int = 3
    quiet: tuple[QuietHours, ...] = ()
    doubts: Mapping[str, str | None] = field(default_factory=dict)
    schedules: bool = False

    @classmethod
    def of(cls, config: Config) -> "Policy":
        """As the configuration has it."""
        general = config.general
        doubts = {name: connection.doubt for name, connection in config.connections.items()}
        return cls(
            on=general.auto_runbooks,
            failures=general.auto_failures,
            quiet=general.quiet_hours,
            doubts={**doubts, OWN: None},
            schedules=general.schedules,
        )


def offered(runbook: Runbook, alert: AlertRow, service: str | None) -> Offer | None:
    """The offer under which *runbook* would start by itself because of *alert*: the one that asks for most."""
    scored = [
        (score(offer.match, alert.labels, service or "", alert.severity), offer)
        for offer in runbook.offer
        if offer.mode == "auto"
    ]
    best = max(scored, key=lambda pair: pair[0], default=None)
    return best[1] if best is not None and best[0] and runbook.enabled else None


def decide(
    runbook: Runbook,
    offer: Offer,
    alert: AlertRow,
    incident: Incident,
    history: History,
    policy: Policy,
    now: datetime,
) -> Start | Hold:
    """Whether *runbook* starts now because of *alert*, which fits *offer*."""
    held = (
        _allowed(alert, incident, history, policy)
        or _own(runbook, alert)
        or _tripped(history, policy)
        or _quiet(offer, policy, now)
        or _capped(offer, history, now)
    )
    if held is not None:  # before anything is computed: in a storm this is the answer to most
        return held
    try:
        values = params.sourced(runbook, alert_values([alert]), incident_values(incident))
    except params.ParamErrors as error:
        return Hold(Why.PARAMS, f"the alert does not say all that it needs: {error}", alert.id)
    key = concurrency_key(runbook, values)
    held = _busy(runbook, history, key) or _cooling(offer, history, key, now)
    title = clip(one_line(alert.title), 150)
    return held or Start(values, f"“{title}” fires")


def next_time(runbook: Runbook, now: datetime) -> datetime | None:
    """When its schedule comes next."""
    if runbook.schedule is None:
        return None
    return next(cron.times(runbook.schedule.cron, runbook.schedule.timezone, now), None)


def failures(history: History) -> Sequence[Past]:
    """The automatic runs that failed one after the other, newest first; a success, or a person, ends the count."""
    since = history.switched.at if history.switched is not None and not history.switched.off else None
    over = [run for run in history.runs if not run.at_work]
    bad = takewhile(lambda run: run.state != RunState.SUCCEEDED, over)
    return [
        run
        for run in bad
        if run.trigger == Trigger.AUTO and run.state in BROKEN and (since is None or (run.ended_at or since) > since)
    ]


def _allowed(alert: AlertRow, incident: Incident, history: History, policy: Policy) -> Hold | None:
    if incident.kind != Kind.STANDARD or incident.status not in ACTIVE:
        return Hold(Why.NOT_NOW, f"{incident.reference} is {incident.kind}, {incident.status}")
    if not policy.on:
        return Hold(Why.DISABLED, "auto_runbooks is off in tocsin.yaml")
    if any(run.trigger == Trigger.AUTO and run.about == alert.episode_id for run in history.runs):
        return Hold(Why.AGAIN, "it has run for this alert already")
    for switched, what in ((history.all_switched, "runbooks"), (history.switched, "this one")):
        if switched is not None and switched.off:
            return Hold(Why.OFF, f"<@{switched.by}> has switched off that {what} start by themselves", str(switched.at))
    doubt = policy.doubts.get(alert.connection, f"there is no connection {alert.connection} any more")
    return None if doubt is None else Hold(Why.UNVERIFIED, doubt, alert.connection)


def _own(runbook: Runbook, alert: AlertRow) -> Hold | None:
    """A runbook that starts because of what it raised itself would not come to rest."""
    if alert.connection == OWN and alert.dedup_key.startswith(f"{runbook.id}:"):
        return Hold(Why.OWN, "it raised this alert itself", alert.id)
    return None


def _tripped(history: History, policy: Policy) -> Hold | None:
    failed = failures(history)
    if len(failed) < policy.failures:
        return None
    times = "once" if len(failed) == 1 else f"{len(failed)} times in a row"
    reason = f"it has failed {times} when it started by itself; a run by hand that succeeds lets it start again"
    return Hold(Why.FAILURES, reason, str(failed[-1].begun_at))


def _busy(runbook: Runbook, history: History, key: str) -> Hold | None:
    """Whatever waits its turn may; nothing that people started is ended by what started by itself."""
    others = [run for run in history.at_work if run.key == key]
    if len(others) < runbook.concurrency.limit or runbook.concurrency.on_conflict == "queue":
        return None
    theirs = [run for run in others if run.trigger not in (Trigger.AUTO, Trigger.SCHEDULE)]
    if runbook.concurrency.on_conflict == "cancel_running" and not theirs:
        return None
    other = (theirs or others)[0]
    reason = f"{_run(other)} is at work on the same thing"
    return Hold(Why.BUSY, reason, str(other.begun_at))


def _cooling(offer: Offer, history: History, key: str, now: datetime) -> Hold | None:
    """From the end of one to the start of the next, on the same thing."""
    last = next((run for run in history.runs if run.trigger == Trigger.AUTO and run.key == key), None)
    if last is None:
        return None
    until = (last.ended_at or now) + offer.cooldown
    if until <= now:
        return None
    rest = f"and rests {duration_text(offer.cooldown)} in between, until {_at(until)}"
    return Hold(Why.COOLDOWN, f"it started by itself before ({_run(last)}), {rest}", str(last.begun_at))


def _capped(offer: Offer, history: History, now: datetime) -> Hold | None:
    within = [run for run in history.runs if run.trigger == Trigger.AUTO and run.begun_at > now - HOUR]
    if len(within) < offer.max_per_hour:
        return None
    times = "once" if offer.max_per_hour == 1 else f"{offer.max_per_hour} times"
    until = within[offer.max_per_hour - 1].begun_at + HOUR
    reason = f"it starts by itself {times} an hour at most, so not before {_at(until)}"
    return Hold(Why.CAP, reason, str(within[0].begun_at))


def _quiet(offer: Offer, policy: Policy, now: datetime) -> Hold | None:
    until = None if offer.quiet_hours == "ignore" else quiet_until(policy.quiet, now)
    return None if until is None else Hold(Why.QUIET, f"these are quiet hours, until {_at(until)}", str(until))


def _run(run: Past) -> str:
    return "a run of a private incident" if run.incident is None else f"run {run.number} of {run.incident}"


def _at(moment: datetime) -> str:
    return f"{moment:%H:%M} UTC"
