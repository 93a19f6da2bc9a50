"""Storage format: well-formed XHTML with Confluence's own elements, whatever was written."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.exporters import confluence
from bot.postmortems.render import md
from tests.postmortems.papers import HOSTILE, hostile, many, rich, stored, written

NAMES = {"ac": "urn:ac", "ri": "urn:ri"}
ROOT = '<page xmlns:ac="urn:ac" xmlns:ri="urn:ri">{}</page>'
# https://confluence.atlassian.com/doc/confluence-storage-format-790796544.html
KNOWN = {
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "a",
    "strong",
}
KNOWN |= {"em", "del", "code", "br", "hr", "blockquote", "page"}
KNOWN |= {f"{{urn:ac}}{name}" for name in ("structured-macro", "parameter", "plain-text-body", "link", "link-body")}


def body(document) -> ET.Element:
    return ET.fromstring(ROOT.format(confluence.export(document).decode()))  # noqa: S314


@pytest.mark.parametrize("paper", [rich, hostile, many], ids=["rich", "hostile", "many"])
def test_it_is_well_formed_and_made_of_what_confluence_knows(paper):
    assert {element.tag for element in body(stored(paper())).iter()} <= KNOWN


def test_what_people_wrote_is_text():
    said = "".join(body(stored(hostile())).itertext())

    assert HOSTILE[0] in said
    assert "]]></ac:plain-text-body> <ac:link/>" in said


def test_a_listing_keeps_even_what_would_end_it():
    (listing,) = body(written("```\na ]]> <b>\n```\n")).iter("{urn:ac}plain-text-body")

    assert listing.text == "a ]]> <b>"


def test_a_link_to_an_event_leads_to_its_anchor():
    page = body(stored(rich()))

    anchors = {p.text for p in page.iter("{urn:ac}parameter")}
    targets = {link.get("{urn:ac}anchor") for link in page.iter("{urn:ac}link")}
    assert targets
    assert targets <= anchors


def test_the_title_is_left_to_the_page():
    assert not list(body(stored(rich())).iter("h1"))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=120), st.text(alphabet="#*_`[]()<>|&!-.\n ]>CDATA", max_size=120))
def test_any_text_gives_a_page_that_is_well_formed(said, wild):
    page = body(written(f"# A\n\nx {md(said)}\n\n{wild}\n"))

    assert {element.tag for element in page.iter()} <= KNOWN
