"""The bot is told to stop in the middle of opening an incident, while Slack is away: it stops, and soon."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from bot.engine import LINES, Engine, Retry, Work
from bot.incidents import lifecycle, timeline
from bot.incidents.chat import Look
from bot.incidents.model import Part, Sev
from bot.incidents.opening import Opening
from bot.kit.db import Database
from bot.kit.errors import TemporaryError
from tests.fakes.chat import FakeChat

NOW = datetime(2026, 11, 20, 3, 14, tzinfo=UTC)


class Away(FakeChat):
    """An invitation that is never answered, and edits that fail."""

    inviting = False

    async def invite(self, channel: str, people: Any) -> dict[str, str]:
        self.inviting = True
        await asyncio.sleep(3600)
        return {}

    async def edit(self, *_: Any) -> None:
        raise TemporaryError("Slack did not answer chat.update")


async def test_a_stop_ends_in_its_time_though_slack_answers_nothing(database: Database):
    engine, chat = Engine(database, listen_seconds=0.1, poll_seconds=60), Away()
    opening = Opening(engine, lambda _: [], chat, Look(invite=("U2",)), lambda *_: [], lambda: NOW)
    engine.workflow("open", opening.open, Retry(first=0.5, most=120.0))
    await engine.start()
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(tx, lambda _: [], title="t", severity=Sev.SEV2, by="U1", now=NOW)
        tx.enqueue(Work("open", f"open:{incident.id}", (incident.id,), queue=LINES, partition=incident.id))

    async def furnished() -> bool:
        async with engine.db.read() as session:
            done = set(await session.scalars(sa.select(col(Part.name)).where(col(Part.state) == "done")))
        return chat.inviting and {"card", "announcement"} <= done

    async with asyncio.timeout(10):
        while not await furnished():
            await asyncio.sleep(0.01)
    async with engine.transaction() as tx:  # something to draw, which cannot be drawn now
        await timeline.touch(tx.session, incident.id)
    begun = time.monotonic()
    async with asyncio.timeout(20):
        await engine.stop(drain_seconds=0.5)

    assert time.monotonic() - begun < 15
