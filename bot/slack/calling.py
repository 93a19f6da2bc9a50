"""Whom somebody wants to be called, and how that is asked for: by words, and by the form."""

import re

from bot.incidents import paging
from bot.incidents.model import Incident
from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.slack import naming
from bot.slack.context import Context, Reply, words
from bot.slack.views.blocks import quoted

PERSON, MAIL = re.compile(r"<@([UW][A-Z0-9]{2,20})>"), re.compile(r"[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+")
POLICY = re.compile(r"policy:(\S+)", re.IGNORECASE)


def split(context: Context, text: str) -> tuple[str, str]:
    """The target that *text* begins with, if it is one, and the rest."""
    first, rest = words(text)
    if PERSON.fullmatch(first) or MAIL.fullmatch(first) or POLICY.fullmatch(first) or first in context.services:
        return first, rest
    near = nearest(first, list(context.services)) if first and not rest else None
    if near:
        raise UserError(f"There is no service {quoted(first)} to page. Did you mean `{near}`?")
    return "", text.strip()


async def acknowledge(context: Context, incident_id: str) -> Reply:
    """Somebody has seen it; whoever is first counts."""
    incident = await context.incident(incident_id)
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so there is nothing to acknowledge.")
    before = incident.acknowledged_at
    pages = await paging.acknowledge(context.tx, context.react, incident, by=context.person.id, now=context.now)
    if pages:
        return Reply(f"You have acknowledged {incident.reference}; nobody else is woken for it.")
    if before is None:
        return Reply(f"You have acknowledged {incident.reference}. No page of it waits for that.")
    raise UserError(f"{incident.reference} is acknowledged already.")


async def call(context: Context, incident: Incident, target: str, text: str, *, up: bool = False) -> Reply:
    """Page the on-call of a service, ask a person or a policy to join, or with *up* go one level higher."""
    if not incident.is_open:
        raise UserError(f"{incident.reference} is not open any more, so nobody is called to it.")
    once = context.request.id
    by, now = context.person.id, context.now
    if target and target not in context.services:
        who = _address(context, target)
        await paging.ask(
            context.tx, context.react, incident, "add_responder", by=by, now=now, once=once, user=who, message=text
        )
        return Reply(f"{who} is asked to join {incident.reference}; the channel is told what comes of it.")
    if up and not target:
        await paging.ask(context.tx, context.react, incident, "escalate", by=by, now=now, once=once, message=text)
        return Reply(f"The page of {incident.reference} goes one level up; the channel is told with whom it is then.")
    await paging.wake(
        context.tx, context.react, incident.id, text, key=f"request:{once}", now=now, service=target or None, actor=by
    )
    whom = f"of {target} " if target else ""
    return Reply(f"The on-call {whom}is paged for {incident.reference}; the channel is told what comes of it.")


def _address(context: Context, target: str) -> str:
    """What the pager knows somebody by."""
    if (found := PERSON.fullmatch(target)) is None:
        return target
    person = context.site.known(found[1])
    mail = naming.address(context.site.directory, found[1], person.email if person is not None else None)
    if mail is None:
        raise UserError(
            f"Slack does not tell the e-mail address of <@{found[1]}>, by which the pager knows people. Write it: "
            f"`{context.word} page name@example.com`"
        )
    return mail
