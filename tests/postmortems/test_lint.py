"""What the linter finds, what it lets pass, and that no text takes it long or makes it fail."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.errors import UserError
from bot.postmortems.facts import gather
from bot.postmortems.lint import Finding, lint
from bot.postmortems.render import render
from bot.postmortems.rules import LEVELS, parse, rules
from tests.postmortems.story import Story, checkout, governed

RULES = rules()
FLAG = [(rule.id, text) for rule in RULES.rules.values() for text in rule.flag]
ACCEPT = [(rule.id, text) for rule in RULES.rules.values() for text in rule.accept]


def found(text: str, people: tuple[str, ...] = ()) -> list[Finding]:
    """What is an error or a warning in *text*."""
    return [one for one in lint(text, people) if one.level != "info"]


def ids(text: str, people: tuple[str, ...] = ()) -> list[str]:
    return [one.rule for one in found(text, people)]


def numbered(pairs):
    seen: Counter[str] = Counter()
    params = []
    for rule, text in pairs:
        seen[rule] += 1
        params.append(pytest.param(rule, text, id=f"{rule}-{seen[rule]}"))
    return params


# The rules, by the sentences that stand beside them


@pytest.mark.parametrize(("rule", "text"), numbered(FLAG))
def test_a_rule_finds_its_sentences(rule, text):
    assert rule in [one.rule for one in lint(text)]


@pytest.mark.parametrize(("rule", "text"), numbered(ACCEPT))
def test_a_rule_accepts_what_only_looks_like_it(rule, text):
    assert [one for one in lint(text) if one.rule == rule or one.level != "info"] == []


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.rules.values() if rule.accept or rule.flag], ids=lambda r: r.id
)
def test_every_rule_of_language_has_an_example_and_two_counter_examples(rule):
    assert len(rule.flag) >= 1
    assert len(rule.accept) >= 2


def test_every_rule_has_sentences_or_is_one_of_structure():
    told = {rule.id for rule in RULES.rules.values() if not rule.flag}

    assert {RULES.rules[rule].family for rule in told} == {
        "structure", "action-item", "time", "secret", "personal-data", "suppression"
    }  # fmt: skip


# Who does it


@pytest.mark.parametrize(
    "who",
    [
        "The operator",
        "The on-call engineer",
        "The engineer on call",
        "One of the engineers",
        "The engineer who was on call",
        "During the release the operator",
        "At 14:02 UTC the operator",
        "She",
        "Somebody on the platform team",
        "Members of the night shift",
        "The responder restarted the pod and",
        "The operator, who was alone,",
    ],
)
def test_a_person_is_known_as_the_subject_however_it_is_put(who):
    assert "FT02" in ids(f"{who} forgot to drain the node.")


@pytest.mark.parametrize(
    "what",
    [
        "The controller",
        "The Kubernetes operator",
        "The team channel",
        "The pod of the platform team",
        "The on-call tool",
        "At 14:02 UTC the job",
        "The job restarted and",
        "The developer portal",
        "The connection manager",
        "It",
    ],
)
def test_a_thing_may_forget(what):
    assert found(f"{what} forgot the second lease.") == []


def test_names_of_participants_count_as_people():
    assert ids("Zbigniew forgot to drain the node.", ("Zbigniew Example",)) == ["FT02"]
    assert ids("zbigniew.service forgot the lease.", ("Zbigniew Example",)) == []


def test_a_participant_is_warned_about_by_name_whatever_was_done():
    one, *rest = found("Zbigniew restarted the broker.", ("Zbigniew Example",))

    assert (one.rule, one.level, one.text, rest) == ("ID06", "warn", "Zbigniew restarted", [])


@pytest.mark.parametrize(
    "text", ["Will the limit hold?", "Latency rose to 2 s.", "The Mark tool ran.", "Rose charts grew."]
)
def test_a_name_that_is_a_word_is_a_name_only_where_somebody_acts(text):
    assert found(text, ("Will Example", "Rose Example", "Mark Example")) == []
    assert ids("Will restarted the broker.", ("Will Example",)) == ["ID06"]


def test_names_may_stand_in_columns_of_owners_and_participants():
    table = "| Action | Owner |\n|---|---|\n| Add a limit | Alice |\n"

    assert lint(table, ("Alice Example",)) == []


# What is not read


HARSH = "The operator should have checked the graph."


@pytest.mark.parametrize(
    "text",
    [
        f"```\n{HARSH}\n```",
        f"~~~text\n{HARSH}\n~~~",
        f"`{HARSH}`",
        f"A log line, ``{HARSH}``, was cut.",
        f"> {HARSH}",
        f'A customer wrote: "{HARSH}"',
        f"A customer wrote: “{HARSH}”",
        f"A customer wrote: '{HARSH}'",
        f"<!-- {HARSH} -->",
        f"Text.\n\n    {HARSH}",
        f"---\nnote: {HARSH}\n---\n",
        f"12:03 alex: {HARSH}",
        f"[12:03] <alex> {HARSH}",
        f"@alex: {HARSH}",
        f"alex  12:03 PM\n{HARSH}\n",
        "See https://example.com/the-operator-failed-to-check and [this](https://example.com/human-error).",
    ],
    ids=lambda text: re.sub(r"\W+", "-", text)[:30],
)
def test_code_quotations_chat_and_addresses_are_not_read(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (HARSH, 1, 14),
        (f"# Title\n\nText.\n\n{HARSH}\n", 5, 14),
        (f"- one\n- {HARSH}\n", 2, 16),
        (f"| a | b |\n|---|---|\n| x | {HARSH} |\n", 3, 20),
        (f"```\ncode\n```\r\n{HARSH}\r\n", 4, 14),
        ("The operator\nshould have\nchecked the graph.", 2, 1),
    ],
)
def test_a_finding_says_line_and_column(text, line, column):
    one, *rest = found(text)

    assert (one.rule, one.line, one.column, rest) == ("CF01", line, column, [])


def test_notes_without_a_full_stop_are_sentences_of_their_own():
    assert [(one.line, one.rule) for one in found("Forgot the limit\nThe pod was fine\nHuman error\n")] == [
        (1, "FT02"),
        (3, "HE01"),
    ]


@pytest.mark.parametrize(
    "text",
    ["The operator shouldn't have gone.", "The operator shouldnt have gone.", "The operator should of called.",
     "The operater shoud have called.", "The operator should’ve called."],
)  # fmt: skip
def test_contractions_and_slips_of_the_pen_are_read(text):
    assert ids(text) == ["CF01"]


# Comments that take a finding back


@pytest.mark.parametrize(
    "text",
    [
        f"{HARSH} <!-- lint-ok CF01: a quotation from the audit -->",
        f"<!-- lint-ok CF01: a quotation from the audit -->\n{HARSH}",
        f"<!-- lint-ok FT01, CF01: a quotation -->\n\n{HARSH} The operator failed to call.",
        f"<!-- blameless: ignore CF01 a quotation -->\n{HARSH}",
    ],
)
def test_a_comment_with_a_reason_takes_back_what_is_on_its_line_or_in_the_block_below(text):
    assert found(text) == []


def test_a_comment_without_a_reason_takes_nothing_back_and_is_a_finding():
    assert ids(f"<!-- lint-ok CF01 -->\n{HARSH}") == ["SU01", "CF01"]


@pytest.mark.parametrize("rule", ["CF02", "XX99"])
def test_a_comment_that_does_nothing_is_a_finding(rule):
    assert ids(f"<!-- lint-ok {rule}: because -->\n{HARSH}") == ["SU02", "CF01"]


def test_a_comment_reaches_no_further_than_its_block():
    assert ids(f"<!-- lint-ok CF01: because -->\n{HARSH}\n\n{HARSH}") == ["CF01"]


# Drafts of the bot


def stories():
    yield "checkout", checkout()
    yield "governed", governed()
    yield "nothing yet", Story()
    odd = Story(title="Checkout is slow", severity="SEV1", service=None)
    odd.say(1, "note.added", "They should have checked this earlier, says Alice", actor="U1", note="note")
    odd.say(2, "note.added", "Root cause: human error", actor="U1", note="finding")
    yield "hostile notes", odd


@pytest.mark.parametrize("story", [pytest.param(story, id=name) for name, story in stories()])
def test_a_draft_of_the_bot_has_no_error_and_no_warning(story):
    document = render(gather(story.incident, story.events, story.roles))

    assert found(document) == []
    assert lint(document) != []  # the questions that wait for people


def test_what_waits_for_people_is_no_longer_only_information_when_the_draft_is_in_review():
    story = checkout()
    document = render(gather(story.incident, story.events, story.roles)).replace(
        "status: draft", "status: in_review", 1
    )

    assert {"ST02", "ST03"} <= set(ids(document))


# Any text


WORDS = st.sampled_from(
    [*sorted(RULES.index), "\n", "|", "- ", "`", '"', "> ", "<!--", "-->", "14:02", "## ", "---\n", "."]
)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=60).map(" ".join)),
    st.lists(st.text(max_size=12), max_size=3),
)
def test_no_text_makes_it_fail_and_every_finding_lies_in_the_text(text, people):
    lines = text.split("\n")
    for one in lint(text, people):
        assert 1 <= one.line <= len(lines)
        assert 1 <= one.column <= len(lines[one.line - 1]) + 1
        assert one.level in LEVELS
        assert one.why
        assert one.hint


# Rules that are wrong


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{family: f, level: grave, why: w, hint: h}", "a level, one of error, warn, info"),
        ("{family: f, level: warn, why: w, hint: h, finds: x}", "this has finds"),
        ("{family: f, level: warn, why: w, hint: h, find: 'person > {nothing} x'}", "no list of words {nothing}"),
        ("{family: f, level: warn, why: w, hint: h, find: 'giant > x'}", "nobody is called 'giant'"),
        ("{family: f, level: warn, why: w, hint: h, find: 'any > (a|b'}", "never closed"),
        ("{family: f, level: warn, why: w, hint: h, find: 'any > a)'}", "never opened"),
        ("{family: f, level: warn, why: w, hint: h, find: 'any > a? b?'}", "has to begin with"),
        ("{family: f, level: warn, why: w, hint: h, find: 'any > _ b'}", "has to begin with"),
    ],
)
def test_a_file_of_rules_that_is_wrong_says_where(rule, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        parse(f"language: xx\nrules:\n  XX01: {rule}\n", "xx.yaml")

    assert "xx.yaml:3" in str(caught.value)


def test_a_language_that_has_no_rules_says_which_there_are():
    with pytest.raises(UserError, match="there are: en"):
        rules("tlh")


def test_another_language_needs_nothing_but_its_file():
    german = parse(
        "language: de\nwords:\n  schuld: schuld schuldig\n  they: er sie\n"
        "rules:\n  BL01: {family: blame, level: error, why: w, hint: h, find: 'they > war|ist {schuld}'}\n",
        "de.yaml",
    )

    assert [one.rule for one in lint("Der Dienst war schuld. Er war schuld.", (), german)] == ["BL01"]
    assert lint("Der Dienst war schuld.", (), german) == []


# The page of the rules


def test_the_page_lists_every_rule_with_family_level_and_reason():
    page = (Path(__file__).parents[2] / "docs/reference/postmortem-lint.md").read_text(encoding="utf-8")
    listed = {
        cells[0].strip("`"): cells[1:4]
        for cells in ([cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines())
        if re.fullmatch(r"`[A-Z]{2}\d{2}`", cells[0])
    }

    assert set(listed) == set(RULES.rules)
    for rule in RULES.rules.values():
        assert listed[rule.id][:2] == [rule.family, rule.level]
        assert listed[rule.id][2].endswith(rule.why)
