"""Alerts that nobody has spoken of for a day: their sender may never say that they ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col

from bot.alerts.model import AlertRow, AlertState
from bot.catalog.config import OWN
from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.intake import CHUNK, alone
from bot.incidents.timeline import React
from bot.kit.clock import duration_text

QUIET = timedelta(hours=24)


@dataclass
class Staleness:
    """The workflow `sweep`."""

    engine: Engine
    react: React
    quiet: timedelta = QUIET

    async def sweep(self, until: str) -> None:
        """Mark what fires without a word since a day before *until* (ISO 8601). It is not taken for resolved.

        An incident of which nothing fires any more is offered for resolution: people decide.
        """
        now = datetime.fromisoformat(until)
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            await connection.run_sync(alone)
            found = await tx.session.execute(
                sa.update(AlertRow)
                .where(
                    col(AlertRow.state) == AlertState.FIRING,
                    col(AlertRow.last_seen_at) < now - self.quiet,
                    col(AlertRow.connection) != OWN,  # a runbook may look once a week, and says it when it is over
                )
                .values(state=AlertState.STALE)
                .returning(
                    col(AlertRow.id),
                    col(AlertRow.episode_id),
                    col(AlertRow.incident_id),
                    col(AlertRow.title),
                    col(AlertRow.last_seen_at),
                )
            )
            last: dict[str, tuple[str, str, str]] = {}
            marked = found.all()
            wanted = {incident_id for _, _, incident_id, _, _ in marked if incident_id is not None}
            live = await lifecycle.still_open(connection, sorted(wanted))
            for alert, episode, incident_id, title, seen in marked:
                if incident_id not in live:  # none, or over: its timeline has come to its end
                    continue
                once = f"{episode}:{seen.isoformat()}"
                last[incident_id] = (alert, episode, once)
                await timeline.touch(tx.session, incident_id)
                text = f"Nothing heard for {duration_text(self.quiet)} of the alert: {title}"
                data = {"alert": alert, "episode": episode, "title": title}
                await timeline.record(
                    tx, self.react, incident_id, "alert.stale", text, now=now, actor="bot", data=data, once=once
                )
            ids = sorted(last)
            for chunk in (ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)):
                for incident_id, silent in await connection.run_sync(lifecycle.without_firing, chunk):
                    alert, episode, once = last[incident_id]
                    text = lifecycle.quiet_text(silent)
                    facts = {"alert": alert, "episode": episode, "silent": silent}
                    await timeline.record(
                        tx, self.react, incident_id, "alerts.quiet", text, now=now, actor="bot", data=facts, once=once
                    )
