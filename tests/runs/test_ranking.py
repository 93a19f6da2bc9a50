"""Which runbooks are offered, and in which order: what fits best, then what served and went well, then what is used."""

from datetime import UTC, datetime, timedelta

import pytest

from bot.alerts.model import AlertRow
from bot.incidents.model import Incident
from bot.kit.clock import utc_now
from bot.kit.ids import new_id
from bot.runs.model import Run, RunState
from bot.runs.ranking import Track, ranked, score, tracks
from bot.runs.runbook import Runbook

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)


def book(name: str, *labels: str, enabled: bool = True) -> Runbook:
    steps = [{"key": "1", "type": "wait", "action": {}}]
    offer = [{"match": {"labels": list(labels)}}] if labels else []
    return Runbook(sha256="0", version=1, id=name, name=name, owner="team", steps=steps, offer=offer, enabled=enabled)


def alert(**labels: str) -> AlertRow:
    return AlertRow(
        id="a", connection="c", source="s", fingerprint="f", dedup_key="d", title="t", severity="critical",
        state="firing", labels=labels, annotations={}, starts_at=NOW, last_seen_at=NOW,
    )  # fmt: skip


def incident(**more) -> Incident:
    about = {"id": "i", "number": 1, "title": "t", "severity": "SEV2", "status": "fixing", "service": "checkout"}
    return Incident(**{**about, "detected_at": NOW, "opened_at": NOW, **more})


def order(books, tracks_=None, **more) -> list[str]:
    found = ranked(
        {one.id: one for one in books}, incident(**more), [alert(alertname="Errors", job="web")], tracks_ or {}, NOW
    )
    assert all(one.fits for one in found)
    return [one.runbook for one in found]


def test_one_matcher_more_outweighs_everything_that_went_before():
    books = [
        book("loose", 'alertname="Errors"'),
        book("exact", 'alertname="Errors"', 'job="web"'),
        book("none", 'job="db"'),
    ]
    best = {"loose": Track(100, 100, NOW, frozenset({"checkout"})), "exact": Track(0, 100, NOW - timedelta(days=80))}

    assert order(books) == ["exact", "loose"]
    assert order(books, best) == ["exact", "loose"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Track(9, 10, NOW), Track(1, 10, NOW)),
        (Track(), Track(0, 5)),
        (Track(1, 2, NOW, frozenset({"checkout"})), Track(1, 2, NOW, frozenset({"search"}))),
        (Track(5, 10, NOW - timedelta(days=1)), Track(5, 10, NOW - timedelta(days=60))),
    ],
    ids=["goes well", "new before failing", "served this service", "used lately"],
)
def test_of_those_that_fit_alike_experience_decides(better, worse):
    books = [book("one", 'job="web"'), book("two", 'job="web"')]

    assert order(books, {"two": better, "one": worse}) == ["two", "one"]
    assert score(1, "checkout", better, NOW) > score(1, "checkout", worse, NOW)
    assert score(0, "checkout", better, NOW) == 0


def test_what_a_route_names_comes_first_and_five_are_enough():
    books = [book(f"b{n}", 'job="web"') for n in range(9)]

    assert order([*books, book("named")], runbooks=["named", "gone"]) == ["named", "b0", "b1", "b2", "b3"]
    assert order([book("off", 'job="web"', enabled=False)]) == []


async def test_what_is_known_of_past_runs_counts_ends_and_forgets_dry_runs_and_what_was_cancelled(bench):
    now = utc_now()
    states = [RunState.SUCCEEDED] * 3 + [RunState.ROLLED_BACK, RunState.CANCELLED, RunState.RUNNING, RunState.DRY_RUN]
    async with bench.engine.transaction() as tx:
        there = await tx.session.get(Incident, bench.incident.id)
        there.service = "Checkout"
        for number, state in enumerate([*states, RunState.SUCCEEDED], 1):
            tx.session.add(
                Run(
                    id=new_id(), incident_id=there.id, number=number, runbook=bench.book, sha256="0", definition={},
                    requested_by="UALICE", concurrency_key="k", state=state, dry_run=state == RunState.DRY_RUN,
                    requested_at=now - timedelta(days=200 if number > len(states) else number),
                )
            )  # fmt: skip
    async with bench.engine.db.read() as session:
        found = (await tracks(session, now))[bench.book]

    assert (found.well, found.ended, found.served) == (3, 4, frozenset({"checkout"}))
    assert found.last == now - timedelta(days=1)
