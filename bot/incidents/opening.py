"""From a decision to a furnished channel: what the bot makes in the chat for an incident, step by step, resumable."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.alerts.model import AlertRow, AlertState
from bot.alerts.source import link
from bot.engine import LINES, Engine, Work
from bot.incidents import lifecycle, parts, roles, tasks, tickets, timeline
from bot.incidents.chat import (
    Announcement,
    Card,
    Chat,
    Look,
    NameTaken,
    Offer,
    Unfurnished,
)
from bot.incidents.model import Incident, Page, Part, Status
from bot.incidents.parts import DONE, FAILED, Parts
from bot.incidents.services import Services
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.errors import BotError, PermanentError, TemporaryError
from bot.kit.text import clip, one_line, slug

log = structlog.get_logger()

CHANNEL, TOPIC, INVITES, BOOKMARK, CARD, PIN, ANNOUNCEMENT = (
    "channel",
    "topic",
    "invites",
    "bookmark",
    "card",
    "pin",
    "announcement",
)

# How often cards are drawn anew, all incidents together: what changes while one waits is drawn along with it. Less
# often while senders or people wait for an answer: a drawing costs as much as a hundred alerts.
BURST, REDRAWS, RESTLESS = 10, 5.0, 2.0
# Among those who are invited: the members of the team that owns the service.
# Or whoever is on call for it.
OWNERS, ON_CALL = "owners", "oncall"
PARTS = (CHANNEL, TOPIC, INVITES, BOOKMARK, CARD, PIN, ANNOUNCEMENT)
NEVER_OPENED = (Status.TRIAGE, Status.DECLINED, Status.CANCELED, Status.MERGED)

# Which runbooks may help with an incident that has these alerts: given by app.build(), since runs lie above.
Offers = Callable[[Incident, Sequence[AlertRow]], Sequence[Offer]]


@dataclass
class Opening:
    """The workflows around an incident's channel. Each may run again after a crash: what is there is left alone."""

    engine: Engine
    react: React
    chat: Chat
    look: Look
    offers: Offers
    clock: Clock
    opened: Callable[[str, str], None] = lambda channel, incident_id: None
    services: Services = field(default_factory=Services)
    on_call: Callable[[str | None], Sequence[str]] = lambda service: ()

    def __post_init__(self) -> None:
        self.parts = Parts(self.engine, self.react, self.clock)
        self._next = 0.0
        self._turns = asyncio.Lock()

    # -- workflows --------------------------------------------------------------------------------------------

    async def open(self, incident_id: str) -> None:
        """Channel first; then topic, people, bookmark, card and announcement side by side."""
        structlog.contextvars.bind_contextvars(incident=incident_id)
        async with self.engine.db.read() as session:  # the least that is needed: somebody waits for the channel
            incident = await lifecycle.find(session, incident_id)
        if incident.status in NEVER_OPENED and incident.channel is None:
            asked = await self._announce(incident_id)
            if incident.status == Status.TRIAGE and not asked:
                await self._unasked(incident_id)
            return
        await self._channel(incident)
        await self._furnish(incident_id)

    async def refresh(self, incident_id: str) -> None:
        """Draw card, announcement and topic as things stand; several changes make one edit."""
        structlog.contextvars.bind_contextvars(incident=incident_id)
        await self._turn()
        await self._catch_up(incident_id)

    async def _turn(self) -> None:
        """Some at once, then so many a second: in a storm of alerts drawing must not keep them from being stored."""
        async with self._turns:
            now = time.monotonic()
            turn = max(self._next, now - BURST / REDRAWS)
            if turn > now:
                await asyncio.sleep(turn - now)
            self._next = turn + 1 / (RESTLESS if self.engine.courtesy.restless() else REDRAWS)

    # -- the parts --------------------------------------------------------------------------------------------

    async def _channel(self, incident: Incident) -> None:
        part = (await self.parts.begin(incident.id, [CHANNEL]))[CHANNEL]
        if part.state == DONE and incident.channel is not None:
            self.opened(part.result["id"], incident.id)
            return
        # Done, but the incident does not know its channel yet: killed in between. `make` gives what was made.
        names = channel_names(incident, self.look.prefix)

        async def make() -> parts.Result:
            for name in names:
                try:
                    made = await self.chat.create_channel(name, private=incident.private)
                except NameTaken:
                    if found := await find():  # an earlier attempt that came through late
                        return found
                    continue
                return {"id": made.id, "name": made.name}
            raise PermanentError(f"the names {', '.join(names)} are all taken")

        async def find() -> parts.Result | None:
            found = await self.chat.find_channel(names, private=incident.private, since=incident.opened_at)
            return {"id": found.id, "name": found.name} if found else None

        made = await self.parts.make(part, make, find)
        if made is None:
            return
        now = self.clock()
        async with self.engine.transaction() as tx:
            await tx.session.execute(
                sa.update(Incident)
                .where(col(Incident.id) == incident.id)
                .values(channel=made["id"], channel_name=made["name"])
            )
            await timeline.touch(tx.session, incident.id)
            await timeline.record(
                tx,
                self.react,
                incident.id,
                "channel.opened",
                f"Channel #{made['name']} opened",
                now=now,
                actor="bot",
                data={"channel": made["id"], "name": made["name"]},
                once="channel",
            )
            for event_id in await parts.waiting(tx, incident.id):  # what was said before there was a channel
                tx.enqueue(Work("notify", f"late:{event_id}", (incident.id, event_id)))
            now_known = await lifecycle.find(tx.session, incident.id)
            if not now_known.is_open:  # over before there was a place for its document
                work = Work(
                    "draft", f"draft:late:{incident.id}", (incident.id,), queue=LINES, partition=f"draft:{incident.id}"
                )
                tx.enqueue(work)
        self.opened(made["id"], incident.id)

    async def _furnish(self, incident_id: str) -> None:
        card = await self._card(incident_id)
        incident, channel = card.incident, card.incident.channel
        if channel is None:
            await self._together([self._announce(incident_id), self._excuse(card)])
            await self._catch_up(incident_id)
            return
        people = invited(incident, self._usual(incident))
        link = bookmark(card.alerts)
        names = [TOPIC, CARD, PIN, *([INVITES] if people else []), *([BOOKMARK] if link else [])]
        found = await self.parts.begin(incident_id, names)
        key = f"{incident_id}:card"

        async def set_topic() -> parts.Result:
            await self.chat.set_topic(channel, topic(card))
            return {"text": topic(card)}

        async def find_topic() -> parts.Result | None:
            return {"text": topic(card)} if await self.chat.has_topic(channel, topic(card)) else None

        async def invite() -> parts.Result:
            refused = await self.chat.invite(channel, people)
            if refused:
                raise PermanentError("; ".join(f"{who}: {why}" for who, why in refused.items()))
            return {"people": people}

        async def add_bookmark() -> parts.Result:
            title, url = link or ("", "")
            await self.chat.bookmark(channel, title, url)
            return {"url": url}

        async def find_bookmark() -> parts.Result | None:
            url = link[1] if link else ""
            return {"url": url} if await self.chat.has_bookmark(channel, url) else None

        fresh = False

        async def post_card() -> parts.Result:
            nonlocal fresh
            ts = await self.chat.post(channel, card, key=key)
            fresh = True
            return {"ts": ts}

        async def find_card() -> parts.Result | None:
            ts = await self.chat.find_post(channel, key, since=incident.opened_at)
            return {"ts": ts} if ts else None

        async def show_card() -> None:
            made = await self.parts.make(found[CARD], post_card, find_card)
            if made is None:
                return
            if fresh:
                await self.parts.shown(incident_id, {CARD: None}, incident.revision)

            async def pin() -> parts.Result:
                await self.chat.pin(channel, made["ts"])
                return {}

            await self.parts.make(found[PIN], pin)

        work: list[Awaitable[Any]] = [
            self.parts.make(found[TOPIC], set_topic, find_topic),
            show_card(),
            self._announce(incident_id),
        ]
        if people:
            work.append(self.parts.make(found[INVITES], invite))
        if link:
            work.append(self.parts.make(found[BOOKMARK], add_bookmark, find_bookmark))
        try:
            await self._together(work)
        except BotError:  # one part that does not come right for hours must not keep the rest from being up to date
            await self._catch_up(incident_id)
            raise
        await self._catch_up(incident_id)

    def _usual(self, incident: Incident) -> list[str]:
        """Who is brought in wherever they are not kept out: a word stands for whoever owns the service."""
        directory = self.services.directory
        words = {OWNERS: directory.owners, ON_CALL: self.on_call}
        found = [words[one](incident.service) if one in words else (one,) for one in self.look.invite]
        return [directory.person(who) for some in found for who in some]

    async def _unasked(self, incident_id: str) -> None:
        """A question that nobody can see would let an alert lie for ever: it counts as answered with yes."""
        async with self.engine.transaction() as tx:
            incident = await lifecycle.find(tx.session, incident_id, lock=True)
            if incident.status == Status.TRIAGE:
                text = f"{incident.reference} opened: there is no place to ask whether it is an incident"
                await lifecycle.accept(tx, self.react, incident, by="bot", now=self.clock(), text=text)

    async def _announce(self, incident_id: str) -> bool:
        """Post the announcement, or the question; whether it stands in the announcement channel."""
        card = await self._card(incident_id)
        incident = card.incident
        if incident.private or not self.look.announce or incident.kind != "standard":
            return False
        part = (await self.parts.begin(incident_id, [ANNOUNCEMENT]))[ANNOUNCEMENT]
        key = f"{incident_id}:announcement"
        fresh = False

        async def make() -> parts.Result:
            nonlocal fresh
            place = await self.chat.announcement_channel()
            ts = await self.chat.post(place, Announcement(card), key=key)
            fresh = True
            return {"channel": place, "ts": ts, "look": self.chat.looks(Announcement(card))}

        async def find() -> parts.Result | None:
            place = await self.chat.announcement_channel()
            ts = await self.chat.find_post(place, key, since=min(incident.detected_at, incident.opened_at))
            return {"channel": place, "ts": ts} if ts else None

        made = await self.parts.make(part, make, find)
        if fresh:
            await self.parts.shown(incident_id, {ANNOUNCEMENT: None}, incident.revision)
        return made is not None

    async def _excuse(self, card: Card) -> None:
        """Without a channel, whoever declared the incident is told why: a private one is announced nowhere else."""
        failed = next((part for part in card.failed if part.name == CHANNEL), None)
        if failed is None or card.incident.declared_by is None:
            return
        name = f"excuse:{failed.attempts}"
        part = (await self.parts.begin(card.incident.id, [name]))[name]
        key = f"{card.incident.id}:{name}"

        async def make() -> parts.Result:
            return {"ts": await self.chat.post(card.incident.declared_by or "", Unfurnished(card), key=key)}

        await self.parts.make(part, make, quiet=True)

    async def _catch_up(self, incident_id: str) -> None:
        """Draw whatever shows less than is known: several changes make one edit."""
        for _ in range(5):
            stale = await self._stale(incident_id)
            if not stale:
                return
            card = await self._card(incident_id)
            drawn: dict[str, parts.Result | None] = {}
            try:
                await self._together([self._redraw(part, card, drawn) for part in stale])
            finally:
                await self.parts.shown(incident_id, drawn, card.incident.revision)

    async def _redraw(self, part: Part, card: Card, drawn: dict[str, parts.Result | None]) -> None:
        incident = card.incident
        result = None
        try:
            if part.name == TOPIC:
                result = await self._topic(part, incident.channel, topic(card))
            elif part.name == CARD and incident.channel:
                await self.chat.edit(incident.channel, part.result["ts"], card)
            elif part.name == ANNOUNCEMENT:
                look = self.chat.looks(Announcement(card))
                if part.result.get("look") != look:  # one channel has them all, and Slack grants it one edit a second
                    await self.chat.edit(part.result["channel"], part.result["ts"], Announcement(card))
                    result = {**part.result, "look": look}
        except PermanentError as error:
            # A deleted message or an archived channel: the state is safe in the database, so this is only logged.
            log.warning("part.not_redrawn", part=part.name, reason=str(error))
        drawn[part.name] = result

    async def _topic(self, part: Part, channel: str | None, wanted: str) -> parts.Result | None:
        """Set the topic if it says something else. Each time is a message to everyone, so never twice the same."""
        if channel is None or part.result.get("text") == wanted:
            return None
        if part.result.get("setting") != wanted:
            await self.parts.keep(part, {**part.result, "setting": wanted})
        elif await self.chat.has_topic(channel, wanted):  # an earlier attempt did not live to write down that it did it
            return {"text": wanted}
        await self.engine.still_mine()
        await self.chat.set_topic(channel, wanted)
        return {"text": wanted}

    async def _together(self, work: Iterable[Awaitable[Any]]) -> None:
        """Do it all side by side; what fails does not stop the rest, and is raised when all have ended."""
        ended = await asyncio.gather(*work, return_exceptions=True)
        failures = [end for end in ended if isinstance(end, BaseException)]
        lasting = [end for end in failures if not isinstance(end, TemporaryError)]
        if failures:
            raise (lasting or failures)[0]

    # -- what there is ----------------------------------------------------------------------------------------

    async def _card(self, incident_id: str) -> Card:
        async with self.engine.db.read() as session:
            return await card_of(session, incident_id, self.offers, self.services)

    async def _stale(self, incident_id: str) -> list[Part]:
        """The parts that show less than is known."""
        query = (
            sa.select(Part)
            .join(Incident, col(Incident.id) == col(Part.incident_id))
            .where(
                col(Part.incident_id) == incident_id,
                col(Part.name).in_((CARD, ANNOUNCEMENT, TOPIC)),
                col(Part.state) == DONE,
                col(Part.shown) < col(Incident.revision),
            )
        )
        async with self.engine.db.read() as session:
            return list(await session.scalars(query))


async def card_of(session: AsyncSession, incident_id: str, offers: Offers, services: Services | None = None) -> Card:
    """The state of an incident as its card shows it; *services* know its service."""
    incident = await lifecycle.find(session, incident_id)
    alerts = await lifecycle.alerts(session, incident_id, limit=20)
    failed = sa.select(Part).where(
        col(Part.incident_id) == incident_id, col(Part.state) == FAILED, col(Part.name).in_(PARTS)
    )
    pages = sa.select(Page).where(col(Page.incident_id) == incident_id).order_by(col(Page.number))
    return Card(
        incident=incident,
        roles=await roles.held(session, incident_id),
        alerts=alerts,
        firing=await lifecycle.count(session, incident_id, AlertState.FIRING),
        silent=await lifecycle.count(session, incident_id, AlertState.STALE),
        total=await lifecycle.counted(session, incident_id),
        failed=list(await session.scalars(failed.order_by(col(Part.name)))),
        pages=list(await session.scalars(pages)),
        offers=offers(incident, alerts),
        about=await services.about(session, incident.service) if services is not None else None,
        todo=await tasks.open_count(session, incident_id),
        tickets=[one for one in await tickets.of(session, incident_id) if one.purpose == "incident"],
    )


def invited(incident: Incident, usual: Sequence[str]) -> list[str]:
    """Who is brought in. A person who declares a private incident decides alone who else hears of it."""
    if incident.declared_by is None:
        return list(dict.fromkeys(usual))
    return list(dict.fromkeys([incident.declared_by, *(() if incident.private else usual)]))


def channel_names(incident: Incident, prefix: str) -> list[str]:
    """Names to try, best first; the number comes from the database, so they belong to this incident alone."""
    start = f"{prefix}-{incident.number}"
    words = slug(incident.title, 80 - len(start) - 4)
    base = f"{start}-{words}" if words and not incident.private else start
    return [base, *(f"{base}-{n}" for n in range(2, 5)), f"{start}-{incident.id[-6:]}"]


def topic(card: Card) -> str:
    """One line on top of the channel."""
    incident = card.incident
    lead = f"<@{card.commander}>" if card.commander else "nobody yet"
    start = f"{incident.reference} · {incident.severity} · {incident.status} · commander: {lead} · "
    # The commander is meant to be a mention; whoever a sender names in the title is not.
    return start + clip(one_line(incident.title).replace("<@", "@"), 250 - len(start))


def bookmark(alerts: Sequence[AlertRow]) -> tuple[str, str] | None:
    """The link most worth having at hand: the alert's runbook, else the alert itself."""
    for alert in alerts:
        if url := link(alert.annotations.get("runbook_url")):
            return "Runbook", url
    return next((("Alert", alert.url) for alert in alerts if alert.url), None)
