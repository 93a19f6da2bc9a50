"""The post-mortem as a tagged PDF with page numbers, set by Typst with fonts that we bring.

What people wrote reaches Typst as data, never as source. A letter that no font has is said in words or drawn as a
box on purpose, and the end of the document says so.
"""

import importlib
import json
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from bot.kit import glyphs
from bot.kit.errors import PermanentError
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import Paper, paper
from bot.postmortems.tree import (
    Anchor,
    Block,
    Break,
    Chart,
    Code,
    Emphasis,
    Heading,
    Inline,
    Items,
    Link,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Strong,
    Struck,
    Table,
    Text,
    columns,
    headings,
    plain,
)

SUFFIX = ".pdf"
MEDIA_TYPE = "application/pdf"

PAGE = Path(__file__).with_name("pdf.typ")
BOX = "\u25a1"
# How many letters a line of a table holds, and from which length on a column has to share.
LINE, SHORT = 90, 22
# Words as long as that are broken, or they would run out of their column.
_LONG = re.compile(r"\S{33,}")
_BREAKS = re.compile(r"(?<=[/.,:;=&?_@-])(?=[^\s/.,:;=&?_@-])")
# Joiners, selectors and skin tones only change the picture before them.
_SHAPES = re.compile("[\u200c\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_FAMILIES = {
    "DroidSansFallbackFull": "Droid Sans Fallback",
    "DroidSansFallback": "Droid Sans Fallback",
    "NotoSansCJK-Regular": "Noto Sans CJK JP",
}


def export(document: Postmortem) -> bytes:
    """Tagged, and the same bytes each time: its dates are those of the revision."""
    made = paper(document)
    setter = Setter()
    told = json.dumps(setter.paper(made), ensure_ascii=False)
    typst = importlib.import_module("typst")
    try:
        pdf: bytes = typst.compile(
            PAGE.read_bytes(),
            root=str(PAGE.parent),
            font_paths=[str(glyphs.OWN.parent), *(str(font.parent) for font in setter.fonts)],
            ignore_system_fonts=True,
            sys_inputs={"paper": told},
            pdf_standards=["ua-1"],
            timestamp=int(made.made_at.timestamp()),
        )
    except typst.TypstError as error:
        raise PermanentError(f"Typst cannot set this document: {error}") from None
    return pdf


class Setter:
    """Writes the tree as data for the page. *more* are fonts of the machine, for letters that ours lacks."""

    def __init__(
        self, more: Sequence[Path] | None = None, known: Callable[[Path], Container[int]] = glyphs.letters
    ) -> None:
        self.more = [font for font in glyphs.MORE if font.is_file()] if more is None else more
        self.known = known
        self.fonts: list[Path] = []
        self.missing: set[str] = set()
        self.level = 0

    def paper(self, made: Paper) -> dict[str, Any]:
        blocks = [self.block(block) for block in made.tree.blocks]
        if len(headings(made.tree)) > 3:
            blocks.insert(1, {"k": "contents"})
        title, margin = self.text(made.tree.title), self.text(made.margin)
        if self.missing:
            count = len(self.missing)
            told = f"{count} letter{'' if count == 1 else 's'} of this document stand as {BOX}: no font here has them."
            blocks.append({"k": "paragraph", "c": [{"k": "emphasis", "c": [{"k": "text", "t": told}]}]})
        return {
            "title": title,
            "margin": margin,
            "blocks": blocks,
            "chart": made.strip.svg if made.strip else "",
            "alt": made.strip.words if made.strip else "",
            "fonts": [_FAMILIES.get(font.stem, font.stem) for font in self.fonts],
        }

    def block(self, block: Block) -> dict[str, Any]:
        match block:
            case Heading(level, children, name):
                if not plain(children).strip():
                    return {"k": "paragraph", "c": [{"k": "anchor", "t": name}]}
                # A level is never skipped: who reads with a screen reader finds the way by levels.
                self.level = min(level, self.level + 1)
                return {"k": "heading", "level": self.level, "c": self.words(children), "t": name}
            case Paragraph(children):
                return {"k": "paragraph", "c": self.words(children)}
            case Items(items, start):
                inside = [[self.block(inner) for inner in item] for item in items]
                return {"k": "bullets", "c": inside} if start is None else {"k": "numbers", "c": inside, "start": start}
            case Quote(children):
                return {"k": "quote", "c": [self.block(inner) for inner in children]}
            case Listing(text):
                return {"k": "listing", "t": self.text(text)}
            case Table(head, rows):
                return {
                    "k": "table",
                    "columns": _columns(block),
                    "head": [self.words(cell) for cell in head],
                    "rows": [[{"c": self.words(cell)} for cell in row] for row in rows],
                }
            case Rule():
                return {"k": "rule"}
            case Chart():
                return {"k": "chart"}

    def words(self, children: Iterable[Inline]) -> list[dict[str, Any]]:
        return [self.word(child) for child in children]

    def word(self, child: Inline) -> dict[str, Any]:
        match child:
            case Text(text):
                return {"k": "text", "t": self.text(text)}
            case Code(text):
                return {"k": "code", "t": self.text(text)}
            case Break():
                return {"k": "break"}
            case Anchor(name):
                return {"k": "anchor", "t": name}
            case Strong(children):
                return {"k": "strong", "c": self.words(children)}
            case Emphasis(children):
                return {"k": "emphasis", "c": self.words(children)}
            case Struck(children):
                return {"k": "struck", "c": self.words(children)}
            case Link(url, children):
                here = url.startswith("#")
                return {"k": "place" if here else "link", "t": url[1:] if here else url, "c": self.words(children)}

    def text(self, text: str) -> str:
        """*text* in letters that have a shape, with places where a long word may be broken."""
        shown = "".join(map(self.letter, _SHAPES.sub("", text)))
        return _LONG.sub(lambda found: _breakable(found[0]), shown)

    def letter(self, letter: str) -> str:
        if letter in "\n\t" or ord(letter) in self.known(glyphs.OWN):
            return letter
        if (font := next((font for font in self.more if ord(letter) in self.known(font)), None)) is not None:
            if font not in self.fonts:
                self.fonts.append(font)
            return letter
        if 0x1F1E6 <= ord(letter) <= 0x1F1FF:
            return chr(ord(letter) - 0x1F1E6 + ord("A"))  # half a flag
        if unicodedata.category(letter) == "So" and (name := unicodedata.name(letter, "")):
            return f"[{name.lower()}]"
        self.missing.add(letter)
        return BOX


def _columns(table: Table) -> list[int]:
    """What each column gets: 0 for as much as it needs, which short ones do, else its part of what is left."""
    wide = columns(table)
    short = [want if want <= SHORT else 0 for want in wide]
    while sum(short) > LINE:
        short[short.index(max(short))] = 0
    return [0 if kept else want for kept, want in zip(short, wide, strict=True)]


def _breakable(word: str) -> str:
    parts = _BREAKS.split(word)
    return "\u200b".join(part[start : start + 24] for part in parts for start in range(0, max(1, len(part)), 24))
