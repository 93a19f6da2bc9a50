"""Charts: what they say, that nothing breaks them, and that the picture holds what was drawn."""

import math
import re
import struct
import sys
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.chart import COLOURS, LINES, WIDTH, Chart, Line, height, svg
from bot.kit.errors import PermanentError
from bot.kit.png import png

END = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def chart(*lines: Line, hours: float = 1, **more) -> Chart:
    return Chart("Errors", lines, END - hours * 3600, END, 60, **more)


def line(*values: float, name: str = "one", every: float = 60) -> Line:
    return Line(name, [(END - every * (len(values) - 1 - i), value) for i, value in enumerate(values)])


def nodes(picture: str) -> list[ET.Element]:
    """Every piece of text; fails where the picture is not well-formed."""
    return list(ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"))  # noqa: S314 - ours


def texts(picture: str) -> list[str]:
    return [node.text or "" for node in nodes(picture)]


def axis(picture: str) -> list[str]:
    """The numbers beside the plot, lowest first."""
    return [n.text for n in nodes(picture) if n.get("text-anchor") == "end" and n.get("fill") == "#55606c"]


def drawn(picture: str, number: int = 0) -> list[str]:
    """The separate strokes of one series, without its sample in the legend."""
    found = re.findall(rf'<path d="([^"]*)" fill="none" stroke="{COLOURS[number]}"', picture)
    return [piece for path in found if "L" in path for piece in path.split("M") if piece]


def pixels(picture: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and every row of a PNG, four bytes a pixel; enough of the format for what is drawn here."""
    wide, tall, depth, kind, *_, woven = struct.unpack(">IIBBBBB", picture[16:29])
    assert (depth, kind, woven) == (8, 6, 0)
    packed, at = b"", 8
    while at < len(picture):
        size, name = struct.unpack(">I4s", picture[at : at + 8])
        packed += picture[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw, rows, before = zlib.decompress(packed), [], bytes(wide * 4)
    for start in range(0, len(raw), wide * 4 + 1):
        row = bytearray(raw[start + 1 : start + 1 + wide * 4])
        for i in range(wide * 4):
            left, up = (row[i - 4] if i > 3 else 0), before[i]
            corner = before[i - 4] if i > 3 else 0
            guess = left + up - corner
            nearest = min((left, up, corner), key=lambda one: abs(guess - one))
            row[i] = (row[i] + (0, left, up, (left + up) // 2, nearest)[raw[start]]) & 255
        before = bytes(row)
        rows.append(before)
    return wide, tall, rows


def colours(rows: list[bytes]) -> set[str]:
    return {f"#{row[i : i + 3].hex()}" for row in rows for i in range(0, len(row), 4)}


def test_it_says_what_when_and_which():
    told = texts(svg(chart(line(1, 2, 3, name="web-1"), note="3 of 9", mark=(END - 600, "alert 11:50"))))

    assert told[:2] == ["Errors", "2026-03-01 11:00 – 12:00 UTC; 3 of 9"]
    assert {"11:10", "12:00", "alert 11:50", "web-1"} <= set(told)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.01, 0.05), ["0", "0.01", "0.02", "0.03", "0.04", "0.05"]),
        ((1200, 5000), ["0", "1k", "2k", "3k", "4k", "5k"]),
        ((1.5e9, 1.6e9), ["1.5G", "1.52G", "1.54G", "1.56G", "1.58G", "1.6G"]),
        ((-2, 2), ["-2", "-1", "0", "1", "2"]),
        ((99.5, 100), ["99.5", "99.6", "99.7", "99.8", "99.9", "100"]),
        ((7,), ["0", "2.5", "5", "7.5", "10", "12.5"]),
        ((0, 0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((3e-7, 5e-7), ["3e-07", "3.5e-07", "4e-07", "4.5e-07", "5e-07"]),
    ],
)
def test_the_axis_has_round_numbers(values, expected):
    assert axis(svg(chart(line(*values)))) == expected


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (0.01, {"11:59:30", "11:59:45", "12:00:00"}),
        (6, {"07:00", "12:00"}),
        (24, {"03-01", "06:00", "12:00"}),
        (24 * 7, {"02-23", "03-01"}),
    ],
)
def test_times_are_written_in_utc_and_days_as_days(hours, expected):
    assert expected <= set(texts(svg(chart(line(1, 2), hours=hours))))


def test_missing_points_leave_a_gap():
    points = [(END - 600, 1.0), (END - 540, 2.0), (END - 240, 3.0), (END - 180, 4.0)]

    assert len(drawn(svg(chart(Line("one", points))))) == 2


def test_a_point_without_neighbours_is_a_dot():
    picture = svg(chart(Line("one", [(END - 600, 1.0)])))

    assert "<circle" in picture
    assert not drawn(picture)


def test_without_points_it_says_so():
    assert "no data" in texts(svg(chart()))
    assert "no data" in texts(svg(chart(Line("one", []))))


def test_a_mark_outside_of_the_time_shown_is_not_drawn():
    assert "alert" not in texts(svg(chart(line(1, 2), mark=(END - 7200, "alert"))))


def test_more_lines_than_can_be_told_apart_are_not_drawn():
    lines = [line(i, i + 1, name=f"series {i}") for i in range(LINES + 5)]
    told = texts(svg(chart(*lines)))

    assert f"series {LINES - 1}" in told
    assert f"series {LINES}" not in told
    assert len(set(COLOURS)) == LINES


def test_names_from_outside_are_text_and_nothing_else():
    evil = '</text><script>x</script>"&amp;\x00\ufffe\u202e'
    told = texts(svg(Chart(evil, [line(1, 2, name=evil)], END - 60, END, 60)))

    assert told.count('</text><script>x</script>"&amp;') == 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=4), st.text(max_size=20))
def test_no_numbers_break_it(rows, name):
    picture = svg(chart(*(line(*row, name=name) for row in rows)))

    assert nodes(picture)
    places = [float(word) for word in re.findall(r"-?[0-9.]+", " ".join(re.findall(r' d="([^"]*)"', picture)))]
    assert all(math.isfinite(place) and -50 <= place <= WIDTH for place in places)
    assert "nan" not in " ".join(axis(picture))


async def test_the_picture_has_its_size_its_lines_and_its_text_on_white():
    one = chart(line(1, 2, 1, 3), line(3, 2, 3, 1, name="two"), mark=(END - 60, "alert"))
    wide, tall, rows = pixels(await png(svg(one), WIDTH))
    # Without a font the text would be missing, and nobody would be told.
    silent = pixels(await png(svg(replace(one, title="")), WIDTH))[2]

    assert (wide, tall) == (WIDTH, height(one))
    assert rows[0] == rows[-1] == b"\xff" * 4 * wide
    assert {COLOURS[0], COLOURS[1], "#c81e1e"} <= colours(rows)
    assert colours(silent[:35]) == {"#ffffff"}
    assert len(colours(rows[:35])) > 20


async def test_it_is_drawn_in_another_process_which_holds_up_nothing_here():
    loaded = "resvg_py" in sys.modules
    drawing = await png(svg(chart(line(1, 2))), 100)

    assert drawing.startswith(b"\x89PNG")
    assert ("resvg_py" in sys.modules) == loaded


async def test_what_is_no_picture_is_said():
    with pytest.raises(PermanentError, match="cannot be drawn"):
        await png("<svg", 100)
    with pytest.raises(PermanentError, match="/nowhere/python cannot be started"):
        await png(svg(chart()), 100, python="/nowhere/python")
