"""What every command, button and form is handed, and what it gives back."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.alerts.model import AlertRow
from bot.catalog.services import Directory
from bot.catalog.tracking import Tracking
from bot.engine import Tx
from bot.incidents import access, lifecycle, logbook, roles
from bot.incidents.access import Person
from bot.incidents.chat import Offer
from bot.incidents.model import Incident, Request, Sev
from bot.incidents.services import Services
from bot.incidents.statuspage import Page
from bot.incidents.timeline import React
from bot.kit.errors import UserError
from bot.kit.ids import derived_id
from bot.runs.auto import Policy
from bot.runs.books import Books
from bot.slack.views.blocks import Block

# The runbooks that may help with an incident.
Offers = Callable[[Incident, Sequence[AlertRow]], Sequence[Offer]]


REFERENCE = re.compile(r"(?:inc-|#)(\d{1,9})", re.IGNORECASE)


class Log(Protocol):
    """What opens the operations log."""

    async def __call__(self, tx: Tx, *, now: datetime) -> Incident:
        """The log's row."""
        ...


@dataclass(frozen=True)
class Site:
    """What catalog.yaml says, and whether the pager can say who is on call. *find* knows the ids of e-mail addresses;
    *known* tells who somebody is.
    """

    services: Services = field(default_factory=Services)
    says: bool = False
    find: Callable[[str], str | None] = lambda who: None
    known: Callable[[str], Person | None] = lambda user: None

    @property
    def directory(self) -> Directory:
        """The catalog."""
        return self.services.directory


@dataclass(frozen=True)
class Reply:
    """What the person who asked is shown, and nobody else."""

    text: str
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Form:
    """A form to open at once; *fill* says what it is completed with afterwards, if anything."""

    view: Block
    fill: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """What is known before anything was looked up: enough to open a form."""

    person: str
    channel: str | None
    incident_id: str | None
    books: Books
    guide: Sequence[tuple[Sequence[str], str]] = ()
    word: str = "/inc"
    services: Sequence[str] = ()  # those that can be paged


@dataclass
class Context:
    """A request being carried out: one transaction, in which everything it changes is recorded."""

    tx: Tx
    react: React
    request: Request
    person: Person
    now: datetime
    books: Books
    guide: Sequence[tuple[Sequence[str], str]] = ()
    word: str = "/inc"
    name: Callable[[str], str] = str
    offers: Offers = lambda incident, alerts: ()
    groups: frozenset[str] = frozenset()  # the `@names` that the person belongs to
    policy: Policy = field(default_factory=Policy)
    log: Log = logbook.opened
    status_pages: Mapping[str, Page] = field(default_factory=dict)
    tracking: Tracking = field(default_factory=Tracking)
    formats: Sequence[str] = ()  # in which a post-mortem can be had
    templates: Sequence[str] = ()  # of post-mortems
    link: Callable[[str, str], str] = lambda channel, ts: ""
    services: Sequence[str] = ()
    site: Site = field(default_factory=Site)

    @property
    def channel(self) -> str | None:
        """Where it was asked."""
        return self.request.channel

    def derived(self, what: str) -> str:
        """An id that is the same however often this request is carried out."""
        return derived_id(what, self.request.id)

    async def here(self) -> Incident | None:
        """The incident whose channel this is."""
        return await lifecycle.by_channel(self.tx.session, self.channel) if self.channel else None

    async def scope(self, text: str) -> tuple[Incident, str]:
        """The incident that *text* names first (`INC-3 …`), else the one of this channel; and the rest of *text*."""
        first, rest = words(text)
        if named := REFERENCE.fullmatch(first):
            incident = await lifecycle.by_number(self.tx.session, int(named[1]))
            if not await self.sees(incident):
                raise UserError(f"There is no INC-{named[1]}. `{self.word} list` shows the open ones.")
            return await lifecycle.find(self.tx.session, incident.id, lock=True), rest
        incident_here = await self.here()
        if incident_here is None:
            raise UserError(await self._elsewhere())
        return await lifecycle.find(self.tx.session, incident_here.id, lock=True), text.strip()

    async def incident(self, incident_id: str) -> Incident:
        """The incident a button or form is about, if this person may act on it."""
        found = await lifecycle.find(self.tx.session, incident_id, lock=True)
        if not await self.sees(found):
            raise UserError("This incident is private; only members of its channel may act on it.")
        return found

    async def sees(self, incident: Incident) -> bool:
        """Whether this person may know of *incident*."""
        if not incident.private:
            return True
        held = await roles.held(self.tx.session, incident.id)
        return access.may_see(incident, self.person.id, channel=self.channel, roles=held)

    def named(self, text: str) -> str:
        """*text* with names in the place of mentions: for what cannot show them, such as a title."""
        return re.sub(r"<@([UW][A-Z0-9]{1,20})>", lambda found: f"@{self.name(found[1])}", text)

    async def _elsewhere(self) -> str:
        open_ones = [incident for incident in await lifecycle.listed(self.tx.session) if await self.sees(incident)]
        verb = self.request.name
        example = open_ones[0].reference if open_ones else "INC-1"
        told = f"This is not an incident channel. Say it in one, or name the incident: `{self.word} {verb} {example}`."
        if open_ones:
            told += " Open now: " + ", ".join(
                i.reference + (f" <#{i.channel}>" if i.channel else "") for i in open_ones[:10]
            )
        return told


def words(text: str) -> tuple[str, str]:
    """The first word of *text*, and the rest of it with its lines as they are."""
    parts = text.strip().split(maxsplit=1)
    return (parts[0] if parts else "", parts[1].strip() if len(parts) > 1 else "")


def severity(word: str, *, bare: bool = False) -> Sev | None:
    """SEV2 from `sev2` or `SEV-2`; with *bare* from `s2` and `2` as well."""
    found = re.fullmatch(r"(?:sev-?|s-?)?([1-5])" if bare else r"sev-?([1-5])", word.lower())
    return Sev(f"SEV{found[1]}") if found else None


# A command's `run(context, text)`, and what stands behind a button or a form.
Do = Callable[[Context, Any], Any]
