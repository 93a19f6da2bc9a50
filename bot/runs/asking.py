"""Questions to people, in the chat: one message each, drawn anew until it is answered. No answer in time is a no."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from bot.engine import Engine
from bot.incidents.chat import Chat
from bot.incidents.parts import DONE, Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import PermanentError
from bot.runs import approval as approvals
from bot.runs.model import ApprovalState
from bot.runs.standing import Standing

log = structlog.get_logger()


@dataclass
class Asking:
    """The workflows `show_approval` and `expire`."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)

    async def show(self, approval_id: str) -> None:
        """Post a question, or draw it as it stands now."""
        for _ in range(2):  # once more, if somebody drew a newer state under this older one
            if await self._drawn(approval_id):
                return

    async def _drawn(self, approval_id: str) -> bool:
        async with self.engine.db.read() as session:
            noun = await approvals.shown(session, approval_id)
        incident, approval, name = noun.incident, noun.approval, f"approval:{approval_id}"
        if incident.channel is None:
            return True  # `show_runs` comes back to it
        if approval.state != ApprovalState.ASKED and await self.parts.find(incident.id, name) is None:
            return True  # nobody was asked, and now nobody needs to be
        standing = Standing(self.parts, self.chat, incident.id, incident.channel, name, approval.asked_at)
        part = await standing.begin()
        if part.state == DONE and part.shown >= approval.revision:
            return True
        try:
            if part.state == DONE and not await standing.edit(part, noun):
                if approval.state != ApprovalState.ASKED:
                    return True
                part = await standing.begin()
            if part.state != DONE and not await standing.post(part, noun):
                return True
        except PermanentError as error:  # the channel is gone, say: then the answer is no, in time
            log.warning("approval.not_drawn", approval=approval_id, reason=str(error))
            return True
        return await self.parts.shown(incident.id, {name: None}, approval.revision)

    async def expire(self, now: str) -> None:
        """Answer with no what nobody answered in time, as of *now* (ISO 8601)."""
        async with self.engine.transaction() as tx:
            closed = await approvals.expire(tx, self.react, now=datetime.fromisoformat(now))
        if closed:
            log.info("approvals.expired", count=closed)
