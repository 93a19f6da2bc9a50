"""Rows as text in columns, for places where letters are all of one width."""

import unicodedata
from collections.abc import Sequence

from bot.kit.text import clean, one_line

WIDTH = 100
NARROWEST = 12  # a column is not made narrower than that for the sake of others
LONGEST = 400


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[bool] = ()) -> str:
    """A line of names, a line of dashes and a line per row; one pair per line where that would be too wide.

    *right* tells the columns whose values stand at the right, as numbers do.
    """
    names = [_shown(name, LONGEST) for name in columns]
    cells = [[_shown(cell, LONGEST) for cell in row] for row in rows]
    wanted = [max([1, *map(width, column)]) for column in zip(names, *cells, strict=True)]
    widths = _fitting(wanted)
    if widths is None:
        return _records(names, cells)
    lines = [[*names], ["-" * size for size in widths], *cells]
    sides = [*right, *[False] * (len(names) - len(right))]
    return "\n".join(
        "  ".join(_cell(cell, size, side) for cell, size, side in zip(line, widths, sides, strict=True)).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """How many columns *text* takes: none for an accent of its own, two for an ideograph."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitting(wanted: Sequence[int]) -> list[int] | None:
    """Widths that fit, by making the widest columns narrower; None if that would leave too little of them."""
    widths = list(wanted)
    over = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    while over > 0:
        widest = max(range(len(widths)), key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            return None
        second = max([NARROWEST, *(size for size in widths if size < widths[widest])])
        less = min(over, max(1, widths[widest] - second))
        widths[widest] -= less
        over -= less
    return widths


def _records(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    size = min(30, max(map(width, names)))
    blocks = [
        "\n".join(
            [f"-- {number} --", *(f"{_cell(name, size, False)}  {cell}" for name, cell in zip(names, row, strict=True))]
        )
        for number, row in enumerate(rows, 1)
    ]
    return "\n".join(blocks)


def _shown(text: str, limit: int) -> str:
    return _cut(one_line(clean(text)), limit)


def _cell(text: str, size: int, right: bool) -> str:
    text = _cut(text, size)
    blank = " " * (size - width(text))
    return blank + text if right else text + blank


def _cut(text: str, size: int) -> str:
    if width(text) <= size:
        return text
    kept, left = "", size - 1
    for letter in text:
        left -= width(letter)
        if left < 0:
            break
        kept += letter
    return kept + "…"
