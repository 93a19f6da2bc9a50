"""What the channel is told of what happens, each event once, and late if there was no channel yet."""

from dataclasses import dataclass
from datetime import datetime

from bot.engine import Engine
from bot.incidents import lifecycle, parts
from bot.incidents.chat import Chat, Cleared, Closing, HandedIn, Message, Notice, Todo
from bot.incidents.model import Incident, TimelineEvent
from bot.incidents.parts import Parts
from bot.incidents.timeline import React
from bot.kit.clock import Clock

# What is told in the channel even if it happened before there was one; of the rest the card shows the outcome.
KEPT = (
    *("incident.resolved", "note.added", "page.sent", "page.failed", "page.nobody", "work.parked"),
    *("page.delayed", "page.unanswered", "page.acknowledged"),
    "run.glass_broken",
    *("delivery.given_up", "pager.troubled"),
    *("runbook.withheld", "run.raised", "automation.stopped", "schedule.missed"),
    *("task.added", "followup.added", "ticket.failed"),
)


@dataclass
class Telling:
    """The workflow `notify`."""

    engine: Engine
    react: React
    chat: Chat
    clock: Clock

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)

    async def notify(self, incident_id: str, event_id: str) -> None:
        """Tell the channel what happened."""
        async with self.engine.db.read() as session:
            event = await session.get(TimelineEvent, event_id)
            incident = await lifecycle.find(session, incident_id)
        if event is None:
            return
        if incident.channel is None:
            if event.kind not in KEPT:
                return  # the card shows what came of it
            async with self.engine.transaction() as tx:  # the opening takes the same lock: one of the two tells it
                incident = await lifecycle.find(tx.session, incident_id, lock=True)
                if incident.channel is None:
                    await parts.wait(tx, incident_id, _notice(event_id), event_id, now=self.clock())
                    return
        message = said(incident, event)
        if message is not None:
            await self.say(incident, _notice(event_id), message, since=event.recorded_at)

    async def say(
        self, incident: Incident, name: str, message: Message, *, since: datetime | None = None
    ) -> str | None:
        """Post *message* once under *name*, not before *since*; its id, or None if the chat refuses it."""
        channel = incident.channel
        if channel is None:
            return None
        key = f"{incident.id}:{name}"

        async def make() -> parts.Result:
            return {"ts": await self.chat.post(channel, message, key=key)}

        async def find() -> parts.Result | None:
            ts = await self.chat.find_post(channel, key, since=since or incident.opened_at)
            return {"ts": ts} if ts else None

        part = (await self.parts.begin(incident.id, [name]))[name]
        made = await self.parts.make(part, make, find, quiet=True)
        return made["ts"] if made else None


def _notice(event_id: str) -> str:
    """The part that is the message about an event."""
    return f"notice:{event_id}"


def said(incident: Incident, event: TimelineEvent) -> Message | None:
    """What the channel is told about *event*."""
    match event.kind:
        case "alerts.cleared":
            return Cleared(incident) if incident.is_open else None
        case "alerts.quiet":
            return Cleared(incident, silent=event.data["silent"]) if incident.is_open else None
        case "incident.resolved":
            return Closing(incident, event.data.get("note", ""))
        case "note.added":
            if event.data.get("kind") == "decision":
                return Notice(event.text)
            return Notice(f"<@{event.actor}>: {event.text}", ":memo:") if event.actor != "bot" else None
        case "severity.changed":
            return Notice(f"{event.text}{_by(event)}", ":rotating_light:")
        case "status.changed":
            return Notice(f"{event.text}{_by(event)}", ":arrow_right:")
        case "role.assigned":
            return Notice(event.text, ":crown:")
        case "incident.reopened":
            return Notice(f"{event.text}{_by(event)}", ":leftwards_arrow_with_hook:")
        case "task.added" | "followup.added":
            return Todo(event.text, event.data["task"], event.data.get("tracker"))
        case "task.done" | "followup.done":
            return Notice(f"{event.text}{_by(event)}", ":white_check_mark:")
        case "task.dropped" | "followup.dropped" | "task.reopened" | "followup.reopened":
            return Notice(f"{event.text}{_by(event)}", ":ballot_box_with_check:")
        case "ticket.opened" | "ticket.linked" | "change.opened":
            url = event.data.get("url")
            return Notice(event.text + (f": {url}" if url else ""), ":ticket:")
        case "change.approved":
            return Notice(event.text, ":white_check_mark:")
        case "ticket.failed" | "change.refused":
            return Notice(event.text, ":warning:")
        case "ticket.heard":  # what our side does because of it, it says itself
            return Notice(event.text, ":ticket:") if event.data.get("news") else None
        case "page.failed" | "page.nobody" | "page.delayed" | "page.refused":
            return Notice(event.text, ":warning:")
        case "pager.troubled":
            return Notice(event.text, ":warning:")
        case "pager.mended":
            return Notice(event.text, ":white_check_mark:")
        case "page.unanswered" | "page.unacknowledged":
            return Notice(event.text, ":rotating_light:")
        case "page.sent" | "page.asked" | "help.asked" | "page.escalated" | "page.reassigned":
            return Notice(event.text, ":pager:")
        case "page.responder_asked" | "page.responder_answered":
            return Notice(event.text, ":pager:")
        case "page.acknowledged":
            return Notice(event.text, ":ok_hand:")
        case "page.noted":
            return Notice(event.text, ":memo:")
        case "page.updated" if event.data.get("via") != "slack":
            return Notice(event.text, ":memo:")
        case "page.resolved" | "page.reopened" if event.data.get("via") != "slack":
            # Whether it is over is said here: what was resolved there is a question.
            if event.kind == "page.resolved" and incident.is_open:
                return Cleared(incident, said=event.text)
            return Notice(event.text, ":pager:")
        case "run.glass_broken":
            return Notice(event.text, ":rotating_light:")
        case "statuspage.published":
            return Notice(event.text, ":loudspeaker:")
        case "postmortem.reminded":
            return Notice(event.text, ":alarm_clock:")
        case "postmortem.completed" | "postmortem.waived":
            return Notice(f"{event.text}{_by(event)}", ":white_check_mark:")
        case "postmortem.review_asked":
            return HandedIn(incident, f"{event.text}{_by(event)}")
        case "postmortem.review_returned" | "postmortem.reopened":
            return Notice(f"{event.text}{_by(event)}", ":mag:")
        case "postmortem.edited" | "postmortem.owned" | "postmortem.planned":
            return Notice(event.text, ":pencil2:")
        case "delivery.given_up":
            return Notice(event.text, ":warning:")
        case "work.parked" | "run.file_refused" | "run.unjudged" | "schedule.missed":
            return Notice(event.text, ":warning:")
        case "run.raised":  # that it still fires is nothing new
            return Notice(event.text, ":bell:") if event.data.get("news") else None
        case "runbook.withheld":
            return Notice(event.text, ":double_vertical_bar:")
        case "oncall.changed" | "oncall.covered":
            return Notice(event.text, ":telephone_receiver:")
        case "oncall.not_covered":
            return Notice(event.text, ":warning:")
        case "automation.stopped":
            return Notice(event.text, ":octagonal_sign:")
        case "automation.resumed":
            return Notice(event.text, ":arrow_forward:")
    return None


def _by(event: TimelineEvent) -> str:
    """Who did it, if it was a person."""
    return f" (<@{event.actor}>)" if event.actor and event.actor != "bot" else ""
