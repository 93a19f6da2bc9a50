"""Alerts that nobody has spoken of for a day: their sender may never say that they ended."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col

from bot.alerts.model import AlertRow, AlertState
from bot.engine import Engine
from bot.incidents import timeline
from bot.incidents.intake import alone
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
        """Mark what fires without a word since a day before *until* (ISO 8601). It is not taken for resolved."""
        now = datetime.fromisoformat(until)
        async with self.engine.transaction() as tx:
            await alone(await tx.session.connection())
            found = await tx.session.execute(
                sa.update(AlertRow)
                .where(col(AlertRow.state) == AlertState.FIRING, col(AlertRow.last_seen_at) < now - self.quiet)
                .values(state=AlertState.STALE)
                .returning(col(AlertRow.id), col(AlertRow.episode_id), col(AlertRow.incident_id), col(AlertRow.title))
            )
            for alert, episode, incident_id, title in found.all():
                if incident_id is None:
                    continue
                await timeline.touch(tx.session, incident_id)
                text = f"Nothing heard for {duration_text(self.quiet)} of the alert: {title}"
                data = {"alert": alert, "episode": episode, "title": title}
                await timeline.record(
                    tx, self.react, incident_id, "alert.stale", text, now=now, actor="bot", data=data, once=episode
                )
