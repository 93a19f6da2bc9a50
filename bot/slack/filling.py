"""Completes forms that were opened before anything was looked up, and offers choices while somebody types."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import access, lifecycle, roles
from bot.incidents.model import Incident, Kind, TimelineEvent
from bot.incidents.statuspage import PUBLISHED, Page
from bot.kit.errors import BotError, UserError
from bot.kit.shelf import Shelf
from bot.postmortems.sections import body, section
from bot.runs import access as run_access
from bot.runs import approval as approvals
from bot.runs import books as runbooks
from bot.runs import form as forms_of
from bot.runs import live as lives
from bot.runs.books import Books
from bot.runs.form import Field, Sheet
from bot.runs.live import Choices, Live
from bot.runs.ranking import Ranking
from bot.runs.runbook import Runbook
from bot.slack import reviewing
from bot.slack.client import SlackChat
from bot.slack.inbox import carrying
from bot.slack.people import People
from bot.slack.starting import elsewhere, runnable
from bot.slack.views import approval as approval_views
from bot.slack.views import forms
from bot.slack.views import incident as views
from bot.slack.views import postmortem as postmortem_views
from bot.slack.views import runbook as runbook_views
from bot.slack.views import statuspage as page_views
from bot.slack.views.blocks import Block

log = structlog.get_logger()


@dataclass
class Filling:
    """What stands behind a form's *fill*: ``form`` names it, ``person`` and ``channel`` say who opened it where."""

    engine: Engine
    chat: SlackChat
    people: People
    books: Books
    steps: Shelf
    ranking: Ranking
    live: Live
    groups: Callable[[access.Person], frozenset[str]] = lambda person: frozenset()
    channels: dict[str, str] = field(default_factory=dict)
    status_pages: Mapping[str, Page] = field(default_factory=dict)

    async def fill(self, view_id: str, about: Mapping[str, Any]) -> None:
        """Complete an open form, or say in it why it cannot be."""
        make = {
            "run": self._run, "approval": self._approval, "runbooks": self._runbooks, "here": self._here,
            "statuspage": self._statuspage, "section": self._section, "review": self._review,
        }[about["form"]]  # fmt: skip
        try:
            view = await make(about)
        except UserError as error:
            view = forms.trouble("Sorry", str(error))
        except sa.exc.SQLAlchemyError as error:
            log.warning("form.not_filled", reason=str(error.__cause__ or error))
            view = forms.trouble("Sorry", "The database does not answer. Please try again in a moment.")
        if view is None:
            return
        answer = {key: about[key] for key in ("channel", "url", "until") if key in about}
        try:
            await self.chat.update_view(view_id, carrying(view, answer))
        except BotError as error:
            log.warning("form.not_filled", reason=str(error))

    async def suggest(self, about: Mapping[str, Any], name: str) -> Sequence[str]:
        """The choices of a field of an open form that has too many to carry them."""
        runbook = self.books.runbooks.get(str(about.get("runbook")))
        param = runbook.params.get(name) if runbook is not None else None
        if runbook is None or param is None:
            return []
        if param.choices_from is None:
            return param.choices or []
        async with self.engine.db.read() as session:
            incident = await lifecycle.find(session, str(about.get("incident")))
        found = (await self.live.look(runbook, incident, name, most=lives.TYPING)).found
        return lives.offered(str((about.get("live") or {}).get(name, "")), found)

    # -- the forms --------------------------------------------------------------------------------------------------

    async def _here(self, about: Mapping[str, Any]) -> Block | None:
        """The form to declare turns into the overview if this proves to be an incident's channel."""
        async with self.engine.db.read() as session:
            incident = await lifecycle.by_channel(session, about["channel"])
        if incident is None:
            return None
        self.channels[about["channel"]] = incident.id
        return views.here(incident)

    async def _run(self, about: Mapping[str, Any]) -> Block:
        runbook = self.books.find(about["runbook"])
        async with self.engine.db.read() as session:
            incident = await self._incident(session, about, about["incident"])
            alerts = await lifecycle.alerts(session, incident.id)
            held = await roles.held(session, incident.id)
        if not incident.is_open:
            raise UserError(f"{incident.reference} is not open any more, so nothing is run for it.")
        may = run_access.refusal(
            runbook.access.run, f"{runbook.name} may be run", incident, about["person"], held, self._groups(about)
        )
        # Before anything is looked up for the form: that is for those who may run it as well.
        if why := may or elsewhere(about.get("channel"), incident, runbook):
            raise UserError(why)
        if len(runbook.params) > runbook_views.FIELDS:
            raise UserError(
                f"{runbook.name} has more parameters than a form can hold. Say them: "
                f"`/inc runbook run {runbook.id} name=value …`"
            )
        choices = await self.live.choices(runbook, incident)
        values = runbooks.prefill(runbook, incident, alerts)
        return runbook_views.form(self._sheet(runbook, incident, values, choices))

    def _sheet(
        self, runbook: Runbook, incident: Incident, values: Mapping[str, Any], choices: Mapping[str, Choices]
    ) -> Sheet:
        fields = []
        for name, param in runbook.params.items():
            looked = choices.get(name, Choices())
            found = looked.found or None
            fields.append(Field(name, param, values.get(name), found, looked.trouble, looked.left_out))
        live = {name: lives.mark(looked.found) for name, looked in choices.items() if looked.found}
        changes = forms_of.changes(runbook, self.steps, self.books.runbooks)
        return Sheet(incident, runbook, fields, changes, live)

    async def _approval(self, about: Mapping[str, Any]) -> Block:
        async with self.engine.db.read() as session:
            noun = await approvals.shown(session, about["approval"])
            await self._incident(session, about, noun.incident.id)
        approvals.still_asked(noun.approval, noun.run)
        return approval_views.form(noun, yes=about["yes"])

    async def _runbooks(self, about: Mapping[str, Any]) -> Block:
        """Those that this person may run."""
        async with self.engine.db.read() as session:
            incident = await self._incident(session, about, about["incident"])
            alerts = await lifecycle.alerts(session, incident.id)
            held = await roles.held(session, incident.id)
        groups = self._groups(about)
        fitting = self.ranking.offers(incident, alerts)
        may, hidden = runnable(self.books.runbooks, fitting, incident, about["person"], held, groups)
        return runbook_views.shelf(incident, may, hidden)

    async def _statuspage(self, about: Mapping[str, Any]) -> Block:
        """What would be published, and where; nothing is before it is sent."""
        if not self.status_pages:
            raise UserError("There is no status page: sinks.yaml has no sink that is one (`kind: statuspage`).")
        async with self.engine.db.read() as session:
            here = await lifecycle.by_channel(session, str(about.get("channel")))
            if here is None:
                raise UserError("This is not an incident channel. Say it in the channel of the incident it is about.")
            incident = await self._incident(session, about, here.id)
            query = sa.select(TimelineEvent).where(
                col(TimelineEvent.incident_id) == incident.id, col(TimelineEvent.kind) == PUBLISHED
            )
            last = await session.scalar(query.order_by(col(TimelineEvent.recorded_at).desc()).limit(1))
        if incident.private:
            raise UserError(f"{incident.reference} is private, so nothing about it is published.")
        if incident.kind != Kind.STANDARD:
            raise UserError(f"{incident.reference} is a {incident.kind}, so nothing about it is published.")
        return page_views.form(incident, list(self.status_pages.values()), last, about.get("text") or "")

    async def _section(self, about: Mapping[str, Any]) -> Block:
        """One section of the newest revision."""
        async with self.engine.db.read() as session:
            incident = await self._incident(session, about, about["incident"])
            document = await reviewing.document(session, incident)
        found = section(document.text, about["section"])
        words = body(document.text, found.name)
        if len(words) > postmortem_views.FIELD:
            raise UserError(
                f"The section {found.name} is too long for a form. Edit it in the file: `tocsin postmortem export "
                f"{incident.reference}`, then `tocsin postmortem import {incident.reference} FILE`."
            )
        return postmortem_views.section_form(incident, document, found, words)

    async def _review(self, about: Mapping[str, Any]) -> Block:
        """How it stands, and what can be said to it."""
        async with self.engine.db.read() as session:
            incident = await self._incident(session, about, about["incident"])
            noun = await reviewing.standing(session, incident)
        return postmortem_views.review_form(noun)

    def _groups(self, about: Mapping[str, Any]) -> frozenset[str]:
        known = self.people.recall(about["person"])
        return self.groups(known) if known is not None else frozenset()

    async def _incident(self, session: AsyncSession, about: Mapping[str, Any], incident_id: str) -> Incident:
        incident = await lifecycle.find(session, incident_id)
        held = await roles.held(session, incident.id)
        if not access.may_see(incident, about["person"], channel=about.get("channel"), roles=held):
            raise UserError("This incident is private; only members of its channel may act on it.")
        return incident
