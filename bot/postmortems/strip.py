"""The timeline as a picture: severity and status over time, the moments that count, and every event in its lane.

Drawn from facts alone, so the same facts give the same picture. Events that would lie on each other are one dot with
their number in it: five thousand are as readable as one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.incidents.model import CATEGORY
from bot.kit.chart import WIDTH, label, times
from bot.postmortems.facts import RESOLVED, Change, Facts, Row

_LEFT, _RIGHT, _TOP = 104, 36, 62
_ROW, _BAR, _LANE, _APART = 17, 24, 30, 22.0
# How wide a letter is at most times, at the size of the labels.
_LETTER = 7.3

_SEVERITIES = {"SEV1": "#b42318", "SEV2": "#b8500c", "SEV3": "#8a6400", "SEV4": "#1f6f8b", "SEV5": "#5b6673"}
_STATUSES = {
    "triage": "#5b6673",
    "investigating": "#6a51a3",
    "identified": "#3f58a8",
    "fixing": "#1f6f8b",
    "monitoring": "#00805f",
}
_OTHER = "#5b6673"
# The lanes from top to bottom: what they hold by the first word of an event's kind, and their colour.
_LANES = (
    ("Alerts", ("alert", "alerts"), "#b42318"),
    ("Paging", ("page",), "#b8500c"),
    ("People", ("incident", "role", "severity", "status", "task", "followup", "ticket"), "#3f58a8"),
    ("Notes", ("note",), "#00805f"),
    ("Runbooks", ("run", "runbook", "approval", "automation", "schedule"), "#6a51a3"),
    ("Other", (), _OTHER),
)


@dataclass(frozen=True)
class Strip:
    """A picture, and the same in words for those who do not see it."""

    svg: str
    words: str


@dataclass(frozen=True)
class _Span:
    """From when to when is drawn, with a little air on both sides."""

    start: datetime
    end: datetime

    def x(self, at: datetime) -> float:
        part = (at - self.start) / (self.end - self.start)
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * max(0.0, min(1.0, part))

    def holds(self, at: datetime) -> bool:
        return self.start <= at <= self.end


def strip(facts: Facts) -> Strip | None:
    """The picture of *facts*, or None where no time is known at all."""
    known = [change.at for change in (*facts.severities, *facts.statuses)]
    known += [moment.at for moment in facts.moments if moment.at]
    if not known:
        return None
    resolved = facts.moment(RESOLVED).at
    end = resolved or max([*known, *(row.at for row in facts.rows)])
    span = _Span(*_aired(min(known), max(end, min(known))))
    drawn = [row for row in facts.rows if span.holds(row.at)]
    notes = _notes(facts, span, drawn)
    made, bottom = _drawn(facts, span, drawn, resolved or span.end)
    tall = bottom + 34 + _ROW * len(notes)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}" width="{WIDTH}" height="{tall}"'
        ' font-family="DejaVu Sans" font-size="12" fill="#1d2733">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        label(20, 26, f"{facts.reference}: {facts.title}", 90, 'font-size="16"'),
        label(20, 46, _period(span, facts), 130, 'fill="#55606c"'),
    ]
    foot = [label(20, bottom + 42 + _ROW * place, note, 150, 'fill="#55606c"') for place, note in enumerate(notes)]
    return Strip("\n".join([*head, *made, *foot, "</svg>"]), words(facts))


def words(facts: Facts) -> str:
    """What the picture shows, for a reader who cannot see it."""
    parts = [f"Timeline of {facts.reference}"]
    parts += [f"{change.value} from {change.at:%Y-%m-%d %H:%M} UTC" for change in facts.severities[:20]]
    parts += [
        f"{moment.name} {moment.at:%Y-%m-%d %H:%M} UTC"
        if moment.at
        else f"{moment.name} not recorded: {moment.missing}"
        for moment in facts.moments
    ]
    told = ", ".join(f"{name.lower()} {count}" for name, count in _counted(facts.rows))
    parts.append(f"{facts.events} event{'' if facts.events == 1 else 's'}" + (f" ({told})" if told else ""))
    return "; ".join(parts) + "."


def _aired(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    air = max((end - start) * 0.04, timedelta(seconds=30))
    return start - air, end + air


def _counted(rows: Sequence[Row]) -> list[tuple[str, int]]:
    counts = Counter(_lane(row.kind) for row in rows)
    return [(name, counts[place]) for place, (name, _, _) in enumerate(_LANES) if counts[place]]


def _lane(kind: str) -> int:
    noun = kind.partition(".")[0]
    return next((place for place, (_, nouns, _) in enumerate(_LANES) if noun in nouns), len(_LANES) - 1)


def _period(span: _Span, facts: Facts) -> str:
    same = span.start.date() == span.end.date()
    end = f"{span.end:%H:%M}" if same else f"{span.end:%Y-%m-%d %H:%M}"
    count = f"{facts.events} event{'' if facts.events == 1 else 's'}"
    hint = "; a dot has its event's number, a ring holds several" if facts.events > 1 else ""
    return f"{span.start:%Y-%m-%d %H:%M} – {end} UTC, {count}{hint}"


def _notes(facts: Facts, span: _Span, drawn: Sequence[Row]) -> list[str]:
    """What is not in the picture, and why."""
    notes = [f"{moment.name.capitalize()}: not recorded, {moment.missing}" for moment in facts.moments if not moment.at]
    before = sum(row.at < span.start for row in facts.rows)
    after = len(facts.rows) - len(drawn) - before
    left = facts.events - len(facts.rows)
    notes += [f"{before} earlier event{'' if before == 1 else 's'} not drawn"] * bool(before)
    notes += [f"{after} event{'' if after == 1 else 's'} after the end not drawn"] * bool(after)
    notes += [f"{left} events between the first and the last {len(facts.rows) // 2} are not drawn"] * (left > 0)
    return notes


def _drawn(facts: Facts, span: _Span, rows: Sequence[Row], end: datetime) -> tuple[list[str], int]:
    """Everything between the head and the notes, and where it ends."""
    marks, deep = _moments(facts, span)
    top = _TOP + _ROW * deep + 4
    present = [place for place in range(len(_LANES)) if any(_lane(row.kind) == place for row in rows)]
    lanes = top + 2 * (_BAR + 6)
    bottom = lanes + _LANE * len(present) + 4
    made: list[str] = []
    for moment, told in times(span.start.timestamp(), span.end.timestamp()):
        x = span.x(datetime.fromtimestamp(moment, span.start.tzinfo))
        made.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#e1e5ea"/>')
        made.append(label(x, bottom + 17, told, 12, 'text-anchor="middle" fill="#55606c"'))
    made.append(f'<path d="M{_LEFT} {bottom}H{WIDTH - _RIGHT}" stroke="#8a95a1"/>')
    for mark in marks:
        line = (
            f'd="M{mark.x:.1f} {mark.y - 11:.1f}V{bottom}" stroke="#1d2733" stroke-width="1.2" stroke-dasharray="4 3"'
        )
        at, anchor = (mark.x - 6, 'text-anchor="end"') if mark.left else (mark.x + 6, "")
        made += [f"<path {line}/>", label(at, mark.y, mark.words, 60, anchor)]
    made += _bars("Severity", facts.severities, _SEVERITIES, span, top, end)
    active = [_phase(change) for change in facts.statuses]
    made += _bars("Status", active, _STATUSES, span, top + _BAR + 6, end)
    for nth, place in enumerate(present):
        y = lanes + _LANE * nth + _LANE / 2
        made.append(label(_LEFT - 10, y + 4, _LANES[place][0], 20, 'text-anchor="end" fill="#55606c"'))
        made += _dots([row for row in rows if _lane(row.kind) == place], span, y, _LANES[place][2])
    return made, bottom


def _phase(change: Change) -> Change:
    """What comes after the end is no phase of the incident: it has no bar."""
    active = any(status == change.value and category in ("triage", "active") for status, category in CATEGORY.items())
    return change if active else Change("", change.at, change.number)


def _bars(
    name: str, changes: Sequence[Change], colours: dict[str, str], span: _Span, y: float, end: datetime
) -> Iterator[str]:
    yield label(_LEFT - 10, y + 16, name, 20, 'text-anchor="end" fill="#55606c"')
    ends = [change.at for change in changes[1:]] + [end]
    for change, until in zip(changes, ends, strict=True):
        x, wide = span.x(change.at), span.x(min(until, end)) - span.x(change.at)
        if not change.value or until < change.at or change.at > end:
            continue
        shown = max(wide, 2.0)
        paint = f'fill="{colours.get(change.value, _OTHER)}" stroke="#ffffff"'
        yield f'<rect x="{x:.1f}" y="{y}" width="{shown:.1f}" height="{_BAR}" {paint}/>'
        if told := _fitting(change.value, int((wide - 8) / _LETTER)):
            yield label(x + wide / 2, y + 16.5, told, 30, 'text-anchor="middle" fill="#ffffff"')


def _fitting(value: str, letters: int) -> str:
    """The word, or of a severity its number, or nothing."""
    if len(value) <= letters:
        return value
    return value[-1] if letters >= 1 and value[-1:].isdigit() else ""


@dataclass(frozen=True)
class _Mark:
    """The line of a moment, and where its words stand."""

    x: float
    y: float
    words: str
    left: bool


def _moments(facts: Facts, span: _Span) -> tuple[list[_Mark], int]:
    """A line for each moment, with words where none covers others; and how many rows of words that takes."""
    together: dict[datetime, list[str]] = {}
    for moment in facts.moments:
        if moment.at and span.holds(moment.at):
            together.setdefault(moment.at, []).append(moment.name)
    marks: list[_Mark] = []
    taken: list[float] = []
    for at in sorted(together):
        told = f"{', '.join(together[at])} {at:%H:%M:%S}"
        wide, x = len(told) * _LETTER, span.x(at)
        left = x + 6 + wide >= WIDTH - 4
        start = x - 6 - wide if left else x + 6
        row = next((row for row, until in enumerate(taken) if until < min(x, start)), len(taken))
        taken[row : row + 1] = [max(x, start + wide) + 8]
        marks.append(_Mark(x, _TOP + 12.0 + _ROW * row, told, left))
    return marks, len(taken)


def _dots(rows: Sequence[Row], span: _Span, y: float, colour: str) -> Iterator[str]:
    clusters: list[tuple[float, list[Row]]] = []
    for row in sorted(rows, key=lambda row: (row.at, row.number)):
        x = span.x(row.at)
        if clusters and x - clusters[-1][0] < _APART:
            clusters[-1][1].append(row)
        else:
            clusters.append((x, [row]))
    for x, found in clusters:
        one = len(found) == 1
        told = str(found[0].number) if one else f"×{len(found)}"
        size = {1: 10, 2: 9.5, 3: 8, 4: 6.5}.get(len(told), 5.5)
        paint = f'fill="{colour}"' if one else f'fill="#ffffff" stroke="{colour}" stroke-width="2.2"'
        ink = "#ffffff" if one else colour
        yield f'<circle cx="{x:.1f}" cy="{y}" r="9.6" {paint}/>'
        yield label(x, y + size / 2.8, told, 8, f'text-anchor="middle" fill="{ink}" font-size="{size}"')
