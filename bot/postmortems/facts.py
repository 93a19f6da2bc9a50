"""What the timeline says about an incident: times, durations, alerts, pages, runs and notes, without names."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from bot.incidents.model import CATEGORY, Incident, Role, RoleName, Status, TimelineEvent
from bot.kit.text import clean, clip, one_line
from bot.postmortems.people import BOT, People, mentions, people, title

GAP = timedelta(minutes=15)
LINE, NOTE = 1000, 4000
# A draft that nobody can read helps nobody: of a longer timeline the beginning and the end are kept.
ROWS = 1000

DETECTED, DECLARED, ACKNOWLEDGED, MITIGATED, RESOLVED = "detected", "declared", "acknowledged", "mitigated", "resolved"
_PAGES = {"page.sent": "sent", "page.failed": "failed", "page.nobody": "nobody"}
_BEGINS = ("run.started", "run.held")
_STEPS = ("run.step_succeeded", "run.step_failed", "run.step_skipped", "run.step_unknown")
# What the bot did to write and deliver the document is not part of the incident.
_DOCUMENT_WORK = re.compile(r"(?:draft|postmortem|export)")


@dataclass(frozen=True)
class Moment:
    """A point of the incident's course; `at` is None where `missing` says why, `number` is its event."""

    name: str
    at: datetime | None
    number: int | None = None
    missing: str = ""


@dataclass(frozen=True)
class Duration:
    """A computed length of time; `seconds` is None where `missing` says why."""

    name: str
    formula: str
    seconds: float | None
    missing: str = ""


@dataclass(frozen=True)
class Change:
    """From when on a status or severity held."""

    value: str
    at: datetime
    number: int | None


@dataclass(frozen=True)
class Spent:
    """How long the incident was in a status or at a severity, all stretches together."""

    value: str
    seconds: float


@dataclass(frozen=True)
class SeenAlert:
    """One alert, however often it fired; `resolved_at` is None while it fires."""

    title: str
    connection: str
    url: str
    labels: tuple[tuple[str, str], ...]
    fired_at: datetime | None
    resolved_at: datetime | None
    times: int
    number: int


@dataclass(frozen=True)
class SentPage:
    """One attempt to wake somebody; `outcome` is sent, failed or nobody. `acknowledged` is the event that did."""

    at: datetime
    pager: str
    outcome: str
    detail: str
    number: int
    acknowledged_at: datetime | None = None
    acknowledged_by: str = ""
    acknowledged: int | None = None


@dataclass(frozen=True)
class Withheld:
    """A runbook that did not start by itself, or not at its time, and why."""

    name: str
    reason: str
    at: datetime
    number: int


@dataclass(frozen=True)
class Held:
    """Who held a role, and when; `who` is a role label as well."""

    role: str
    who: str
    start: datetime
    end: datetime | None


@dataclass(frozen=True)
class StepDone:
    """One attempt at one step of a run; `phase` is empty for the steps themselves."""

    name: str
    type: str
    result: str
    attempt: int
    seconds: float | None
    summary: str
    number: int
    phase: str = ""


@dataclass(frozen=True)
class Answered:
    """A question whether a run may go on; `outcome` is empty while nobody has answered it for good.

    `why` is what was said at the end, `said` what was said on the way there.
    """

    prompt: str
    outcome: str
    why: str
    said: tuple[str, ...]
    at: datetime
    number: int


@dataclass(frozen=True)
class RunDone:
    """One run of a runbook; `state` is empty while it goes on. `glass` is why it went without approvals."""

    run: int | None
    runbook: str
    name: str
    who: str
    dry_run: bool
    sha256: str
    params: tuple[tuple[str, str], ...]
    started_at: datetime
    state: str
    seconds: float | None
    failure: str
    steps: tuple[StepDone, ...]
    number: int
    approvals: tuple[Answered, ...] = ()
    files: tuple[str, ...] = ()
    glass: str = ""


@dataclass(frozen=True)
class Note:
    """What somebody wrote during the incident, word for word; `kind` is note, finding, action or decision."""

    kind: str
    at: datetime
    who: str
    text: str
    number: int


@dataclass(frozen=True)
class Todo:
    """A task or follow-up as it stood at the end: `state` is open, done or dropped, `ticket` its place in a tracker."""

    label: str
    kind: str
    text: str
    owner: str
    due: str
    type: str
    state: str
    number: int
    ticket: str = ""
    url: str = ""


@dataclass(frozen=True)
class Ticket:
    """The incident's ticket in a tracker."""

    reference: str
    tracker: str
    url: str
    number: int


@dataclass(frozen=True)
class Gap:
    """A stretch of the active incident without any event; the numbers are the events around it."""

    start: datetime
    end: datetime
    seconds: float
    after: int | None
    before: int | None


@dataclass(frozen=True)
class Row:
    """One event of the timeline. `id` is the event's, `corrected_by` that of the event which replaced its words.

    `mark` names the moments that this event is, `quoted` says that the text is a person's own.
    """

    number: int
    id: str
    at: datetime
    recorded_at: datetime
    kind: str
    who: str
    text: str
    quoted: bool
    mark: str
    corrected_by: str | None


@dataclass(frozen=True)
class Facts:
    """All that a post-mortem draft is made of."""

    reference: str
    title: str
    summary: str
    kind: str
    private: bool
    service: str | None
    team: str | None
    status: str
    severity: str
    highest: str
    severities: tuple[Change, ...]
    time_in_severity: tuple[Spent, ...]
    statuses: tuple[Change, ...]
    time_in_status: tuple[Spent, ...]
    moments: tuple[Moment, ...]
    durations: tuple[Duration, ...]
    reopened: int
    detection: str
    alerts: tuple[SeenAlert, ...]
    pages: tuple[SentPage, ...]
    paged: str
    people: tuple[str, ...]
    roles: tuple[Held, ...]
    runs: tuple[RunDone, ...]
    notes: tuple[Note, ...]
    resolution: str
    gaps: tuple[Gap, ...]
    rows: tuple[Row, ...]
    events: int
    last_event_at: datetime | None
    todos: tuple[Todo, ...] = ()
    tickets: tuple[Ticket, ...] = ()
    withheld: tuple[Withheld, ...] = ()

    def moment(self, name: str) -> Moment:
        """The moment called *name*."""
        return next(moment for moment in self.moments if moment.name == name)

    def noted(self, kind: str) -> tuple[Note, ...]:
        """The notes of one kind."""
        return tuple(note for note in self.notes if note.kind == kind)

    def to_do(self, kind: str) -> tuple[Todo, ...]:
        """The tasks, or the follow-ups."""
        return tuple(todo for todo in self.todos if todo.kind == kind)

    def as_json(self) -> dict[str, Any]:
        """These facts as JSON can hold them."""
        found: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Facts":
        """The facts that `as_json` wrote."""
        return _adapter().validate_python(data)


@cache
def _adapter() -> TypeAdapter[Facts]:
    return TypeAdapter(Facts)


@dataclass(frozen=True)
class _Said:
    """An event with its last correction: `event` says what, `first` when it was recorded and by whom."""

    number: int
    event: TimelineEvent
    first: TimelineEvent

    @property
    def at(self) -> datetime:
        return self.event.at

    @property
    def kind(self) -> str:
        return self.first.kind

    @property
    def data(self) -> dict[str, Any]:
        return self.event.data or {}


def gather(incident: Incident, events: Sequence[TimelineEvent], roles: Sequence[Role]) -> Facts:
    """The facts of *incident*; *events* may come in any order, and a correction stands for what it corrects."""
    said = _effective(events)
    who = _people(incident, said, roles)
    opened = _first(said, "incident.opened", "incident.accepted")
    opened_at = opened.at if opened else incident.opened_at
    spans = _spans(said, opened_at, incident)
    horizon = max([opened_at, *(item.at for item in said)])
    severities = _severities(incident, said, opened_at, opened)
    statuses = _statuses(incident, said, opened_at, opened)
    moments = _moments(incident, said, opened_at, opened)
    pages = _pages(said, who)
    return Facts(
        reference=incident.reference,
        title=_line(who, incident.title, 300),
        summary=clip(who.plain(incident.summary).strip(), NOTE),
        kind=str(incident.kind),
        private=incident.private,
        service=_line(who, incident.service, 200) if incident.service else None,
        team=_line(who, incident.team, 200) if incident.team else None,
        status=str(incident.status),
        severity=severities[-1].value,
        highest=min((change.value for change in severities), key=_badness),
        severities=severities,
        time_in_severity=_spent(severities, spans, horizon),
        statuses=statuses,
        time_in_status=_spent(
            statuses, [(statuses[0].at, None)], horizon, only=lambda value: _category(value) in ("triage", "active")
        ),
        moments=moments,
        durations=_durations(moments),
        reopened=sum(item.kind == "incident.reopened" for item in said),
        detection=_detection(said, who),
        alerts=_alerts(said, who),
        pages=pages,
        paged=_paged(pages),
        people=tuple(dict.fromkeys(who.labels.values())),
        roles=_roles(roles, who),
        runs=_runs(said, who),
        notes=_notes(said, who),
        resolution=_resolution(said, who),
        gaps=_gaps(said, spans, horizon),
        rows=_rows(said, who, moments),
        events=len(said),
        last_event_at=said[-1].at if said else None,
        todos=_todos(said, who),
        tickets=_tickets(said, who),
        withheld=_withheld(said, who),
    )


# What happened, in order


def _effective(events: Iterable[TimelineEvent]) -> list[_Said]:
    """The events that count, each with the last correction of it, in timeline order and numbered from 1."""
    known = {event.id: event for event in events if not _about_the_document(event)}
    newest: dict[str, tuple[tuple[datetime, int, str], TimelineEvent]] = {}
    for event in known.values():
        first, depth = _corrected(event, known)
        # The depth decides where the clock does not: a correction of a correction is the later one.
        place = (event.recorded_at, depth, event.id)
        if first.id not in newest or newest[first.id][0] < place:
            newest[first.id] = (place, event)
    pairs = [(event, known[first]) for first, (_, event) in newest.items()]
    pairs.sort(key=lambda pair: (pair[0].at, pair[1].recorded_at, pair[1].id))
    return [_Said(number, event, first) for number, (event, first) in enumerate(pairs, 1)]


def _about_the_document(event: TimelineEvent) -> bool:
    if event.kind == "work.parked":
        return _DOCUMENT_WORK.match(str((event.data or {}).get("workflow", ""))) is not None
    return event.kind.startswith("postmortem.")


def _corrected(event: TimelineEvent, known: Mapping[str, TimelineEvent]) -> tuple[TimelineEvent, int]:
    """The event that *event* is a correction of, through all corrections between, and how many those are."""
    seen: set[str] = set()
    while event.corrects and event.corrects in known and event.id not in seen:
        seen.add(event.id)
        event = known[event.corrects]
    return event, len(seen)


def _first(said: Iterable[_Said], *kinds: str) -> _Said | None:
    """The first event of the kind that stands first in *kinds*, else of the next one."""
    found = [item for item in said if item.kind in kinds]
    return min(found, key=lambda item: kinds.index(item.kind), default=None)


def _people(incident: Incident, said: Sequence[_Said], roles: Sequence[Role]) -> People:
    seen: list[str] = []
    held: list[tuple[str, str]] = []
    for item in said:
        named = [item.first.actor, item.event.actor, *(item.data.get(key) for key in ("person", "previous", "owner"))]
        seen += [person for person in named if isinstance(person, str) and person]
        seen += mentions(item.event.text)
        if item.kind == "role.assigned" and isinstance(item.data.get("person"), str):
            held.append((item.data["person"], str(item.data.get("role"))))
    for role in _ordered(roles):
        held.append((role.person, role.name))
        seen += [role.person, role.assigned_by]
    seen += mentions(incident.title) + mentions(incident.summary) + [incident.declared_by or ""]
    return people(seen, held)


def _ordered(roles: Iterable[Role]) -> list[Role]:
    return sorted(roles, key=lambda role: (role.assigned_at, role.name, role.id))


# Its course


def _takes(item: _Said) -> bool:
    """Whether somebody has said by it that they have seen the incident: a page acknowledged, or command taken."""
    if item.kind == "role.assigned":
        return item.data.get("role") == RoleName.COMMANDER
    return item.kind == "page.acknowledged"


def _moments(
    incident: Incident, said: Sequence[_Said], opened_at: datetime, opened: _Said | None
) -> tuple[Moment, ...]:
    """When what was reached. After a reopening only what came later counts: the earlier end did not hold."""
    commander = next((item for item in said if _takes(item)), None)
    reopened = max((place for place, item in enumerate(said) if item.kind == "incident.reopened"), default=-1)
    since = said[reopened + 1 :]
    monitoring = next(
        (item for item in since if item.kind == "status.changed" and item.data.get("to") == Status.MONITORING), None
    )
    resolved = next((item for item in reversed(since) if item.kind == "incident.resolved"), None)
    if resolved:
        end = Moment(RESOLVED, resolved.at, resolved.number)
    elif incident.resolved_at and not incident.is_open:
        end = Moment(RESOLVED, incident.resolved_at)
    elif incident.is_open:
        end = Moment(
            RESOLVED,
            None,
            missing="the incident was reopened and is not resolved again"
            if reopened >= 0
            else "the incident is not resolved yet",
        )
    else:
        end = Moment(RESOLVED, None, missing=f"the incident ended as {incident.status}")
    if monitoring:
        calm = Moment(MITIGATED, monitoring.at, monitoring.number)
    elif end.at:
        calm = replace(end, name=MITIGATED)
    else:
        calm = Moment(
            MITIGATED,
            None,
            missing="the status was not set to monitoring" + (" after the reopening" if reopened >= 0 else ""),
        )
    if commander:
        taken = Moment(ACKNOWLEDGED, commander.at, commander.number)
    elif incident.acknowledged_at:
        taken = Moment(ACKNOWLEDGED, incident.acknowledged_at)
    else:
        taken = Moment(ACKNOWLEDGED, None, missing="nobody acknowledged a page, and no incident commander was assigned")
    alerted = opened if opened and opened.data.get("source") == "alert" else None
    return (
        Moment(DETECTED, incident.detected_at, alerted.number if alerted else None),
        Moment(DECLARED, opened_at, opened.number if opened else None),
        taken,
        calm,
        end,
    )


def _durations(moments: Sequence[Moment]) -> tuple[Duration, ...]:
    at = {moment.name: moment for moment in moments}

    def between(name: str, start: str, end: str) -> Duration:
        formula = f"{end} − {start}"
        a, b = at[start], at[end]
        if a.at is None or b.at is None:
            return Duration(name, formula, None, a.missing or b.missing)
        if b.at < a.at:
            return Duration(name, formula, None, f"{end} is earlier than {start}")
        return Duration(name, formula, (b.at - a.at).total_seconds())

    return (
        Duration("time to detect", "detected − start of impact", None, "the start of impact is not on the timeline"),
        between("time to declare", DETECTED, DECLARED),
        between("time to acknowledge", DETECTED, ACKNOWLEDGED),
        between("time to mitigate", DETECTED, MITIGATED),
        between("time to resolve", DETECTED, RESOLVED),
    )


Span = tuple[datetime, datetime | None]


def _spans(said: Sequence[_Said], opened_at: datetime, incident: Incident) -> list[Span]:
    """The stretches during which the incident was open; the last one has no end while it still is."""
    spans: list[Span] = []
    start: datetime | None = opened_at
    for item in said:
        to = str(item.data.get("to")) if item.kind == "status.changed" else ""
        ends = item.kind in ("incident.resolved", "incident.declined") or _category(to) in ("post_incident", "closed")
        begins = item.kind == "incident.reopened" or _category(to) in ("triage", "active")
        if ends and start is not None:
            spans.append((start, max(start, item.at)))
            start = None
        elif begins and start is None:
            start = item.at
    if start is not None:
        known = incident.resolved_at if not incident.is_open else None
        spans.append((start, max(start, known) if known else None))
    return spans


def _severities(
    incident: Incident, said: Sequence[_Said], opened_at: datetime, opened: _Said | None
) -> tuple[Change, ...]:
    changes = [item for item in said if item.kind == "severity.changed" and isinstance(item.data.get("to"), str)]
    told = next(
        (item.data["severity"] for item in said if item.kind.startswith("incident.") and item.data.get("severity")),
        None,
    )
    first = told or (changes[0].data.get("from") if changes else None)
    start = Change(_word(first or incident.severity), opened_at, opened.number if opened else None)
    return (start, *(Change(_word(item.data["to"]), item.at, item.number) for item in changes))


def _statuses(
    incident: Incident, said: Sequence[_Said], opened_at: datetime, opened: _Said | None
) -> tuple[Change, ...]:
    """The statuses in turn. Where an end or a reopening came without a status of its own, the usual one is meant."""
    changes = [item for item in said if item.kind == "status.changed" and isinstance(item.data.get("to"), str)]
    suggested = _first(said, "incident.suggested")
    if suggested:
        found = [Change(str(Status.TRIAGE), suggested.at, suggested.number)]
    else:
        turning = any(item.kind in ("incident.resolved", "incident.reopened") for item in said)
        first = changes[0].data.get("from") if changes else None
        first = first or (Status.INVESTIGATING if turning else incident.status)
        found = [Change(_word(first), opened_at, opened.number if opened else None)]
    for item in said:
        value = _turn(item, found[-1].value)
        if value is None or value == found[-1].value:
            continue
        if found[-1].at == item.at and len(found) > 1:
            found.pop()
        found.append(Change(value, item.at, item.number))
    return tuple(found)


def _turn(item: _Said, current: str) -> str | None:
    """The status that *item* brings, if any."""
    open_before = _category(current) in ("triage", "active")
    if item.kind == "status.changed" and isinstance(item.data.get("to"), str):
        return _word(item.data["to"])
    if item.kind == "incident.resolved":
        return str(Status.DOCUMENTING) if open_before else None
    if item.kind == "incident.reopened":
        return None if open_before else str(Status.INVESTIGATING)
    if item.kind == "incident.accepted":
        return str(Status.INVESTIGATING) if current == Status.TRIAGE else None
    return str(Status.DECLINED) if item.kind == "incident.declined" else None


def _spent(
    changes: Sequence[Change],
    spans: Sequence[Span],
    horizon: datetime,
    only: Callable[[str], bool] = lambda value: True,
) -> tuple[Spent, ...]:
    """How long each value held within *spans*; what has no end is counted up to the last event."""
    total: dict[str, float] = {}
    ends = [change.at for change in changes[1:]] + [horizon]
    for change, end in zip(changes, ends, strict=True):
        if not only(change.value):
            continue
        total.setdefault(change.value, 0.0)
        for a, b in spans:
            shared = min(end, b or horizon) - max(change.at, a)
            total[change.value] += max(0.0, shared.total_seconds())
    return tuple(Spent(value, seconds) for value, seconds in total.items())


def _gaps(said: Sequence[_Said], spans: Sequence[Span], horizon: datetime) -> tuple[Gap, ...]:
    gaps: list[Gap] = []
    for start, end in spans:
        end = end or max(start, horizon)
        points = [(item.at, item.number) for item in said if start <= item.at <= end]
        around: list[tuple[datetime, int | None]] = [(start, None), *points, (end, None)]
        for (a, after), (b, before) in pairwise(around):
            if b - a > GAP:
                gaps.append(Gap(a, b, (b - a).total_seconds(), after, before))
    return tuple(gaps)


# What was seen and done


def _detection(said: Sequence[_Said], who: People) -> str:
    opened = _first(said, "incident.opened", "incident.suggested")
    source = opened.data.get("source") if opened else None
    if opened and source == "alert":
        alert = _alert(opened.data, who)
        return f"an alert: {alert['title']}" + (f" ({alert['connection']})" if alert["connection"] else "")
    if opened and source == "person":
        by = who.label(opened.first.actor)
        return f"a person ({by})" if by and by != "the bot" else "a person"
    return "not recorded"


def _alerts(said: Sequence[_Said], who: People) -> tuple[SeenAlert, ...]:
    """One entry an alert. Opening by an alert and attaching the same alert are one firing."""
    found: dict[tuple[Any, ...], SeenAlert] = {}
    opened_by: set[tuple[Any, ...]] = set()
    for item in said:
        from_alert = item.kind in ("incident.opened", "incident.suggested") and item.data.get("source") == "alert"
        if not from_alert and item.kind not in ("alert.attached", "alert.resolved"):
            continue
        alert = _alert(item.data, who)
        key = (alert["connection"], alert["title"], alert["labels"])
        if item.kind == "alert.resolved":
            if key not in found:
                key = next((other for other in found if other[:2] == key[:2] and not found[other].resolved_at), key)
            old = found.get(key)
            found[key] = (
                replace(old, resolved_at=item.at)
                if old
                else SeenAlert(**alert, fired_at=None, resolved_at=item.at, times=0, number=item.number)
            )
        elif key not in found:
            found[key] = SeenAlert(**alert, fired_at=item.at, resolved_at=None, times=1, number=item.number)
            if from_alert:
                opened_by.add(key)
        elif key in opened_by and not found[key].resolved_at:
            opened_by.discard(key)
        else:
            old = found[key]
            found[key] = replace(old, fired_at=old.fired_at or item.at, resolved_at=None, times=old.times + 1)
    return tuple(found.values())


def _alert(data: Mapping[str, Any], who: People) -> dict[str, Any]:
    return {
        "title": _line(who, data.get("title"), 300) or "an alert without a title",
        "connection": _line(who, data.get("connection"), 100),
        "url": _line(who, data.get("url"), 2000),
        "labels": _pairs(who, data.get("labels")),
    }


def _pages(said: Sequence[_Said], who: People) -> tuple[SentPage, ...]:
    found: list[SentPage] = []
    numbers: list[Any] = []
    for item in said:
        if item.kind in _PAGES:
            pager = _line(who, item.data.get("pager"), 100) or "not recorded"
            detail = _line(who, item.data.get("detail"), LINE)
            found.append(SentPage(item.at, pager, _PAGES[item.kind], detail, item.number))
            numbers.append(item.data.get("number"))
        elif item.kind == "page.acknowledged":
            asked = item.data.get("pages")
            known = asked if isinstance(asked, list) else []
            actor = item.first.actor
            by = who.label(actor if actor != BOT else str(item.data.get("by") or ""))
            found = [
                replace(page, acknowledged_at=item.at, acknowledged_by=by, acknowledged=item.number)
                if number in known and page.outcome == "sent" and page.acknowledged is None
                else page
                for number, page in zip(numbers, found, strict=True)
            ]
    return tuple(found)


def _paged(pages: Sequence[SentPage]) -> str:
    sent = [page for page in pages if page.outcome == "sent"]
    if sent:
        times = "once" if len(sent) == 1 else f"{len(sent)} times"
        return f"A page was sent {times}, the first at {sent[0].at:%H:%M:%S} UTC."
    if any(page.outcome == "failed" for page in pages):
        return "Paging was tried and did not go through: no page is known to have reached a person."
    return "Nobody was paged." if pages else "Nobody was paged: the timeline holds no page."


def _roles(roles: Sequence[Role], who: People) -> tuple[Held, ...]:
    return tuple(
        Held(title(role.name), who.label(role.person), role.assigned_at, role.ended_at) for role in _ordered(roles)
    )


def _runs(said: Sequence[_Said], who: People) -> tuple[RunDone, ...]:
    found: dict[str, RunDone] = {}
    for item in said:
        if not item.kind.startswith(("run.", "approval.")):
            continue
        key = str(item.data.get("run"))
        found[key] = _with(found.get(key) or _run(item, who), item, who)
    return tuple(found.values())


def _withheld(said: Sequence[_Said], who: People) -> tuple[Withheld, ...]:
    return tuple(
        Withheld(
            _line(who, item.data.get("name") or item.data.get("runbook"), 200) or "a runbook",
            _line(who, item.data.get("reason"), LINE) or "no reason given",
            item.at,
            item.number,
        )
        for item in said
        if item.kind == "runbook.withheld"
    )


def _with(run: RunDone, item: _Said, who: People) -> RunDone:
    """*run* as it was after one more event of it."""
    data = item.data
    if item.kind in _STEPS:
        # Of a step that went through a list, its own end tells how many went well; those that did not are told.
        quiet = "[" in str(data.get("path", "")) and item.kind != "run.step_failed"
        return run if quiet else replace(run, steps=(*run.steps, _step(item, who)))
    if item.kind == "run.cancelled":
        return replace(run, state=run.state or "cancelled")
    if item.kind == "run.ended":
        return replace(
            run,
            state=_line(who, data.get("state"), 100).replace("_", " ") or "ended",
            seconds=_number(data.get("seconds")),
            failure=_words(who, data.get("failure")),
        )
    if item.kind == "run.glass_broken":
        return replace(run, glass=_line(who, data.get("reason"), LINE) or "no reason given")
    if item.kind == "run.file_made":
        return replace(run, files=(*run.files, _line(who, data.get("name"), 200)))
    if item.kind.startswith("approval."):
        return replace(run, approvals=_answered(run.approvals, item, who))
    return run


def _answered(known: tuple[Answered, ...], item: _Said, who: People) -> tuple[Answered, ...]:
    """The questions of a run after one more event about them: the last one is the one that is open."""
    data = item.data
    if item.kind == "approval.asked":
        return (*known, Answered(_line(who, data.get("prompt"), LINE), "", "", (), item.at, item.number))
    if not known:
        return known
    last = known[-1]
    if item.kind == "approval.given":
        reason = _line(who, data.get("reason"), LINE)
        told = f"{who.label(item.first.actor)} said yes" + (f": {reason}" if reason else "")
        return (*known[:-1], replace(last, said=(*last.said, told)))
    outcome = _line(who, data.get("state"), 100) or "closed"
    why = _line(who, data.get("why") or item.event.text, LINE)
    return (*known[:-1], replace(last, outcome=outcome, why=why, at=item.at, number=item.number))


def _run(item: _Said, who: People) -> RunDone:
    """A run as its first event shows it; a run of which the start is missing has gaps instead of guesses."""
    data, begins = item.data, item.kind in _BEGINS
    number = _number(data.get("number"))
    runbook = _line(who, data.get("runbook"), 200) or "not recorded"
    return RunDone(
        run=int(number) if number is not None else None,
        runbook=runbook,
        name=_line(who, data.get("name"), 200) if begins else runbook,
        who=who.label(item.first.actor) if begins else "",
        dry_run=data.get("dry_run") is True,
        sha256=_line(who, data.get("sha256"), 64),
        params=_pairs(who, data.get("params")),
        started_at=item.at,
        state="",
        seconds=None,
        failure="",
        steps=(),
        number=item.number,
    )


def _step(item: _Said, who: People) -> StepDone:
    data = item.data
    attempt = _number(data.get("attempt"))
    return StepDone(
        name=_line(who, data.get("name") or data.get("step"), 200) or "not recorded",
        type=_line(who, data.get("type"), 100),
        result=item.kind.removeprefix("run.step_"),
        attempt=int(attempt) if attempt is not None else 1,
        seconds=_number(data.get("seconds")),
        summary=_line(who, data.get("summary"), LINE),
        number=item.number,
        phase=_phase(str(data.get("path", ""))),
    )


def _phase(path: str) -> str:
    """Which part of a runbook a step belongs to, where it is not one of the steps themselves."""
    if ".rollback." in path:
        return "rollback"
    found = re.search(r"(?:^|[./])(on_failure|always)\.\d+$", path)
    return {"on_failure": "after the failure", "always": "at the end"}[found[1]] if found else ""


def _notes(said: Sequence[_Said], who: People) -> tuple[Note, ...]:
    return tuple(
        Note(
            _note_kind(item),
            item.at,
            who.label(item.first.actor),
            clip(who.plain(item.event.text).strip(), NOTE),
            item.number,
        )
        for item in said
        if item.kind == "note.added"
    )


def _todos(said: Sequence[_Said], who: People) -> tuple[Todo, ...]:
    found: dict[str, Todo] = {}
    for item in said:
        data, (noun, _, what) = item.data, item.kind.partition(".")
        key = str(data.get("task"))
        if noun in ("task", "followup") and what == "added":
            owner = data.get("owner")
            found[key] = Todo(
                label=f"T{int(_number(data.get('number')) or 0)}",
                kind=noun,
                text=_line(who, data.get("text"), LINE),
                owner=who.label(owner) if isinstance(owner, str) else "",
                due=_line(who, data.get("due"), 20),
                type=_line(who, data.get("type"), 20),
                state="open",
                number=item.number,
            )
        elif noun in ("task", "followup") and key in found:
            found[key] = replace(found[key], state="open" if what == "reopened" else what)
        elif item.kind in ("ticket.opened", "ticket.linked") and key in found:
            found[key] = replace(
                found[key], ticket=_line(who, data.get("reference"), 100), url=_line(who, data.get("url"), LINE)
            )
    return tuple(found.values())


def _tickets(said: Sequence[_Said], who: People) -> tuple[Ticket, ...]:
    return tuple(
        Ticket(
            _line(who, item.data.get("reference"), 100),
            _line(who, item.data.get("tracker"), 100),
            _line(who, item.data.get("url"), LINE),
            item.number,
        )
        for item in said
        if item.kind in ("ticket.opened", "ticket.linked") and item.data.get("purpose") != "followup"
    )


def _note_kind(item: _Said) -> str:
    kind = item.data.get("kind")
    return kind if kind in ("finding", "action", "decision") else "note"


def _resolution(said: Sequence[_Said], who: People) -> str:
    last = next((item for item in reversed(said) if item.kind == "incident.resolved"), None)
    if last is None:
        return ""
    # A correction replaces the words of the event, and its data are still the old ones.
    note = last.event.text if last.event is not last.first else last.data.get("note")
    return clip(who.plain(note).strip(), NOTE) if isinstance(note, str) else ""


# The rows


def _rows(said: Sequence[_Said], who: People, moments: Sequence[Moment]) -> tuple[Row, ...]:
    marks: dict[int, list[str]] = {}
    for moment in moments:
        # That an alert came first is told by the moments; its event is the declaration.
        if moment.number is not None and moment.name != DETECTED:
            marks.setdefault(moment.number, []).append(moment.name)
    kept = said if len(said) <= ROWS else [*said[: ROWS // 2], *said[-(ROWS // 2) :]]
    return tuple(
        Row(
            number=item.number,
            id=item.first.id,
            at=item.at,
            recorded_at=item.first.recorded_at,
            kind=item.kind,
            who=who.label(item.first.actor),
            text=_told(item, who),
            quoted=item.kind == "note.added",
            mark=", ".join(marks.get(item.number, [])),
            corrected_by=item.event.id if item.event is not item.first else None,
        )
        for item in kept
    )


def _told(item: _Said, who: People) -> str:
    if item.kind == "role.assigned" and item.event is item.first and isinstance(item.data.get("person"), str):
        return _assignment(item, who)
    return _line(who, item.event.text, LINE) or item.kind.replace(".", " ").replace("_", " ")


def _assignment(item: _Said, who: People) -> str:
    role, label = title(_line(who, item.data.get("role"), 100)), who.label(item.data["person"])
    previous = item.data.get("previous")
    if isinstance(previous, str) and previous:
        return f"Role handed over: {role}, from {who.label(previous)} to {label}"
    return f"Role taken: {label}" if role in label else f"Role taken: {role} ({label})"


# Values from outside


def _line(who: People, value: Any, limit: int) -> str:
    return clip(one_line(who.plain(str(value))), limit) if value is not None else ""


def _word(value: Any) -> str:
    return clip(one_line(clean(str(value))), 40)


def _words(who: People, value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(
            f"{key}: {part}" for key, part in sorted(value.items()) if isinstance(part, str | int | float)
        )
    return _line(who, value or "", LINE)


def _pairs(who: People, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        return ()
    return tuple((_line(who, key, 100), _line(who, part, 300)) for key, part in sorted(value.items()))


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def _category(status: str) -> str | None:
    return next((category for known, category in CATEGORY.items() if known == status), None)


def _badness(severity: str) -> tuple[int, str]:
    found = re.search(r"\d{1,6}", severity)
    return int(found[0]) if found else 10**6, severity
