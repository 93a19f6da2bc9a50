"""The post-mortem as a page that Google Docs takes in: upload it to Drive and open it with Docs.

Docs knows no inline SVG, no style sheet worth the name and no anchors but those of headings.
"""

import base64
from html import escape

from bot.kit.png import draw
from bot.postmortems.markup import Markup
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import Paper, paper
from bot.postmortems.tree import Link, Table

SUFFIX = ".gdocs.html"
MEDIA_TYPE = "text/html; charset=utf-8"

_CELL = "border:1px solid #c4ccd4;padding:4pt 6pt;vertical-align:top"


def export(document: Postmortem) -> bytes:
    """One file, its picture in it."""
    made = paper(document)
    body = _Page(_picture(made)).blocks(made.tree.blocks)
    page = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8" /><title>{escape(made.tree.title)}</title></head>
<body style="font-family:Arial,sans-serif;font-size:11pt">
{body}
<p style="color:#55606c">{escape(made.margin)}</p>
</body>
</html>
"""
    return page.encode()


class _Page(Markup):
    """Borders are said at each cell; places inside are words."""

    def table(self, block: Table) -> str:
        written = super().table(block)
        return (
            written.replace("<table>", '<table style="border-collapse:collapse;width:100%">', 1)
            .replace("<td ", f'<td style="{_CELL}" ')
            .replace("<th ", f'<th style="{_CELL};background-color:#eef1f4" ')
        )

    def anchor(self, name: str) -> str:
        return ""

    def link(self, link: Link) -> str:
        return self.inlines(link.children) if link.url.startswith("#") else super().link(link)


def _picture(made: Paper) -> str:
    if made.strip is None:
        return ""
    png = base64.b64encode(draw(made.strip.svg, 1440)).decode()
    return f'<p><img src="data:image/png;base64,{png}" width="640" alt="{escape(made.strip.words)}" /></p>'
