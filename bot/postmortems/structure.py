"""Checks what a post-mortem must hold, and that its times and numbers agree."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.postmortems.prose import Heading, Page, Passage, Row
from bot.postmortems.rules import Ruleset

_EMPTY = re.compile(
    r"[\s|*_>:.?…-]*(?:tbd|todo|tba|fixme|xxx+|to be (?:done|written|added|filled in|determined)|lorem ipsum.{0,500}"
    r"|<[^<>]{0,200}>|\[[^\[\]]{0,200}\])?[\s|*_>:.?…-]*",
    re.IGNORECASE | re.DOTALL,
)
_QUESTION = re.compile(r"[\s\d.)-]*(?:_[^_]{0,500}\?_|\*[^*]{0,500}\?\*)\s*")
_LABELLED = re.compile(r"[\s*_]*[\w ]{1,30}:[\s*_]*(_[^_]{0,500}\?_)\s*")
_TITLE = re.compile(r"post-?\s?mortem|incident|retrospective|\brca\b|outage", re.IGNORECASE)
_COMMENT = re.compile(r"<!--(?:(?!-->).){0,2000}-->", re.DOTALL)
_MEASURED = re.compile(
    r"\d|\b(?:unknown|none|nobody|no one|not known|n/a|no impact|no customer|no user|zero|all)\b", re.IGNORECASE
)

_ZONES = "UTC|GMT|CES?T|EES?T|WES?T|[ECMP][SD]T|BST|IST|JST|KST|SGT|HKT|A[EWC][SD]?T|NZ[SD]T|MSK|SAST|ET|PT|CT|MT|local"
_TIME = re.compile(r"(?<![\d:.,+-])([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?(?![\d:])(?![.,]\d{1,2}\b)")
_ZONE = re.compile(rf"[ \t]*(?:[AaPp]\.?[Mm]\.?)?[ \t]*\(?(?:(?:{_ZONES})\b|Z\b|[+-]\d{{2}}:?\d{{2}}\b)")
_ZONED = re.compile(rf"\b(?:{_ZONES}|Z)\b|\d[+-]\d{{2}}:\d{{2}}\b|\dZ\b")
_STATED = re.compile(
    rf"(?i:\btimes?(?:stamps?|zone)?\b)[^.\n]{{0,40}}\b(?:{_ZONES})\b|\b(?:{_ZONES})\b[^.\n]{{0,20}}(?i:\btimes\b)"
)

_DATE = r"(?:(\d{4})-(\d{2})-(\d{2})[T ]{1,2})?"
_CLOCK = r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?"
_AT = re.compile(_DATE + _CLOCK)
_LENGTH = (
    r"((?:about|around|approximately|approx\.?|roughly|nearly|almost|over|more than|under|some|~)[ \t]*)?"
    r"(\d{1,6}(?:\.\d{1,3})?)[ \t-]?(days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b"
    r"(?:,?[ \t]*(?:and[ \t]+)?(\d{1,6})[ \t-]?(hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)\b)?"
    r"(?:,?[ \t]*(?:and[ \t]+)?(\d{1,6})[ \t-]?(minutes?|mins?|m|seconds?|secs?|s)\b)?"
)
_LASTED = re.compile(_LENGTH)
_IN_ZONE = rf"(?:[ \t]*(?:{_ZONES}|Z)\b)?"
_BETWEEN = rf"{_DATE}{_CLOCK}{_IN_ZONE}[ \t]*(?:to|until|till|and|through|–|—|-|→)[ \t]*{_DATE}{_CLOCK}{_IN_ZONE}"
_THEN_LENGTH = re.compile(
    _BETWEEN
    + r"[ \t]*[(,;:=]?[ \t]*(?:or|for|i\.e\.|that is|lasting|total:?|in total|duration:?|=|which is)?"
    + r"[ \t]*(?:a total of)?[ \t]*"
    + _LENGTH
)
_LENGTH_THEN = re.compile(
    _LENGTH
    + r"[ \t]*(?:outage|long|in total|of (?:downtime|outage|impact|errors)|downtime)?[ \t]*[(,:]?[ \t]*"
    + r"(?:from|between)?[ \t]*"
    + _BETWEEN
)
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_LABEL = re.compile(r"[\s*_|:>-]*([A-Za-z][A-Za-z ]{2,30}?)[\s*_]*(?:\([^()]{0,30}\))?[\s*_]*[:|=–-][\s*_|]*")
_MOMENTS = (
    ("started", re.compile(r"start|began|beg[ui]n|impact (?:start|from)|onset")),
    ("detected", re.compile(r"detected|detection$")),
    ("acknowledged", re.compile(r"acknowledged|acked")),
    ("mitigated", re.compile(r"mitigated|repaired|restored|recovered")),
    ("resolved", re.compile(r"resolved|^end|ended|closed$|fixed")),
)
# A duration by its name: from any of these moments to any of those. Documents define them differently.
_SPANS = (
    (re.compile(r"time[_ ]to[_ ]detect|ttd"), ("started",), ("detected",)),
    (re.compile(r"time[_ ]to[_ ]ack|tta"), ("detected", "started"), ("acknowledged",)),
    (re.compile(r"time[_ ]to[_ ](?:mitigate|repair|restore|recover)"), ("detected", "started"), ("mitigated",)),
    (re.compile(r"time[_ ]to[_ ]resol|ttr"), ("detected", "started"), ("resolved", "mitigated")),
    (
        re.compile(r"duration|downtime|outage length|total time|lasted"),
        ("started", "detected"),
        ("resolved", "mitigated"),
    ),
)

_OWNED = re.compile(
    r"\bowners?\b|\bowned\b|\bassign|\bdri\b|\bresponsible\b|@\w|[([—–-][ \t]*[\w -]{2,30} team\b", re.IGNORECASE
)
_DUE = re.compile(
    r"\bdue\b|\bdeadline\b|\beta\b|\btarget\b|\b\d{4}-\d{2}(?:-\d{2})?\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|\bq[1-4]\b|\bsprint\b"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.? \d{1,4}\b"
    r"|\b\d{1,2}(?:st|nd|rd|th)?\.? (?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"|\b(?:by|until|before|on) (?:mon|tue|wed|thu|fri|sat|sun|end|next|the end|tomorrow)|\bdone\b|\bcompleted?\b",
    re.IGNORECASE,
)
_TYPED = re.compile(
    r"\btype\b|\bkind\b|\b(?:prevent|detect|mitigat|process\b|docs?\b|documentation|repair|investigat)", re.IGNORECASE
)
_COLUMNS = {
    "AC01": (re.compile(r"owner|who|assign|responsible|team|dri"), _OWNED),
    "AC02": (re.compile(r"due|by when|deadline|target|date|when|eta"), _DUE),
    "AC03": (re.compile(r"type|kind|category|class"), _TYPED),
}
_NOT_ACTIONS = re.compile(r"^(?:#|id|no\.?|nr\.?|number|status|priority|prio|ticket|link|state)$")

_ROLE_ADDRESS = re.compile(
    r"(?:support|help|security|on-?call|ops|no-?reply|info|admin|abuse|team|alerts?|postmaster|root|contact|hello|sre|git"
    r"|devops|status|feedback|privacy|legal|billing|sales|dev|incidents?|service|bot|user|name|someone)\b|.*@(?:.*\.)?"
    r"(?:example\.(?:com|org|net)|.*\.(?:test|invalid|example|local|internal|svc))$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fault:
    """What is wrong from *start* to *end*; `text`, `why` and `level` where they differ from those of the rule."""

    rule: str
    start: int
    end: int
    text: str | None = None
    why: str = ""
    level: str = ""


def structure(page: Page, known: Ruleset) -> Iterator[Fault]:
    """What is wrong with the document as a whole, and with its numbers."""
    front = _front(page.front)
    # What only people can fill in may wait as long as the document says that it is a draft.
    waiting = "info" if front.get(("status",)) == "draft" else ""
    sections = {heading.section for heading in page.headings if heading.section}
    yield from _sections(page, known, sections, front, waiting)
    yield from _factors(page, waiting)
    yield from _impact(page, waiting)
    yield from _actions(page, waiting)
    yield from _zones(page)
    yield from _order(page)
    yield from _durations(page, front)
    yield from _secrets(page, known)


def _front(text: str) -> dict[tuple[str, ...], str]:
    """The plain values of the front matter, by key and by key below a key."""
    found: dict[tuple[str, ...], str] = {}
    above = ""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon or key.lstrip().startswith(("#", "-")):
            continue
        value = value.strip().strip("'\"")
        if not key.startswith((" ", "\t")):
            above = key.strip()
            found[(above,)] = value
        else:
            found[(above, key.strip())] = value
    return found


# Sections


def _sections(
    page: Page, known: Ruleset, present: set[str], front: dict[tuple[str, ...], str], waiting: str
) -> Iterator[Fault]:
    titled = any(heading.level == 1 and _TITLE.search(heading.title) for heading in page.headings)
    if len(present) >= 2 or (present and (titled or ("timestamps",) in front)):
        for section in known.sections:
            if section.required and section.name not in present:
                why = f"The section “{section.title}” is missing."
                yield Fault("ST01", 0, 0, section.title, why, waiting)
    for heading, body in _bodies(page):
        lines = [line for line in _COMMENT.sub("", body).split("\n") if line.strip()]
        if all(_waits(line) for line in lines):
            yield Fault("ST02", *_span(page, heading), level=waiting)


def _bodies(page: Page) -> Iterator[tuple[Heading, str]]:
    """Each heading of a known section with what stands directly under it; not those that only hold other headings."""
    marked = [heading for heading in page.headings if heading.section]
    after = {heading.start: number for number, heading in enumerate(page.headings)}
    for heading in marked:
        number = after[heading.start] + 1
        following = page.headings[number] if number < len(page.headings) else None
        if following and following.level > heading.level > 0:
            continue
        body = page.text[heading.start : following.start if following else len(page.text)]
        _, _, rest = body.partition("\n")
        if not heading.level:  # a marker: the heading it marks follows it
            rest = re.sub(r"\A\s*#{1,6} [^\n]*", "", rest)
        yield heading, rest


def _waits(line: str) -> bool:
    """Whether *line* still waits for words: empty, "TBD", or a question in italics."""
    if len(line) > 2000:
        return False
    return bool(_EMPTY.fullmatch(line) or _QUESTION.fullmatch(line) or _LABELLED.fullmatch(line))


def _span(page: Page, heading: Heading) -> tuple[int, int]:
    end = page.text.find("\n", heading.start)
    if not heading.level and end >= 0:
        following = page.text.find("\n", end + 1)
        return end + 1, len(page.text) if following < 0 else following
    return heading.start, len(page.text) if end < 0 else end


def _factors(page: Page, waiting: str) -> Iterator[Fault]:
    heading = next((heading for heading in page.headings if heading.section == "factors"), None)
    if heading is None:
        return
    rows = sum(row.section == "factors" and not _waits(_first(row)) for row in page.rows)
    texts = sum(
        passage.section == "factors" and passage.kind == "text" and not _waits(page.text[passage.start : passage.end])
        for passage in page.passages
    )
    below = sum(passage.section == "factors" and passage.kind == "heading" for passage in page.passages) - sum(
        one.section == "factors" for one in page.headings if one.level or one is heading
    )
    if max(rows, texts, below) < 2:
        yield Fault("ST03", *_span(page, heading), level=waiting)


def _first(row: Row) -> str:
    """What a row is about: its first cell that is no number of the row."""
    for column, cell in row.cells.items():
        if not _NOT_ACTIONS.match(column) and cell.strip():
            return cell
    return ""


def _impact(page: Page, waiting: str) -> Iterator[Fault]:
    parts = [(heading, body) for heading, body in _bodies(page) if heading.section == "impact"]
    bodies = [body for _, body in parts if body.strip()]
    if bodies and not any(_MEASURED.search(body) for body in bodies):
        yield Fault("ST04", *_span(page, parts[0][0]), level=waiting)


def _actions(page: Page, waiting: str) -> Iterator[Fault]:
    rows = [row for row in page.rows if row.section == "actions"]
    lacking: set[tuple[str, str]] = set()
    at = 0
    while at < len(rows):
        row = rows[at]
        at += 1
        if "" in row.cells and len(row.cells) == 1:
            text = row.cells[""]
            while at < len(rows) and "" in rows[at].cells and _indent(page, rows[at]) > _indent(page, row):
                text += f" {rows[at].cells['']}"
                at += 1
            if _waits(row.cells[""]) or len(text) > 8000:
                continue
            for rule, (_, pattern) in _COLUMNS.items():
                if not pattern.search(text):
                    yield Fault(rule, *_row_span(page, row), level=waiting)
        elif not _waits(_first(row)):
            yield from _cells(page, row, lacking, waiting)


def _cells(page: Page, row: Row, lacking: set[tuple[str, str]], waiting: str) -> Iterator[Fault]:
    header = "|".join(row.cells)
    for rule, (column, pattern) in _COLUMNS.items():
        cells = [cell for name, cell in row.cells.items() if column.search(name)]
        if cells:
            if all(_waits(cell) or cell.strip(" -–—?") == "" for cell in cells):
                yield Fault(rule, *_row_span(page, row), level=waiting)
        elif not any(pattern.search(cell) for cell in row.cells.values()) and (rule, header) not in lacking:
            # One word for a column that is not there, not one for each row.
            lacking.add((rule, header))
            yield Fault(rule, *_row_span(page, row), level=waiting)


def _indent(page: Page, row: Row) -> int:
    start = page.text.rfind("\n", 0, row.start) + 1
    line = page.text[start : row.start]
    return len(line) - len(line.lstrip())


def _row_span(page: Page, row: Row) -> tuple[int, int]:
    end = page.text.find("\n", row.start)
    return row.start, min(len(page.text) if end < 0 else end, row.start + 400)


# Times


def _zones(page: Page) -> Iterator[Fault]:
    if _STATED.search(page.masked):
        return
    zoned = {heading.section for heading in page.headings if _ZONED.search(heading.title)}
    for passage in page.passages:
        if passage.section in zoned or "utc" in passage.column or "gmt" in passage.column:
            continue
        last = None
        for found in _TIME.finditer(page.masked, passage.start, passage.end):
            last = found if last is None else last
        if (
            last
            and not _ZONED.search(page.masked, last.end(), passage.end)
            and not _ZONE.match(page.masked, last.end())
        ):
            yield Fault("TM01", last.start(), last.end(), level="" if passage.section == "timeline" else "info")


def _order(page: Page) -> Iterator[Fault]:
    headings = [heading.line for heading in page.headings]
    before: tuple[datetime, bool] | None = None
    row_before: Row | None = None
    for row in page.rows:
        if row.section != "timeline":
            continue
        columns = list(row.cells)
        named = next((name for name in columns[:2] if re.search(r"time|when|utc|date", name)), None)
        if columns != [""] and (
            named is None or (columns.index(named) == 1 and columns[0] not in ("", "#", "no", "nr"))
        ):
            continue
        if row_before and (
            list(row_before.cells) != columns or any(row_before.line < one < row.line for one in headings[-200:])
        ):
            before = None
        row_before = row
        found = _AT.match(row.cells[named or ""].lstrip("*_`[( ~"))
        if not found:
            continue
        at, dated = _when(found, 1), bool(found[1])
        if before and dated == before[1] and at < before[0] and (dated or before[0] - at < timedelta(hours=12)):
            yield Fault("TM03", *_row_span(page, row))
        before = (at, dated)


def _when(found: re.Match[str], group: int) -> datetime:
    year, month, day, hour, minute, second = (found[group + i] for i in range(6))
    try:
        return datetime(
            int(year or 2000), int(month or 1), int(day or 1), int(hour), int(minute), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return datetime(2000, 1, 1, int(hour), int(minute), int(second or 0), tzinfo=UTC)


def _length(found: re.Match[str], group: int) -> tuple[float, float]:
    """Seconds that a duration in words says, and how far off it may be by the way it is written."""
    seconds, smallest = 0.0, 86400
    for at in range(group + 1, group + 7, 2):
        if found[at]:
            unit = _SECONDS[found[at + 1][0].lower()]
            seconds += float(found[at]) * unit
            smallest = min(smallest, unit)
    about = 0.25 * seconds if found[group] else 0.0
    return seconds, max(about, smallest * (0.1 if "." in (found[group + 1] or "") else 1.0), 0.02 * seconds)


def _agree(start: datetime, end: datetime, length: tuple[float, float]) -> bool:
    between = (end - start).total_seconds()
    if start.year == end.year == 2000 and between < 0:
        between += 86400  # past midnight
    seconds, tolerance = length
    # Times to the minute say no seconds.
    return abs(between - seconds) <= tolerance + 60


def _durations(page: Page, front: dict[tuple[str, ...], str]) -> Iterator[Fault]:
    for passage in page.passages:
        if passage.kind == "cell" and passage.column in ("from – to", "formula"):
            continue
        for pattern, first, second, length in ((_THEN_LENGTH, 1, 7, 13), (_LENGTH_THEN, 8, 14, 1)):
            for found in pattern.finditer(page.masked, passage.start, passage.end):
                if not _agree(_when(found, first), _when(found, second), _length(found, length)):
                    yield Fault("TM02", found.start(), found.end())
    yield from _labelled(page, front)


def _labelled(page: Page, front: dict[tuple[str, ...], str]) -> Iterator[Fault]:
    """Durations by name against moments by name: of the front matter, of lists and of tables."""
    moments: dict[str, datetime] = {}
    lengths: list[tuple[str, tuple[float, float], int, int]] = []
    for key, value in front.items():
        label = key[-1].lower()
        if found := _AT.search(value):
            _moment(moments, label, found)
        elif key[0] == "durations_seconds" and re.fullmatch(r"\d{1,9}(?:\.\d{1,6})?", value):
            at = page.text.find(f"{key[-1]}:")
            lengths.append((label, (float(value), 0.0), at, page.text.find("\n", at)))
    for label, value, start, end in _labels(page):
        if found := _AT.search(value):
            _moment(moments, label, found)
        elif found := _LASTED.search(value):
            lengths.append((label, _length(found, 1), start, end))
    for label, length, start, end in lengths:
        span = next((span for span in _SPANS if span[0].search(label)), None)
        if span is None:
            continue
        pairs = [
            (moments[first], moments[last])
            for first in span[1]
            for last in span[2]
            if first in moments and last in moments and (moments[first].year == 2000) == (moments[last].year == 2000)
        ]
        if pairs and not any(_agree(*pair, length) for pair in pairs):
            yield Fault("TM02", start, end)


def _moment(moments: dict[str, datetime], label: str, found: re.Match[str]) -> None:
    name = next((name for name, pattern in _MOMENTS if pattern.search(label)), None)
    if name:
        moments.setdefault(name, _when(found, 1))


def _labels(page: Page) -> Iterator[tuple[str, str, int, int]]:
    """What is written as "Label: value", in a line or in the cells of a row."""
    for row in page.rows:
        cells = list(row.cells.values())
        if len(cells) > 1 and len(cells[0]) < 40:
            start, end = _row_span(page, row)
            yield cells[0].strip("*_ ").lower(), " | ".join(cells[1:])[:400], start, end
    for passage in page.passages:
        if passage.kind in ("text", "item"):
            for start, line in _lines(page.text, passage):
                if found := _LABEL.match(line[:200]):
                    yield found[1].lower(), line[found.end() : found.end() + 100], start, start + len(line)


def _lines(text: str, passage: Passage) -> Iterator[tuple[int, str]]:
    start = passage.start
    for line in text[passage.start : passage.end].split("\n"):
        yield start, line
        start += len(line) + 1


# What must not be in a document that is shared


def _secrets(page: Page, known: Ruleset) -> Iterator[Fault]:
    for pattern in known.looks.get("secret", ()):
        for found in pattern.finditer(page.text):
            # What is found is not repeated where more people see it.
            yield Fault("SE01", found.start(), found.end(), f"{found[0][:4]}…")
    for pattern in known.looks.get("email", ()):
        for found in pattern.finditer(page.text):
            if not _ROLE_ADDRESS.match(found[0]):
                yield Fault("PI01", found.start(), found.end())
    for pattern in known.looks.get("phone", ()):
        for found in pattern.finditer(page.masked):
            if 8 <= sum(letter.isdigit() for letter in found[0]) <= 15:
                yield Fault("PI01", found.start(), found.end())
    for pattern in known.looks.get("card", ()):
        for found in pattern.finditer(page.masked):
            if _luhn([int(letter) for letter in found[0] if letter.isdigit()]):
                yield Fault("PI01", found.start(), found.end(), f"{found[0][:4]}…")


def _luhn(digits: list[int]) -> bool:
    doubled = [
        digit if at % 2 == len(digits) % 2 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(digits, 1)
    ]
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0
