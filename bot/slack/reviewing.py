"""What the command, the button and the forms of a post-mortem share."""

import asyncio
import re
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from bot.incidents import roles
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.postmortems import draft as drafts
from bot.postmortems import merge
from bot.postmortems.lint import Finding, lint
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import stated
from bot.postmortems.review import found
from bot.postmortems.rules import LEVELS
from bot.slack.views.postmortem import Standing

_PERSON = re.compile(r"<@([UW][A-Z0-9]{1,20})(?:\|[^>]*)?>")


async def document(session: AsyncSession, incident: Incident) -> Postmortem:
    """The newest revision; UserError where there is none."""
    newest = await drafts.newest(session, incident.id)
    if newest is None:
        raise UserError(f"{incident.reference} has no post-mortem yet; `/inc postmortem` writes the draft.")
    return newest


async def standing(session: AsyncSession, incident: Incident) -> Standing:
    """The post-mortem of *incident* as it stands, with what the linter says of it."""
    review, newest = await found(session, incident), await document(session, incident)
    findings = await asyncio.to_thread(_findings, newest.text)
    held = await roles.held(session, incident.id)
    return Standing(incident, review, newest, merge.conflicts(newest.text), stated(newest), findings, tuple(held))


def _findings(text: str) -> Sequence[Finding]:
    """Worst first, then in order."""
    return sorted(lint(text), key=lambda one: (LEVELS.index(one.level), one.line))


def person(text: str) -> str:
    """The one person that *text* mentions."""
    match = _PERSON.fullmatch(text.strip())
    if match is None:
        raise UserError("Whose is it? Mention one person: `/inc postmortem owner @somebody`.")
    return match[1]
