import pytest

from bot.slack.context import severity, words
from bot.slack.words import heard, scrubbed


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("a &amp; b &lt;c&gt;", "a & b <c>"),
        ("&amp;lt;", "&lt;"),
        ("&eacute; stays", "&eacute; stays"),
        ("<@U01ALICE|alice> and <@U02BOB>", "<@U01ALICE> and <@U02BOB>"),
        ("see <#C01GENERAL|general> <#C02>", "see #general #C02"),
        ("<https://a.example/x|a.example> <https://b.example>", "https://a.example/x https://b.example"),
        ("<mailto:a@example.com|a@example.com>", "a@example.com"),
        ("<!channel> <!subteam^S01|@oncall>", "@channel @oncall"),
        ("nul\x00 rtl\u202e zero\u200b", "nul rtl zero"),
        ("  two\nlines  ", "two\nlines"),
    ],
)
def test_what_slack_sends_is_read_as_it_was_typed(sent, meant):
    assert heard(sent) == meant


def test_a_payload_is_made_fit_for_any_database():
    assert scrubbed({"a\x00": ["x\x00", {"b": "\ud800"}], "n": 1, "none": None}) == {
        "a": ["x", {"b": ""}],
        "n": 1,
        "none": None,
    }


def test_the_first_word_is_taken_and_the_lines_of_the_rest_are_kept():
    assert words("note  one\ntwo ") == ("note", "one\ntwo")
    assert words("note\none") == ("note", "one")
    assert words("  ") == ("", "")


def test_a_title_may_begin_with_a_number_but_a_severity_may_be_bare_where_only_that_is_meant():
    assert [severity(word) for word in ("sev2", "SEV-1", "s3", "5", "sev9", "seven")] == [
        "SEV2",
        "SEV1",
        None,
        None,
        None,
        None,
    ]
    assert [severity(word, bare=True) for word in ("2", "s3", "S-4", "sev5", "0", "22")] == [
        "SEV2",
        "SEV3",
        "SEV4",
        "SEV5",
        None,
        None,
    ]
