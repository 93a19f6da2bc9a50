"""What there is to do: tasks while the incident lasts, follow-ups after it; each with an owner and an end."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Task, TaskKind, TaskState
from bot.incidents.timeline import React
from bot.kit.errors import UserError
from bot.kit.ids import new_id
from bot.kit.text import clean, clip, one_line

# What a follow-up is good for, as the post-mortem's table of actions has it.
TYPES = ("prevent", "detect", "mitigate", "process", "docs")
LONGEST = 500
NOUN = {TaskKind.TASK: "task", TaskKind.FOLLOWUP: "follow-up"}
_WORD = {TaskKind.TASK: "task", TaskKind.FOLLOWUP: "followup"}

_TYPE = re.compile(rf"({'|'.join(TYPES)}):\s*", re.IGNORECASE)
_OWNER = re.compile(r"(?:^<@([UW][A-Z0-9]{1,20})>\s*)|(?:\s*<@([UW][A-Z0-9]{1,20})>$)")
_DUE = re.compile(r"(?:^|\s+)(?:due|by)\s+(?:in\s+)?(\d{4}-\d\d-\d\d|\d{1,4}\s?[dw]|today|tomorrow)$", re.IGNORECASE)
_DATE = re.compile(r"\s+(\d{4}-\d\d-\d\d)$")


@dataclass(frozen=True)
class Wish:
    """What somebody wants done, as they said it."""

    text: str
    owner: str | None = None
    due: str | None = None
    type: str | None = None


def read(text: str, today: date) -> Wish:
    """*text* with an owner (a mention at its beginning or end), a day (`due 2026-12-01`, `due 7d`) and a type
    (`prevent: …`) taken out of it; UserError where nothing is left, or the day is none.
    """
    rest, owner, due, kind = clean(text).strip(), None, None, None
    for _ in range(2):  # the day may stand before the owner or after
        if owner is None and (found := _OWNER.search(rest)):
            owner, rest = found[1] or found[2], (rest[: found.start()] + rest[found.end() :]).strip()
        if due is None and (found := _DUE.search(rest) or _DATE.search(rest)):
            due, rest = _day(found[1].lower(), today), rest[: found.start()].strip()
    if found := _TYPE.match(rest):
        kind, rest = found[1].lower(), rest[found.end() :]
    rest = clip(one_line(rest), LONGEST)
    if not rest:
        raise UserError("What is there to do? For example `/inc task Ask the provider for their status @somebody`")
    return Wish(rest, owner, due, kind)


def _day(word: str, today: date) -> str:
    if word in ("today", "tomorrow"):
        return (today + timedelta(days=word == "tomorrow")).isoformat()
    try:
        if "-" in word:
            return date.fromisoformat(word).isoformat()
        return (today + timedelta(days=int(word[:-1]) * (7 if word.endswith("w") else 1))).isoformat()
    except (ValueError, OverflowError):
        raise UserError(f"`{word}` is no day; write `due 2026-12-01`, `due 7d` or `due tomorrow`.") from None


async def add(
    tx: Tx,
    react: React,
    incident: Incident,
    kind: TaskKind,
    wish: Wish,
    *,
    by: str,
    now: datetime,
    task_id: str | None = None,
    tracker: str | None = None,
) -> Task:
    """Take *wish* on. The incident is locked by the caller, so no number is given twice. *tracker* is where a
    follow-up can be exported to.
    """
    last = sa.select(sa.func.max(col(Task.number))).where(col(Task.incident_id) == incident.id)
    task = Task(
        id=task_id or new_id(),
        incident_id=incident.id,
        number=int(await tx.session.scalar(last) or 0) + 1,
        kind=kind,
        text=wish.text,
        owner=wish.owner,
        due=wish.due,
        type=wish.type,
        state=TaskState.OPEN,
        created_by=by,
        created_at=now,
    )
    tx.session.add(task)
    await tx.session.flush()
    await _record(tx, react, task, "added", headline(task), by=by, now=now, more={"tracker": tracker})
    return task


async def finish(tx: Tx, react: React, task: Task, *, by: str, now: datetime, note: str = "", via: str = "") -> None:
    """It is done; *via* says where, if not here."""
    if task.state != TaskState.OPEN:
        raise UserError(f"{task.label} is {task.state} already.")
    await _ended(tx, react, task, TaskState.DONE, by=by, now=now, note=note, via=via)


async def drop(tx: Tx, react: React, task: Task, *, by: str, now: datetime, note: str = "", via: str = "") -> None:
    """Nobody will do it."""
    if task.state != TaskState.OPEN:
        raise UserError(f"{task.label} is {task.state} already.")
    await _ended(tx, react, task, TaskState.DROPPED, by=by, now=now, note=note, via=via)


async def reopen(tx: Tx, react: React, task: Task, *, by: str, now: datetime, via: str = "") -> None:
    """It is not done after all."""
    if task.state == TaskState.OPEN:
        raise UserError(f"{task.label} is open already.")
    task.state, task.ended_by, task.ended_at = TaskState.OPEN, None, None
    tx.session.add(task)
    await tx.session.flush()
    text = f"{NOUN[TaskKind(task.kind)].capitalize()} {task.label} is open again{via}: {task.text}"
    await _record(tx, react, task, "reopened", text, by=by, now=now)


async def numbered(session: AsyncSession, incident: Incident, number: int) -> Task:
    """The task or follow-up that people call T*number*."""
    query = sa.select(Task).where(col(Task.incident_id) == incident.id, col(Task.number) == number)
    found = await session.scalar(query)
    if found is None:
        raise UserError(f"{incident.reference} has no T{number}. `/inc task list` shows what there is to do.")
    return found


async def find(session: AsyncSession, task_id: str) -> Task:
    """By id."""
    found = await session.get(Task, task_id, populate_existing=True)
    if found is None:
        raise UserError("This task does not exist any more.")
    return found


async def listed(session: AsyncSession, incident_id: str, kind: TaskKind | None = None) -> list[Task]:
    """What there is to do for an incident: what is open first, then by number."""
    query = sa.select(Task).where(col(Task.incident_id) == incident_id)
    if kind is not None:
        query = query.where(col(Task.kind) == kind)
    later = sa.case((col(Task.state) == TaskState.OPEN, 0), else_=1)
    return list(await session.scalars(query.order_by(later, col(Task.number))))


async def open_count(session: AsyncSession, incident_id: str) -> int:
    """How many tasks and follow-ups of an incident are open."""
    query = sa.select(sa.func.count()).select_from(Task)
    query = query.where(col(Task.incident_id) == incident_id, col(Task.state) == TaskState.OPEN)
    return int(await session.scalar(query) or 0)


def headline(task: Task) -> str:
    """One line about it."""
    said = f"{NOUN[TaskKind(task.kind)].capitalize()} {task.label}: {task.text}"
    more = [f"({task.type})" if task.type else "", f"for <@{task.owner}>" if task.owner else ""]
    return " ".join([said, *filter(None, [*more, f"due {task.due}" if task.due else ""])])


async def _ended(
    tx: Tx, react: React, task: Task, state: TaskState, *, by: str, now: datetime, note: str, via: str
) -> None:
    task.state, task.ended_by, task.ended_at = state, by, now
    tx.session.add(task)
    await tx.session.flush()
    note = clip(one_line(clean(note)), LONGEST)
    text = f"{NOUN[TaskKind(task.kind)].capitalize()} {task.label} is {state}{via}: {task.text}"
    await _record(tx, react, task, state, text + (f" ({note})" if note else ""), by=by, now=now, more={"note": note})


async def _record(
    tx: Tx,
    react: React,
    task: Task,
    what: str,
    text: str,
    *,
    by: str,
    now: datetime,
    more: dict[str, Any] | None = None,
) -> None:
    data = {
        "task": task.id,
        "number": task.number,
        "text": task.text,
        "owner": task.owner,
        "due": task.due,
        "type": task.type,
        **(more or {}),
    }
    await timeline.touch(tx.session, task.incident_id)
    kind = f"{_WORD[TaskKind(task.kind)]}.{what}"
    await timeline.record(tx, react, task.incident_id, kind, text, now=now, actor=by, data=data)
