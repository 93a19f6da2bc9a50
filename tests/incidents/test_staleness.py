"""An alert nobody speaks of any more is neither firing nor resolved."""

from datetime import timedelta

import sqlalchemy as sa

from bot.alerts.model import Alert, AlertRow, AlertStatus, Severity
from bot.alerts.routing import Routes
from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.intake import Incoming, Intake
from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.opening import card_of
from bot.incidents.staleness import Staleness
from bot.kit.clock import utc_now
from bot.reactions import react
from bot.slack.views import incident as views


async def test_after_a_day_of_silence_an_alert_is_stale_and_one_word_makes_it_firing_again(database):
    now = utc_now()
    engine = Engine(database)
    clock = {"now": now}
    intake = Intake(engine, react, Routes, lambda: clock["now"])
    alert = Alert(AlertStatus.FIRING, "Disk is full", "f1", "f1", severity=Severity.CRITICAL, starts_at=now)

    async def states() -> list[str]:
        async with database.read() as session:
            return list(await session.scalars(sa.select(AlertRow.state)))

    await intake.accept(Incoming("c", "generic", b"{}", (alert,), now))
    sweep = Staleness(engine, react).sweep
    await sweep((now + timedelta(hours=23)).isoformat())
    early = await states()
    await sweep((now + timedelta(hours=25)).isoformat())
    await sweep((now + timedelta(hours=26)).isoformat())
    late = await states()
    async with database.read() as session:
        row = (await session.scalars(sa.select(AlertRow))).one()
        events = await timeline.whole(session, row.incident_id or "")
    clock["now"] = now + timedelta(hours=27)
    await intake.accept(Incoming("c", "generic", b"{}", (alert,), clock["now"]))
    again = await states()
    await intake.stop()
    await engine.close()

    assert (early, late, again) == (["firing"], ["stale"], ["firing"])
    assert [event.kind for event in events] == ["incident.opened", "alert.stale", "alerts.quiet"]


async def test_a_silent_alert_is_not_taken_for_resolved(database):
    now = utc_now()
    engine = Engine(database)
    clock = {"now": now}
    intake = Intake(engine, react, Routes, lambda: clock["now"])
    shared = {"service": "db"}
    silent, loud = (
        Alert(AlertStatus.FIRING, "Disk", key, key, severity=Severity.CRITICAL, labels=shared, starts_at=now)
        for key in ("silent", "loud")
    )
    await intake.accept(Incoming("c", "generic", b"{}", (silent, loud), now))
    clock["now"] = now + timedelta(hours=24)
    await intake.accept(Incoming("c", "generic", b"{}", (loud,), clock["now"]))
    await Staleness(engine, react).sweep((now + timedelta(hours=25)).isoformat())
    clock["now"] = now + timedelta(hours=26)
    over = Alert(AlertStatus.RESOLVED, "Disk", "loud", "loud", labels=shared, starts_at=now, ends_at=clock["now"])
    await intake.accept(Incoming("c", "generic", b"{}", (over,), clock["now"]))
    await intake.stop()

    async with database.read() as session:
        row = (await session.scalars(sa.select(AlertRow).where(AlertRow.fingerprint == "silent"))).one()
        kinds = [event.kind for event in await timeline.whole(session, row.incident_id or "")]
        card = await card_of(session, row.incident_id or "", lambda incident, alerts: [])
    await engine.close()
    text = str(views.card(card))

    assert "alert.stale" in kinds
    assert "alert.resolved" in kinds
    assert "alerts.cleared" not in kinds
    assert kinds[-1] == "alerts.quiet"
    assert "0 firing, 1 silent for a day, 1 resolved" in text


async def test_an_incident_of_which_nothing_fires_any_more_is_offered_for_resolution_each_time(database):
    now = utc_now()
    engine = Engine(database)
    clock = {"now": now}
    intake = Intake(engine, react, Routes, lambda: clock["now"])
    sweep = Staleness(engine, react, timedelta(hours=1)).sweep
    shared = {"service": "db"}
    one, two = (
        Alert(AlertStatus.FIRING, "Disk", key, key, severity=Severity.CRITICAL, labels=shared, starts_at=now)
        for key in ("one", "two")
    )
    await intake.accept(Incoming("c", "generic", b"{}", (one, two), now))

    async def offers() -> list[dict]:
        async with database.read() as session:
            events = await session.scalars(sa.select(TimelineEvent).where(TimelineEvent.kind == "alerts.quiet"))
            return [event.data for event in events]

    clock["now"] = now + timedelta(minutes=50)
    await intake.accept(Incoming("c", "generic", b"{}", (two,), clock["now"]))
    await sweep((now + timedelta(minutes=70)).isoformat())
    before = await offers()
    await sweep((now + timedelta(minutes=120)).isoformat())
    await sweep((now + timedelta(minutes=130)).isoformat())
    once = await offers()
    clock["now"] = now + timedelta(minutes=140)
    await intake.accept(Incoming("c", "generic", b"{}", (two,), clock["now"]))
    await sweep((now + timedelta(minutes=210)).isoformat())
    twice = await offers()
    async with database.write() as session:
        await session.execute(sa.update(Incident).values(is_open=False))
    clock["now"] = now + timedelta(minutes=220)
    await intake.accept(Incoming("c", "generic", b"{}", (one,), clock["now"]))
    await sweep((now + timedelta(minutes=290)).isoformat())
    closed = await offers()
    await intake.stop()
    await engine.close()

    assert before == []
    assert [offer["silent"] for offer in once] == [2]
    assert [offer["silent"] for offer in twice] == [2, 2]
    assert closed == twice


async def test_what_falls_silent_after_its_incident_is_over_is_not_told_there(database):
    now = utc_now()
    engine = Engine(database)
    intake = Intake(engine, react, Routes, lambda: now)
    alert = Alert(AlertStatus.FIRING, "Disk is full", "f1", "f1", severity=Severity.CRITICAL, starts_at=now)
    await intake.accept(Incoming("c", "generic", b"{}", (alert,), now))
    async with engine.transaction() as tx:
        incident = (await tx.session.scalars(sa.select(Incident))).one()
        await lifecycle.resolve(tx, react, incident, by="U1", now=now + timedelta(hours=1), note="")
    await Staleness(engine, react).sweep((now + timedelta(days=2)).isoformat())
    async with database.read() as session:
        kinds = [event.kind for event in await timeline.whole(session, incident.id)]
        states = list(await session.scalars(sa.select(AlertRow.state)))
    await intake.stop()
    await engine.close()

    assert kinds == ["incident.opened", "incident.resolved"]
    assert states == ["stale"]
