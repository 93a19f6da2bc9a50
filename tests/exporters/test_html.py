"""One page that needs nothing and may do nothing."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from bot.exporters import html
from tests.postmortems.papers import HOSTILE, hostile, many, rich, stored, written

VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """What a browser would find: elements with attributes, the text, and which elements were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page(document) -> Page:
    return Page(html.export(document).decode())


@pytest.mark.parametrize("paper", [rich, hostile, many], ids=["rich", "hostile", "many"])
def test_it_is_whole_and_every_place_that_a_link_leads_to_is_there_once(paper):
    found = page(stored(paper()))

    ids = [attributes["id"] for _, attributes in found.found if "id" in attributes]
    inside = [
        attributes["href"][1:]
        for tag, attributes in found.found
        if tag == "a" and (attributes.get("href") or "").startswith("#")
    ]
    assert found.open == []
    assert len(set(ids)) == len(ids)
    assert set(inside) <= set(ids)
    assert inside


def test_nothing_is_loaded_and_nothing_can_run():
    text = html.export(stored(hostile())).decode()
    found = page(stored(hostile()))

    assert not {"script", "img", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in found.found}
    assert not [name for _, attributes in found.found for name in attributes if name.startswith("on") or name == "src"]
    assert not re.search(r"url\(|@import", text)
    for tag, attributes in found.found:
        if tag == "a" and "href" in attributes:
            assert re.match(r"(?:https?://|mailto:|#)", attributes["href"] or "")


def test_its_policy_allows_its_own_style_and_nothing_else():
    text = html.export(stored(rich())).decode()
    policy = next(a["content"] for tag, a in page(stored(rich())).found if a.get("http-equiv"))
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]

    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "style=" not in text


def test_what_people_wrote_is_there_as_they_wrote_it():
    said = "".join(page(stored(hostile())).text)

    for text in (HOSTILE[0], HOSTILE[3], HOSTILE[6], HOSTILE[7]):
        assert text in said


def test_it_has_a_title_contents_the_picture_with_its_words_and_the_revision():
    found = page(stored(rich()))
    said = "".join(found.text)

    assert "INC-42: Checkout error rate above 5 %" in said
    assert "INC-42 · revision 3 · 2026-03-02 15:30 UTC" in said
    assert [attributes["role"] for tag, attributes in found.found if tag == "svg"] == ["img"]
    assert ("nav", {"aria-label": "Contents"}) in found.found


def test_each_part_takes_its_direction_from_its_own_text():
    assert '<p dir="auto">שגיאה</p>' in html.export(written("# A\n\nשגיאה\n")).decode()


def test_it_can_be_printed():
    text = html.export(stored(rich())).decode()

    assert "@media print" in text
    assert "@page" in text
