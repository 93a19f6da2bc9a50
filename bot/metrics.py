"""What the bot counts and measures of itself, for Prometheus; docs/reference/metrics.md says what each is for.

Labels hold only words that the code or the configuration knows: never a title, a person, a channel or an incident.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

ACK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
ACCEPT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)
CALL = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 5.0, 10.0, 20.0)
STATEMENT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH = (1, 2, 5, 10, 20, 50, 100, 200)

# What Slack sends us; anything else is counted as "other", so that no stranger invents label values.
KINDS = frozenset({"command", "button", "form", "options", "shortcut", "event"})
OTHER = "other"
STRANGER = "(unknown)"

# What is asked for while the page is written; without an answer there is no sample.
WATCHED = {
    "tocsin_intake_waiting_deliveries": "Deliveries of alerts that are accepted and wait to be stored",
    "tocsin_intake_waiting_bytes": "Bytes of the deliveries that wait to be stored",
    "tocsin_lease_age_seconds": "Seconds since this process last said in the database that it is alive",
    "tocsin_slack_sockets": "Open connections on which Slack sends us what people do",
    "tocsin_slack_socket_silence_seconds": "Seconds since anything was heard on the connections to Slack",
    "tocsin_database_connections_in_use": "Database connections at work",
}

Ask = Callable[[], float | None]
M = TypeVar("M", Counter, Histogram)


class Metrics:
    """One process's numbers, with a registry of their own. Made once by `bot.app`; a part made alone makes its own."""

    def __init__(self) -> None:
        """Declare everything; nothing runs, and what asks the database is added by `bot.web.metrics`."""
        self.registry = registry = _Registry()
        self.watched = _Watched()
        registry.register(self.watched)
        for process in (ProcessCollector, PlatformCollector, GCCollector):
            process(registry=registry)
        self._build = Gauge(
            "tocsin_build_info", "Always 1; the labels say what runs", ["version", "database"], registry=registry
        )
        # Alerts come in.
        self._deliveries = _Children(
            Counter(
                "tocsin_alert_deliveries_total",
                "Requests to /alerts by connection: stored, or the HTTP status they were refused with",
                ["connection", "outcome"],
                registry=registry,
            )
        )
        self._alerts = _Children(
            Counter(
                "tocsin_alerts_total", "Alerts in stored deliveries, by what became of them", ["outcome"],
                registry=registry,
            )
        )  # fmt: skip
        self._accepted = Histogram(
            "tocsin_alert_accept_seconds",
            "From the start of a delivery to the answer that it is stored",
            buckets=ACCEPT,
            registry=registry,
        )
        self._batch = Histogram(
            "tocsin_intake_batch_deliveries",
            "Deliveries stored by one transaction",
            buckets=BATCH,
            registry=registry,
        )
        # Durable work.
        self._work = _Children(
            Counter(
                "tocsin_work_total",
                "Pieces of work by workflow: done, again (failed for now), parked (given up)",
                ["workflow", "outcome"],
                registry=registry,
            )
        )
        self.takeovers = Counter(
            "tocsin_takeovers_total", "Pieces of work taken over from processes that died", registry=registry
        )
        # What starts by itself.
        self._decisions = _Children(
            Counter(
                "tocsin_auto_decisions_total",
                "Whether a runbook started by itself for an alert: started, or why it did not",
                ["decision"],
                registry=registry,
            )
        )
        self._times = _Children(
            Counter(
                "tocsin_schedule_times_total",
                "Times of schedules that came: started, missed (the bot was away), off, refused, or gone from Git",
                ["outcome"],
                registry=registry,
            )
        )
        for outcome in ("started", "missed", "off", "refused", "gone"):
            self._times[(outcome,)]
        # We tell other systems.
        self._sunk = _Children(
            Counter(
                "tocsin_sink_deliveries_total",
                "Attempts to tell a sink of an event: delivered, skipped, again (failed for now), or given_up",
                ["sink", "outcome"],
                registry=registry,
            )
        )
        # Pagers.
        self._page_tries = _Children(
            Counter(
                "tocsin_page_tries_total",
                "Tries to wake somebody by pager: sent, nobody (there is none), failed (refused), again (not reached)",
                ["pager", "outcome"],
                registry=registry,
            )
        )
        self._words = _Children(
            Counter(
                "tocsin_pager_words_total",
                "What pagers told by themselves, by what was made of it",
                ["pager", "outcome"],
                registry=registry,
            )
        )
        # Slack talks to us.
        self._acks = _Children(
            Histogram(
                "tocsin_slack_ack_seconds",
                "From the arrival of what a person did in Slack to our acknowledgement; Slack waits 3 s",
                ["kind", "transport"],
                buckets=ACK,
                registry=registry,
            )
        )
        self._unacked = _Children(
            Counter(
                "tocsin_slack_ack_failures_total",
                "What a person did in Slack and was told that it failed, or got no acknowledgement for",
                ["kind", "transport"],
                registry=registry,
            )
        )
        self._lost = _Children(
            Counter(
                "tocsin_slack_socket_lost_total", "Connections to Slack that ended, by reason", ["reason"],
                registry=registry,
            )
        )  # fmt: skip
        # We talk to Slack.
        self._calls = _Children(
            Counter(
                "tocsin_slack_calls_total",
                "Calls of Slack's Web API: ok, refused (Slack said no), limited (429), failed (no usable answer)",
                ["method", "outcome"],
                registry=registry,
            )
        )
        self._call_time = _Children(
            Histogram(
                "tocsin_slack_call_seconds", "How long Slack took to answer a call", ["method"], buckets=CALL,
                registry=registry,
            )
        )  # fmt: skip
        self._limited = _Children(
            Counter(
                "tocsin_slack_limit_wait_seconds_total",
                "Seconds waited because Slack asked to slow down (429)",
                ["method"],
                registry=registry,
            )
        )
        self._paced = Counter(
            "tocsin_slack_pace_wait_seconds_total",
            "Seconds waited by ourselves, to stay below a message a second and channel",
            registry=registry,
        )
        # The database and the process.
        self._statements = _Children(
            Histogram(
                "tocsin_database_statement_seconds",
                "Time of a database statement: read, write, commit, begin (SQLite: the wait for the writer's turn)",
                ["kind"],
                buckets=STATEMENT,
                registry=registry,
            )
        )
        self._database_errors = _Children(
            Counter(
                "tocsin_database_errors_total",
                "Database statements that failed: unavailable (away or overloaded) or refused",
                ["reason"],
                registry=registry,
            )
        )
        for reason in ("unavailable", "refused"):
            self._database_errors[(reason,)]
        self.pruned = _Children(
            Counter("tocsin_pruned_total", "Rows deleted because they were old enough", ["what"], registry=registry)
        )
        self._lag = Histogram(
            "tocsin_loop_lag_seconds",
            "How late the event loop came to something due: everything waits that long",
            buckets=LAG,
            registry=registry,
        )

    def built(self, version: str, database: str) -> None:
        """Say what runs: our version, and sqlite or postgres."""
        self._build.labels(version, database).set(1)

    def expect(self, *, workflow: str | None = None, connection: str | None = None, sink: str | None = None) -> None:
        """Show zeros for what may be counted, so that its first time is seen as a change."""
        if workflow is not None:
            for outcome in ("done", "again", "parked"):
                self._work[workflow, outcome]
        if connection is not None:
            for outcome in ("stored", "401", "503"):
                self._deliveries[connection, outcome]
        if sink is not None:
            for outcome in ("delivered", "again", "given_up"):
                self._sunk[sink, outcome]

    def watch(self, name: str, ask: Ask) -> None:
        """Ask for the value of *name*, one of `WATCHED`, whenever the page is written; None means there is none."""
        self.watched.asks[name] = ask

    # -- alerts ---------------------------------------------------------------------------------------------------

    def delivered(self, connection: str | None, status: int, seconds: float) -> None:
        """A request to /alerts was answered; *connection* is None unless the configuration has it."""
        stored = status == 202
        self._deliveries[connection or STRANGER, "stored" if stored else str(status)].inc()
        if stored:
            self._accepted.observe(seconds)

    def stored(self, deliveries: int, outcomes: Mapping[str, int]) -> None:
        """One transaction of the intake is committed."""
        self._batch.observe(deliveries)
        for outcome, count in outcomes.items():
            self._alerts[(outcome,)].inc(count)

    # -- work -----------------------------------------------------------------------------------------------------

    def worked(self, workflow: str, outcome: str) -> None:
        """A piece of work is done, failed for now (again), or was given up (parked)."""
        self._work[workflow, outcome].inc()

    def decided(self, decision: str) -> None:
        """It was decided whether a runbook starts by itself: started, or the word for why not."""
        self._decisions[(decision,)].inc()

    def sunk(self, sink: str, outcome: str) -> None:
        """A sink was told of an event, or not: delivered, skipped, again or given_up."""
        self._sunk[sink, outcome].inc()

    def scheduled(self, outcome: str, times: int = 1) -> None:
        """Times of a schedule came: started, missed, off, refused or gone."""
        self._times[(outcome,)].inc(times)

    # -- pagers -----------------------------------------------------------------------------------------------------

    def paged(self, pager: str, outcome: str) -> None:
        """A pager was asked to wake somebody: sent, nobody, failed, or again (it could not be reached)."""
        self._page_tries[pager, outcome].inc()

    def told(self, pager: str, outcome: str) -> None:
        """A pager told something: what was made of it, in a word of the code."""
        self._words[pager, outcome].inc()

    # -- Slack ----------------------------------------------------------------------------------------------------

    def acked(self, kind: str, transport: str, seconds: float, ok: bool) -> None:
        """What a person did was acknowledged after *seconds*; not *ok*: with an error of ours, or not at all.

        *kind* is command, button, form, options, shortcut or event, *transport* socket or http.
        """
        key = (kind if kind in KINDS else OTHER, transport)
        self._acks[key].observe(seconds)
        self._unacked[key].inc(0 if ok else 1)

    def sockets(self, *, open: Ask, heard: Ask) -> None:  # noqa: A002 - reads well where it is called
        """How many sockets are *open*, and how many seconds ago anything was *heard* on one, asked at each scrape."""
        self.watch("tocsin_slack_sockets", open)
        self.watch("tocsin_slack_socket_silence_seconds", heard)

    def socket_lost(self, reason: str) -> None:
        """A socket ended; *reason* is a word of the code, not of Slack."""
        self._lost[(reason,)].inc()

    def called(self, method: str, outcome: str, seconds: float) -> None:
        """Slack's Web API was called: ok, refused, limited or failed."""
        self._calls[method, outcome].inc()
        self._call_time[(method,)].observe(seconds)

    def limited(self, method: str, seconds: float) -> None:
        """We wait because Slack asked us to."""
        self._limited[(method,)].inc(seconds)

    def paced(self, seconds: float) -> None:
        """We wait so that Slack need not ask us to."""
        self._paced.inc(seconds)

    # -- the database and the process -----------------------------------------------------------------------------

    def stated(self, kind: str, seconds: float) -> None:
        """A statement took *seconds*; *kind* is read, write, begin or commit."""
        self._statements[(kind,)].observe(seconds)

    def stumbled(self, reason: str) -> None:
        """A statement failed: unavailable or refused."""
        self._database_errors[(reason,)].inc()

    async def watch_loop(self, every_seconds: float = 0.5) -> None:
        """Measure, for ever, how late this event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + every_seconds
            await asyncio.sleep(every_seconds)
            self._lag.observe(max(0.0, loop.time() - due))


class _Registry(CollectorRegistry):
    """Without the time at which each counter was made: it would be a third of the page, and nobody asks."""

    def collect(self) -> Iterator[Metric]:
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class _Children(dict[tuple[str, ...], M]):
    """The series of a metric by their label values, remembered: looking one up costs nothing on the hot paths."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child: M = self._metric.labels(*labels)
        self[labels] = child
        return child


class _Watched(Collector):
    """What is asked for while the page is written."""

    def __init__(self) -> None:
        self.asks: dict[str, Ask] = {}

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily(name, text) for name, text in WATCHED.items()]

    def collect(self) -> Iterable[Metric]:
        for name, text in WATCHED.items():
            value = self._answer(name)
            yield GaugeMetricFamily(name, text, value=value)

    def _answer(self, name: str) -> float | None:
        ask = self.asks.get(name)
        try:
            value = ask() if ask else None
        except Exception:  # noqa: BLE001 - one number that cannot be had must not hide the others
            return None
        return None if value is None or not math.isfinite(value) else value
