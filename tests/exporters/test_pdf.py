"""A tagged PDF whose letters all have shapes."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pypdf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.exporters import pdf
from tests.postmortems.papers import HOSTILE, hostile, rich, stored, written


def opened(document) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf.export(document)))


def said(reader: pypdf.PdfReader) -> str:
    return "\n".join(page.extract_text() for page in reader.pages)


@pytest.fixture(scope="module")
def ordinary():
    return opened(stored(rich()))


def test_it_is_tagged_and_says_its_language_and_title(ordinary):
    root = ordinary.trailer["/Root"]

    assert root["/MarkInfo"]["/Marked"]
    assert "/StructTreeRoot" in root
    assert str(root["/Lang"]).startswith("en")
    assert ordinary.metadata.title == "INC-42: Checkout error rate above 5 %"
    assert "pdfuaid:part" in root["/Metadata"].get_data().decode()


def test_its_date_is_that_of_the_revision(ordinary):
    assert ordinary.metadata.creation_date == datetime(2026, 3, 2, 15, 30, 1, tzinfo=UTC)


def test_every_page_has_its_number_and_the_revision(ordinary):
    count = len(ordinary.pages)

    assert count > 1
    for number, page in enumerate(ordinary.pages, 1):
        text = page.extract_text()
        assert f"{number} / {count}" in text
        assert "INC-42 · revision 3" in text


def test_the_outline_has_every_section(ordinary):
    titles = [entry.title for entry in ordinary.outline[1]]

    assert titles[0] == "1. Summary"
    assert len(titles) == 17


def test_the_picture_of_the_timeline_has_words_for_those_who_do_not_see_it(ordinary):
    def alternatives(node):
        node = node.get_object()
        if isinstance(node, list):
            for one in node:
                yield from alternatives(one)
        elif isinstance(node, dict):
            if "/Alt" in node:
                yield str(node["/Alt"])
            if "/K" in node:
                yield from alternatives(node["/K"])

    found = list(alternatives(ordinary.trailer["/Root"]["/StructTreeRoot"]))
    assert [alt for alt in found if alt.startswith("Timeline of INC-42; SEV2")]


def test_only_fonts_that_are_brought_along_are_used_and_all_are_inside(ordinary):
    fonts = {
        font.get_object()["/BaseFont"].partition("+")[2]: font.get_object()
        for page in ordinary.pages
        for font in page["/Resources"].get("/Font", {}).values()
    }

    assert {name.partition("-")[0] for name in fonts} <= {"LibertinusSerif", "DejaVuSans", "DejaVuSansMono"}
    for font in fonts.values():
        described = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
        assert {"/FontFile2", "/FontFile3"} & set(described)


def test_hostile_text_is_printed_and_never_source():
    text = said(opened(stored(hostile())))

    assert '#image("/etc/passwd")' in text
    assert "{{ 7 * 7 }}" in text
    assert "root:" not in text


def test_a_picture_character_without_a_shape_is_said_in_words():
    text = said(opened(written("# A\n\nx 🔥 y 👩🏽‍💻 z ☃ 🇩🇪\n")))

    assert "[fire]" in text
    assert "[woman][personal computer]" in text
    assert "☃ DE" in text


def test_letters_that_no_font_has_are_boxes_and_counted(tmp_path):
    setter = pdf.Setter(more=[])

    assert setter.text("a 障害 b") == "a □□ b"
    assert setter.missing == {"障", "害"}


def test_the_end_of_the_document_says_that_letters_are_missing():
    text = said(opened(written("# A\n\n\U0001e900\U0001e901 \U000106a0\n")))

    assert "3 letters of this document stand as □" in text


def test_a_font_of_the_machine_is_used_only_where_ours_lacks_letters():
    setter = pdf.Setter(more=[Path("/nowhere/own.ttf")], known=lambda font: {ord("障")} if font.stem == "own" else {97})

    assert setter.text("a") == "a"
    assert setter.fonts == []
    assert setter.text("障") == "障"
    assert setter.fonts == [Path("/nowhere/own.ttf")]


def test_a_long_word_can_be_broken_and_loses_nothing():
    for word in ("w" * 400, "https://example.com/" + "a/b-c" * 30, HOSTILE[9]):
        text = pdf.Setter(more=[]).text(word)
        assert text.replace("\u200b", "") == word
        assert max(map(len, text.split("\u200b"))) <= 24


def test_heading_levels_are_never_skipped():
    assert opened(written("### A\n\n###### B\n\n# C\n")).outline[0].title == "A"


def test_a_table_wider_than_the_page_gives_its_widest_columns_what_is_left():
    text = "| " + " | ".join("c" * 20 for _ in range(7)) + " |\n" + "|---" * 7 + "|\n"

    assert len(opened(written(f"# A\n\n{text}")).pages) == 1


@settings(max_examples=12, deadline=None)
@given(st.text(alphabet="#*_`[]()<>|$@\\\"'{}/~=-+.123 \nabé漢ש🔥\u0301", max_size=150))
def test_any_markdown_can_be_set(text):
    assert pdf.export(written(f"# A\n\n{text}\n")).startswith(b"%PDF")
