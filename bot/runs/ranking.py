"""Which runbooks may help with an incident, the most promising first."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from bot.alerts.model import AlertRow
from bot.engine import Engine
from bot.incidents.chat import Offer
from bot.incidents.model import Incident
from bot.kit.clock import Clock
from bot.runs.books import Books
from bot.runs.model import UNWOUND, Run, RunState
from bot.runs.runbook import Runbook, offers

OFFERED = 5
# How far back runs tell something, and after how long the last one counts half.
WINDOW, HALF = timedelta(days=90), timedelta(days=14)
WELL = (RunState.SUCCEEDED,)
BADLY = (*UNWOUND, RunState.ROLLED_BACK, RunState.ROLLBACK_FAILED)
# What weighs how much: each matcher that was hit; that it went well for this service before; how often it goes well;
# that it was used lately. A matcher more is worth more than all the rest.
HIT, SERVED, RATE, LATELY = 10.0, 3.0, 4.0, 2.0


@dataclass(frozen=True)
class Track:
    """How the runs of a runbook went lately, and for which services one went well."""

    well: int = 0
    ended: int = 0
    last: datetime | None = None
    served: frozenset[str] = frozenset()


def score(hits: int, service: str | None, track: Track, now: datetime) -> float:
    """How promising a runbook is of which *hits* matchers fit; 0 if none does."""
    if not hits:
        return 0.0
    rate = (track.well + 1) / (track.ended + 2)  # nothing is known of a new one, so it stands in the middle
    lately = 0.0 if track.last is None else 0.5 ** (max(timedelta(), now - track.last) / HALF)
    served = SERVED if service and service.lower() in track.served else 0.0
    return HIT * hits + served + RATE * rate + LATELY * lately


def ranked(
    books: Mapping[str, Runbook],
    incident: Incident,
    alerts: Sequence[AlertRow],
    tracks: Mapping[str, Track],
    now: datetime,
) -> list[Offer]:
    """Those that a route names, then those whose matchers fit an alert of the incident, best first."""
    named = [books[name] for name in incident.runbooks if name in books]
    scored = []
    for book in books.values():
        if book in named:
            continue
        hits = max((offers(book, alert.labels, incident.service, alert.severity) for alert in alerts), default=0)
        if found := score(hits, incident.service, tracks.get(book.id, Track()), now):
            scored.append((found, book))
    scored.sort(key=lambda pair: (-pair[0], pair[1].name))
    return [replace(offer(book), fits=True) for book in [*named, *(book for _, book in scored)]][:OFFERED]


def offer(runbook: Runbook) -> Offer:
    """A runbook as a button shows it."""
    return Offer(runbook.id, runbook.name, runbook.risk, runbook.description)


async def tracks(session: AsyncSession, now: datetime) -> dict[str, Track]:
    """How the runs of each runbook went lately. Dry runs and those that somebody cancelled tell nothing."""
    query = (
        sa.select(
            col(Run.runbook), col(Run.state), col(Incident.service), sa.func.count(), sa.func.max(Run.requested_at)
        )
        .join(Incident, col(Incident.id) == col(Run.incident_id))
        .where(col(Run.requested_at) > now - WINDOW, ~col(Run.dry_run), col(Run.state).in_((*WELL, *BADLY)))
        .group_by(col(Run.runbook), col(Run.state), col(Incident.service))
    )
    found: dict[str, Track] = defaultdict(Track)
    for name, state, service, count, last in await session.execute(query):
        track, well = found[name], state in WELL
        found[name] = Track(
            well=track.well + (count if well else 0),
            ended=track.ended + count,
            last=last if track.last is None else max(track.last, last),
            served=track.served | ({service.lower()} if well and service else set()),
        )
    return dict(found)


@dataclass
class Ranking:
    """The offers for an incident, by how runs went as of the last look."""

    engine: Engine
    books: Books
    clock: Clock
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def offers(self, incident: Incident, alerts: Sequence[AlertRow]) -> list[Offer]:
        """The runbooks that may help, best first."""
        return ranked(self.books.runbooks, incident, alerts, self.tracks, self.clock())

    async def refresh(self) -> None:
        """Look how runs went."""
        async with self.engine.db.read() as session:
            self.tracks = await tracks(session, self.clock())
