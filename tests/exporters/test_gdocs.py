"""A page for Google Docs: simple, with its picture inside."""

import base64
import re

from bot.exporters import gdocs
from tests.exporters.test_html import Page
from tests.postmortems.papers import hostile, rich, stored


def test_the_picture_is_in_the_file_with_its_words():
    (picture,) = [attributes for tag, attributes in Page(gdocs.export(stored(rich())).decode()).found if tag == "img"]

    kind, _, data = picture["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert picture["alt"].startswith("Timeline of INC-42")


def test_it_has_no_svg_no_style_sheet_and_no_links_inside():
    found = Page(gdocs.export(stored(rich())).decode())

    assert found.open == []
    assert not {"svg", "style", "script"} & {tag for tag, _ in found.found}
    assert not [a for tag, a in found.found if tag == "a" and a["href"].startswith("#")]


def test_every_cell_has_its_border():
    text = gdocs.export(stored(rich())).decode()

    assert not re.search(r"<t[dh](?! style=)[ >]", text)


def test_hostile_text_is_text():
    found = Page(gdocs.export(stored(hostile())).decode())

    assert found.open == []
    assert "script" not in {tag for tag, _ in found.found}
    assert "<script>alert(1)</script>" in "".join(found.text)
