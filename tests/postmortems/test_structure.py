"""What a post-mortem must hold, and numbers that contradict each other."""

import pytest

from bot.postmortems.lint import Finding, lint

WHOLE = """# Post-mortem: checkout was slow

All times are UTC.

## Summary
Checkout was slow from 14:02 to 14:32 (30 minutes).

## Impact
412 users saw errors.

## Timeline
- 14:02 The first alert fired.
- 14:32 The rollback was complete.

## Contributing factors
- The config had no check.
- The alert threshold was 5%.

## Action items
- Add a check of the config (owner: platform; due 2026-03-01; type: prevent)
"""


def found(text: str) -> list[Finding]:
    return [one for one in lint(text) if one.level != "info"]


def ids(text: str) -> list[str]:
    return [one.rule for one in found(text)]


def without(title: str) -> str:
    before, _, rest = WHOLE.partition(f"## {title}\n")
    _, mark, after = rest.partition("\n## ")
    return before + (f"## {after}" if mark else "")


def test_a_whole_post_mortem_has_nothing_to_look_at():
    assert found(WHOLE) == []


@pytest.mark.parametrize("title", ["Summary", "Impact", "Timeline", "Contributing factors", "Action items"])
def test_a_missing_section_is_named(title):
    one, *rest = found(without(title))

    assert (one.rule, one.line, one.column, one.text, rest) == ("ST01", 1, 1, title, [])


def test_notes_that_are_no_post_mortem_need_no_sections():
    assert found("# Notes\n\nThe pod restarted.\n") == []
    assert found("The pod restarted.\n") == []


def test_a_missing_section_can_be_taken_back_with_a_reason_anywhere():
    assert found(without("Impact") + "\n<!-- lint-ok ST01: nobody was affected -->\n") == []


@pytest.mark.parametrize("words", ["", "TBD", "_How many?_", "TODO", "...", "<!-- to do -->"])
def test_a_section_that_waits_for_words_is_found(words):
    assert "ST02" in ids(WHOLE.replace("412 users saw errors.", words))


def test_what_waits_is_only_information_while_the_document_is_a_draft():
    waiting = "---\nstatus: draft\n---\n" + WHOLE.replace("412 users saw errors.", "TBD").replace(
        "; due 2026-03-01", ""
    )

    assert found(waiting) == []
    assert {"ST02", "AC02"} <= {one.rule for one in lint(waiting)}
    assert {"ST02", "AC02"} <= set(ids(waiting.replace("draft", "in_review")))


def test_one_contributing_factor_is_too_few():
    one, *rest = found(WHOLE.replace("- The alert threshold was 5%.\n", ""))

    assert (one.rule, one.text, rest) == ("ST03", "## Contributing factors", [])


def test_an_impact_needs_a_number_or_the_word_unknown():
    assert ids(WHOLE.replace("412 users saw errors.", "Users saw errors.")) == ["ST04"]
    assert ids(WHOLE.replace("412 users saw errors.", "The number of users is unknown.")) == []


@pytest.mark.parametrize(
    ("taken", "rule"), [("owner: platform; ", "AC01"), ("due 2026-03-01; ", "AC02"), ("; type: prevent", "AC03")]
)
def test_an_action_item_needs_owner_day_and_type(taken, rule):
    assert ids(WHOLE.replace(taken, "")) == [rule]


def test_what_belongs_to_an_action_may_stand_in_points_below_it():
    below = "- Add a check\n  - Owner: platform\n  - Due: 2026-03-01\n  - Type: prevent\n"

    assert found(WHOLE.partition("- Add a check")[0] + below) == []


TABLE = """
| Action | Type | Owner | Due |
|---|---|---|---|
| Add a check | prevent | platform | 2026-03-01 |
| Add an alert | detect | | 2026-03-01 |
| Add a page | docs | platform | TBD |
"""


def test_rows_of_a_table_of_actions_are_read_by_column():
    head = WHOLE.partition("- Add a check")[0]

    assert [(one.rule, one.line - head.count("\n")) for one in found(head + TABLE)] == [("AC01", 5), ("AC02", 6)]


def test_a_column_that_is_not_there_is_said_once():
    assert ids(WHOLE.partition("- Add a check")[0] + TABLE.replace(" Owner |", " Note |")) == ["AC01", "AC02"]


def test_a_time_without_a_zone_is_a_warning_in_the_timeline_and_information_elsewhere():
    text = WHOLE.replace("All times are UTC.\n\n", "")

    assert [(one.rule, one.text) for one in found(text)] == [("TM01", "14:02"), ("TM01", "14:32")]
    assert [one.level for one in lint("The pod restarted at 14:02.")] == ["info"]


@pytest.mark.parametrize(
    "text",
    [
        WHOLE.replace("All times are UTC.\n\n", "").replace("## Timeline", "## Timeline (UTC)"),
        WHOLE.replace("All times are UTC.\n\n", "")
        .replace("14:02 The", "14:02 UTC The")
        .replace("14:32 The", "14:32Z The"),
    ],
)
def test_a_zone_in_the_heading_or_behind_the_time_is_enough(text):
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "It was down from 14:02 to 14:32 UTC (45 minutes).",
        "It was down for 45 minutes, from 14:02 to 14:32 UTC.",
        "It was down between 14:02 UTC and 16:32 UTC, 2 hours.".replace("2 hours", "4 hours"),
        "From 2026-03-01 23:50 UTC to 2026-03-02 00:20 UTC (2 h).",
        "- Start: 14:02 UTC\n- End: 14:32 UTC\n- Duration: 2 hours\n",
        "| What | When |\n|---|---|\n| Detected | 14:02 UTC |\n| Resolved | 14:32 UTC |\n| Time to resolve | 3 h |\n",
        "---\ntimestamps:\n  detected: '2026-03-01T14:02:00Z'\n  resolved: '2026-03-01T14:32:00Z'\n"
        "durations_seconds:\n  time_to_resolve: 7200\n---\n",
    ],
)
def test_a_duration_that_contradicts_its_times_is_found(text):
    assert ids(text) == ["TM02"]


@pytest.mark.parametrize(
    "text",
    [
        "It was down from 14:02 to 14:32 UTC (30 minutes).",
        "It was down for about 35 minutes, from 14:02 to 14:32 UTC.",
        "It was down from 23:50 to 00:20 UTC (30 min).",
        "It was down from 14:02 to 16:32 UTC (2 h 30 min).",
        "It was down from 14:02 to 15:10 UTC (1 hour).",
        "- Start: 14:02 UTC\n- End: 14:32 UTC\n- Duration: 30 minutes\n",
        "---\ntimestamps:\n  detected: '2026-03-01T14:02:00Z'\n  resolved: '2026-03-01T14:32:00Z'\n"
        "durations_seconds:\n  time_to_resolve: 1800\n---\n",
    ],
)
def test_a_duration_that_agrees_with_its_times_is_fine(text):
    assert found(text) == []


def test_a_row_of_the_timeline_that_is_earlier_than_the_one_before_it_is_found():
    swapped = WHOLE.replace("- 14:02 The first", "- 14:40 The first")

    assert [(one.rule, one.text) for one in found(swapped)] == [("TM03", "14:32 The rollback was complete.")]
    assert found(WHOLE.replace("- 14:02 The", "- 23:50 The").replace("- 14:32 The", "- 00:10 The")) == []


@pytest.mark.parametrize(
    "secret",
    [
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a1" * 18,
        "xoxb-" + "1234567890-abcdefghij",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "postgresql://app:" + "hunter22@db.example.com/app",
        "password = " + "s3cretpassw0rd",
    ],
)
@pytest.mark.parametrize("around", ["Text {} text.", "```\n{}\n```", "`{}`", "> {}"])
def test_a_secret_is_found_everywhere_and_not_repeated(secret, around):
    one, *rest = found(around.format(secret))

    assert (one.rule, one.level, rest) == ("SE01", "error", [])
    assert secret not in one.text


@pytest.mark.parametrize(
    "text",
    ["The password: see the vault.", "The token expired at 10:02 UTC.", "Secret: rotated.", "token=${TOKEN}",
     "See https://example.com/a:b@c."],
)  # fmt: skip
def test_words_about_secrets_are_no_secrets(text):
    assert found(text) == []


@pytest.mark.parametrize(
    "text", ["Write to some.body@mail.example.net2.io.", "Call +49 170 1234567.", "Card 4111 1111 1111 1111."]
)
def test_data_of_people_is_found(text):
    assert ids(text) == ["PI01"]


@pytest.mark.parametrize(
    "text",
    [
        "Write to support@shop.io.",
        "Write to a@example.com.",
        "Order 4111 1111 1111 1112.",
        "Event 60624111111111111111ab7c.",
        "+10 %",
    ],
)
def test_addresses_of_roles_and_other_numbers_are_fine(text):
    assert found(text) == []
