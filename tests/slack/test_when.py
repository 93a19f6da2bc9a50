"""Times as people say them, in the time zone of whoever says it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit.errors import UserError
from bot.slack.when import LONGEST, moment, zone

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)  # a Monday
BERLIN = ZoneInfo("Europe/Berlin")  # an hour ahead


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("18:00", datetime(2026, 3, 2, 17, tzinfo=UTC)),
        ("9:00", datetime(2026, 3, 3, 8, tzinfo=UTC)),  # the next one
        ("6pm", datetime(2026, 3, 2, 17, tzinfo=UTC)),
        ("6:30 PM", datetime(2026, 3, 2, 17, 30, tzinfo=UTC)),
        ("12am", datetime(2026, 3, 2, 23, tzinfo=UTC)),
        ("today 23:59", datetime(2026, 3, 2, 22, 59, tzinfo=UTC)),
        ("tomorrow 9:00", datetime(2026, 3, 3, 8, tzinfo=UTC)),
        ("tomorrow at 9:00", datetime(2026, 3, 3, 8, tzinfo=UTC)),
        ("tomorrow", datetime(2026, 3, 2, 23, tzinfo=UTC)),
        ("fri 17:00", datetime(2026, 3, 6, 16, tzinfo=UTC)),
        ("on Friday 5 pm", datetime(2026, 3, 6, 16, tzinfo=UTC)),
        ("monday 09:00", datetime(2026, 3, 9, 8, tzinfo=UTC)),
        ("2026-03-29 12:00", datetime(2026, 3, 29, 10, tzinfo=UTC)),  # summer time by then
        ("2026-03-05", datetime(2026, 3, 4, 23, tzinfo=UTC)),
        ("2h", NOW + timedelta(hours=2)),
        ("1h30m", NOW + timedelta(minutes=90)),
        ("2d", NOW + timedelta(days=2)),
    ],
)
def test_a_time_is_understood_where_the_person_is(text, at):
    assert moment(text, NOW, BERLIN) == at


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("17:00", datetime(2026, 3, 3, 16, tzinfo=UTC)),
        ("tomorrow 17:00", datetime(2026, 3, 3, 16, tzinfo=UTC)),
        ("8:00", datetime(2026, 3, 4, 7, tzinfo=UTC)),
        ("2h", datetime(2026, 3, 3, 10, tzinfo=UTC)),
    ],
)
def test_an_end_is_after_the_beginning(text, at):
    assert moment(text, NOW, BERLIN, after=datetime(2026, 3, 3, 8, tzinfo=UTC)) == at


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "`nothing` is no time"),
        ("soon", "`soon` is no time"),
        ("18", "`18` is no time"),
        ("25:00", "is no time"),
        ("13pm", "is no time"),
        ("2026-02-30 12:00", "is no time"),
        ("today 8:00", "is over already"),
        ("2026-03-01 12:00", "is over already"),
        ("0s", "is over already"),
        ("32d", "more than 31 days away"),
        ("2027-03-01 12:00", "more than 31 days away"),
        ("999999999d", "no time"),
        ("<!channel> `x`", "is no time"),
    ],
)
def test_what_is_no_time_to_come_is_refused_with_an_example(text, told):
    with pytest.raises(UserError, match=told):
        moment(text, NOW, BERLIN)


def test_without_a_known_zone_it_is_utc():
    assert zone(None) == zone("Nowhere/Such") == zone("../etc") == ZoneInfo("UTC")


@given(st.text(max_size=40))
def test_whatever_is_said_is_a_time_to_come_or_refused(text):
    try:
        at = moment(text, NOW, BERLIN)
    except UserError:
        return
    assert NOW < at <= NOW + LONGEST
