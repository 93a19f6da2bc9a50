"""The tree holds what was written, and nothing in it is markup or leads where it must not."""

from dataclasses import fields, is_dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.postmortems.render import md
from bot.postmortems.tree import (
    Anchor,
    Chart,
    Emphasis,
    Heading,
    Items,
    Link,
    Listing,
    Paragraph,
    Quote,
    Strong,
    Struck,
    Table,
    Text,
    columns,
    parse,
    plain,
)
from tests.postmortems.papers import HOSTILE, hostile, rich, stored


def nodes(found):
    """Every node below, at any depth."""
    if isinstance(found, tuple):
        for one in found:
            yield from nodes(one)
    elif is_dataclass(found):
        yield found
        for part in fields(found):
            yield from nodes(getattr(found, part.name))


def links(text: str) -> list[str]:
    return [node.url for node in nodes(parse(text).blocks) if isinstance(node, Link)]


def test_each_part_of_a_document_is_its_own_node():
    tree = parse("# A\n\nb **c** _d_ ~~e~~\n\n- g\n  1. h\n\n> i\n\n```sh\nj\n```\n\n| k |\n|---|\n| l |\n")

    assert tree.title == "A"
    assert tree.blocks == (
        Heading(1, (Text("A"),), "a"),
        Paragraph(
            (Text("b "), Strong((Text("c"),)), Text(" "), Emphasis((Text("d"),)), Text(" "), Struck((Text("e"),)))
        ),
        Items(((Paragraph((Text("g"),)), Items(((Paragraph((Text("h"),)),),), 1)),)),
        Quote((Paragraph((Text("i"),)),)),
        Listing("j"),
        Table(((Text("k"),),), (((Text("l"),),),)),
    )


def test_front_matter_is_for_machines_and_no_part_of_the_text():
    tree = parse("---\nid: INC-1\nprivate: true\n---\n\n# A\n")

    assert tree.front == {"id": "INC-1", "private": True}
    assert tree.blocks == (Heading(1, (Text("A"),), "a"),)


@pytest.mark.parametrize("front", ["a: [", "- 1", "!!python/object:os.system x", "x: &a [*a]"], ids=range(4))
def test_front_matter_that_is_none_harms_nobody(front):
    tree = parse(f"---\n{front}\n---\n# A\n")

    assert tree.title == "A"
    assert isinstance(tree.front, dict)


def test_a_section_marker_names_its_heading_and_is_not_shown():
    tree = parse("# T\n\n<!-- section: impact -->\n## 2. Impact\n\nx\n")

    assert tree.blocks[1] == Heading(2, (Text("2. Impact"),), "impact", "impact")
    assert len(tree.blocks) == 3


def test_html_that_is_no_marker_of_ours_stays_text():
    tree = parse("a <b>c</b>\n\n<div onclick=x>\n\n<a id='x'>\n")

    assert [plain(block.children) for block in tree.blocks] == ["a <b>c</b>", "<div onclick=x>", "<a id='x'>"]


def test_a_link_to_an_event_leads_there_only_if_it_is_there():
    text = '[#1](#event-1) [#2](#event-2)\n\n| a |\n|---|\n| <a id="event-1"></a>1 |\n'

    assert links(text) == ["#event-1"]
    assert "#2" in plain(parse(text).blocks[0].children)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "//example.com",
        "vbscript:x",
        "ftp://example.com",
        "/etc",
    ],
)
def test_a_link_leads_to_web_and_mail_only(url):
    assert links(f"[x](<{url}>) [y](https://example.com/a) [z](mailto:a@example.com)") == [
        "https://example.com/a",
        "mailto:a@example.com",
    ]


def test_a_picture_from_elsewhere_is_a_link_to_it():
    assert links("![what](https://example.com/x.png)") == ["https://example.com/x.png"]


def test_an_anchor_that_stands_twice_counts_once_and_headings_of_one_name_are_told_apart():
    tree = parse('<a id="x"></a>a <a id="x"></a>\n\n# B\n\n# B\n')

    assert [node.name for node in nodes(tree.blocks) if isinstance(node, Anchor | Heading)] == ["x", "b", "b-2"]


def test_the_chart_stands_in_the_section_on_the_timeline():
    blocks = parse("# T\n\n## A\n\nx\n\n<!-- section: timeline -->\n## B\n\ny\n", chart=True).blocks

    assert isinstance(blocks[blocks.index(Chart()) - 1], Heading)
    assert blocks[blocks.index(Chart()) - 1].section == "timeline"


@pytest.mark.parametrize(("text", "place"), [("# T\n\nx\n\n## A\n", 2), ("# T\n", 1), ("", 0), ("x\n", 1)])
def test_without_that_section_the_chart_comes_before_the_first(text, place):
    assert parse(text, chart=True).blocks.index(Chart()) == place


def test_every_section_of_the_draft_keeps_its_marker_as_its_name():
    tree = parse(stored(rich()).text, chart=True)

    sections = [block.section for block in tree.blocks if isinstance(block, Heading)]
    assert sections[:5] == ["", "summary", "impact", "background", "timeline"]
    assert len(sections) == 18
    assert all(sections[1:])


def test_columns_want_as_much_as_their_longest_cell_within_bounds():
    (table,) = parse("| a | b |\n|---|---|\n| " + "x" * 200 + " | yy |\n").blocks

    assert columns(table, least=4, most=60) == [60, 4]


def test_what_hostile_people_wrote_stands_there_word_for_word():
    tree = parse(stored(hostile()).text)
    said = "\n".join(node.text for node in nodes(tree.blocks) if isinstance(node, Text))

    for text in (
        "<script>alert(1)</script>",
        '#image("/etc/passwd")',
        "{{ 7 * 7 }}",
        "]]></ac:plain-text-body>",
        HOSTILE[6],
    ):
        assert text in said
    assert not any(url.startswith("javascript") for url in links(stored(hostile()).text))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_of_a_person_comes_out_as_that_text(text):
    shown = md(text)
    tree = parse(f"x {shown}\n")

    kinds = {type(node) for node in nodes(tree.blocks)}
    assert kinds <= {Paragraph, Text}


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="#*_`[]()<>|!-+.123 \n\t\\&;:/ahtps~=\"'", max_size=300))
def test_any_markdown_can_be_read_and_no_link_leads_anywhere_else(text):
    tree = parse(text, chart=True)

    names = {node.name for node in nodes(tree.blocks) if isinstance(node, Anchor | Heading)}
    for node in nodes(tree.blocks):
        if isinstance(node, Link):
            assert node.url.startswith(("http://", "https://", "mailto:")) or node.url[1:] in names
        if isinstance(node, Table):
            assert {len(row) for row in node.rows} <= {len(node.head)}
