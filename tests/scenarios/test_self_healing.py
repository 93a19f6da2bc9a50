"""What happens by itself: an alert that mends what it is about, what holds it, and drift that is found by the clock."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlmodel import col

from bot.alerts.model import AlertRow
from bot.incidents import logbook
from bot.runs.model import RunState, Trigger
from tests.scenarios.automation import (
    DRIFT,
    LONG,
    RESTART,
    TEMPO,
    Hands,
    Service,
    configured,
    decisions,
    events,
    over,
    runs,
    stuck,
)
from tests.scenarios.conftest import Stage, alertmanager, app_of_the_bot, staged


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_a_service_that_is_stuck_mends_itself_and_the_timeline_tells_it(database_url, tmp_path, service):
    folder = configured(tmp_path, service, restart=RESTART)
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO) as stage:
        # The channel comes late, and yet the run that was there before it is told in it.
        stage.sandbox.faults.add("conversations.create", "slow", seconds=1.0)
        await stuck(stage)
        channel = await stage.sandbox.expect_channel("inc-1-*")
        message = await stage.sandbox.expect_message(channel.id, "Run 1: Restart the service", within=10)
        await stage.sandbox.wait(lambda: "succeeded" in message.rendered, 10, "the end of the run")
        await over(stage)
        await stage.sandbox.expect_message(channel.id, "Is the incident over?", within=10)
        await stage.quiet()

        assert service.restarts == ["checkout"]
        assert "Started by itself: “checkout is stuck” fires" in message.rendered
        (run,) = await runs(stage)
        assert (run.trigger, run.requested_by, run.state) == (Trigger.AUTO, "bot", RunState.SUCCEEDED)
        told = [
            event.kind
            for event in await stage.timeline()
            if event.kind.split(".")[0] in ("incident", "alert", "run", "note")
        ]
        ordered = [kind for kind in told if kind in ("incident.opened", "run.started", "note.added", "run.ended")]
        assert ordered == ["incident.opened", "run.started", "note.added", "run.ended"]
        assert "alert.resolved" in told
        (started,) = await events(stage, "run.started")
        assert started.text == "Run 1: Restart the service, started by itself because “checkout is stuck” fires"
        (note,) = await events(stage, "note.added")
        assert note.text == "checkout was restarted because of checkout is stuck"
        assert await decisions(stage) == ["started"]


async def test_who_sees_it_start_by_itself_can_stop_it_and_keep_it_from_starting_again(database_url, tmp_path, service):
    slow = RESTART.replace("  - id: healthy", "  - wait: {for: 30s}\n  - id: healthy")
    folder = configured(tmp_path, service, restart=slow)
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO) as stage:
        await stuck(stage)
        channel = await stage.sandbox.expect_channel("inc-1-*")
        message = await stage.sandbox.expect_message(channel.id, "`/inc auto off restart` keeps it from starting so")
        bob = stage.sandbox.actor("bob")
        await bob.join(channel)
        await bob.click(message, "Cancel run")
        await stage.sandbox.wait(lambda: "was cancelled" in message.rendered, 10, "the cancelled run")

        await bob.slash("/inc auto off restart", channel)
        await bob.expect("restart does not start by itself any more", channel)
        await stuck(stage, "search", starts_at="2026-11-20T03:12:00Z")
        held = await stage.sandbox.expect_message(channel.id, "did not start by itself for “search is stuck”")
        assert "has switched off that this one start by themselves" in held.rendered
        shown = await bob.slash("/inc auto", channel)
        assert shown.ok
        await bob.expect("switched off by", channel)

        await bob.slash("/inc auto on restart", channel)
        await bob.expect("restart starts by itself again", channel)
        await stuck(stage, "mail", starts_at="2026-11-20T03:14:00Z")
        await stage.sandbox.expect_message(channel.id, "Run 2: Restart the service", within=10)
        await stage.sandbox.wait(lambda: service.restarts == ["checkout", "mail"], 10, "the second restart")
        assert len(await runs(stage)) == 2
        async with stage.bot.db.read() as session:
            audited = await session.execute(sa.text("select actor, action from audit where action like 'automation%'"))
        assert [tuple(row) for row in audited] == [(bob.id, "automation.stopped"), (bob.id, "automation.resumed")]


async def test_a_rest_a_cap_and_quiet_hours_hold_it_and_the_channel_is_told_why_once(database_url, tmp_path, service):
    hands = Hands(datetime(2026, 11, 25, 12, 0, tzinfo=UTC))
    quiet = "auto_runbooks: true\nquiet_hours: {from: '22:00', to: '06:00'}\n"
    folder = configured(tmp_path, service, tocsin=quiet, restart=RESTART)
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO, clock=hands) as stage:

        async def again(name: str, moment: str) -> None:
            await stuck(stage, name, starts_at=moment)
            await stage.quiet()
            await over(stage, name, starts_at=moment, ends_at=moment.replace(":00Z", ":30Z"))
            await stage.quiet()

        await again("checkout", "2026-11-25T11:50:00Z")
        await again("checkout", "2026-11-25T11:51:00Z")
        await again("checkout", "2026-11-25T11:52:00Z")  # for the same reason: nothing more is said
        rest = "it started by itself before (run 1 of INC-1), and rests 15 min in between, until 12:15 UTC"
        assert [event.data["why"] for event in await events(stage, "runbook.withheld")] == ["cooldown"]
        assert rest in (await events(stage, "runbook.withheld"))[0].text
        channel = await stage.sandbox.expect_channel("inc-1-*")
        assert sum(rest in message.rendered for message in channel.messages) == 1

        hands.forward(minutes=20)
        await again("checkout", "2026-11-25T12:15:00Z")
        await again("search", "2026-11-25T12:16:00Z")  # on another thing, and yet the third within an hour
        hands.forward(hours=1)
        await again("search", "2026-11-25T13:10:00Z")
        hands.put(datetime(2026, 11, 25, 23, 0, tzinfo=UTC))
        await again("mail", "2026-11-25T22:50:00Z")
        hands.put(datetime(2026, 11, 26, 7, 0, tzinfo=UTC))
        await again("mail", "2026-11-26T06:50:00Z")

        assert service.restarts == ["checkout", "checkout", "search", "mail"]
        assert sorted(await decisions(stage)) == sorted(
            ["started", "cooldown", "cooldown", "started", "cap", "started", "quiet_hours", "started"]
        )
        why = [event.data["why"] for event in await events(stage, "runbook.withheld")]
        assert why == ["cooldown", "cap", "quiet_hours"]


async def test_after_failures_in_a_row_it_stops_and_a_run_by_hand_that_succeeds_lets_it_start_again(
    database_url, tmp_path, service
):
    folder = configured(tmp_path, service, tocsin="auto_runbooks: true\nauto_failures: 2\n", restart=RESTART)
    service.stubborn = True
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO) as stage:
        for number, name in enumerate(("checkout", "search"), 1):
            await stuck(stage, name, starts_at=f"2026-11-20T03:1{number}:00Z")
            await stage.quiet()
        channel = await stage.sandbox.expect_channel("inc-1-*")
        stop = "Restart the service has failed 2 times in a row when it started by itself"
        await stage.sandbox.expect_message(channel.id, stop)
        await stuck(stage, "mail", starts_at="2026-11-20T03:13:00Z")
        await stage.sandbox.expect_message(channel.id, "did not start by itself for “mail is stuck”")
        assert [run.state for run in await runs(stage)] == [RunState.FAILED, RunState.FAILED]
        assert [event.data["failures"] for event in await events(stage, "automation.stopped")] == [2]

        service.stubborn = False
        alice = stage.sandbox.actor("alice")
        await alice.join(channel)
        await alice.slash("/inc join", channel)
        await alice.expect("You are a responder", channel)
        card = await stage.sandbox.expect_message(channel.id, "INC-1 · ")
        await alice.click(card, "Restart the service")
        form = await alice.modal(contains="Restart the service", until=lambda view: view.body.get("submit"))
        assert (await alice.fill(form)).errors is None
        await stage.sandbox.expect_message(channel.id, "may start by itself again: run 3 succeeded", within=10)
        assert "automation.resumed" in await stage.kinds()
        assert await decisions(stage) == ["started", "started", "failures"]


async def test_nothing_starts_for_a_sender_that_has_not_proved_who_it_is_or_a_suggestion(
    database_url, tmp_path, service
):
    folder = configured(tmp_path, service, restart=RESTART)
    (folder / "routes.yaml").write_text(
        "version: 1\nroutes:\n  - {name: asked, match: ['service=\"mail\"'], open: suggest}\n"
        "  - {name: all, open: always, group_by: [service]}\n"
    )
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO) as stage:
        body = alertmanager("Stuck", service="checkout", summary="checkout is stuck")
        assert (await stage.alert(body, "prometheus")).status == 202
        told = await stage.sandbox.expect_message(
            "inc-1-*", "did not start by itself for “checkout is stuck”", within=10
        )
        assert "a token of prometheus is shorter than 32 characters" in told.rendered
        generic = {"title": "Stuck", "status": "firing", "labels": {"alertname": "Stuck", "service": "search"}}
        answer = await stage.alert(generic, "anything", headers={"Authorization": f"Bearer {LONG}"})
        assert answer.status == 202
        told = await stage.sandbox.expect_message("inc-2-*", "did not start by itself", within=10)
        assert "what comes by anything is not signed" in told.rendered

        await stuck(stage, "mail")
        question = await stage.sandbox.expect_message("#incidents", "Is this an incident?")
        await stage.quiet()
        assert service.restarts == []
        await stage.sandbox.actor("alice").click(question, "Open incident")
        message = await stage.sandbox.expect_message("inc-3-*", "Run 1: Restart the service", within=10)
        await stage.sandbox.wait(lambda: "succeeded" in message.rendered, 10, "the end of the run")
        assert service.restarts == ["mail"]


async def test_switched_off_in_the_configuration_nothing_starts_and_nobody_is_told(database_url, tmp_path, service):
    folder = configured(tmp_path, service, tocsin="", restart=RESTART)
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO) as stage:
        await stuck(stage)
        await stage.sandbox.expect_channel("inc-1-*")
        await stage.quiet()

        assert service.restarts == []
        assert await decisions(stage) == []
        assert not [kind for kind in await stage.kinds() if kind.startswith(("run", "automation"))]
        alice = stage.sandbox.actor("alice")
        await alice.slash("/inc auto", "#general")
        await alice.expect("Alerts start nothing", "#general")


async def test_drift_that_is_found_by_the_clock_becomes_an_incident_and_resolves_when_it_is_gone(
    database_url, tmp_path, service
):
    hands = Hands(datetime(2026, 11, 26, 1, 29, tzinfo=UTC))
    folder = configured(tmp_path, service, tocsin="operations_channel: ops\nschedules: true\n", drift=DRIFT)
    service.drifted = ["aws_instance.web", "aws_s3_bucket.logs"]
    async with staged(database_url, folder, app_of_the_bot(), tempo=TEMPO, clock=hands) as stage:
        ops = await stage.sandbox.actor("alice").create("ops")
        await asyncio.sleep(0.5)
        await stage.quiet()
        assert service.plans == 0

        async def night() -> None:
            seen = service.plans
            hands.forward(minutes=2)
            await stage.sandbox.wait(lambda: service.plans > seen, 10, "the run by the clock")
            await stage.quiet()
            hands.forward(hours=24, minutes=-2)

        await night()
        message = await stage.sandbox.expect_message(ops.id, "Run 1: Look for drift")
        assert "Started on schedule: it was Thu 26 Nov 02:30 CET" in message.rendered
        raised = await stage.sandbox.expect_message(ops.id, "“aws_instance.web is not as it is written”: opened INC-1")
        assert "“aws_s3_bucket.logs is not as it is written”: joined INC-1" in raised.rendered
        channel = await stage.sandbox.expect_channel("inc-1-*")
        card = await stage.sandbox.expect_message(channel.id, "2 firing")

        service.drifted = ["aws_s3_bucket.logs"]
        await night()
        await stage.sandbox.expect_message(ops.id, "“aws_instance.web is not as it is written” does not hold any more")
        await stage.sandbox.wait(lambda: "1 firing" in card.rendered, 10, "one that is left")
        await night()  # the same again is no news, and no second incident

        service.broken = True
        await night()
        assert "1 firing" in card.rendered  # whoever cannot look says nothing
        (finding,) = [event for event in await events(stage, "note.added") if event.data["kind"] == "finding"]
        assert finding.text.startswith("Looking for drift fails: ")

        service.drifted, service.broken = [], False
        await night()
        await stage.sandbox.expect_message(channel.id, "Every alert of INC-1 has resolved")
        async with stage.bot.db.read() as session:
            rows = list(await session.scalars(sa.select(AlertRow).order_by(col(AlertRow.dedup_key))))
        assert [(row.dedup_key, row.state, row.connection) for row in rows] == [
            ("drift:drift:prod:aws_instance.web", "resolved", "runbook"),
            ("drift:drift:prod:aws_s3_bucket.logs", "resolved", "runbook"),
        ]
        assert [run.trigger for run in await runs(stage)] == [Trigger.SCHEDULE] * 5
        assert [event.data["news"] for event in await events(stage, "run.raised")] == [True, True, False, True]

        await left_out(stage, ops)


async def left_out(stage: Stage, ops) -> None:
    """The operations log is a row among the incidents, and none of them."""
    alice = stage.sandbox.actor("alice")
    reply = await alice.slash("/inc list all", "#general")
    assert reply.ok
    listed = await alice.expect("recent incident", "#general")
    assert "INC-1" in listed.rendered
    assert "OPS" not in listed.rendered
    for line, told in (("/inc resolve", "This is not an incident channel"), ("/inc status INC-0", "There is no INC-0")):
        await alice.slash(line, ops)
        await alice.expect(told, ops)
    page = await (await stage.http.get(f"{stage.url}/metrics")).text()
    assert 'tocsin_incidents{severity="SEV5"} 0.0' in page
    assert 'tocsin_automatic_runs_total{outcome="succeeded",trigger="schedule"} 4.0' in page
    async with stage.bot.db.read() as session:
        log = await logbook.find(session)
    assert log is not None
    assert (log.reference, log.channel, log.kind) == ("OPS-0", ops.id, "maintenance")
    names = {channel.name for channel in stage.sandbox.workspace.channels.values()}
    assert not [name for name in names if name.startswith("inc-0")]
