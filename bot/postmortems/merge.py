"""Joins what people wrote into a document with what the timeline says now; no line of a person is ever lost.

Three texts: the *base* is what was generated last, *theirs* what people made of it, *ours* what is generated now.
Where only one side changed something, that is taken. Where both did, both stay: as additions beside each other if that
is all there is to it, else between markers that a reader sees.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

PEOPLE, TIMELINE, END = "<!-- conflict: people -->", "<!-- conflict: timeline -->", "<!-- conflict: end -->"
_PEOPLE_SAY, _TIMELINE_SAYS = "**Conflict. What people wrote:**", "**What the timeline says now:**"
_NOTHING = "_Nothing any more._"
_CONFLICT = re.compile(rf"^{re.escape(PEOPLE)}$", re.MULTILINE)

Lines = Sequence[str]


@dataclass(frozen=True)
class Merged:
    """The joined text, and how many conflicts came into being by joining."""

    text: str
    conflicts: int


@dataclass(frozen=True)
class _Chunk:
    """A stretch of the three texts; *same* where all agree."""

    base: Lines
    theirs: Lines
    ours: Lines
    same: bool


def merge(base: str, theirs: str, ours: str) -> Merged:
    """*theirs* and *ours*, which both come from *base*, in one text."""
    if base == ours or theirs == ours:
        return Merged(theirs, 0)
    if base == theirs:
        return Merged(ours, 0)
    lines: list[str] = []
    conflicts = 0
    for chunk in _chunks(base.split("\n"), theirs.split("\n"), ours.split("\n")):
        joined = chunk.base if chunk.same else _joined(chunk.base, chunk.theirs, chunk.ours)
        if joined is None:
            conflicts += 1
            joined = _shown(chunk.theirs, chunk.ours)
        lines += joined
    return Merged("\n".join(lines), conflicts)


def conflicts(text: str) -> int:
    """How many conflicts in *text* wait for people."""
    return len(_CONFLICT.findall(text))


def _joined(base: Lines, theirs: Lines, ours: Lines) -> Lines | None:
    """One text of a stretch in which something changed; None where that is for people to decide."""
    if theirs in (ours, base):
        return ours
    if ours == base:
        return theirs
    if not base:  # both only added something
        return [*ours, *theirs]
    # Who only added around what the other one changed has nothing against the change.
    if (place := _within(base, theirs)) is not None:
        return [*theirs[:place], *ours, *theirs[place + len(base) :]]
    if (place := _within(base, ours)) is not None:
        return [*ours[:place], *theirs, *ours[place + len(base) :]]
    return None


def _within(part: Lines, whole: Lines) -> int | None:
    """Where *part* stands in *whole*, in one piece."""
    places = range(len(whole) - len(part) + 1)
    return next((place for place in places if whole[place : place + len(part)] == part), None)


def _shown(theirs: Lines, ours: Lines) -> Lines:
    """Both, between markers; what they have in common stands before and after them, once."""
    head = _common(theirs, ours)
    tail = _common(theirs[head:][::-1], ours[head:][::-1])
    left, right = theirs[head : len(theirs) - tail], ours[head : len(ours) - tail]
    return [
        *theirs[:head],
        *("", PEOPLE, _PEOPLE_SAY, ""),
        *(left or [_NOTHING]),
        *("", TIMELINE, _TIMELINE_SAYS, ""),
        *(right or [_NOTHING]),
        *("", END, ""),
        *theirs[len(theirs) - tail :],
    ]


def _common(one: Lines, other: Lines) -> int:
    """How many lines at the beginning are the same in both."""
    most = min(len(one), len(other))
    return next((place for place in range(most) if one[place] != other[place]), most)


def _chunks(base: Lines, theirs: Lines, ours: Lines) -> Iterator[_Chunk]:
    """The three texts, cut where all of them agree."""
    at = left = right = 0
    for start, their_start, our_start, length in _agreements(base, theirs, ours):
        if start > at or their_start > left or our_start > right:
            yield _Chunk(base[at:start], theirs[left:their_start], ours[right:our_start], same=False)
        if length:
            same = base[start : start + length]
            yield _Chunk(same, same, same, same=True)
        at, left, right = start + length, their_start + length, our_start + length


def _agreements(base: Lines, theirs: Lines, ours: Lines) -> Iterator[tuple[int, int, int, int]]:
    """Stretches that stand in all three, in order: where each begins, and their length; an empty one at the end."""
    left, right = _matches(base, theirs), _matches(base, ours)
    one = other = 0
    while one < len(left) and other < len(right):
        (a, their, length), (b, our, length_of_other) = left[one], right[other]
        start, end = max(a, b), min(a + length, b + length_of_other)
        if start < end:
            yield start, their + start - a, our + start - b, end - start
        if a + length <= b + length_of_other:
            one += 1
        else:
            other += 1
    yield len(base), len(theirs), len(ours), 0


def _matches(one: Lines, other: Lines) -> list[tuple[int, int, int]]:
    # Lines that stand everywhere, such as empty ones, are no help in finding what belongs together.
    return [(block.a, block.b, block.size) for block in SequenceMatcher(None, one, other).get_matching_blocks()]
