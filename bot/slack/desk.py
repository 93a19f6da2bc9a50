"""Carries out what people asked: everything it changes in one transaction, then the answer."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.catalog.tracking import Tracking
from bot.engine import Engine, Tx, Work
from bot.incidents import access, logbook
from bot.incidents.model import LOGBOOK, Incident, Request
from bot.incidents.statuspage import Page
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import unavailable
from bot.kit.errors import PermanentError, TemporaryError, UserError
from bot.runs.auto import Policy
from bot.slack.client import SlackChat
from bot.slack.context import Context, Log, Offers, Reply, Site
from bot.slack.inbox import SPEAKS, Inbox
from bot.slack.people import People
from bot.slack.views.blocks import mentions

log = structlog.get_logger()

WAITING, DONE, REFUSED, VOID = "waiting", "done", "refused", "void"


@dataclass
class Desk:
    """The workflows `request` and `answer`."""

    engine: Engine
    react: React
    chat: SlackChat
    people: People
    clock: Clock
    inbox: Inbox | None = None
    groups: Callable[[access.Person], frozenset[str]] = lambda person: frozenset()
    policy: Policy = field(default_factory=Policy)
    formats: Sequence[str] = ()
    templates: Sequence[str] = ()
    log: Log = logbook.opened
    tracking: Tracking = field(default_factory=Tracking)
    offers: Offers = lambda incident, alerts: ()
    status_pages: Mapping[str, Page] = field(default_factory=dict)
    site: Site = field(default_factory=Site)

    async def perform(self, request_id: str) -> None:
        """Carry out one request, after whatever the same person asked before it."""
        async with self.engine.db.read() as session:
            asked = await session.get(Request, request_id)
            if asked is None:
                return
            # The queue lets one request of a person run at a time, but not always in the order they came in.
            until = sa.and_(col(Request.received_at) <= asked.received_at, col(Request.state) == WAITING)
            query = sa.select(Request).where(col(Request.person) == asked.person, until)
            waiting = list(await session.scalars(query.order_by(col(Request.received_at), col(Request.id))))
        for request in waiting:
            with structlog.contextvars.bound_contextvars(request=request.id):
                await self._perform(request)

    async def _perform(self, request: Request) -> None:
        told = self._inbox.revoked.get(request.id) == request.deadline
        if told or request.recorded > request.deadline:
            await self._settle(request, VOID, None)
            log.warning("request.void", request=request.id)
        else:
            await self._carry_out(request)

    async def answer(self, request_id: str) -> None:
        """Tell the person what came of it. A workflow of its own: a slow answer keeps nobody's next request waiting."""
        async with self.engine.db.read() as session:
            request = await session.get(Request, request_id)
        if request is not None and request.answer:
            await self._tell(request, _read(request.answer))

    async def _carry_out(self, request: Request) -> None:
        try:
            person = await self.people.find(request.person)
            if person is None:
                raise UserError("Slack does not say who you are, so nothing was done. Does the app lack a scope?")
            if why := access.refusal(person):
                raise UserError(why)
            await self._do(request, person)
        except (UserError, PermanentError) as error:
            await self._settle(request, REFUSED, Reply(f":warning: {mentions(str(error), 2900)}"))
        except TemporaryError:
            raise
        except (
            Exception
        ) as error:  # a fault of ours in one command: the person hears of it, and it is not tried for hours
            if unavailable(error):
                raise
            log.exception("request.broken", request=request.id, name=request.name)
            text = (
                f":warning: Something went wrong in the bot, and nothing was changed. The log has it under "
                f"`{request.id[:8]}`."
            )
            await self._settle(request, REFUSED, Reply(text))

    async def _do(self, request: Request, person: access.Person) -> None:
        inbox = self._inbox
        async with self.engine.transaction() as tx:
            claim = sa.update(Request).where(col(Request.id) == request.id, col(Request.state) == WAITING)
            claimed = await tx.session.execute(
                claim.values(state=DONE, payload=_kept(request)).returning(col(Request.id))
            )
            if claimed.scalar_one_or_none() is None:
                return
            context = Context(
                tx=tx,
                react=self.react,
                request=request,
                person=person,
                now=self.clock(),
                books=inbox.books,
                guide=inbox.guide,
                word=inbox.word,
                name=self.people.name,
                groups=self.groups(person),
                policy=self.policy,
                log=self.log,
                status_pages=self.status_pages,
                tracking=self.tracking,
                offers=self.offers,
                link=self.chat.link,
                formats=self.formats,
                templates=self.templates,
                services=inbox.services,
                site=self.site,
            )
            reply = await self._run(context, request)
            await tx.session.execute(
                sa.update(Request).where(col(Request.id) == request.id).values(answer=_written(reply))
            )
            if reply.text:
                tx.enqueue(_answer(request))

    async def _run(self, context: Context, request: Request) -> Reply:
        inbox = self._inbox
        made: Any
        match request.kind:
            case "command":
                made = await inbox.commands[request.name].run(context, request.payload["text"])
            case "button":
                made = await inbox.buttons[request.name](context, request.payload["value"])
            case "form":
                made = await inbox.forms[request.name](context, request.payload)
            case "shortcut":
                at = _moment(request.payload.get("ts"))
                made = await inbox.shortcuts[request.name](context, {**request.payload, "at": at})
            case _:
                made = await self._mentioned(context)
        assert isinstance(made, Reply)  # noqa: S101 - a command that returns anything else is a fault of ours
        return made

    async def _mentioned(self, context: Context) -> Reply:
        """Somebody wrote to the bot."""
        here = await context.here()
        word = context.word
        if here is not None:
            return Reply(f"This is the channel of {here.reference}. `{word} help` shows what you can say.")
        return Reply(f"`{word} declare` opens an incident, `{word} help` shows everything else.")

    async def _settle(self, request: Request, state: str, reply: Reply | None) -> None:
        async with self.engine.transaction() as tx:
            await tx.session.execute(
                sa.update(Request)
                .where(col(Request.id) == request.id, col(Request.state) == WAITING)
                .values(state=state, answer=_written(reply) if reply else None, payload=_kept(request))
            )
            if reply is not None:
                tx.enqueue(_answer(request))

    async def _tell(self, request: Request, reply: Reply) -> None:
        """Where they asked, as long as Slack lets; else in the channel if that is where it was, else directly."""
        about = request.payload.get("about") or {}
        url, until = about.get("url"), float(about.get("until") or 0)
        if asked := request.payload.get("response_url"):
            url, until = asked, request.received_at.timestamp() + SPEAKS
        try:
            if url and time.time() < until:
                await self.chat.reply(url, reply.text, reply.blocks)
            elif request.kind == "event" and request.channel:
                await self.chat.whisper(request.channel, request.person, reply.text, reply.blocks)
            else:
                await self.chat.direct(request.person, reply.text, reply.blocks)
        except PermanentError as error:
            log.warning("reply.lost", reason=str(error))  # a person who cannot be told, not a request that failed

    @property
    def _inbox(self) -> Inbox:
        if self.inbox is None:
            raise PermanentError("the desk was not joined to the inbox")
        return self.inbox


async def give_up(tx: Tx, request_id: str, why: str) -> None:
    """A request that could not be carried out for hours is over, and the person is told."""
    reply = Reply(f":warning: What you asked for could not be done: {mentions(why, 500)}. Nothing was changed.")
    request = await tx.session.get(Request, request_id, with_for_update=True)
    if request is not None and request.state == WAITING:
        request.state, request.answer, request.payload = REFUSED, _written(reply), _kept(request)
        tx.session.add(request)
        await tx.session.flush()
        tx.enqueue(_answer(request))


async def channels(engine: Engine, *, newest: int | None = None) -> dict[str, str]:
    """Which channel belongs to which incident: of all, or of the *newest* ones."""
    query = sa.select(col(Incident.channel), col(Incident.id)).where(
        col(Incident.channel).is_not(None), col(Incident.number) != LOGBOOK
    )
    async with engine.db.read() as session:
        found = await session.execute(query.order_by(col(Incident.number).desc()).limit(newest))
        return {str(channel): incident_id for channel, incident_id in found}


def _answer(request: Request) -> Work:
    return Work("answer", f"answer:{request.id}", (request.id,))


def _written(reply: Reply) -> str:
    return json.dumps({"text": reply.text[:3000], "blocks": list(reply.blocks)})


def _read(answer: str | None) -> Reply:
    return Reply(**json.loads(answer)) if answer else Reply("")


def _kept(request: Request) -> dict[str, Any]:
    """What stays of a request that was carried out: not what was filled in, which may be secret."""
    return {name: part for name, part in request.payload.items() if name != "values"}


def _moment(ts: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(ts), UTC)
    except (TypeError, ValueError, OverflowError):
        return None
