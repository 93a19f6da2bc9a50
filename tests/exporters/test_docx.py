"""A Word document as Word would have written it."""

import io
import zipfile
from datetime import UTC, datetime

import docx
import pytest
from docx.oxml.ns import qn

from bot.exporters import docx as exporter
from tests.postmortems.papers import HOSTILE, hostile, one, rich, stored, written


def opened(document):
    return docx.Document(io.BytesIO(exporter.export(document)))


@pytest.fixture(scope="module")
def ordinary():
    return opened(stored(rich()))


def test_headings_are_headings(ordinary):
    found = [(p.style.name, p.text) for p in ordinary.paragraphs if p.style.name.startswith("Heading")]

    assert found[0] == ("Heading 1", "INC-42: Checkout error rate above 5 %")
    assert ("Heading 2", "2. Impact") in found
    assert len(found) == 18


def test_tables_have_a_head_that_stands_on_every_page_and_all_their_rows(ordinary):
    timeline = next(
        t for t in ordinary.tables if [c.text for c in t.rows[0].cells] == ["#", "Time (UTC)", "Event", "By"]
    )

    assert len(timeline.rows) == 1 + 20 + 1  # the head, the events, and the detection before the first
    assert timeline.rows[0]._tr.trPr.find(qn("w:tblHeader")) is not None
    assert all(len(row._tr.findall(qn("w:tc"))) == 4 for row in timeline.rows)


def test_the_picture_is_there_with_its_words(ordinary):
    (picture,) = ordinary.inline_shapes

    assert picture._inline.docPr.get("descr").startswith("Timeline of INC-42; SEV2 from")
    assert [r.target_part.content_type for r in ordinary.part.rels.values() if "image" in r.reltype] == ["image/png"]


def test_links_lead_out_or_to_bookmarks_that_exist_once(ordinary):
    body = ordinary.element.body
    marks = [mark.get(qn("w:name")) for mark in body.iter(qn("w:bookmarkStart"))]
    inside = {link.get(qn("w:anchor")) for link in body.iter(qn("w:hyperlink"))} - {None}
    out = [r.target_ref for r in ordinary.part.rels.values() if r.is_external]

    assert len(set(marks)) == len(marks)
    assert all(len(mark) <= 40 for mark in marks)
    assert inside
    assert inside <= set(marks)
    assert out == ["https://prometheus.example.org/graph?g0.expr=rate(errors%5B5m%5D)"]


def test_the_foot_has_the_revision_and_the_number_of_the_page(ordinary):
    (foot,) = ordinary.sections[0].footer.paragraphs

    assert foot.text.startswith("INC-42 · revision 3 · 2026-03-02 15:30 UTC")
    assert [field.get(qn("w:instr")) for field in foot._p.iter(qn("w:fldSimple"))] == ["PAGE", "NUMPAGES"]


def test_its_times_are_those_of_the_revision(ordinary):
    about = ordinary.core_properties

    assert about.created == about.modified == datetime(2026, 3, 2, 15, 30, 1, tzinfo=UTC)
    assert (about.title, about.author, about.revision) == ("INC-42: Checkout error rate above 5 %", "Tocsin", 3)
    with zipfile.ZipFile(io.BytesIO(exporter.export(stored(one())))) as archive:
        assert archive.testzip() is None
        assert {part.date_time for part in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_what_people_wrote_is_text():
    text = "\n".join(p.text for p in opened(stored(hostile())).paragraphs)

    for said in (HOSTILE[0], HOSTILE[2], HOSTILE[6], HOSTILE[7]):
        assert said in text


def test_lists_quotations_and_listings_have_their_styles():
    found = opened(written("# A\n\n- a\n  - b\n\n1. c\n\n> d\n\n```\ne\nf\n```\n"))

    styles = [(p.style.name, p.text) for p in found.paragraphs[1:]]
    assert styles == [
        ("List Bullet", "a"),
        ("List Bullet 2", "b"),
        ("List Number", "c"),
        ("Quote", "d"),
        ("Normal", "e\nf"),
    ]


def test_weight_and_voice_are_kept():
    (paragraph,) = opened(written("a **b** _c_ ~~d~~ `e`\n")).paragraphs

    looks = {run.text: (run.bold, run.italic, run.font.strike, run.font.name) for run in paragraph.runs}
    assert looks["b"][0]
    assert looks["c"][1]
    assert looks["d"][2]
    assert looks["e"][3] == "Consolas"
