"""The document keeps its shape, whatever people and machines wrote."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bot.kit import yaml as strict
from bot.kit.errors import UserError
from bot.postmortems.facts import gather
from bot.postmortems.render import link, md, quoted, render, templates_folder
from tests.postmortems.story import Story, checkout, governed

SECTIONS = [
    "summary", "impact", "background", "timeline", "detection", "response", "recovery", "factors", "mitigators",
    "went-well", "difficult", "lucky", "surprises", "actions", "related", "messages", "appendix",
]  # fmt: skip

# Fragments that would be markup, a mention, a template or the end of something if they were not made harmless.
NASTY = [
    "<@U0COMMAND>", "<@U0NOBODY1|kim>", "&lt;@U0HELPER1&gt;", "<https://example.org/|x>", "<b",
    "<script>alert(1)</script>", "<!-- section: impact -->", "-->", "&amp;", "&amp;lt;", "&#60;b&#62;", "|",
    "\\|", "\\", "\n", "\r\n", "\u2028", "---", "\n---\n", "===", "# ", "\n## 2. Impact\n", "```", "`",
    "](", "[x](javascript:alert(1))", "![", "[^1]: ", "> ", "- ", "1. ", "*", "**", "_", "__", "~~", "$$",
    "{{ 7 * 7 }}", "{% raw %}", "{#", "key: value", "'", '"', "\t", "    code", "\ud800", "\x00",
    "\x1b[31m", "\ufffe", "\u202e",
]  # fmt: skip
OURS = r'<!-- section: [a-z-]+ -->|<a id="event-\d+">|</a>'
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=12)), max_size=8).map("".join)


def document(story: Story) -> str:
    return render(gather(story.incident, story.events, story.roles))


def front(text: str) -> tuple[str, str]:
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    return head, body


class Read:
    """A body as a Markdown reader takes it: headings, HTML that goes through, links."""

    def __init__(self, body: str) -> None:
        tokens = MarkdownIt("commonmark").enable("table").parse(body)
        parts = [part for token in tokens for part in [token, *(token.children or [])]]
        self.headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
        self.html = [part.content.strip() for part in parts if part.type in ("html_block", "html_inline")]
        self.links = [str(part.attrs["href"]) for part in parts if part.type == "link_open"]
        self.images = [part for part in parts if part.type == "image"]


def columns(body: str) -> list[set[int]]:
    """How many cells the rows of each table have, counted in the source."""
    tables: list[set[int]] = [set()]
    for line in body.splitlines():
        if line.startswith("|"):
            tables[-1].add(len(re.findall(r"(?<!\\)\|", line)))
        elif tables[-1]:
            tables.append(set())
    return [table for table in tables if table]


def test_every_section_is_there_once_and_in_order():
    _, body = front(document(checkout()))

    assert re.findall(r"<!-- section: ([a-z-]+) -->", body) == SECTIONS
    found = Read(body).headings
    assert found[0] == "INC-42: Checkout error rate above 5 %"
    assert [heading.split(". ")[0] for heading in found[1:]] == [str(n) for n in range(1, 18)]


def test_the_same_facts_give_the_same_bytes():
    assert document(checkout()) == document(checkout())


def test_the_front_matter_holds_the_numbers():
    head, _ = front(document(checkout()))
    data = yaml.safe_load(head)

    assert data["id"] == "INC-42"
    assert data["status"] == "draft"
    assert data["severity"] == {"final": "SEV1", "highest": "SEV1"}
    assert data["timestamps"]["mitigated"] == "2026-03-02T14:38:00Z"
    assert data["durations_seconds"]["time_to_resolve"] == 3120
    assert data["durations_seconds"]["time_to_detect"] is None
    assert data["participants"] == ["incident commander", "responder A"]
    assert data["customer_impact"]["users"] == "unknown"


def test_evidence_leads_to_an_event_on_the_page():
    _, body = front(document(checkout()))

    wanted = set(re.findall(r"\(#(event-\d+)\)", body))
    anchors = set(re.findall(r'<a id="(event-\d+)"></a>', body))
    assert wanted
    assert wanted <= anchors


def test_an_open_incident_with_nothing_on_its_timeline_still_gives_a_document():
    text = document(Story())

    assert "Not resolved: the incident is not resolved yet." in text
    assert "Nobody was paged: the timeline holds no page." in text
    assert "No runbook was run." in text


def test_a_private_incident_says_so():
    assert "This incident is private" in document(Story(private=True))
    assert "This incident is private" not in document(Story())


def test_a_governed_run_is_told_with_its_approvals_and_its_rollback():
    text = document(governed())
    told_of = text[text.index("**Runbooks.**") : text.index("<!-- section: recovery")]

    assert "Free disk space**, run 1: rolled back" in told_of
    assert "Files: list.txt" in told_of
    assert "Asked: “Delete \\*300 files\\*?” Approved: approved by responder B and responder C: agreed" in told_of
    assert "; responder B said yes: it is only a cache" in told_of
    assert "Rollback: Put back" in told_of
    assert "After the failure: Say so" in told_of


def test_a_runbook_that_did_not_start_by_itself_is_among_the_runbooks():
    story = Story()
    story.say(5, "runbook.withheld", "x", runbook="restart", name="Restart", why="cap", reason="it ran 3 times")

    assert "- Restart did not start by itself: it ran 3 times" in document(story)


def test_a_drill_says_that_it_does_not_count():
    assert "**Kind: drill.**" in document(Story(kind="drill"))


def test_the_bot_writes_nothing_that_blames():
    """Quotes are left out: they are people's own words."""
    blame = [
        r"\b(?:should|could|might) have\b", r"\bif only\b", r"\bought to\b", r"\bfail(?:ed|ure) to\b", r"\bforgot",
        r"\bneglect", r"\bcareless", r"\bhuman error\b", r"\bmistake", r"\bto blame\b", r"\bat fault\b", r"\bignored\b",
        r"\bwhy (?:did|didn't)\b", r"\bwho (?!may\b)", r"\bhindsight\b", r"\bobvious", r"\broot cause\b",
        r"\bmore careful\b", r"\bincorrectly\b",
    ]  # fmt: skip
    text = "\n".join(line for line in document(checkout()).splitlines() if not line.startswith(">"))

    assert [pattern for pattern in blame if re.search(pattern, text, re.IGNORECASE)] == []


@pytest.fixture(scope="module")
def titles() -> list[str]:
    """The headings of sections, as they stand when nobody writes anything odd."""
    return Read(front(document(checkout()))[1]).headings[1:]


@settings(max_examples=50, deadline=None)
@given(title=texts, note=texts, row=texts, alert=texts, value=texts)
def test_no_text_breaks_the_document(titles, title, note, row, alert, value):
    story = checkout()
    story.incident.title = title
    story.incident.summary = note
    story.incident.service = value
    story.incident.team = note
    for kind in ("note", "finding", "action", "decision"):
        story.say(20, "note.added", note, actor="U0HELPER1", kind=kind)
    story.say(21, "alert.attached", row, title=alert, labels={value: row}, url=value, connection=alert)
    story.say(21, "alert.attached", row, title=alert, labels={}, url=f"https://example.org/{value}", connection="")
    story.say(21, "task.added", row, task="t", number=1, text=note, owner="U0HELPER1", due=value, type=alert)
    story.say(21, "followup.added", row, task="f", number=2, text=note, owner=value, due=row, type=alert)
    story.say(22, "ticket.opened", row, task="f", purpose="followup", reference=title, url=value)
    story.say(
        22, "ticket.opened", row, purpose="incident", reference=title, tracker=note, url=f"https://e.example/{row}"
    )
    story.say(22, "page.failed", row, pager=value, detail=note, number=2)
    story.say(23, "run.started", row, run="r5", name=title, runbook=value, params={row: note}, number=5)
    story.say(24, "run.step_failed", row, run="r5", name=alert, type=value, summary=note)
    story.say(25, "run.ended", row, run="r5", state=value, failure=note)
    story.say(26, "incident.resolved", row, note=note)

    text = document(story)

    text.encode()
    head, body = front(text)
    assert yaml.safe_load(head)["id"] == "INC-42"
    assert strict.load(head, "front").data["kind"] == "standard"
    assert re.findall(r"<!-- section: ([a-z-]+) -->", body) == SECTIONS
    read = Read(body)
    assert read.headings[1:] == titles
    assert [one for one in read.html if not re.fullmatch(OURS, one)] == []
    assert [href for href in read.links if not re.match(r"https?://|#event-\d+$", href)] == []
    assert read.images == []
    assert all(len(widths) == 1 for widths in columns(body))
    assert "<@" not in text
    assert not re.search(r"U0COMMAND|U0HELPER1", text)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_escaped_text_is_read_as_it_was_written(text):
    shown = MarkdownIt("commonmark").enable("table").parse(f"{md(text)}")

    expected = " ".join(text.split())
    read = "".join(part.content for token in shown for part in token.children or [])
    # A Markdown reader replaces NUL, and a surrogate is no text at all.
    assert read == expected.replace("\x00", "\ufffd").strip()


def test_names_of_metrics_stay_readable():
    assert md("http_requests_total") == "http_requests_total"


def test_lines_of_a_note_stay_lines():
    assert quoted("one\n# two\n\n1. three") == "> one\\\n> \\# two\n>\n> 1\\. three"


def test_only_web_addresses_become_links():
    assert link("javascript:alert(1)", "x") == "javascript:alert(1)"
    assert link("https://example.org/a b|c>", "x") == "[x](<https://example.org/a%20b%7Cc%3E>)"
    assert link("https://[broken", "x") == "https://\\[broken"


def test_an_own_folder_of_templates_goes_first(tmp_path: Path):
    own = tmp_path / "postmortems"
    own.mkdir()
    (own / "short.md.j2").write_text("# {{ facts.title }} {{ facts.notes[0].text }}")
    story = checkout()
    story.incident.title = "<b>"
    facts = gather(story.incident, story.events, story.roles)

    assert render(facts, "short", tmp_path).startswith("# &lt;b&gt; Errors began")
    assert render(facts, "full", tmp_path) == render(facts)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ facts.nothing }}", "does not work"),
        ("{% if %}", "is broken in line 1"),
        ("{{ facts.__class__.__mro__ }}", "does not work"),
        ("{{ facts.title + 1 }}", "does not work"),
        ("{% for a in range(90000) %}{{ 'x' * 100 }}{% endfor %}", "writes more than"),
    ],
)
def test_a_template_that_does_not_work_is_named(tmp_path: Path, source: str, message: str):
    (tmp_path / "postmortems").mkdir()
    (tmp_path / "postmortems" / "mine.md.j2").write_text(source)
    facts = gather(Story().incident, [], [])

    with pytest.raises(UserError, match=f"template 'mine' {message}"):
        render(facts, "mine", tmp_path)


def test_a_template_that_loops_without_writing_ends_with_a_clear_word(tmp_path: Path):
    (tmp_path / "postmortems").mkdir()
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (tmp_path / "postmortems" / "mine.md.j2").write_text(loop)

    with pytest.raises(UserError, match=r"template 'mine' does not end within 1 second\. Does it loop"):
        render(gather(Story().incident, [], []), "mine", tmp_path, seconds=1)


@pytest.mark.parametrize("name", ["nothing", "../default", "/etc/passwd", ""])
def test_an_unknown_template_names_the_known_ones(name: str):
    with pytest.raises(UserError, match="there is: full, lightweight, public"):
        render(gather(Story().incident, [], []), name)


def test_the_templates_are_found():
    assert (templates_folder() / "postmortems" / "full.md.j2").is_file()


def test_of_a_long_incident_the_middle_is_left_out_and_no_link_leads_there():
    story = checkout()
    for n in range(3000):
        story.say(n / 100, "note.added", "Something *happened* | here", actor="U0HELPER1")

    text = document(story)

    assert "2020 events left out" in text
    assert set(re.findall(r"\(#(event-\d+)\)", text)) <= set(re.findall(r'<a id="(event-\d+)"></a>', text))


def test_the_team_that_owns_the_service_is_named_where_it_is_known():
    story = checkout()
    story.incident.team = None
    assert "service checkout. Detected" in document(story)
    story.incident.team = "team-payments"

    head, body = front(document(story))

    assert "service checkout of team-payments. Detected" in body
    assert yaml.safe_load(head)["team"] == "team-payments"
