"""What the timeline says, and what it does not say."""

import json
import random

from bot.postmortems.facts import ROWS, Facts, gather
from tests.postmortems.story import START, Story, at, checkout, governed


def told(story: Story) -> Facts:
    return gather(story.incident, story.events, story.roles)


def seconds(facts: Facts) -> dict[str, float | None]:
    return {duration.name: duration.seconds for duration in facts.durations}


def test_durations_are_computed_from_the_timeline():
    facts = told(checkout())

    assert seconds(facts) == {
        "time to detect": None,
        "time to declare": 120,
        "time to acknowledge": 360,
        "time to mitigate": 38 * 60,
        "time to resolve": 52 * 60,
    }


def test_what_is_not_recorded_is_none_with_a_reason():
    story = Story()

    facts = told(story)

    assert seconds(facts) == {
        "time to detect": None,
        "time to declare": 120,
        "time to acknowledge": None,
        "time to mitigate": None,
        "time to resolve": None,
    }
    assert all(duration.missing for duration in facts.durations if duration.seconds is None)
    assert facts.moment("resolved").missing == "the incident is not resolved yet"
    assert facts.detection == "not recorded"


def test_resolved_without_monitoring_is_mitigated_by_the_resolution():
    story = Story()
    story.open()
    story.resolve(30)

    facts = told(story)

    assert facts.moment("mitigated").at == facts.moment("resolved").at == at(30)


def test_after_a_reopening_only_the_last_end_counts():
    story = Story()
    story.open()
    story.status(10, "investigating", "monitoring")
    story.resolve(20)
    story.reopen(60)
    story.status(80, "investigating", "monitoring")
    story.resolve(90)

    facts = told(story)

    assert facts.reopened == 1
    assert facts.moment("mitigated").at == at(80)
    assert facts.moment("resolved").at == at(90)
    assert [(spent.value, spent.seconds) for spent in facts.time_in_status] == [
        ("investigating", (8 + 20) * 60),
        ("monitoring", (10 + 10) * 60),
    ]
    assert [(spent.value, spent.seconds) for spent in facts.time_in_severity] == [("SEV2", (18 + 30) * 60)]


def test_an_incident_that_was_reopened_and_goes_on_is_not_resolved():
    story = Story()
    story.open()
    story.resolve(20)
    story.reopen(60)

    facts = told(story)

    assert facts.moment("resolved").at is None
    assert facts.moment("resolved").missing == "the incident was reopened and is not resolved again"
    assert facts.moment("mitigated").at is None


def test_a_correction_stands_for_what_it_corrects():
    story = Story()
    story.open()
    first = story.say(10, "note.added", "Rolled back to 75", actor="U0HELPER1")
    second = story.say(10, "note.added", "Rolled back to 76", actor="U0SCRIBE1", corrects=first, recorded=20)
    story.say(11, "note.added", "Rolled back to 77", actor="U0SCRIBE1", corrects=second, recorded=20)

    facts = told(story)

    (note,) = facts.notes
    assert (note.text, note.at, note.who) == ("Rolled back to 77", at(11), "responder A")
    row = facts.rows[-1]
    assert (row.id, row.corrected_by) == (first.id, story.events[-1].id)
    assert len(facts.rows) == 2


def test_a_corrected_resolution_note_is_the_resolution_note():
    story = Story()
    story.open()
    said = story.resolve(30, "Rolled back to 75")
    story.say(30, "incident.resolved", "Rolled back to 76", corrects=said, recorded=40, note="Rolled back to 75")

    assert told(story).resolution == "Rolled back to 76"


def test_corrections_in_a_circle_lose_nothing():
    story = Story()
    a = story.say(1, "note.added", "a")
    b = story.say(2, "note.added", "b", corrects=a)
    a.corrects = b.id

    assert {row.text for row in told(story).rows} == {"a", "b"}


def test_the_order_of_recording_does_not_matter():
    story = checkout()
    late = checkout()
    random.Random(7).shuffle(late.events)

    assert told(late) == told(story)


def test_what_happened_before_the_declaration_stands_before_it():
    story = Story()
    story.open()
    story.say(-10, "note.added", "Deploy 77 went out", actor="U0HELPER1", recorded=15)

    facts = told(story)

    assert [row.kind for row in facts.rows] == ["note.added", "incident.opened"]
    assert facts.moment("declared").number == 2


def test_times_in_the_wrong_order_give_a_reason_and_no_negative_duration():
    story = Story(opened_at=at(-5))
    story.open(-5)
    story.resolve(-1)

    facts = told(story)

    assert seconds(facts)["time to resolve"] is None
    assert {duration.missing for duration in facts.durations[1:] if duration.seconds is None} >= {
        "resolved is earlier than detected"
    }
    assert all(spent.seconds >= 0 for spent in (*facts.time_in_severity, *facts.time_in_status))


def test_severity_knows_its_final_and_its_highest():
    story = Story()
    story.open()
    story.say(5, "severity.changed", from_="SEV2", to="SEV1")
    story.say(15, "severity.changed", from_="SEV1", to="SEV3")
    story.resolve(20)

    facts = told(story)

    assert (facts.severity, facts.highest) == ("SEV3", "SEV1")
    assert [(spent.value, spent.seconds) for spent in facts.time_in_severity] == [
        ("SEV2", 180),
        ("SEV1", 600),
        ("SEV3", 300),
    ]


def test_an_accepted_suggestion_begins_in_triage():
    story = Story(opened_at=at(6))
    story.say(1, "incident.suggested", "Suggested", source="alert", severity="SEV3", title="Slow")
    story.say(6, "incident.accepted", "Accepted", actor="U0COMMAND")
    story.resolve(10)

    facts = told(story)

    assert facts.moment("declared").at == at(6)
    assert [change.value for change in facts.statuses] == ["triage", "investigating", "documenting"]
    assert facts.severity == "SEV3"
    assert facts.detection == "an alert: Slow"


def test_a_declined_incident_says_how_it_ended():
    story = Story(status="declined", is_open=False)
    story.open()
    story.say(4, "incident.declined", "Declined", actor="U0COMMAND")

    assert told(story).moment("resolved").missing == "the incident ended as declined"


def test_nobody_was_paged_is_said_plainly():
    story = Story()
    story.open()

    assert told(story).paged == "Nobody was paged: the timeline holds no page."

    story.say(3, "page.nobody", "Nobody was paged", pager="log", number=1, detail="only the log")
    assert told(story).paged == "Nobody was paged."

    story.say(4, "page.failed", "Page failed", pager="pagerduty", number=2, detail="503")
    assert told(story).paged == "Paging was tried and did not go through: no page is known to have reached a person."

    story.say(5, "page.sent", "Paged", pager="pagerduty", number=3, detail="accepted")
    assert told(story).paged == "A page was sent once, the first at 14:05:00 UTC."


def test_opening_by_an_alert_and_attaching_it_is_one_firing():
    story = Story()
    opened = story.open()
    alert = {key: opened.data[key] for key in ("title", "labels", "url", "connection")}
    story.say(2, "alert.attached", "Attached", **alert)
    story.say(10, "alert.resolved", "Resolved", **alert)
    story.say(12, "alert.attached", "Attached", **alert)
    story.say(13, "alert.attached", "Attached", title="QueueDeep", labels={"queue": "mail"}, connection="am", url="")

    one, two = told(story).alerts

    assert (one.title, one.times, one.fired_at, one.resolved_at) == ("CheckoutErrorsHigh", 2, at(2), None)
    assert (two.title, two.times, two.labels) == ("QueueDeep", 1, (("queue", "mail"),))


def test_a_run_is_told_with_its_steps_and_its_end():
    first, second = told(checkout()).runs

    assert (first.state, first.seconds, first.failure) == ("failed", 121.0, "reason: exit 1, step: roll")
    assert [(step.name, step.result) for step in first.steps] == [
        ("Is 76 still there?", "succeeded"),
        ("Roll back", "failed"),
    ]
    assert (second.run, second.state, second.who) == (2, "succeeded", "responder A")


def test_a_governed_run_is_told_with_its_questions_its_files_and_what_was_taken_back():
    (run,) = told(governed()).runs

    assert (run.name, run.who, run.state, run.files) == ("Free disk space", "responder A", "rolled back", ("list.txt",))
    assert run.params == (("host", "web-1"),)
    assert [(step.phase, step.name) for step in run.steps] == [
        ("", "web-2"), ("", "Delete"), ("rollback", "Put back"), ("after the failure", "Say so"),
        ("at the end", "Unlock"),
    ]  # fmt: skip
    (answer,) = run.approvals
    assert (answer.prompt, answer.outcome) == ("Delete *300 files*?", "approved")
    assert answer.why == "approved by responder B and responder C: agreed"
    assert answer.said == ("responder B said yes: it is only a cache",)


def test_a_question_that_nobody_answered_and_a_broken_glass_are_told():
    story = Story()
    story.open()
    story.say(1, "run.started", "Go", actor="U0HELPER1", run="r1", name="Clean", number=1)
    story.say(1, "run.glass_broken", "Glass", actor="U0HELPER1", run="r1", reason="nobody is awake")
    story.say(2, "approval.asked", "Asks", run="r1", approval="a", prompt="Sure?")
    story.say(3, "approval.closed", "Lost", run="r2", approval="b", state="expired", why="nobody answered")

    first, second = told(story).runs

    assert first.glass == "nobody is awake"
    assert (first.approvals[0].outcome, first.approvals[0].why) == ("", "")
    assert second.approvals == ()


def test_a_runbook_that_did_not_start_by_itself_is_told_with_the_reason():
    story = Story()
    story.open()
    story.say(
        5, "runbook.withheld", "x", runbook="restart", name="Restart", why="cooldown", reason="it rests until 12:15 UTC"
    )

    (held,) = told(story).withheld

    assert (held.name, held.reason, held.at) == ("Restart", "it rests until 12:15 UTC", at(5))


def test_a_run_without_a_start_or_an_end_is_told_as_far_as_it_is_known():
    story = Story()
    story.say(5, "run.step_unknown", "Unknown", run="r9", step="roll", seconds=float("nan"), attempt="x")

    (run,) = told(story).runs

    assert (run.runbook, run.state, run.seconds) == ("not recorded", "", None)
    assert (run.steps[0].name, run.steps[0].result, run.steps[0].attempt) == ("roll", "unknown", 1)


def test_a_quarter_of_an_hour_without_events_is_a_gap_while_the_incident_is_open():
    story = Story()
    story.open()
    story.say(17, "note.added", "Still looking", actor="U0HELPER1")
    story.say(33, "note.added", "Found it", actor="U0HELPER1")
    story.resolve(40)
    story.say(90, "note.added", "Afterwards", actor="U0HELPER1")

    (gap,) = told(story).gaps

    assert (gap.start, gap.end, gap.after, gap.before) == (at(17), at(33), 2, 3)


def test_writing_and_exporting_the_document_are_no_facts():
    story = checkout()
    before = told(story)
    story.say(60, "postmortem.drafted", "Drafted", revision=1)
    story.say(61, "postmortem.exported", "Exported", revision=1, exporter="md", place="file")
    story.say(62, "work.parked", "Parked", workflow="export", reason="disk full")

    assert told(story) == before


def test_facts_hold_no_id_of_a_person():
    story = checkout()
    story.incident.title = "Checkout: <@U0HELPER1> sees errors"
    story.incident.declared_by = "U0DECLARER"

    text = json.dumps(told(story).as_json())

    assert not [person for person in ("U0COMMAND", "U0HELPER1", "U0DECLARER", "<@") if person in text]
    assert "Checkout: responder A sees errors" in text


def test_a_handover_is_told_by_roles():
    story = Story()
    story.open()
    story.assign(5, "commander", "U0COMMAND")
    story.assign(25, "commander", "U0SECOND", previous="U0COMMAND")

    facts = told(story)

    assert facts.rows[-1].text == (
        "Role handed over: incident commander, from incident commander to second incident commander"
    )
    assert [(held.who, held.end) for held in facts.roles] == [
        ("incident commander", at(25)),
        ("second incident commander", None),
    ]


def test_facts_survive_json():
    facts = told(checkout())

    assert Facts.from_json(json.loads(json.dumps(facts.as_json()))) == facts


def test_of_a_very_long_timeline_the_beginning_and_the_end_are_kept():
    story = Story()
    for n in range(ROWS + 500):
        story.say(n / 60, "alert.attached", "Attached", title=f"Alert {n % 7}", connection="am", labels={}, url="")

    facts = told(story)

    assert len(facts.rows) == ROWS
    assert facts.events == ROWS + 500
    assert (facts.rows[0].number, facts.rows[-1].number) == (1, ROWS + 500)
    assert sum(alert.times for alert in facts.alerts) == ROWS + 500


def test_data_of_a_wrong_shape_do_no_harm():
    story = Story()
    story.say(1, "incident.opened", source="alert", alert="an id", severity=None)
    story.say(2, "alert.attached", labels="none", title=None)
    story.say(3, "role.assigned", role=None, person=None)
    story.say(4, "run.ended", failure=["x"], seconds=True, run=None)
    story.say(5, "status.changed", to=None)
    story.say(6, "page.sent", pager=None, detail={"a": 1})

    facts = told(story)

    assert facts.events == 6
    assert facts.moment("detected").at == START


def test_tasks_and_follow_ups_are_told_as_they_stood_at_the_end():
    story = Story()
    story.open()
    story.say(5, "task.added", "Task T1", task="a", number=1, text="Call", owner=None, due=None, type=None)
    story.say(6, "followup.added", "F", task="b", number=2, text="Alert", owner="U7", due="2026-12-24", type="detect")
    story.say(7, "task.done", "Task T1 is done", task="a", number=1)
    story.say(
        8, "ticket.opened", "Ticket", task="b", purpose="followup", reference="OPS-7", url="https://example.com/7"
    )
    story.say(
        9, "ticket.opened", "Ticket", purpose="incident", reference="OPS-1", tracker="ops", url="https://x.example"
    )
    story.say(10, "followup.dropped", "dropped", task="nobody knows it", number=9)

    facts = told(story)

    (task,), (followup,) = facts.to_do("task"), facts.to_do("followup")
    assert (task.label, task.text, task.state, task.owner) == ("T1", "Call", "done", "")
    assert (followup.owner, followup.due, followup.type, followup.state) == (
        "responder A",
        "2026-12-24",
        "detect",
        "open",
    )
    assert (followup.ticket, followup.url) == ("OPS-7", "https://example.com/7")
    assert [(ticket.reference, ticket.tracker) for ticket in facts.tickets] == [("OPS-1", "ops")]


def test_a_page_says_who_acknowledged_it_and_when_and_an_unanswered_one_says_so():
    story = Story()
    story.open()
    story.say(3, "page.sent", "Paged", pager="pagerduty", number=1, detail="accepted")
    story.say(4, "page.sent", "Paged again", pager="pagerduty", number=2, detail="accepted")
    story.say(5, "page.acknowledged", "Seen", actor="bot", pages=[1], by="Somebody By Name", via="pagerduty")
    story.say(6, "page.acknowledged", "Seen", actor="U0HELPER1", pages=[1], by="U0HELPER1", via="slack")

    first, second = gather(story.incident, story.events, []).pages

    assert (first.acknowledged_at, first.acknowledged) == (at(5), 4)
    assert "Name" not in first.acknowledged_by
    assert (second.acknowledged_at, second.acknowledged_by) == (None, "")
