"""The post-mortem for programs: facts, sections and text, as `docs/reference/postmortem.schema.json` says."""

import json
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from bot.postmortems.facts import Facts
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import Paper, paper
from bot.postmortems.tree import Heading, plain

SUFFIX = ".json"
MEDIA_TYPE = "application/json"
VERSION = 1

_HEADING = re.compile(r"^(#{1,6}) ", re.MULTILINE)
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"^<!-- section: [a-z0-9-]+ -->\n?", re.MULTILINE)


class Section(BaseModel):
    """What stands below one heading."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="stable within the template: `summary`, `impact` …; also its anchor")
    title: str
    level: int = Field(ge=1, le=6)
    markdown: str = Field(description="up to the next heading of any level")


class Document(BaseModel):
    """A post-mortem of Tocsin."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(description="of this schema; it grows when something is changed or taken away")
    incident: str = Field(description="INC-1")
    title: str
    revision: int
    template: str
    created_at: str = Field(description="when the revision was written", json_schema_extra={"format": "date-time"})
    sha256: str = Field(description="of `markdown` in UTF-8")
    private: bool
    front: dict[str, JsonValue] = Field(description="the YAML at the top of the text")
    facts: Facts | None
    chart: str | None = Field(description="what the picture of the timeline shows, in words")
    sections: list[Section]
    markdown: str = Field(description="the whole text, as it is stored")


def export(document: Postmortem) -> bytes:
    """Two blanks deep, in UTF-8."""
    made = paper(document)
    told = Document(
        version=VERSION,
        incident=made.reference,
        title=made.tree.title,
        revision=document.revision,
        template=document.template,
        created_at=f"{document.created_at:%Y-%m-%dT%H:%M:%S.%fZ}",
        sha256=document.sha256,
        private=made.private,
        front=json.loads(json.dumps(made.front, default=str)),
        facts=made.facts,
        chart=made.strip.words if made.strip else None,
        sections=_sections(made, document.text),
        markdown=document.text,
    )
    return (json.dumps(told.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


@cache
def schema() -> dict[str, Any]:
    """What every such file keeps to."""
    made = TypeAdapter(Document).json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "postmortem.schema.json", **made}


def _sections(made: Paper, text: str) -> list[Section]:
    """The text cut at its headings, those in listings aside."""
    titles = [block for block in made.tree.blocks if isinstance(block, Heading)]
    blind = _FENCE.sub(lambda found: re.sub("[^\n]", " ", found[0]), text)
    places = [found.start() for found in _HEADING.finditer(blind)]
    if len(places) != len(titles):
        return []  # headings in a quotation, or underlined ones: the text is whole all the same
    ends = [*places[1:], len(text)][: len(places)]
    return [
        Section(
            name=title.name,
            title=plain(title.children),
            level=title.level,
            markdown=_MARKER.sub("", text[start:end]).split("\n", 1)[-1].strip("\n"),
        )
        for title, start, end in zip(titles, places, ends, strict=True)
    ]
