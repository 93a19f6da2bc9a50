"""Line charts over time as SVG, for people who look at them in Slack: on white, so that dark mode shows them as well.

Every other series is told apart by its dashes too, not by colour alone. Times are UTC; the axes have no unit, since
nobody says what the numbers count.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from bot.kit.text import clean, clip

WIDTH = 960
PLOT = 300  # height of the plot alone
LINES = 10  # more cannot be told apart
COLOURS = (
    *("#0072b2", "#d55e00", "#00805f", "#a3457f", "#6a51a3"),
    *("#8a6d00", "#1f6f8b", "#444444", "#a52a2a", "#4f7a00"),
)

_LEFT, _RIGHT, _TOP = 74, 20, 78
_ROW, _COLUMNS = 22, 2
_HUGE, _TINY = 1e300, 1e-290  # what can still be subtracted and divided
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TICKS = (
    *(1, 2, 5, 10, 15, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 28, 56, 91, 182, 364)),
)
_Place = Callable[[float], float]

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Line:
    """One series: its name and its points, in order, as seconds since 1970 and a finite number."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """What is drawn, from *start* to *end*. Points further apart than *step* have a gap between them.

    *mark* is a moment to point out and the word for it; *note* stands below the title.
    """

    title: str
    lines: Sequence[Line]
    start: float
    end: float
    step: float
    mark: tuple[float, str] | None = None
    note: str = ""


def height(chart: Chart) -> int:
    """How tall its picture is, at `WIDTH`."""
    return _TOP + PLOT + 34 + _ROW * -(-max(1, len(chart.lines[:LINES])) // _COLUMNS) + 10


def svg(chart: Chart) -> str:
    """The whole picture; of more than `LINES` series the first are drawn, which *note* should say."""
    tall, lines = height(chart), chart.lines[:LINES]
    low, high, ticks = _scale(lines)
    span = max(chart.end - chart.start, 1.0)

    def x(moment: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (moment - chart.start) / span

    def y(value: float) -> float:
        return _TOP + PLOT * (1 - (_bounded(value) - low) / (high - low))

    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall}" width="{WIDTH}" height="{tall}"'
        ' font-family="DejaVu Sans" font-size="13" fill="#1d2733">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        label(20, 28, chart.title, 96, 'font-size="17"'),
        label(20, 49, f"{_period(chart)}{'; ' if chart.note else ''}{chart.note}", 130, 'fill="#55606c"'),
    ]
    for value in ticks:
        at = f"{y(value):.1f}"
        made.append(f'<path d="M{_LEFT} {at}H{WIDTH - _RIGHT}" stroke="#e1e5ea"/>')
        made.append(label(_LEFT - 8, y(value) + 4.5, _number(value, ticks), 12, 'text-anchor="end" fill="#55606c"'))
    for moment, told in times(chart.start, chart.end):
        at = f"{x(moment):.1f}"
        made.append(f'<path d="M{at} {_TOP}v{PLOT + 5}" stroke="#e1e5ea"/>')
        made.append(label(x(moment), _TOP + PLOT + 22, told, 12, 'text-anchor="middle" fill="#55606c"'))
    made.append(f'<path d="M{_LEFT} {_TOP}v{PLOT}H{WIDTH - _RIGHT}" fill="none" stroke="#8a95a1"/>')
    made += _mark(chart, x)
    if not any(line.points for line in lines):
        made.append(label(WIDTH / 2, _TOP + PLOT / 2, "no data", 20, 'text-anchor="middle" font-size="20"'))
    for number, line in enumerate(lines):
        made.append(_drawn(line, number, chart.step, x, y))
    made += _legend(lines)
    return "\n".join([*made, "</svg>"])


def label(x: float, y: float, text: str, limit: int, style: str = "") -> str:
    """Words at a place, whatever they are made of."""
    shown = escape(clip(_NOT_XML.sub("", clean(text)).replace("\n", " "), limit))
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{shown}</text>'


def _bounded(value: float) -> float:
    return max(-_HUGE, min(_HUGE, value))


def _scale(lines: Sequence[Line]) -> tuple[float, float, list[float]]:
    """The lowest and the highest number of the axis, and those that are written beside it."""
    values = [_bounded(value) for line in lines for _, value in line.points]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if 0 <= low <= high / 2:
        low = 0.0  # near enough to nothing to be compared with it
    if high - low <= max(abs(high) * 1e-9, _TINY):
        pad = abs(high) / 2 if abs(high) > 2 * _TINY else 1.0
        low, high = (0.0, high + pad) if high >= 0 else (low - pad, 0.0)
    step = _nice((high - low) / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [n * step for n in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def _nice(step: float) -> float:
    """The next round number: 1, 2, 2.5 or 5 with zeros."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)


def _number(value: float, ticks: Sequence[float]) -> str:
    """A number at the axis, short: `0.05`, `1.5k`, `2M`, `1e-07`."""
    step, most = ticks[1] - ticks[0], max(abs(ticks[0]), abs(ticks[-1]))
    for limit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")):
        if most >= limit or (limit == 1 and most >= 1e-4):
            places = max(0, 1 - math.floor(math.log10(step / limit) + 1e-9))
            if most / limit < 1e4 and places <= 6:
                told = f"{value / limit:.{places}f}"
                told = told.rstrip("0").rstrip(".") if "." in told else told
                return "0" if told in ("0", "-0") else told + sign
    return f"{value:.6g}"


def _period(chart: Chart) -> str:
    start, end = _moment(chart.start), _moment(chart.end)
    if start is None or end is None:
        return ""
    last = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{start:%Y-%m-%d %H:%M} – {last} UTC"


def _moment(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def times(start: float, end: float) -> Iterator[tuple[float, str]]:
    """The times that are written below a plot from *start* to *end*, at most nine."""
    span = max(end - start, 1.0)
    tick = next((n for n in _TICKS if span / n <= 8), math.ceil(span / 8 / _TICKS[-1]) * _TICKS[-1])
    for n in range(math.ceil(start / tick), math.floor(end / tick) + 1):
        moment = _moment(n * tick)
        if moment is None:
            return
        if tick >= _DAY or (span > _DAY / 2 and moment.hour == moment.minute == 0):
            yield n * tick, f"{moment:%m-%d}"
        else:
            yield n * tick, f"{moment:%H:%M:%S}" if tick < _MINUTE else f"{moment:%H:%M}"


def _mark(chart: Chart, x: _Place) -> list[str]:
    if chart.mark is None or not chart.start <= chart.mark[0] <= chart.end:
        return []
    at, told = x(chart.mark[0]), chart.mark[1]
    left = at > WIDTH / 2
    style = f'text-anchor="{"end" if left else "start"}" fill="#c81e1e"'
    return [
        f'<path d="M{at:.1f} {_TOP - 18}v{PLOT + 18}" stroke="#c81e1e" stroke-width="2" stroke-dasharray="6 4"/>',
        label(at + (-6 if left else 6), _TOP - 7, told, 40, style),
    ]


def _drawn(line: Line, number: int, step: float, x: _Place, y: _Place) -> str:
    """The line with its gaps; a point with no neighbours is a dot."""
    path: list[str] = []
    dots: list[str] = []
    for piece in _pieces(line.points, step):
        placed = [f"{x(moment):.1f} {y(value):.1f}" for moment, value in piece]
        if len(placed) > 1:
            path.append("M" + "L".join(placed))
        else:
            at = placed[0].split()
            dots.append(f'<circle cx="{at[0]}" cy="{at[1]}" r="2.5" fill="{COLOURS[number]}"/>')
    return f'<path d="{"".join(path)}" {_stroke(number)}/>' * bool(path) + "".join(dots)


def _pieces(points: Sequence[tuple[float, float]], step: float) -> Iterator[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for point in points:
        if piece and point[0] - piece[-1][0] > step * 1.5:
            yield piece
            piece = []
        piece.append(point)
    if piece:
        yield piece


def _stroke(number: int) -> str:
    dashes = ' stroke-dasharray="7 3"' if number % 2 else ""
    return f'fill="none" stroke="{COLOURS[number]}" stroke-width="2" stroke-linejoin="round"{dashes}'


def _legend(lines: Sequence[Line]) -> Iterator[str]:
    wide = (WIDTH - 40) // _COLUMNS
    for number, line in enumerate(lines):
        x, y = 20 + wide * (number % _COLUMNS), _TOP + PLOT + 34 + _ROW * (number // _COLUMNS)
        # A picture inside the picture: what is too long for its column is cut off and runs into no other.
        yield f'<svg x="{x}" y="{y}" width="{wide - 10}" height="{_ROW}">'
        yield f'<path d="M0 11h26" {_stroke(number)}/>'
        yield label(34, 15.5, line.name, 60) + "</svg>"
