"""The tree as XHTML, for every format that is made of it. What people wrote is escaped wherever it stands."""

from collections.abc import Iterable
from html import escape

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
)


class Markup:
    """Writes one document. *chart* is the picture in the target's own words; formats override what differs."""

    def __init__(self, chart: str = "") -> None:
        self.chart = chart
        self.direction = ' dir="auto"'  # each part by its own first letter: Hebrew stands right beside English

    def blocks(self, blocks: Iterable[Block]) -> str:
        """One after the other."""
        return "\n".join(self.block(block) for block in blocks)

    def block(self, block: Block) -> str:
        """One of them."""
        match block:
            case Heading():
                return self.heading(block)
            case Paragraph(children):
                return f"<p{self.direction}>{self.inlines(children)}</p>"
            case Items():
                return self.items(block)
            case Quote(children):
                return f"<blockquote>\n{self.blocks(children)}\n</blockquote>"
            case Listing(text):
                return self.listing(text)
            case Table():
                return self.table(block)
            case Rule():
                return "<hr />"
            case Chart():
                return self.chart

    def heading(self, block: Heading) -> str:
        """With the anchor that links lead to."""
        level = min(6, block.level)
        return f'<h{level} id="{escape(block.name)}"{self.direction}>{self.inlines(block.children)}</h{level}>'

    def items(self, block: Items) -> str:
        """A list whose items are not spread where they are one paragraph."""
        tag = "ul" if block.start is None else "ol"
        start = f' start="{block.start}"' if block.start not in (None, 1) else ""
        items = "\n".join(f"<li{self.direction}>{self._item(item)}</li>" for item in block.items)
        return f"<{tag}{start}>\n{items}\n</{tag}>"

    def _item(self, blocks: tuple[Block, ...]) -> str:
        if blocks and isinstance(blocks[0], Paragraph):
            rest = f"\n{self.blocks(blocks[1:])}" if blocks[1:] else ""
            return self.inlines(blocks[0].children) + rest
        return self.blocks(blocks)

    def listing(self, text: str) -> str:
        """What a program said."""
        return f"<pre><code>{escape(text)}</code></pre>"

    def table(self, block: Table) -> str:
        """With a head, if the head says anything."""
        head = "".join(f'<th scope="col"{self.direction}>{self.inlines(cell)}</th>' for cell in block.head)
        rows = "\n".join(
            "<tr>" + "".join(f"<td{self.direction}>{self.inlines(cell)}</td>" for cell in row) + "</tr>"
            for row in block.rows
        )
        return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"

    def inlines(self, children: Iterable[Inline]) -> str:
        """Words in a line."""
        return "".join(self.inline(child) for child in children)

    def inline(self, child: Inline) -> str:
        """One of them."""
        match child:
            case Text(text):
                return escape(text)
            case Code(text):
                return f"<code>{escape(text)}</code>"
            case Break():
                return "<br />"
            case Anchor(name):
                return self.anchor(name)
            case Strong(children):
                return f"<strong>{self.inlines(children)}</strong>"
            case Emphasis(children):
                return f"<em>{self.inlines(children)}</em>"
            case Struck(children):
                return f"<del>{self.inlines(children)}</del>"
            case Link():
                return self.link(child)

    def anchor(self, name: str) -> str:
        """A place to lead to."""
        return f'<a id="{escape(name)}"></a>'

    def link(self, link: Link) -> str:
        """A link out of the document says nothing of where it was followed from."""
        rel = "" if link.url.startswith("#") else ' rel="noopener noreferrer"'
        return f'<a href="{escape(link.url)}"{rel}>{self.inlines(link.children)}</a>'
