"""The post-mortem in Confluence's storage format: XHTML with Confluence's own elements, to be put into a page."""

from html import escape

from bot.postmortems.markup import Markup
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import paper
from bot.postmortems.tree import Heading, Link

SUFFIX = ".confluence.xml"
MEDIA_TYPE = "application/xhtml+xml; charset=utf-8"


def export(document: Postmortem) -> bytes:
    """The body of a page. Its title is the page's own, and the picture is told in words: it would be an attachment."""
    made = paper(document)
    blocks = [block for block in made.tree.blocks if not (isinstance(block, Heading) and block.level == 1)]
    chart = f"<p><em>{escape(made.strip.words)}</em></p>" if made.strip else ""
    return f"{_Storage(chart).blocks(blocks)}\n<p><em>{escape(made.margin)}</em></p>\n".encode()


class _Storage(Markup):
    """What Confluence says in words of its own: anchors, links to them, and listings."""

    def __init__(self, chart: str) -> None:
        super().__init__(chart)
        self.direction = ""

    def heading(self, block: Heading) -> str:
        level = min(6, block.level)
        return f"<h{level}>{self.anchor(block.name)}{self.inlines(block.children)}</h{level}>"

    def listing(self, text: str) -> str:
        inside = text.replace("]]>", "]]]]><![CDATA[>")
        return (
            '<ac:structured-macro ac:name="code">'
            f"<ac:plain-text-body><![CDATA[{inside}]]></ac:plain-text-body></ac:structured-macro>"
        )

    def anchor(self, name: str) -> str:
        return (
            '<ac:structured-macro ac:name="anchor">'
            f'<ac:parameter ac:name="">{escape(name)}</ac:parameter></ac:structured-macro>'
        )

    def link(self, link: Link) -> str:
        if not link.url.startswith("#"):
            return f'<a href="{escape(link.url)}">{self.inlines(link.children)}</a>'
        body = f"<ac:link-body>{self.inlines(link.children)}</ac:link-body>"
        return f'<ac:link ac:anchor="{escape(link.url[1:])}">{body}</ac:link>'
