"""People are called by their roles, whatever the chat wrote."""

import pytest

from bot.postmortems.people import letters, mentions, people


def test_one_commander_is_the_incident_commander_and_the_next_the_second():
    found = people(["U0FIRST", "U0OTHER", "U0SECOND"], [("U0FIRST", "commander"), ("U0SECOND", "commander")])

    assert found.label("U0FIRST") == "incident commander"
    assert found.label("U0SECOND") == "second incident commander"
    assert found.label("U0OTHER") == "responder A"


def test_letters_follow_the_first_appearance():
    found = people(["U0LATE", "bot", "", "U0EARLY", "U0LATE"], [("U0EARLY", "responder")])

    assert (found.label("U0LATE"), found.label("U0EARLY")) == ("responder A", "responder B")


def test_a_person_keeps_the_label_of_the_highest_role_they_held():
    found = people(["U0ONE"], [("U0ONE", "responder"), ("U0ONE", "scribe"), ("U0ONE", "comms")])

    assert found.label("U0ONE") == "communications lead"


def test_the_bot_is_the_bot_and_nobody_is_nobody():
    found = people([], [])

    assert (found.label("bot"), found.label(None), found.label("U0STRANGER")) == ("the bot", "", "a responder")


def test_letters_go_on_after_z():
    assert [letters(n) for n in (1, 26, 27, 52, 53, 703)] == ["A", "Z", "AA", "AZ", "BA", "AAA"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("<@U0ONE> rolled back", "responder A rolled back"),
        ("<@U0ONE|kim> rolled back", "responder A rolled back"),
        ("&lt;@U0ONE&gt; typed by hand", "responder A typed by hand"),
        ("ask U0ONE or U01ABC2DEF", "ask responder A or somebody"),
        ("<https://ci.example.org/7|build 7>", "build 7 (https://ci.example.org/7)"),
        ("<https://ci.example.org/7>", "https://ci.example.org/7"),
        ("<mailto:ops@example.org|ops@example.org>", "ops@example.org"),
        ("<#C0123|payments> and <#C0124>", "#payments and a channel"),
        ("<!here> <!subteam^S0123|@oncall> <!date^1772460000^{time}|14:00>", "@here a user group 14:00"),
        ("a &lt; b &amp;&amp; c > d", "a < b && c > d"),
        ("red\x1b[31m and \u202etxet", "red[31m and txet"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_chat_markup_becomes_plain_text(written, read):
    assert people(["U0ONE"], []).plain(written) == read


def test_mentions_are_found_however_they_are_written():
    assert mentions("<@U1>, <@W2|kim> and &lt;@U3&gt;") == ["U1", "W2", "U3"]


def test_hostile_text_is_read_in_linear_time():
    people(["U0ONE"], []).plain("<@" * 100_000 + "U" * 100_000 + "<a|" * 100_000)
