"""Whether a runbook starts by itself: every rule that holds it, alone and in the order in which they are asked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bot.alerts.model import AlertRow
from bot.catalog.quiet import QuietHours
from bot.incidents.model import Incident, Kind, Status
from bot.runs.auto import History, Hold, Past, Policy, Start, Switched, Why, decide, failures, offered
from bot.runs.model import RunState, Trigger
from bot.runs.runbook import Runbook, load
from tests.runs.test_runbook import SHELF

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = Policy(
    on=True, failures=3, doubts={"am": None, "scripts": "what comes by scripts is not signed", "runbook": None}
)

BOOK = """version: 1
id: restart
name: Restart a worker
owner: team
risk: low
offer:
  - match: {labels: ['alertname="Stuck"']}
  - {match: {labels: ['alertname="Stuck"', 'team="web"']}, mode: auto, cooldown: 15m, max_per_hour: 2}
params:
  host: {source: alert.labels.instance | host, pattern: '[a-z0-9.-]+'}
  unit: {source: alert.labels.unit, default: worker, type: choice, choices: [worker, mailer]}
concurrency: {key: 'restart:{{ params.host }}'}
steps:
  - exec: {argv: [systemctl, restart, '{{ params.unit }}']}
"""


@pytest.fixture(scope="module", autouse=True)
def shelf():
    return SHELF if SHELF.modules else SHELF.load()


def book(text: str = BOOK) -> Runbook:
    return load(text, "restart.yaml", SHELF)


def alert(**labels: str) -> AlertRow:
    return AlertRow(
        id="a1",
        connection="am",
        source="alertmanager",
        fingerprint="f1",
        dedup_key="f1",
        state="firing",
        title="Worker is stuck",
        severity="high",
        labels={"alertname": "Stuck", "team": "web", "instance": "web-1.example.com:9100", **labels},
        starts_at=NOW,
        first_seen_at=NOW,
        last_seen_at=NOW,
        episode_id="e1",
    )


def incident(**values) -> Incident:
    about = {"id": "i1", "number": 7, "title": "Stuck", "severity": "SEV2", "status": Status.INVESTIGATING}
    return Incident(**{**about, "detected_at": NOW, "opened_at": NOW, **values})


def past(minutes: float, *, took: float | None = 1, **values) -> Past:
    begun = NOW - timedelta(minutes=minutes)
    about = {"number": 1, "trigger": Trigger.AUTO, "state": RunState.SUCCEEDED, "key": "restart:web-1.example.com"}
    ended = None if took is None else begun + timedelta(minutes=took)
    return Past(**{**about, "about": "e0", "begun_at": begun, "ended_at": ended, "incident": "INC-7", **values})


def decided(runbook=None, on=None, history=None, policy=POLICY, now=NOW, where=None):
    runbook, on = runbook or book(), on or alert()
    offer = offered(runbook, on, None)
    assert offer is not None
    return decide(runbook, offer, on, where or incident(), history or History(), policy, now)


def held(**given) -> tuple[str, str]:
    found = decided(**given)
    assert isinstance(found, Hold), found
    return found.why, found.reason


def test_it_starts_with_values_from_the_alert_and_says_why():
    found = decided()

    assert found == Start({"host": "web-1.example.com", "unit": "worker"}, "“Worker is stuck” fires")


def test_only_an_automatic_offer_that_the_alert_fits_is_one():
    assert offered(book(), alert(), None).max_per_hour == 2
    assert offered(book(), alert(team="db"), None) is None
    assert offered(book(), alert(alertname="Other"), None) is None
    assert offered(book(BOOK.replace("risk: low", "risk: low\nenabled: false")), alert(), None) is None


@pytest.mark.parametrize(
    "values",
    [
        *({"kind": kind} for kind in Kind if kind != Kind.STANDARD),
        *({"status": s} for s in Status if s not in ("investigating", "identified", "fixing", "monitoring")),
    ],
)
def test_only_for_a_real_incident_that_people_work_on_and_nobody_is_told_of_the_rest(values):
    found = decided(where=incident(**values))

    assert (found.why, found.told) == (Why.NOT_NOW, False)


def test_nothing_starts_by_itself_where_the_operator_has_not_said_so():
    found = decided(policy=replace(POLICY, on=False))

    assert (found.why, found.told) == (Why.DISABLED, False)
    assert not Policy().on


def test_once_for_one_episode_of_an_alert():
    again = History(runs=[past(500, about="e1")])

    assert decided(history=again).why == Why.AGAIN
    assert not decided(history=again).told
    assert isinstance(decided(history=History(runs=[past(500, about="e1", trigger=Trigger.PERSON)])), Start)


@pytest.mark.parametrize(
    ("history", "what"),
    [
        (History(switched=Switched(True, "UBOB", NOW)), "this one start"),
        (History(all_switched=Switched(True, "UBOB", NOW)), "runbooks start"),
    ],
)
def test_what_people_have_switched_off_does_not_start(history, what):
    why, reason = held(history=history)

    assert why == Why.OFF
    assert "<@UBOB> has switched off" in reason
    assert what in reason


def test_for_senders_that_have_not_proved_who_they_are_nothing_starts():
    sent = alert()
    sent.connection = "scripts"
    gone = alert()
    gone.connection = "removed"

    assert held(on=sent) == (Why.UNVERIFIED, "what comes by scripts is not signed")
    assert held(on=gone) == (Why.UNVERIFIED, "there is no connection removed any more")


def test_an_alert_that_a_runbook_raised_starts_others_and_not_itself():
    raised = alert()
    raised.connection, raised.dedup_key = "runbook", "restart:drift::"
    others = alert()
    others.connection, others.dedup_key = "runbook", "restart-all:drift::"

    assert held(on=raised)[0] == Why.OWN
    assert isinstance(decided(on=others), Start)


def test_after_so_many_failures_in_a_row_it_does_not_start():
    failed = [past(300 + n, state=state) for n, state in enumerate((RunState.FAILED, RunState.ROLLED_BACK))]
    third = past(400, state=RunState.TIMED_OUT)

    assert isinstance(decided(history=History(runs=failed)), Start)
    why, reason = held(history=History(runs=[*failed, third]))
    assert why == Why.FAILURES
    assert "failed 3 times in a row" in reason


@pytest.mark.parametrize(
    ("newest", "counted"),
    [
        (past(200), 0),  # it succeeded since
        (past(200, trigger=Trigger.PERSON), 0),
        (past(200, trigger=Trigger.PERSON, state=RunState.FAILED), 2),  # by hand: neither counts nor clears
        (past(200, state=RunState.CANCELLED), 2),
        (past(200, state=RunState.REJECTED), 2),
        (past(200, state=RunState.RUNNING, took=None), 2),
    ],
)
def test_a_success_clears_the_count_and_what_people_stopped_is_no_failure(newest, counted):
    failed = [past(300, state=RunState.FAILED), past(400, state=RunState.FAILED)]

    assert len(failures(History(runs=[newest, *failed]))) == counted


def test_whoever_switches_it_on_again_forgives_what_failed_before():
    runs = [past(10, state=RunState.FAILED), past(300, state=RunState.FAILED)]

    assert len(failures(History(runs=runs, switched=Switched(False, "UBOB", NOW - timedelta(minutes=60))))) == 1
    assert len(failures(History(runs=runs, switched=Switched(False, "UBOB", NOW)))) == 0


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"instance": ""}, "host is missing"),
        ({"instance": "web-1;reboot"}, "host does not fit"),
        ({"unit": "sshd"}, "unit must be one of worker, mailer"),  # the default would be another unit
    ],
)
def test_what_the_alert_does_not_say_well_is_not_guessed(labels, told):
    why, reason = held(on=alert(**labels))

    assert why == Why.PARAMS
    assert told in reason


def test_a_label_that_looks_like_an_option_starts_nothing():
    plain = book(BOOK.replace(", pattern: '[a-z0-9.-]+'", ""))

    assert held(runbook=plain, on=alert(instance="-rf"))[0] == Why.PARAMS


def test_a_choice_that_only_a_form_can_show_is_not_guessed():
    live = book(
        BOOK.replace(
            "  unit: {source: alert.labels.unit, default: worker, type: choice, choices: [worker, mailer]}",
            "  unit: {source: alert.labels.unit, type: choice, choices_from: {exec: {argv: [ls]}, effect: read, "
            "value: lines}}",
        )
    )

    assert "unit is chosen from a list that only a form shows" in held(runbook=live, on=alert(unit="worker"))[1]


def test_two_on_one_thing_are_kept_apart():
    person = past(1, took=None, trigger=Trigger.PERSON, state=RunState.RUNNING, number=4)
    other = replace(person, key="restart:web-2.example.com")
    hidden = replace(person, incident=None)

    assert held(history=History(at_work=[person])) == (Why.BUSY, "run 4 of INC-7 is at work on the same thing")
    assert isinstance(decided(history=History(at_work=[other])), Start)
    assert "a run of a private incident" in held(history=History(at_work=[hidden]))[1]


def test_it_waits_its_turn_where_the_runbook_queues():
    queued = book(BOOK.replace("concurrency: {", "concurrency: {on_conflict: queue, "))
    person = past(1, took=None, trigger=Trigger.PERSON, state=RunState.RUNNING)

    assert isinstance(decided(runbook=queued, history=History(at_work=[person])), Start)


def test_what_people_started_is_never_ended_by_what_starts_by_itself():
    cancelling = book(BOOK.replace("concurrency: {", "concurrency: {on_conflict: cancel_running, "))
    person = past(1, took=None, trigger=Trigger.PERSON, state=RunState.WAITING)
    clock = replace(person, trigger=Trigger.SCHEDULE)

    assert held(runbook=cancelling, history=History(at_work=[clock, person]))[0] == Why.BUSY
    assert isinstance(decided(runbook=cancelling, history=History(at_work=[clock])), Start)


def test_it_rests_between_two_on_the_same_thing_counted_from_the_end():
    assert held(history=History(runs=[past(20, took=6)])) == (
        Why.COOLDOWN,
        "it started by itself before (run 1 of INC-7), and rests 15 min in between, until 12:01 UTC",
    )
    assert isinstance(decided(history=History(runs=[past(20, took=5)])), Start)
    assert isinstance(decided(history=History(runs=[past(2, key="restart:web-2.example.com")])), Start)
    assert isinstance(decided(history=History(runs=[past(2, trigger=Trigger.PERSON)])), Start)


def test_it_starts_so_many_times_an_hour_whatever_it_acts_on():
    others = [past(10, key="restart:web-2"), past(50, key="restart:web-3")]

    assert held(history=History(runs=others)) == (
        Why.CAP,
        "it starts by itself 2 times an hour at most, so not before 12:10 UTC",
    )
    assert isinstance(decided(history=History(runs=[others[0], past(61, key="restart:web-3")])), Start)


def test_in_quiet_hours_it_does_not_start_unless_it_says_that_it_may():
    quiet = replace(POLICY, quiet=(QuietHours.model_validate({"from": "11:00", "to": "13:30"}),))
    anyway = book(BOOK.replace("max_per_hour: 2", "max_per_hour: 2, quiet_hours: ignore"))

    assert held(policy=quiet) == (Why.QUIET, "these are quiet hours, until 13:30 UTC")
    assert isinstance(decided(policy=quiet, now=NOW + timedelta(hours=2)), Start)
    assert isinstance(decided(runbook=anyway, policy=quiet), Start)


def test_a_clock_that_was_put_back_keeps_it_from_starting_rather_than_starting_twice():
    future = past(-180)  # begun three hours from now

    assert held(history=History(runs=[future]))[0] == Why.COOLDOWN


def test_the_same_cause_has_the_same_name_however_many_alerts_it_holds():
    cooling = History(runs=[past(5)])
    other = alert()
    other.id, other.episode_id = "a2", "e2"

    assert decided(history=cooling).about == decided(on=other, history=cooling).about
    assert decided(history=cooling).about != decided(history=History(runs=[past(6)])).about
