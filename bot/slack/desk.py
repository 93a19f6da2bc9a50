"""Carries out what people asked: everything it changes in one transaction, then the answer."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import access, lifecycle
from bot.incidents.model import Request
from bot.incidents.timeline import React
from bot.kit.clock import Clock
from bot.kit.db import unavailable
from bot.kit.errors import BotError, PermanentError, TemporaryError, UserError
from bot.runs import library as runbooks
from bot.slack.client import SlackChat
from bot.slack.context import Context, Reply
from bot.slack.inbox import Inbox
from bot.slack.people import People
from bot.slack.views import forms

log = structlog.get_logger()

WAITING, DONE, REFUSED, VOID = "waiting", "done", "refused", "void"


@dataclass
class Desk:
    """The workflow `request`, and the filling of forms that were opened empty."""

    engine: Engine
    react: React
    chat: SlackChat
    people: People
    clock: Clock
    inbox: Inbox | None = None

    async def perform(self, request_id: str) -> None:
        """Carry out one request, once, and tell the person."""
        structlog.contextvars.bind_contextvars(request=request_id)
        async with self.engine.db.read() as session:
            request = await session.get(Request, request_id)
        if request is None or request.state == VOID:
            return
        if request.recorded > request.deadline:
            await self._settle(request, VOID, None)
            log.warning("request.void", request=request_id)
            return
        if request.state == WAITING:
            answer = await self._carry_out(request)
        else:
            answer = Reply(request.answer or "")
        await self._tell(request, answer)

    async def _carry_out(self, request: Request) -> Reply:
        try:
            person = await self.people.find(request.person) or access.Person(request.person)
            if why := access.refusal(person):
                raise UserError(why)
            return await self._do(request, person)
        except (UserError, PermanentError) as error:
            return await self._settle(request, REFUSED, Reply(f":warning: {error}"))
        except TemporaryError:
            raise
        except Exception as error:
            if unavailable(error):
                raise
            log.exception("request.broken", request=request.id, name=request.name)
            text = (
                f":warning: Something went wrong in the bot, and nothing was changed. The log has it under "
                f"`{request.id[:8]}`."
            )
            return await self._settle(request, REFUSED, Reply(text))

    async def _do(self, request: Request, person: access.Person) -> Reply:
        inbox = self._inbox
        async with self.engine.transaction() as tx:
            claimed = await tx.session.execute(
                sa.update(Request)
                .where(col(Request.id) == request.id, col(Request.state) == WAITING)
                .values(state=DONE)
            )
            if not claimed.rowcount:  # type: ignore[attr-defined]
                return Reply("")
            context = Context(
                tx=tx,
                react=self.react,
                request=request,
                person=person,
                now=self.clock(),
                library=inbox.library,
                guide=inbox.guide,
                word=inbox.word,
            )
            reply = await self._run(context, request)
            await tx.session.execute(
                sa.update(Request).where(col(Request.id) == request.id).values(answer=reply.text[:3000])
            )
        return reply

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

    async def _settle(self, request: Request, state: str, reply: Reply | None) -> Reply:
        async with self.engine.transaction() as tx:
            await tx.session.execute(
                sa.update(Request)
                .where(col(Request.id) == request.id, col(Request.state) == WAITING)
                .values(state=state, answer=reply.text[:3000] if reply else None)
            )
        return reply or Reply("")

    async def _tell(self, request: Request, reply: Reply) -> None:
        if not reply.text:
            return
        with contextlib.suppress(PermanentError):  # a person who cannot be told, not a request that failed
            if url := request.payload.get("response_url"):
                await self.chat.reply(url, reply.text, reply.blocks)
            elif channel := await self._place(request):
                await self.chat.whisper(channel, request.person, reply.text, reply.blocks)

    async def _place(self, request: Request) -> str | None:
        """Where an answer to a form can be seen by who sent it."""
        about = request.payload.get("about") or {}
        if incident_id := about.get("incident"):
            async with self.engine.db.read() as session:
                return (await lifecycle.find(session, incident_id)).channel
        return request.channel

    @property
    def _inbox(self) -> Inbox:
        if self.inbox is None:
            raise PermanentError("the desk was not joined to the inbox")
        return self.inbox

    # -- forms ------------------------------------------------------------------------------------------------------

    async def fill(self, view_id: str, about: Mapping[str, str]) -> None:
        """Complete the form of a runbook with what the alert says."""
        try:
            view = await self._form(about)
        except UserError as error:
            view = forms.trouble("Run a runbook", str(error))
        except sa.exc.SQLAlchemyError as error:
            log.warning("form.not_filled", reason=str(error.__cause__ or error))
            view = forms.trouble("Run a runbook", "The database does not answer. Please try again in a moment.")
        try:
            await self.chat.update_view(view_id, view)
        except BotError as error:
            log.warning("form.not_filled", reason=str(error))

    async def _form(self, about: Mapping[str, str]) -> dict[str, Any]:
        runbook = self._inbox.library.find(about["runbook"])
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, about["incident"])
            alerts = await lifecycle.alerts(session, incident.id)
        if not incident.is_open:
            raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
        return forms.run(
            incident_id=incident.id,
            runbook=runbook.id,
            sha256=runbook.sha256,
            name=runbook.name,
            description=runbook.description,
            risk=runbook.risk,
            params=[{"name": name, **param.model_dump()} for name, param in runbook.params.items()],
            values=runbooks.prefill(runbook, incident, alerts),
            steps=[step.title for step in runbook.steps],
        )


async def channels(engine: Engine) -> dict[str, str]:
    """Which channel belongs to which incident."""
    async with engine.db.read() as session:
        found = await lifecycle.listed(session, open_only=False, limit=5000)
    return {incident.channel: incident.id for incident in found if incident.channel}


def _moment(ts: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(ts), UTC)
    except (TypeError, ValueError, OverflowError):
        return None
