"""An alert nobody speaks of any more is neither firing nor resolved."""

from datetime import timedelta

import sqlalchemy as sa

from bot.alerts.model import Alert, AlertRow, AlertStatus, Severity
from bot.alerts.routing import Routes
from bot.engine import Engine
from bot.incidents import timeline
from bot.incidents.intake import Incoming, Intake
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
    assert [event.kind for event in events] == ["incident.opened", "alert.stale"]


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
    assert "0 firing, 1 silent for a day, 1 resolved" in text
