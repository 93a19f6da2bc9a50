"""Who leads and who helps."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Role, RoleName
from bot.incidents.timeline import React
from bot.kit.ids import new_id


async def held(session: AsyncSession, incident_id: str) -> list[Role]:
    """The roles that somebody holds now, oldest first."""
    query = sa.select(Role).where(col(Role.incident_id) == incident_id, col(Role.ended_at).is_(None))
    return list(await session.scalars(query.order_by(col(Role.assigned_at), col(Role.id))))


async def assign(
    tx: Tx, react: React, incident: Incident, name: RoleName, person: str, *, by: str, now: datetime
) -> bool:
    """Give *person* the role, taking it from whoever holds it; False if they hold it already."""
    current = [role for role in await held(tx.session, incident.id) if role.name == name]
    if name == RoleName.RESPONDER:
        if any(role.person == person for role in current):
            return False
        current = []
    elif any(role.person == person for role in current):
        return False
    for role in current:
        role.ended_at = now
    tx.session.add(
        Role(id=new_id(), incident_id=incident.id, name=name, person=person, assigned_by=by, assigned_at=now)
    )
    if name == RoleName.COMMANDER and incident.acknowledged_at is None:
        incident.acknowledged_at = now
    await tx.session.flush()
    await timeline.touch(tx.session, incident.id)
    previous = current[0].person if current else None
    await timeline.record(
        tx,
        react,
        incident.id,
        "role.assigned",
        f"<@{person}> is {name}" if previous is None else f"<@{person}> takes over as {name} from <@{previous}>",
        now=now,
        actor=by,
        data={"role": name, "person": person, "previous": previous},
    )
    return True
