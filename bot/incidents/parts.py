"""The parts of an incident in the chat: each made once, looked for only after an attempt that did not end well."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.engine import Engine, Tx
from bot.incidents import timeline
from bot.incidents.model import Part
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import insert_for
from bot.kit.errors import PermanentError

log = structlog.get_logger()

Result = dict[str, Any]
Make = Callable[[], Awaitable[Result]]
Find = Callable[[], Awaitable[Result | None]]

WAITING, STARTED, DONE, FAILED = "waiting", "started", "done", "failed"


class Parts:
    """The record of what was made. That an attempt begins is committed before it begins."""

    def __init__(self, engine: Engine, react: React, clock: Clock) -> None:
        self.engine, self.react, self.clock = engine, react, clock

    async def begin(self, incident_id: str, names: Iterable[str]) -> dict[str, Part]:
        """Write down that an attempt at each of *names* begins, except those that are done; return them all."""
        now = self.clock()
        async with self.engine.transaction() as tx:
            connection = await tx.session.connection()
            for name in names:
                row = {"incident_id": incident_id, "name": name, "state": STARTED, "attempts": 1, "changed_at": now}
                insert = insert_for(connection, Part).values(**row, result={}, shown=0)
                again = insert.on_conflict_do_update(
                    index_elements=["incident_id", "name"],
                    set_={"state": STARTED, "attempts": Part.attempts + 1, "changed_at": now},
                    where=col(Part.state) != DONE,
                )
                await connection.execute(again)
            query = sa.select(Part).where(col(Part.incident_id) == incident_id, col(Part.name).in_(list(names)))
            return {part.name: part for part in await tx.session.scalars(query)}

    async def find(self, incident_id: str, name: str) -> Part | None:
        """What is known of a part."""
        async with self.engine.db.read() as session:
            return await session.get(Part, (incident_id, name))

    async def make(self, part: Part, make: Make, find: Find | None = None, *, quiet: bool = False) -> Result | None:
        """What *make* returns, or returned when the part was made earlier. None if the chat refuses it for good.

        A refusal is written down, and on the timeline unless *quiet*; TemporaryError passes through.
        """
        if part.state == DONE:
            return part.result
        try:
            found = await find() if find and part.attempts > 1 else None
            if found is None:
                await self.engine.still_mine()
                found = await make()
            result = found
        except PermanentError as error:
            log.warning("part.failed", part=part.name, reason=str(error))
            await self.end(part, FAILED, {}, str(error), quiet=quiet)
            return None
        await self.end(part, DONE, result, None, quiet=quiet)
        return result

    async def end(self, part: Part, state: str, result: Result, error: str | None, *, quiet: bool = False) -> None:
        """Write down how an attempt ended."""
        mended = state == DONE and part.error is not None
        async with self.engine.transaction() as tx:
            await tx.session.execute(
                sa.update(Part)
                .where(col(Part.incident_id) == part.incident_id, col(Part.name) == part.name)
                .values(state=state, result=result, error=error, changed_at=self.clock())
            )
            if not quiet and (state == FAILED or mended):
                kind = "part.failed" if state == FAILED else "part.mended"
                label = part.name.partition(":")[0]
                text = f"The {label} could not be made: {error}" if state == FAILED else f"The {label} is there now"
                await timeline.touch(tx.session, part.incident_id)
                await timeline.record(
                    tx, self.react, part.incident_id, kind, text,
                    now=self.clock(), actor="bot", data={"part": label, "reason": error},
                )  # fmt: skip
        part.state, part.result, part.error = state, result, error

    async def keep(self, part: Part, result: Result) -> None:
        """Write down something about a part that is done, before it is changed."""
        async with self.engine.transaction() as tx:
            mine = (col(Part.incident_id) == part.incident_id, col(Part.name) == part.name)
            await tx.session.execute(sa.update(Part).where(*mine).values(result=result))

    async def shown(self, incident_id: str, drawn: Mapping[str, Result | None], revision: int) -> bool:
        """Write down which revision each part of *drawn* shows, and its new result where it has one.

        False if a newer one was drawn meanwhile, by another process.
        """
        newest = True
        if not drawn:
            return newest
        async with self.engine.transaction() as tx:
            for name, result in drawn.items():
                values: dict[str, Any] = {"shown": revision, "changed_at": self.clock()}
                if result is not None:
                    values["result"] = result
                mine = (col(Part.incident_id) == incident_id, col(Part.name) == name, col(Part.shown) <= revision)
                change = sa.update(Part).where(*mine).values(**values).returning(col(Part.name))
                if (await tx.session.execute(change)).scalar_one_or_none() is None:
                    # What is on screen now is older than what was there: draw it once more.
                    await stale(tx, incident_id, name)
                    newest = False
        return newest


async def wait(tx: Tx, incident_id: str, name: str, event_id: str, *, now: datetime) -> None:
    """Keep a message about an event until there is a channel to say it in."""
    row = {"incident_id": incident_id, "name": name, "state": WAITING, "changed_at": now}
    connection = await tx.session.connection()
    insert = insert_for(connection, Part).values(**row, attempts=0, result={"event": event_id}, shown=0)
    await connection.execute(insert.on_conflict_do_nothing(index_elements=["incident_id", "name"]))


async def waiting(tx: Tx, incident_id: str) -> list[str]:
    """The events whose messages wait for the channel, in the order in which they began to."""
    query = sa.select(Part).where(col(Part.incident_id) == incident_id, col(Part.state) == WAITING)
    found = await tx.session.scalars(query.order_by(col(Part.changed_at), col(Part.name)))
    return [str(part.result["event"]) for part in found]


async def stale(tx: Tx, incident_id: str, name: str) -> None:
    """What is on screen is not known: draw it, even if nothing changes any more."""
    mine = (col(Part.incident_id) == incident_id, col(Part.name) == name)
    await tx.session.execute(sa.update(Part).where(*mine).values(shown=0))


async def give_up(tx: Tx, incident_id: str, why: str) -> None:
    """What was begun and never ended counts as failed, so that the card offers to try again."""
    await tx.session.execute(
        sa.update(Part)
        .where(col(Part.incident_id) == incident_id, col(Part.state) == STARTED)
        .values(state=FAILED, error=why)
    )
    await timeline.touch(tx.session, incident_id)
