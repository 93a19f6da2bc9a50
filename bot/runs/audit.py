"""The audit: every line about a run, each chained to the one before, so that none can be changed or taken out unseen.

A line's hash covers everything in it and the hash of the line before. Lines are added as the last thing that a
transaction does, under one lock, so the chain has no gaps and no forks however many processes write to it. Whoever
can write to the database can also write a whole new chain: keep the newest number and hash elsewhere now and then
(`tocsin audit head`), and compare.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents.model import Role
from bot.kit.text import clean
from bot.runs.model import Audit

START = "0" * 64  # what stands in the place of the hash before the first line
PAGE = 1000
# Any number that nothing else in the database takes a lock on.
_LOCK = 0x70C51A0D


@dataclass(frozen=True)
class Line:
    """What was done: *actor* is a user id or ``bot``; *data* is JSON."""

    at: datetime
    actor: str
    action: str
    run_id: str | None = None
    incident_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a check of the whole chain found: how many lines hold, the newest hash, and what is wrong, if anything."""

    lines: int
    head: str
    problem: str | None = None


def note(tx: Tx, line: Line) -> None:
    """Write *line* when *tx* commits."""
    waiting: list[Line] = tx.notes.setdefault("audit", [])
    if not waiting:
        tx.finally_(lambda session: _append(session, waiting))
    waiting.append(line)


async def _append(session: AsyncSession, lines: Sequence[Line]) -> None:
    held = await _roles(session, lines)
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        await connection.execute(sa.text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    newest = sa.select(col(Audit.number), col(Audit.hash)).order_by(col(Audit.number).desc()).limit(1)
    number, before = (await connection.execute(newest)).one_or_none() or (0, START)
    rows = []
    for line in lines:
        number += 1
        roles = held.get((line.incident_id, line.actor), [])
        data = plain({**line.data, **({"incident": line.incident_id} if line.incident_id else {}), "roles": roles})
        row = {
            "number": number,
            "at": line.at.astimezone(UTC),
            "actor": clean(line.actor),
            "action": line.action,
            "run_id": line.run_id,
            "data": data,
            "prev_hash": before,
        }
        before = row["hash"] = fingerprint(row)
        rows.append(row)
    await connection.execute(sa.insert(Audit), rows)


async def _roles(session: AsyncSession, lines: Sequence[Line]) -> dict[tuple[str | None, str], list[str]]:
    """The roles that those who acted held at that moment."""
    incidents = {line.incident_id for line in lines if line.incident_id and line.actor != "bot"}
    if not incidents:
        return {}
    query = sa.select(Role).where(col(Role.incident_id).in_(incidents), col(Role.ended_at).is_(None))
    found: dict[tuple[str | None, str], list[str]] = {}
    for role in await session.scalars(query.order_by(col(Role.assigned_at))):
        found.setdefault((role.incident_id, role.person), []).append(str(role.name))
    return found


def fingerprint(row: Mapping[str, Any]) -> str:
    """The hash of a line: of everything in it but the hash itself."""
    told = {key: row[key] for key in ("number", "actor", "action", "run_id", "data", "prev_hash")}
    told["at"] = row["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(
        json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    ).hexdigest()


def plain(value: Any) -> Any:
    """*value* so that both databases give it back exactly: a float becomes text, they write it in ways of their own."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return clean(str(value))


async def lines(session: AsyncSession, *, since: int = 0) -> AsyncIterator[Audit]:
    """Every line after number *since*, in order."""
    while True:
        query = sa.select(Audit).where(col(Audit.number) > since).order_by(col(Audit.number)).limit(PAGE)
        found = list(await session.scalars(query))
        for row in found:
            yield row
        if len(found) < PAGE:
            return
        since = found[-1].number
        session.expunge_all()


async def head(session: AsyncSession) -> tuple[int, str]:
    """The number and hash of the newest line; zero and zeros where there is none."""
    query = sa.select(col(Audit.number), col(Audit.hash)).order_by(col(Audit.number).desc()).limit(1)
    found = (await session.execute(query)).one_or_none()
    return (found[0], found[1]) if found else (0, START)


async def verify(session: AsyncSession, expected: tuple[int, str] | None = None) -> Verdict:
    """Go through the whole chain. *expected* is the number and hash of a line, noted earlier and kept elsewhere."""
    number, before = 0, START
    async for row in lines(session):
        problem = _wrong(row, number, before)
        if problem is None and expected and row.number == expected[0] and row.hash != expected[1]:
            problem = f"line {row.number} is not the one that was noted: its hash was {expected[1]}"
        if problem:
            return Verdict(number, before, problem)
        number, before = row.number, row.hash
    if expected and expected[0] > number:
        told = f"the chain ends at line {number}; line {expected[0]} was noted, so the end was cut off"
        return Verdict(number, before, told)
    return Verdict(number, before)


def _wrong(row: Audit, number: int, before: str) -> str | None:
    """What is wrong with a line that should follow line *number*, whose hash is *before*."""
    if row.number != number + 1:
        missing = f"line {number + 1}" if row.number == number + 2 else f"lines {number + 1} to {row.number - 1}"
        return f"{missing} missing: line {number} is followed by line {row.number}"
    if row.prev_hash != before:
        return f"line {row.number} does not follow line {number}: one of them was changed, added or moved"
    if fingerprint(row.model_dump()) != row.hash:
        return f"line {row.number} was changed ({row.action} by {row.actor})"
    return None
