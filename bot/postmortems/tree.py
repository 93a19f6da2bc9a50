"""The document as a small tree that exporters walk: what is a heading, a table or a link, in no format's own words.

It is read from the stored Markdown. Nothing in it is markup of any target: text is text, a link leads to a web or mail
address or to a place in the document, and HTML that is not one of our own markers stays the text that it is.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from bot.kit.text import clean, slug

# What XML cannot hold, which all formats but one are made of.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FRONT = re.compile(r"\A---\n(.*?)\n---(?:\n|\Z)", re.DOTALL)
_SECTION = re.compile(r"<!--\s*section:\s*([a-z0-9-]{1,40})\s*-->")
_COMMENT = re.compile(r"\s*(?:<!--.*?-->\s*)+", re.DOTALL)
_ANCHOR = re.compile(r'<a id="([A-Za-z0-9_-]{1,80})">')
_ENDS = ("</a>",)
_SCHEMES = ("http", "https", "mailto")


@dataclass(frozen=True)
class Text:
    """Words, as they are."""

    text: str


@dataclass(frozen=True)
class Code:
    """Words in a type of even width."""

    text: str


@dataclass(frozen=True)
class Break:
    """The next line begins here."""


@dataclass(frozen=True)
class Anchor:
    """A place that a link may lead to; each name stands once in a document."""

    name: str


@dataclass(frozen=True)
class Strong:
    """Words of weight."""

    children: "Inlines"


@dataclass(frozen=True)
class Emphasis:
    """Words in another voice: a question to people."""

    children: "Inlines"


@dataclass(frozen=True)
class Struck:
    """Words that no longer hold."""

    children: "Inlines"


@dataclass(frozen=True)
class Link:
    """Words that lead to *url*: http, https or mailto, or ``#`` and the name of an anchor that exists."""

    url: str
    children: "Inlines"


Inline: TypeAlias = Text | Code | Break | Anchor | Strong | Emphasis | Struck | Link
Inlines: TypeAlias = tuple[Inline, ...]


@dataclass(frozen=True)
class Heading:
    """A heading; *name* is its anchor, *section* the marker that stood before it."""

    level: int
    children: Inlines
    name: str
    section: str = ""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    children: Inlines


@dataclass(frozen=True)
class Items:
    """A list; *start* is its first number, and None where it has none."""

    items: "tuple[Blocks, ...]"
    start: int | None = None


@dataclass(frozen=True)
class Quote:
    """What somebody said, word for word."""

    children: "Blocks"


@dataclass(frozen=True)
class Listing:
    """A program's words, line by line."""

    text: str


@dataclass(frozen=True)
class Table:
    """Every row has as many cells as the head."""

    head: tuple[Inlines, ...]
    rows: tuple[tuple[Inlines, ...], ...]


@dataclass(frozen=True)
class Rule:
    """A line across."""


@dataclass(frozen=True)
class Chart:
    """The picture of the timeline goes here."""


Block: TypeAlias = Heading | Paragraph | Items | Quote | Listing | Table | Rule | Chart
Blocks: TypeAlias = tuple[Block, ...]


@dataclass(frozen=True)
class Tree:
    """A whole document. *front* is what stood at its top for machines."""

    title: str
    blocks: Blocks
    front: Mapping[str, Any] = field(default_factory=dict)


def parse(text: str, *, chart: bool = False) -> Tree:
    """The tree of *text*. With *chart* the picture stands in the section on the timeline, or before the first one."""
    text = _NOT_XML.sub("", clean(text.replace("\r\n", "\n")))
    front, text = _front(text)
    reader = _Reader()
    blocks = reader.blocks(SyntaxTreeNode(_markdown().parse(text)).children)
    blocks = tuple(_resolved(block, reader.anchors) for block in blocks)
    title = next((plain(block.children) for block in blocks if isinstance(block, Heading)), "")
    if chart:
        place = _place(blocks)
        blocks = (*blocks[:place], Chart(), *blocks[place:])
    return Tree(title or str(front.get("title") or "Post-mortem"), blocks, front)


def plain(children: Iterable[Inline]) -> str:
    """The words alone."""
    said: list[str] = []
    for child in children:
        match child:
            case Text(text) | Code(text):
                said.append(text)
            case Break():
                said.append(" ")
            case Strong(inner) | Emphasis(inner) | Struck(inner) | Link(_, inner):
                said.append(plain(inner))
            case Anchor():
                pass
    return "".join(said)


def headings(tree: Tree, most: int = 2) -> list[Heading]:
    """The headings down to a level, without the title."""
    return [block for block in tree.blocks[1:] if isinstance(block, Heading) and block.level <= most]


def columns(table: Table, least: int = 4, most: int = 60) -> list[int]:
    """How wide the columns of *table* want to be, in characters: the longest cell of each, within bounds."""
    wide = [least] * len(table.head)
    for row in (table.head, *table.rows):
        for place, cell in enumerate(row):
            wide[place] = max(wide[place], min(most, len(plain(cell))))
    return wide


def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _front(text: str) -> tuple[dict[str, Any], str]:
    """The YAML at the top and the rest; what cannot be read there is left out, as it is no text of the document."""
    found = _FRONT.match(text)
    if not found:
        return {}, text
    try:
        front = yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        front = None
    return front if isinstance(front, dict) else {}, text[found.end() :]


def _place(blocks: Sequence[Block]) -> int:
    """After the heading of the timeline; where there is none, before the first section."""
    titles = [place for place, block in enumerate(blocks) if isinstance(block, Heading) and block.level > 1]
    for place in titles:
        block = blocks[place]
        if isinstance(block, Heading) and block.section == "timeline":
            return place + 1
    return titles[0] if titles else min(1, len(blocks))


def allowed(url: str) -> bool:
    """Whether a link may lead there."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.netloc or (parts.scheme == "mailto" and parts.path))


class _Reader:
    """Reads one document; knows which anchors it has seen."""

    def __init__(self) -> None:
        self.anchors: set[str] = set()
        self.section = ""

    def blocks(self, nodes: Iterable[SyntaxTreeNode]) -> Blocks:
        return tuple(block for node in nodes for block in self._block(node))

    def _block(self, node: SyntaxTreeNode) -> Iterator[Block]:
        match node.type:
            case "heading":
                children = self._inlines(node.children)
                section, self.section = self.section, ""
                name = self._name(section or slug(plain(children), 60) or "section")
                yield Heading(int(node.tag[1:]), children, name, section)
            case "paragraph":
                if children := self._inlines(node.children):
                    yield Paragraph(children)
            case "bullet_list" | "ordered_list":
                start = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
                yield Items(tuple(self.blocks(item.children) for item in node.children), start)
            case "blockquote":
                yield Quote(self.blocks(node.children))
            case "fence" | "code_block":
                yield Listing(node.content.rstrip("\n"))
            case "table":
                yield self._table(node)
            case "hr":
                yield Rule()
            case "html_block":
                yield from self._html(node.content)
            case _:
                raise AssertionError(f"the reader of Markdown has a block that is not known here: {node.type}")

    def _html(self, text: str) -> Iterator[Block]:
        if found := _SECTION.search(text):
            self.section = found[1]
        if not _COMMENT.fullmatch(text) and (told := _COMMENT.sub("", text).strip()):
            yield Paragraph((Text(told),))

    def _table(self, node: SyntaxTreeNode) -> Table:
        rows = [
            tuple(self._inlines(cell.children) for cell in row.children)
            for part in node.children
            for row in part.children
        ]
        return Table(rows[0], tuple(rows[1:]))

    def _inlines(self, nodes: Iterable[SyntaxTreeNode]) -> Inlines:
        made: list[Inline] = []
        for node in nodes:
            for child in self._inline(node):
                last = made[-1] if made else None
                if isinstance(child, Text) and isinstance(last, Text):
                    made[-1] = Text(last.text + child.text)
                else:
                    made.append(child)
        return tuple(made)

    def _inline(self, node: SyntaxTreeNode) -> Iterator[Inline]:
        match node.type:
            case "inline":
                yield from self._inlines(node.children)
            case "text":
                if node.content:
                    yield Text(node.content)
            case "code_inline":
                yield Code(node.content)
            case "softbreak":
                yield Text(" ")
            case "hardbreak":
                yield Break()
            case "strong":
                yield Strong(self._inlines(node.children))
            case "em":
                yield Emphasis(self._inlines(node.children))
            case "s":
                yield Struck(self._inlines(node.children))
            case "link":
                yield Link(str(node.attrs.get("href", "")), self._inlines(node.children))
            case "image":
                # Nothing is fetched while a document is written: a picture from elsewhere is a link to it.
                yield Link(str(node.attrs.get("src", "")), (Text(node.content or "picture"),))
            case "html_inline":
                yield from self._marker(node.content)
            case _:
                raise AssertionError(f"the reader of Markdown has something in a line that is not known: {node.type}")

    def _marker(self, html: str) -> Iterator[Inline]:
        if found := _ANCHOR.fullmatch(html):
            if found[1] not in self.anchors:
                self.anchors.add(found[1])
                yield Anchor(found[1])
        elif html not in _ENDS and not _COMMENT.fullmatch(html):
            yield Text(html)

    def _name(self, wanted: str) -> str:
        name, again = wanted, 1
        while name in self.anchors:
            again += 1
            name = f"{wanted}-{again}"
        self.anchors.add(name)
        return name


def _resolved(block: Block, anchors: set[str]) -> Block:
    """*block* without links that lead nowhere or where they must not: their words stay."""
    match block:
        case Heading() | Paragraph():
            return replace(block, children=_led(block.children, anchors))
        case Items(items, start):
            return Items(tuple(tuple(_resolved(inner, anchors) for inner in item) for item in items), start)
        case Quote(children):
            return Quote(tuple(_resolved(inner, anchors) for inner in children))
        case Table(head, rows):
            return Table(
                tuple(_led(cell, anchors) for cell in head),
                tuple(tuple(_led(cell, anchors) for cell in row) for row in rows),
            )
        case _:
            return block


def _led(children: Inlines, anchors: set[str]) -> Inlines:
    made: list[Inline] = []
    for child in children:
        match child:
            case Link(url, inner):
                led = _led(inner, anchors)
                here = url.startswith("#") and url[1:] in anchors
                made += [Link(url, led)] if led and (here or allowed(url)) else led
            case Strong() | Emphasis() | Struck():
                made.append(replace(child, children=_led(child.children, anchors)))
            case _:
                made.append(child)
    return tuple(made)
