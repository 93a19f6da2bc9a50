"""A draft of a runbook from what was done in an incident: it passes the linter, whatever people wrote."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.incidents import lifecycle, timeline
from bot.kit.clock import utc_now
from bot.kit.shelf import Shelf
from bot.runs import recorded
from bot.runs import run as runs
from bot.runs.expressions import render
from bot.runs.runbook import load

SHELF = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
BOOK = """version: 1
id: restart-it
name: Restart it
owner: team
risk: low
params:
  service: {type: choice, choices: [checkout, search], source: alert.labels.service}
  host: {}
  days: {type: int, default: 3}
steps:
  - note: 'Restarted {{ params.service }} on {{ params.host }}'
outputs: {seen: params.days}
"""


def incident(title: str = "Checkout fails") -> SimpleNamespace:
    return SimpleNamespace(reference="INC-7", title=title, id="i1")


def run_of(book, number: int = 1, **params) -> SimpleNamespace:
    about = {"id": f"r{number}", "runbook": book.id, "params": params, "outputs": {"seen": 3}}
    return SimpleNamespace(**about, state="succeeded", dry_run=False)


def event(kind: str, text: str = "", /, **data) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, text=text, data=data)


def drafted(events, done=(), alerts=(), books=None, title: str = "Checkout fails"):
    text = recorded.draft(incident(title), events, done, alerts, books or {}, owner="team-payments")
    return load(text, "from-inc-7.yaml", SHELF), text


def test_runs_become_calls_whose_values_come_from_the_alert_where_they_did():
    book = load(BOOK, "restart-it.yaml", SHELF)
    alert = SimpleNamespace(labels={"alertname": "HighErrors", "service": "checkout", "instance": "web-1"})
    done = [
        run_of(book, 1, service="checkout", host="web-1", days=3),
        run_of(book, 2, service="checkout", host="web-2"),
    ]

    made, _ = drafted([event("run.started", run="r1"), event("run.started", run="r2")], done, [alert], {book.id: book})

    assert [step.type for step in made.steps] == ["runbook", "runbook"]
    assert made.steps[0].action == {
        "use": "restart-it",
        "params": {"service": "{{ params.service }}", "host": "{{ params.host }}", "days": "{{ params.days }}"},
    }
    assert made.steps[1].action["params"] == {"service": "{{ params.service }}", "host": "{{ params.host_2 }}"}
    assert made.params["host"].source == "alert.labels.instance"
    assert made.params["host_2"].help == "(was web-2)"
    assert made.offer[0].match.labels == ['alertname="HighErrors"', 'service="checkout"']
    assert (made.owner, made.risk) == ("team-payments", "low")
    assert made.tests[0].params == {"service": "checkout", "host": "web-1", "days": 3, "host_2": "web-2"}
    assert made.tests[0].mock["restart_it"] == {"seen": 3}


def test_what_was_done_by_hand_asks_a_person_to_do_it_again():
    made, _ = drafted([event("note.added", "Failed over to the {{ replica }}", kind="action")])

    [step] = made.steps
    assert step.type == "approval"
    assert render(step.action["prompt"], {}).startswith("By hand: Failed over to the {{ replica }}\n")
    assert step.action["not_requester"] is False
    assert made.risk == "high"


def test_notes_that_are_no_actions_and_runs_that_failed_are_left_out():
    book = load(BOOK, "restart-it.yaml", SHELF)
    failed = SimpleNamespace(**{**vars(run_of(book, 1, host="x")), "state": "failed"})

    made, _ = drafted(
        [event("note.added", "Looks odd", kind="note"), event("run.started", run="r1")], [failed], (), {book.id: book}
    )

    assert made.steps[0].action["text"] == "Nothing was recorded in INC-7"


def test_a_runbook_that_is_gone_is_asked_for_by_name():
    book = load(BOOK, "restart-it.yaml", SHELF)

    made, _ = drafted([event("run.started", run="r1")], [run_of(book, 1, host="x")])

    assert "Run the runbook restart-it (it is not in the folder any more)" in made.steps[0].action["prompt"]


WORDS = st.text(max_size=200)


@given(title=WORDS, notes=st.lists(WORDS.filter(str.strip), max_size=4), name=WORDS, service=WORDS, host=WORDS)
def test_whatever_people_and_alerts_wrote_the_draft_is_a_runbook_that_says_exactly_that(
    title, notes, name, service, host
):
    from bot.kit.text import clean  # noqa: PLC0415 - what the timeline keeps

    book = load(BOOK, "restart-it.yaml", SHELF)
    alert = SimpleNamespace(labels={"alertname": name, "service": service})
    events = [event("note.added", clean(note), kind="action") for note in notes]
    events.append(event("run.started", run="r1"))

    made, _ = drafted(events, [run_of(book, 1, host="web-1")], [alert], {book.id: book}, title)

    prompts = [render(step.action["prompt"], {}) for step in made.steps if step.type == "approval"]
    for note, prompt in zip((clean(note).strip() for note in notes), prompts, strict=True):
        assert prompt.startswith(f"By hand: {note}"[:200])


@pytest.mark.parametrize(
    ("said", "kind", "text"), [("action: x", "action", "x"), ("Finding:  y", "finding", "y"), ("a: b", "note", "a: b")]
)
async def test_a_note_says_by_its_first_word_what_it_is(bench, said, kind, text):
    async with bench.engine.transaction() as tx:
        await lifecycle.note(tx, bench.react, bench.incident, said, by="UALICE", now=utc_now())

    async with bench.engine.db.read() as session:
        last = [one for one in await timeline.whole(session, bench.incident.id) if one.kind == "note.added"][-1]
        assert await runs.of_incident(session, bench.incident.id) == []
    assert (last.data["kind"], last.text) == (kind, text)
