"""JSON keeps to its published schema."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from bot.exporters import json as exporter
from tests.postmortems.papers import hostile, many, one, rich, stored, written

PUBLISHED = Path(__file__).parents[2] / "docs/reference/postmortem.schema.json"


def test_the_published_schema_is_the_one_of_the_code():
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == exporter.schema(), (
        "write it anew: tocsin postmortem schema > docs/reference/postmortem.schema.json"
    )


@pytest.mark.parametrize("paper", [rich, hostile, many, one], ids=["rich", "hostile", "many", "one"])
def test_what_is_written_keeps_to_the_schema(paper):
    told = json.loads(exporter.export(stored(paper())))

    Draft202012Validator.check_schema(exporter.schema())
    Draft202012Validator(exporter.schema(), format_checker=FormatChecker()).validate(told)


def test_it_holds_facts_sections_and_the_whole_text():
    document = stored(rich())
    told = json.loads(exporter.export(document))

    assert told["markdown"] == document.text
    assert told["facts"] == rich().as_json()
    assert told["created_at"] == "2026-03-02T15:30:01.250000Z"
    assert [section["name"] for section in told["sections"]][1:4] == ["summary", "impact", "background"]
    impact = next(section for section in told["sections"] if section["name"] == "impact")
    assert impact["markdown"].startswith("| Measure | Value |")
    assert "section:" not in impact["markdown"]


def test_a_heading_inside_a_listing_is_none():
    told = json.loads(exporter.export(written("# A\n\n```\n# no\n```\n\n## B\n\nb\n")))

    assert [(section["title"], section["markdown"]) for section in told["sections"]] == [
        ("A", "```\n# no\n```"),
        ("B", "b"),
    ]


def test_a_document_without_facts_says_so():
    told = json.loads(exporter.export(written("# A\n")))

    assert (told["facts"], told["chart"]) == (None, None)
