"""The sections of a document, by the markers that stay the same however often it is written anew."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.kit.errors import UserError
from bot.kit.text import nearest

_MARKER = re.compile(r"^<!-- section: ([a-z0-9-]{1,40}) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A section: its heading, and what stands below it, from *start* to *end* of the text."""

    name: str
    heading: str
    start: int
    end: int


def sections(text: str) -> Sequence[Section]:
    """Those of *text*, in order; of two with the same name the first."""
    marks = list(_MARKER.finditer(text))
    found: dict[str, Section] = {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, after in zip(marks, ends, strict=False):
        heading, start = "", mark.end() + 1
        line = text[start : text.find("\n", start) if "\n" in text[start:] else len(text)]
        if line.startswith("#"):
            heading, start = line.lstrip("# "), start + len(line) + 1
        found.setdefault(mark[1], Section(mark[1], heading, min(start, after), after))
    return list(found.values())


def section(text: str, name: str) -> Section:
    """The section called *name*; UserError with those there are."""
    known = {one.name: one for one in sections(text)}
    wanted = name.strip().lower().replace(" ", "-")
    if wanted not in known:
        near = nearest(wanted, list(known))
        hint = f" Did you mean `{near}`?" if near else f" There are: {', '.join(known) or 'none'}."
        raise UserError(f"The document has no section `{wanted[:40]}`.{hint}")
    return known[wanted]


def body(text: str, name: str) -> str:
    """What stands in a section, without its heading."""
    found = section(text, name)
    return text[found.start : found.end].strip("\n")


def replaced(text: str, name: str, words: str) -> str:
    """*text* with other words in a section; a marker of a section in them means nothing."""
    found = section(text, name)
    words = _MARKER.sub("", words.replace("\r\n", "\n")).strip("\n")
    end = "\n\n" if found.end < len(text) else "\n"
    return f"{text[: found.start]}\n{words}{end}{text[found.end :]}"
