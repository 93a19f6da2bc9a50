"""Finds the prose in Markdown: what people say, without code, quotations, chat and addresses.

Everything here takes time in proportion to the text: no expression can be made to look at the same place twice.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# In the place of what is not read; as a word it is a thing, never a person.
HIDDEN = "¤"
# A sentence of more words than that is read in pieces.
LONGEST = 120

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])(?:[ \t]+(?:\[[ xX]\][ \t]+)?|$)")
_RULE = re.compile(r"[ \t|:=-]+$")
_MARKER = re.compile(r"<!--[ \t]*section:[ \t]*([a-z][a-z-]{0,40})[ \t]*-->")

_TIME = r"\d{1,2}:\d{2}(?::\d{2})?(?:[ \t]?[AaPp][Mm])?"
_STAMP = rf"(?:\[{_TIME}\]|\({_TIME}\)|{_TIME})"
_NICK = r"[*_]{0,2}@?[\w.-]{1,40}"
_CHAT = re.compile(
    rf"[ \t]*(?:[-*][ \t]+)?{_STAMP}[ \t]*(?:<[^<>\n]{{1,40}}>|[*_]{{0,2}}@?[a-z][\w.-]{{0,40}}[*_]{{0,2}}:(?=\s))"
    r"|[ \t]*<(?!@|!|/|[a-z]+[ >])[\w. -]{1,40}>[ \t]"
    r"|[ \t]*@[\w.-]{1,40}:[ \t]"
    rf"|[ \t]*{_NICK}(?:[ \t][A-Z][\w.-]{{1,40}})?[*_]{{0,2}}[ \t]*(?:\[{_TIME}\]|\({_TIME}\)):?[ \t]"
)
_CHAT_HEAD = re.compile(rf"[ \t]*{_NICK}(?:[ \t][\w.-]{{1,40}}){{0,2}}(?:[ \t]+APP)?[ \t]{{1,4}}\[?{_TIME}\]?[ \t]*$")

_URL = re.compile(r"(?:https?|ftp|mailto|slack)://?[^\s<>\"')\]|]+|(?<=\])\([^()\s]{0,2000}\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n@]{0,300}>")
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,10}|#\d{1,6});")
_TICKS = re.compile(r"`+")
_QUOTES = re.compile(r"[\"“”„«»‘’']")
_CLOSES = {"“": "”", "„": "”“", "«": "»", "‘": "’"}

_TOKEN = re.compile(
    r"<@[A-Za-z0-9_.-]{1,40}(?:\|[^<>\n]{0,80})?>|(?<![\w.])@[A-Za-z][\w.-]*"
    r"|[^\W_]+(?:[-.'’:@+]+[^\W_]+|[_#](?=[^\W_]))*|¤+|[.!?…]+|[,;:()\[\]–—=/→|%\n]|-{1,2}(?=\s)"
)
_STOP = re.compile(r"[.!?…]+")
_ABBREVIATIONS = frozenset(("e.g", "i.e", "vs", "approx", "incl", "cf", "resp", "mr", "mrs", "ms", "dr", "no", "fig"))


@dataclass(frozen=True)
class Passage:
    """A stretch of prose that is no part of a longer one: a paragraph, a heading, a list item, a cell of a table."""

    start: int
    end: int
    kind: str
    section: str = ""
    column: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading, or a marker such as ``<!-- section: impact -->``, and what of the document stands under it."""

    line: int
    start: int
    level: int
    title: str
    section: str


@dataclass(frozen=True)
class Row:
    """A row of a table below its header, or a list item; `cells` by column, an item has the one cell ""."""

    line: int
    start: int
    section: str
    cells: dict[str, str]


@dataclass(frozen=True)
class Page:
    """A Markdown document as it is read: `masked` is `text` with the same length and without what is not prose."""

    text: str
    masked: str
    front: str
    passages: tuple[Passage, ...]
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    comments: tuple[tuple[int, int], ...]


class _Reader:
    def __init__(self, text: str, sections: Sequence[tuple[str, re.Pattern[str]]]) -> None:
        self.text, self.sections = text, sections
        self.passages: list[Passage] = []
        self.headings: list[Heading] = []
        self.rows: list[Row] = []
        self.hidden: list[tuple[int, int]] = []
        self.comments: list[tuple[int, int]] = []
        self.front = ""
        self.path: list[tuple[int, str]] = []  # headings above: level and section
        self.open: tuple[int, int, str] | None = None  # start, end and kind of the passage that grows
        self.columns: list[str] | None = None

    @property
    def section(self) -> str:
        return self.path[-1][1] if self.path else ""

    def read(self) -> Page:
        self._comments()
        self._lines()
        self._close()
        letters = list(self.text)
        self._hide(letters, self.comments, blank=True)
        self._hide(letters, self.hidden, blank=True)
        without = "".join(letters)
        for passage in self.passages:
            _hide_inline(without, letters, passage.start, passage.end)
        return Page(
            self.text,
            "".join(letters),
            self.front,
            tuple(self.passages),
            tuple(self.headings),
            tuple(self.rows),
            tuple(self.comments),
        )

    def _hide(self, letters: list[str], spans: list[tuple[int, int]], *, blank: bool) -> None:
        for start, end in spans:
            for at in range(start, end):
                if letters[at] != "\n":
                    letters[at] = " " if blank else HIDDEN

    def _comments(self) -> None:
        at = self.text.find("<!--")
        while at >= 0:
            end = self.text.find("-->", at + 4)
            if end < 0:
                return
            self.comments.append((at, end + 3))
            at = self.text.find("<!--", end + 3)

    def _lines(self) -> None:
        start, number = 0, 0
        fence = ""
        chat = blank = indented = False
        comment = iter([*self.comments, (len(self.text) + 1, len(self.text) + 1)])
        span = next(comment)
        for line in self.text.split("\n"):
            end = start + len(line)
            while span[1] <= start:
                span = next(comment)
            inside = span[0] < start < span[1]
            plain = line.rstrip("\r")
            stripped = plain.strip()
            if number == 0 and stripped == "---":
                fence = "---"
                self.hidden.append((start, end))
            elif fence == "---":
                self.hidden.append((start, end))
                if stripped in ("---", "..."):
                    fence = ""
                    self.front = self.text[self.text.find("\n") + 1 : start]
            elif fence:
                self.hidden.append((start, end))
                closing = _FENCE.match(plain)
                if closing and closing[1].startswith(fence) and stripped == closing[1]:
                    fence = ""
            elif not stripped:
                self._close()
                self.columns = None
                chat = False
            elif inside:
                self._close()
            elif opening := _FENCE.match(plain):
                self._close()
                fence = opening[1]
                self.hidden.append((start, end))
            elif chat or stripped.startswith(">") or _CHAT.match(plain):
                self._close()
                self.hidden.append((start, end))
            elif _CHAT_HEAD.match(plain) and "|" not in plain:
                self._close()
                self.hidden.append((start, end))
                chat = True
            elif plain.startswith(("    ", "\t")) and (blank or number == 0 or indented) and not self._in_list():
                self.hidden.append((start, end))
                indented = True
                start, number = end + 1, number + 1
                continue
            else:
                self._line(plain, stripped, start, number)
            indented = False
            blank = not stripped
            start, number = end + 1, number + 1

    def _in_list(self) -> bool:
        return bool(self.passages) and self.passages[-1].kind == "item"

    def _line(self, plain: str, stripped: str, start: int, number: int) -> None:
        if marker := _MARKER.match(stripped):
            self._close()
            self.headings.append(Heading(number, start, 0, "", marker[1]))
            self.path = [(0, marker[1])]
        elif heading := _HEADING.match(plain):
            self._close()
            self._heading(heading, start, number)
        elif stripped.startswith("|"):
            self._close()
            self._table(plain, start, number)
        elif item := _ITEM.match(plain):
            self._close()
            self.open = (start + item.end(), start + len(plain), "item")
            self.rows.append(Row(number, start + item.end(), self.section, {"": plain[item.end() :]}))
        elif self.open:
            self.open = (self.open[0], start + len(plain), self.open[2])
            if self.open[2] == "item":
                self.rows[-1].cells[""] += " " + stripped if len(self.rows[-1].cells[""]) < 4000 else ""
        elif not _RULE.match(stripped):
            self.open = (start, start + len(plain), "text")

    def _heading(self, found: re.Match[str], start: int, number: int) -> None:
        level, title = len(found[1]), found[2].strip()
        marked = self.path[-1][1] if self.path and self.path[-1][0] == 0 else ""
        self.path = [one for one in self.path if 0 < one[0] < level]
        named = next((name for name, pattern in self.sections if pattern.search(title.lower())), "")
        above = self.path[-1][1] if self.path else ""
        section = marked or named or (above if level > 1 else "")
        if not marked:
            self.headings.append(Heading(number, start, level, title, named))
        self.path.append((level, section))
        self.passages.append(Passage(start + found.start(2), start + found.end(2), "heading", section))

    def _table(self, plain: str, start: int, number: int) -> None:
        bounds: list[tuple[int, int]] = []
        left = plain.find("|") + 1
        for at in range(left, len(plain)):
            if plain[at] == "|" and plain[at - 1] != "\\":
                bounds.append((left, at))
                left = at + 1
        if plain[left:].strip():
            bounds.append((left, len(plain)))
        cells = [plain[a:b].strip() for a, b in bounds]
        if self.columns is None:
            self.columns = [cell.strip("*_ ").lower() for cell in cells]
            return
        if all(_RULE.match(cell) or not cell for cell in cells) and any(
            cell.strip(":-") == "" and cell for cell in cells
        ):
            return
        names = [*self.columns, *[""] * len(cells)]
        self.rows.append(Row(number, start, self.section, dict(zip(names, cells, strict=False))))
        for (a, b), name in zip(bounds, names, strict=False):
            if plain[a:b].strip():
                self.passages.append(Passage(start + a, start + b, "cell", self.section, name))

    def _close(self) -> None:
        if self.open:
            self.passages.append(Passage(self.open[0], self.open[1], self.open[2], self.section))
            self.open = None


def _hide_inline(text: str, letters: list[str], start: int, end: int) -> None:
    """Hides code, addresses, tags and quotations in the passage from *start* to *end*."""

    def hide(a: int, b: int) -> None:
        for at in range(a, b):
            if letters[at] != "\n":
                letters[at] = HIDDEN

    runs = [(found.start(), found.end()) for found in _TICKS.finditer(text, start, end)]
    later: dict[int, int] = {}
    partner: list[int | None] = [None] * len(runs)
    for at in range(len(runs) - 1, -1, -1):
        size = runs[at][1] - runs[at][0]
        partner[at] = later.get(size)
        later[size] = at
    at = 0
    while at < len(runs):
        other = partner[at]
        if other is not None:
            hide(runs[at][0], runs[other][1])
            at = other
        at += 1
    for pattern in (_URL, _TAG, _ENTITY):
        for found in pattern.finditer(text, start, end):
            hide(found.start(), found.end())
    opened, mark = -1, ""
    for found in _QUOTES.finditer(text, start, end):
        at, sign = found.start(), found[0]
        if letters[at] == HIDDEN:
            continue
        before = text[at - 1] if at > start else " "
        after = text[at + 1] if at + 1 < end else " "
        if opened < 0:
            opens = sign in "“„«" or (sign in "\"'‘" and not before.isalnum() and not after.isspace())
            if opens and (sign != "'" or before in " \t\n([{*_"):
                opened, mark = at, _CLOSES.get(sign, sign)
        elif sign in mark and (sign not in "'’" or not after.isalnum()):
            hide(opened, at + 1)
            opened = -1


def read(text: str, sections: Sequence[tuple[str, re.Pattern[str]]] = ()) -> Page:
    """*text* taken apart; *sections* are the names of sections with what their headings say, in lower case."""
    return _Reader(text, sections).read()


@dataclass
class Sentence:
    """Words in lower case with where each stands in the text; `asked` if it ends in a question mark."""

    words: list[str]
    spans: list[tuple[int, int]]
    asked: bool = False


def sentences(page: Page, passage: Passage) -> Iterator[Sentence]:
    """The sentences of *passage*; words as written, punctuation as words of its own."""
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    text = page.masked
    line = passage.start
    for found in _TOKEN.finditer(text, passage.start, passage.end):
        word = found[0]
        if word == "\n":
            # Notes, a line each, without a full stop; a line that was only wrapped is longer, or goes on in lower case.
            following = text[found.end() : found.end() + 40].lstrip(" \t*_")[:1]
            if words and following.isupper() and found.start() - line < 60:
                yield Sentence(words, spans)
                words, spans = [], []
            line = found.end()
            continue
        if _STOP.fullmatch(word):
            if word == "." and words and words[-1].lower() in _ABBREVIATIONS:
                continue
            after = text[found.end() : found.end() + 1]
            if words and (not after or after.isspace() or after in "*_)\"'”»¤]" or found.end() >= passage.end):
                yield Sentence(words, spans, "?" in word)
                words, spans = [], []
            continue
        words.append(word)
        spans.append(found.span())
        # A possessive of a plural: the engineers' mistake.
        if word[-1] in "sS" and text[found.end() : found.end() + 2] in ("' ", "’ "):
            words.append("'s")
            spans.append((found.end(), found.end() + 1))
        if len(words) >= LONGEST:
            yield Sentence(words, spans)
            words, spans = [], []
    if words:
        yield Sentence(words, spans)
