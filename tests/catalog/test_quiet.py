"""Quiet hours: over midnight, on some days, in the time zone that they are said in."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bot.catalog.quiet import DAYS, QuietHours, quiet_until


def hours(begin: str, end: str, **more) -> QuietHours:
    return QuietHours.model_validate({"from": begin, "to": end, **more})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-02T21:59", None),
        ("2026-03-02T22:00", "2026-03-03T06:00"),
        ("2026-03-03T05:59", "2026-03-03T06:00"),
        ("2026-03-03T06:00", None),
    ],
)
def test_they_go_over_midnight_where_the_end_is_the_earlier_time(now, until):
    assert hours("22:00", "6:00").until(utc(now)) == (utc(until) if until else None)


def test_they_belong_to_the_day_on_which_they_begin():
    friday = hours("18:00", "08:00", days=["fri"])

    assert friday.until(utc("2026-03-06T20:00")) == utc("2026-03-07T08:00")  # a Friday
    assert friday.until(utc("2026-03-07T07:00")) == utc("2026-03-07T08:00")
    assert friday.until(utc("2026-03-06T07:00")) is None


def test_two_times_that_are_the_same_mean_the_whole_day():
    sunday = hours("00:00", "00:00", days=["sun"])

    assert sunday.until(utc("2026-03-08T12:00")) == utc("2026-03-09T00:00")
    assert sunday.until(utc("2026-03-09T00:00")) is None


def test_they_are_said_in_their_own_time_zone_also_where_the_clock_is_put():
    night = hours("22:00", "06:00", timezone="Europe/Berlin")

    assert night.until(utc("2026-07-01T20:30")) == utc("2026-07-02T04:00")
    assert night.until(utc("2026-01-01T20:30")) is None
    assert night.until(utc("2026-10-24T21:00")) == utc("2026-10-25T05:00")  # nine hours long


def test_of_several_the_one_that_ends_last_counts():
    both = [hours("22:00", "06:00"), hours("23:00", "07:00")]

    assert quiet_until(both, utc("2026-03-02T23:30")) == utc("2026-03-03T07:00")
    assert quiet_until(both, utc("2026-03-02T12:00")) is None
    assert quiet_until((), utc("2026-03-02T12:00")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"from": "24:00"},
        {"from": 1320},
        {"from": "22"},
        {"from": "22:60"},
        {"timezone": "Berlin"},
        {"timezone": "../x"},
        {"days": []},
        {"days": ["monday"]},
        {"till": "07:00"},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong):
    with pytest.raises(ValidationError):
        QuietHours.model_validate({"from": "22:00", "to": "06:00", **wrong})


@given(
    st.times(),
    st.times(),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia"]),
    st.lists(st.sampled_from(DAYS), min_size=1),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),
)
def test_where_it_is_quiet_it_ends_within_a_day_and_is_quiet_until_then(begin, end, zone, days, now):
    made = QuietHours.model_validate({"from": begin, "to": end, "timezone": zone, "days": days})
    until = made.until(now)

    if until is not None:
        assert now < until <= now + timedelta(hours=26)
        assert made.until(until - timedelta(microseconds=1)) == until
