"""The public status page, whoever runs it: what is said there is said by a person, unless the page is set to speak.

A person's words are an event like any other; the sink that is the page publishes it, and says where.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bot.engine import Tx
from bot.incidents import timeline
from bot.incidents.model import Incident, Kind
from bot.incidents.sink import Message, Receipt, Said, Subject
from bot.incidents.timeline import React
from bot.kit.errors import UserError
from bot.kit.text import clean, clip

REQUESTED, PUBLISHED = "statuspage.requested", "statuspage.published"
# What an incident, and a component of the page, can be said to be; in the order of a menu.
STATUSES = {
    "investigating": "Investigating: we are looking into it",
    "identified": "Identified: we know what it is",
    "monitoring": "Monitoring: it seems to be over",
    "resolved": "Resolved: it is over",
}
COMPONENTS = {
    "unchanged": "Leave them as they are",
    "operational": "Operational",
    "degraded_performance": "Degraded performance",
    "partial_outage": "Partial outage",
    "major_outage": "Major outage",
}
TEXT, TITLE = 5000, 100
# What a page that speaks by itself tells of.
STEPS = ("incident.opened", "incident.accepted", "incident.reopened", "incident.resolved", "status.changed")
# What an incident's own status is called there.
_CALLED = {"identified": "identified", "fixing": "identified", "monitoring": "monitoring"}


@dataclass(frozen=True)
class Page:
    """A status page that can be written to: *components* are its parts by the service that they show."""

    name: str
    components: Mapping[str, Sequence[str]] = field(default_factory=dict)
    auto: bool = False

    def affected(self, service: str | None) -> tuple[str, ...]:
        """The parts that show *service*."""
        return tuple(self.components.get(service or "", ()))


@dataclass(frozen=True)
class Publication:
    """What the page is to say. *title* is public too; *key* tells this update from every other."""

    key: str
    title: str
    text: str
    status: str
    components: Mapping[str, str] = field(default_factory=dict)
    notify: bool = True


class StatusPage(Protocol):
    """A vendor's page."""

    async def publish(self, subject: Subject, publication: Publication) -> tuple[str, str | None]:
        """Open the page's incident or add to it, once for each key; its name there, and its public address."""
        ...


async def request(
    tx: Tx,
    react: React,
    incident: Incident,
    page: Page,
    *,
    title: str,
    text: str,
    status: str,
    component: str,
    notify: bool,
    by: str,
    now: datetime,
    once: str,
) -> None:
    """A person wants the page to say *text*; UserError where it must not."""
    if incident.private:
        raise UserError(f"{incident.reference} is private, so nothing about it is published.")
    if incident.kind != Kind.STANDARD:
        raise UserError(f"{incident.reference} is a {incident.kind}, so nothing about it is published.")
    text, title = clean(text).strip(), clean(title).strip()
    if not text or not title:
        raise UserError("What shall the page say? It needs a title and a text that customers understand.")
    if len(text) > TEXT or len(title) > TITLE:
        raise UserError(f"A title has at most {TITLE} characters, a text {TEXT}.")
    if status not in STATUSES or component not in COMPONENTS:
        raise UserError("This status is none that a page can show.")
    affected = page.affected(incident.service) if component != "unchanged" else ()
    data = {
        "page": page.name,
        "title": title,
        "text": text,
        "status": status,
        "components": dict.fromkeys(affected, component),
        "notify": notify,
    }
    said = f"<@{by}> has {page.name} say ({status}): {clip(text, 500)}"
    await timeline.record(tx, react, incident.id, REQUESTED, said, now=now, actor=by, data=data, once=once)


def publication(message: Message, page: Page) -> Publication | None:
    """What *page* is to say because of *message*; None if nothing. Nothing private, and no drill, is ever said."""
    subject = message.subject
    if subject.private or subject.kind != Kind.STANDARD:
        return None
    if message.kind == REQUESTED:
        data = message.data
        if data.get("page") != page.name:
            return None
        return Publication(
            message.id, data["title"], data["text"], data["status"], data["components"], bool(data["notify"])
        )
    return _by_itself(message, page) if page.auto else None


def _by_itself(message: Message, page: Page) -> Publication | None:
    subject = message.subject
    status = {
        "incident.opened": "investigating",
        "incident.accepted": "investigating",
        "incident.reopened": "investigating",
        "incident.resolved": "resolved",
        "status.changed": _CALLED.get(str(message.data.get("to")), "investigating"),
    }.get(message.kind)
    if status is None:
        return None
    worst = {"SEV1": "major_outage", "SEV2": "partial_outage"}.get(subject.severity, "degraded_performance")
    shown = "operational" if status == "resolved" else worst
    words = {
        "investigating": "We are looking into it.",
        "identified": "We know the cause and are working on it.",
        "monitoring": "It seems to be over; we are watching it.",
        "resolved": "This is over.",
    }
    affected = dict.fromkeys(page.affected(subject.service), shown)
    return Publication(message.id, clip(subject.title, TITLE), words[status], status, affected)


async def tell(page: StatusPage, message: Message, about: Page) -> Receipt:
    """`Sink.send` of a status page."""
    wanted = publication(message, about)
    if wanted is None:
        return Receipt("skipped", "nothing of this is for the public")
    name, url = await page.publish(message.subject, wanted)
    where = f": {url}" if url else ""
    said = Said(PUBLISHED, f"Published on {about.name} ({wanted.status}){where}", {"status": wanted.status, "url": url})
    return Receipt("delivered", f"published as {wanted.status}", name, said)
