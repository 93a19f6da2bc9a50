"""The post-mortem as one web page that needs nothing else and may load nothing: for a browser, a mail, an archive."""

import base64
import hashlib
from html import escape

from bot.postmortems.markup import Markup
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import Paper, paper
from bot.postmortems.tree import Heading, Table, headings, plain

SUFFIX = ".html"
MEDIA_TYPE = "text/html; charset=utf-8"

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #55606c; --line: #d5dbe1; --tint: #f4f6f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e8ee; --soft: #9aa7b4; --line: #3a4550; --tint: #1d242c; --link: #7db7f0; }
  body { background: #12171c; }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink);
  max-width: 62rem; margin: 0 auto; padding: 2rem 1rem; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2em 0 0.6em; }
h1 { font-size: 1.8rem; margin-top: 0; padding-bottom: 0.5rem; border-bottom: 3px solid #b42318; }
h2 { font-size: 1.3rem; }
a { color: var(--link); overflow-wrap: anywhere; }
em { color: var(--soft); }
nav { border: 1px solid var(--line); border-radius: 6px; padding: 0.8rem 1.2rem; font-size: 0.92rem; }
nav ol { columns: 18rem; list-style: none; margin: 0; padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; margin: 1em 0; }
th, td { text-align: start; vertical-align: top; padding: 0.4em 0.6em; border-bottom: 1px solid var(--line); }
th { background: var(--tint); }
td { overflow-wrap: break-word; }
.wide { overflow-x: auto; }
blockquote { margin: 1em 0; padding: 0.2em 1em; border-inline-start: 4px solid var(--line); background: var(--tint); }
pre { background: var(--tint); padding: 0.8em 1em; overflow-x: auto; }
code { font-size: 0.92em; }
figure { margin: 1.5em 0; }
figure svg { width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 0.8rem; }
footer { color: var(--soft); font-size: 0.85rem; }
:target { background: #ffe9a8; color: #1d2733; }
@page { size: A4; margin: 18mm 16mm; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; color: #000; background: #fff; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr, figure, blockquote { break-inside: avoid; }
  thead { display: table-header-group; }
  .wide { overflow: visible; }
}
"""


def export(document: Postmortem) -> bytes:
    """One file. Its policy allows its own style and nothing else: no script, no picture, no font, no form."""
    made = paper(document)
    style = "sha256-" + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src '{style}'; base-uri 'none'; form-action 'none'"
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta http-equiv="Content-Security-Policy" content="{policy}" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="robots" content="noindex" />
<meta name="referrer" content="no-referrer" />
<title>{escape(made.tree.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{_Page(_figure(made), _contents(made)).blocks(made.tree.blocks)}
</main>
<footer>{escape(made.margin)}</footer>
</body>
</html>
"""
    return page.encode()


class _Page(Markup):
    """Tables may be wider than the window; the contents stand below the title."""

    def __init__(self, chart: str, contents: str) -> None:
        super().__init__(chart)
        self.contents = contents

    def table(self, block: Table) -> str:
        return f'<div class="wide">\n{super().table(block)}\n</div>'

    def heading(self, block: Heading) -> str:
        contents, self.contents = self.contents, ""
        return super().heading(block) + contents


def _contents(made: Paper) -> str:
    found = headings(made.tree)
    if len(found) < 2:
        return ""
    items = "\n".join(f'<li><a href="#{escape(one.name)}">{escape(plain(one.children))}</a></li>' for one in found)
    return f'\n<nav aria-label="Contents">\n<ol>\n{items}\n</ol>\n</nav>'


def _figure(made: Paper) -> str:
    if made.strip is None:
        return ""
    named = f'<svg role="img" aria-label="{escape(made.strip.words)}" '
    return f"<figure>\n{made.strip.svg.replace('<svg ', named, 1)}\n</figure>"
