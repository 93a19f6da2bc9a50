"""The post-mortem as a Word document: real headings, tables, links and bookmarks, and the picture of the timeline.

python-docx is slow at tables and leaves today's time in the file, so rows are made as elements and the archive is
written anew. What people wrote goes into runs of text.
"""

import importlib
import io
import zipfile
from collections.abc import Iterable
from typing import Any

from bot.kit.png import draw
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
)

SUFFIX = ".docx"
MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

_LOOKS = (("bold", "w:b"), ("italic", "w:i"), ("struck", "w:strike"))
_LETTERS, _EVEN = "Calibri", "Consolas"
_WIDE = 9866  # of the text, in twentieths of a point: A4 less two margins of 18 mm
_EPOCH = (1980, 1, 1, 0, 0, 0)
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def export(document: Postmortem) -> bytes:
    """A file that Word, LibreOffice and Google Docs open; its times are those of the revision."""
    return _Writer(paper(document)).written()


class _Writer:
    """Writes one document."""

    def __init__(self, made: Paper) -> None:
        self.made = made
        self.oxml = importlib.import_module("docx.oxml")
        self.shared = importlib.import_module("docx.shared")
        self.document = importlib.import_module("docx").Document()
        self.marks = 0
        self.names: dict[str, str] = {}
        self.body = self.document.element.body

    def written(self) -> bytes:
        self._dress()
        for block in self.made.tree.blocks:
            self.block(block)
        draft = io.BytesIO()
        self.document.save(draft)
        return _packed(draft.getvalue())

    # -- the look of it -------------------------------------------------------------------------------------------

    def _dress(self) -> None:
        mm, pt = self.shared.Mm, self.shared.Pt
        section = self.document.sections[0]
        section.page_width, section.page_height = mm(210), mm(297)
        section.left_margin = section.right_margin = mm(18)
        section.top_margin, section.bottom_margin = mm(18), mm(20)
        normal = self.document.styles["Normal"]
        normal.font.name, normal.font.size = _LETTERS, pt(10.5)
        normal.paragraph_format.space_after = pt(6)
        for level, size in ((1, 20), (2, 14), (3, 12)):
            style = self.document.styles[f"Heading {level}"]
            style.font.name, style.font.size = _LETTERS, pt(size)
            style.font.color.rgb = self.shared.RGBColor(0x16, 0x32, 0x4F)
            fonts = style.element.rPr.rFonts
            for kind in list(fonts.attrib):
                if "Theme" in kind:
                    del fonts.attrib[kind]
        quote = self.document.styles["Quote"]
        quote.font.color.rgb = self.shared.RGBColor(0x3A, 0x45, 0x50)
        quote.paragraph_format.left_indent = mm(6)
        self._foot(section.footer.paragraphs[0])
        about, when = self.document.core_properties, self.made.made_at.replace(tzinfo=None, microsecond=0)
        about.title, about.author, about.last_modified_by = self.made.tree.title[:255], "Tocsin", "Tocsin"
        about.subject, about.comments, about.language = self.made.reference, "", "en"
        about.created = about.modified = when
        about.revision = self.made.revision

    def _foot(self, paragraph: Any) -> None:
        style = self.document.styles["Footer"]
        style.font.size = self.shared.Pt(8.5)
        style.paragraph_format.tab_stops.clear_all()
        right = importlib.import_module("docx.enum.text").WD_TAB_ALIGNMENT.RIGHT
        paragraph.paragraph_format.tab_stops.add_tab_stop(self.shared.Mm(174), right)
        self._run(paragraph._p, f"{self.made.margin}\t")
        for name, before in (("PAGE", ""), ("NUMPAGES", " / ")):
            self._run(paragraph._p, before)
            field = self._element("w:fldSimple", **{"w:instr": name})
            self._run(field, "1")
            paragraph._p.append(field)

    # -- blocks ---------------------------------------------------------------------------------------------------

    def block(self, block: Block, style: str | None = None, depth: int = 0) -> None:
        match block:
            case Heading(level, children, name):
                heading = self.document.add_heading(level=min(level, 9))
                self._bookmark(heading._p, name)
                self.words(heading._p, children)
            case Paragraph(children):
                self.words(self._paragraph(style, depth), children)
            case Items(items, start):
                for item in items:
                    self._item(item, "List Bullet" if start is None else "List Number", depth)
            case Quote(children):
                for inner in children:
                    self.block(inner, "Quote", depth)
            case Listing(text):
                paragraph = self._paragraph(style, depth)
                for number, line in enumerate(text.split("\n")):
                    if number:
                        self._run(paragraph, "").append(self._element("w:br"))
                    self._run(paragraph, line, even=True)
            case Table():
                self.table(block)
            case Rule():
                self._paragraph(None, 0)
            case Chart():
                self.picture()

    def _item(self, item: tuple[Block, ...], style: str, depth: int) -> None:
        deep = style if depth == 0 else f"{style} {min(depth + 1, 3)}"
        for place, inner in enumerate(item):
            if isinstance(inner, Items):
                self.block(inner, None, depth + 1)
            else:
                self.block(inner, deep if place == 0 else "List Continue", depth)

    def _paragraph(self, style: str | None, depth: int) -> Any:
        return self.document.add_paragraph(style=style)._p

    def table(self, block: Table) -> None:
        table = self.document.add_table(rows=0, cols=len(block.head), style="Table Grid")
        table.autofit = False
        wide = columns(block, least=9, most=45)
        widths = [_WIDE * want // sum(wide) for want in wide]
        for column, width in zip(table._tbl.tblGrid.findall(f"{{{_W}}}gridCol"), widths, strict=True):
            column.set(f"{{{_W}}}w", str(width))
        for number, row in enumerate((block.head, *block.rows)):
            made = self._element("w:tr")
            about = self._element("w:trPr")
            about.append(self._element("w:cantSplit"))
            if number == 0:
                about.append(self._element("w:tblHeader"))
            made.append(about)
            for cell, width in zip(row, widths, strict=True):
                made.append(self._cell(cell, width, heavy=number == 0))
            table._tbl.append(made)
        self.document.add_paragraph().paragraph_format.space_after = self.shared.Pt(2)

    def _cell(self, children: Iterable[Inline], width: int, *, heavy: bool) -> Any:
        cell = self._element("w:tc")
        about = self._element("w:tcPr")
        about.append(self._element("w:tcW", **{"w:w": str(width), "w:type": "dxa"}))
        lines = self._element("w:tcBorders")
        for side in ("top", "left", "bottom", "right"):
            drawn = {"w:val": "single", "w:sz": "4", "w:color": "D5DBE1"} if side == "bottom" else {"w:val": "nil"}
            lines.append(self._element(f"w:{side}", **drawn))
        about.append(lines)
        if heavy:
            about.append(self._element("w:shd", **{"w:val": "clear", "w:color": "auto", "w:fill": "EEF1F4"}))
        cell.append(about)
        paragraph = self._element("w:p")
        spaced = self._element("w:pPr")
        spaced.append(self._element("w:spacing", **{"w:before": "30", "w:after": "30"}))
        paragraph.append(spaced)
        self.words(paragraph, children, size=17, bold=heavy)
        cell.append(paragraph)
        return cell

    def picture(self) -> None:
        if self.made.strip is None:
            return
        drawn = io.BytesIO(draw(self.made.strip.svg, 1600))
        shape = self.document.add_picture(drawn, width=self.shared.Mm(174))
        about = shape._inline.docPr
        about.set("descr", self.made.strip.words)
        about.set("name", "Timeline")

    # -- words ----------------------------------------------------------------------------------------------------

    def words(self, parent: Any, children: Iterable[Inline], **look: Any) -> None:
        for child in children:
            match child:
                case Text(text):
                    self._run(parent, text, **look)
                case Code(text):
                    self._run(parent, text, **{**look, "even": True})
                case Break():
                    self._run(parent, "").append(self._element("w:br"))
                case Anchor(name):
                    self._bookmark(parent, name)
                case Strong(inner):
                    self.words(parent, inner, **{**look, "bold": True})
                case Emphasis(inner):
                    self.words(parent, inner, **{**look, "italic": True})
                case Struck(inner):
                    self.words(parent, inner, **{**look, "struck": True})
                case Link(url, inner):
                    self.words(self._link(parent, url), inner, **{**look, "led": True})

    def _run(self, parent: Any, text: str, **look: Any) -> Any:
        run = self._element("w:r")
        about = self._element("w:rPr")
        if look.get("even"):
            about.append(self._element("w:rFonts", **{"w:ascii": _EVEN, "w:hAnsi": _EVEN, "w:cs": _EVEN}))
        for tag in [tag for key, tag in _LOOKS if look.get(key)]:
            about.append(self._element(tag))
        if look.get("led"):
            about.append(self._element("w:color", **{"w:val": "0B5CAD"}))
        if size := look.get("size"):
            about.append(self._element("w:sz", **{"w:val": str(size)}))
        if look.get("led"):
            about.append(self._element("w:u", **{"w:val": "single"}))
        if len(about):
            run.append(about)
        for number, part in enumerate(text.split("\t")):
            if number:
                run.append(self._element("w:tab"))
            if part:
                told = self._element("w:t", **{"xml:space": "preserve"})
                told.text = part
                run.append(told)
        parent.append(run)
        return run

    def _link(self, parent: Any, url: str) -> Any:
        if url.startswith("#"):
            link = self._element("w:hyperlink", **{"w:anchor": self._mark(url[1:])})
        else:
            kind = importlib.import_module("docx.opc.constants").RELATIONSHIP_TYPE.HYPERLINK
            link = self._element("w:hyperlink", **{"r:id": self.document.part.relate_to(url, kind, is_external=True)})
        parent.append(link)
        return link

    def _bookmark(self, parent: Any, name: str) -> None:
        self.marks += 1
        parent.append(self._element("w:bookmarkStart", **{"w:id": str(self.marks), "w:name": self._mark(name)}))
        parent.append(self._element("w:bookmarkEnd", **{"w:id": str(self.marks)}))

    def _mark(self, name: str) -> str:
        """A bookmark's name, which may be short and of few letters only: they are counted."""
        return self.names.setdefault(name, f"at_{len(self.names) + 1}")

    def _element(self, tag: str, **attributes: str) -> Any:
        made = self.oxml.OxmlElement(tag)
        qualified = importlib.import_module("docx.oxml.ns").qn
        for name, value in attributes.items():
            made.set(qualified(name), value)
        return made


def _packed(draft: bytes) -> bytes:
    """The same parts in the same order, without the time at which they were packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(draft)) as source, zipfile.ZipFile(packed, "w") as target:
        for part in source.infolist():
            entry = zipfile.ZipInfo(part.filename, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            entry.create_system = 3
            target.writestr(entry, source.read(part), zipfile.ZIP_DEFLATED, 6)
    return packed.getvalue()
