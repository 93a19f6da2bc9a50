"""Cron expressions: what is refused, and which times they mean, above all where the clock is put."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.runs import cron

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def next_of(expression: str, zone: str, after: datetime, count: int = 4) -> list[str]:
    found = islice(cron.times(expression, zone, after), count)
    return [f"{time.astimezone(ZoneInfo(zone)):%a %d %H:%M %z}" for time in found]


@pytest.mark.parametrize(
    "good", ["30 2 * * *", "*/15 8-18 * * mon-fri", "0 0 1 jan *", "0 3 * * SUN", "0 4 L * *", "5 4 * * mon#1,thu"]
)
def test_five_fields_with_weekdays_by_name_are_read(good):
    assert cron.wrong(good, "UTC") is None


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("0 9 * * 1", "names weekdays by number (1)"),
        ("0 9 * * 1-5", "names weekdays by number (1-5)"),
        ("0 9 * * 5L", "names weekdays by number (5L)"),
        ("0 9 * * mo", "'mo' is not a weekday; did you mean mon?"),
        ("0 9 * * monday", "'monday' is not a weekday; did you mean mon?"),
        ("0 9 * *", "has 4 fields instead of five"),
        ("0 0 9 * * mon", "has 6 fields instead of five"),
        ("@daily", "write the five fields instead of '@daily'"),
        ("", "has 0 fields instead of five"),
        ("61 * * * *", "'61' cannot be the minute"),
        ("0 24 * * *", "'24' cannot be the hour"),
        ("0 0 32 * *", "'32' cannot be the day of the month"),
        ("0 0 1 13 *", "'13' cannot be the month"),
        ("0 0 30 2 *", "'30' cannot be the day of the month"),
        ("*/0 * * * *", "'*/0' cannot be the minute"),
        ("0 0 * * fri-mon", "'fri-mon' cannot be the weekday"),
        ("0 0 * * mon-", "'mon-' is not a weekday"),
        ("9" * 5000 + " * * * *", "is longer than 200 characters"),
    ],
)
def test_what_is_wrong_is_said_in_words_that_help(bad, told):
    assert told in (cron.wrong(bad, "UTC") or "")


@pytest.mark.parametrize("zone", ["Europe/Berlim", "", "../etc/passwd", "Europe", "CEST", "/etc/localtime", "x" * 300])
def test_a_time_zone_that_is_none_is_refused(zone):
    assert "is not a time zone" in (cron.wrong_timezone(zone) or "")


def test_a_set_time_in_the_hour_that_comes_twice_comes_once():
    assert next_of("30 2 * * *", BERLIN, at("2026-10-24T12:00"), 3) == [
        "Sun 25 02:30 +0200",
        "Mon 26 02:30 +0100",
        "Tue 27 02:30 +0100",
    ]


def test_asked_within_the_second_of_two_hours_it_does_not_come_again():
    within = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time

    assert next_of("30 2 * * *", BERLIN, within, 1) == ["Mon 26 02:30 +0100"]


def test_a_set_time_in_the_hour_that_is_left_out_comes_right_after_it():
    assert next_of("30 2 * * *", BERLIN, at("2026-03-28T12:00"), 2) == ["Sun 29 03:00 +0200", "Mon 30 02:30 +0200"]


def test_two_set_times_in_the_hour_that_is_left_out_come_as_one():
    assert next_of("0,30 2 * * *", BERLIN, at("2026-03-28T12:00"), 2) == ["Sun 29 03:00 +0200", "Mon 30 02:00 +0200"]


def test_what_comes_every_hour_goes_by_the_hours_that_pass():
    found = list(islice(cron.times("0 * * * *", BERLIN, at("2026-10-24T23:30")), 4))

    assert [later - sooner for sooner, later in pairwise(found)] == [timedelta(hours=1)] * 3


def test_the_newest_of_the_times_that_were_missed_is_found_with_their_number():
    found = cron.missed("0 2 * * *", "UTC", at("2026-03-01T12:00"), at("2026-03-05T12:00"))
    yearly = cron.missed("0 2 1 jan *", "UTC", at("2022-03-01T12:00"), at("2026-03-05T12:00"))

    assert found == cron.Missed(at("2026-03-05T02:00"), 4)
    assert yearly == cron.Missed(at("2026-01-01T02:00"), 4)
    assert cron.missed("0 2 * * *", "UTC", at("2026-03-05T02:00"), at("2026-03-05T12:00")) is None
    assert cron.missed("*/5 * * * *", "UTC", at("2020-01-01T00:00"), at("2026-03-05T12:00")) == cron.Missed(
        at("2026-03-05T12:00"), 500
    )


def test_the_shortest_time_between_two_is_known():
    assert cron.shortest("0 2,3 * * *", "UTC", at("2026-03-01T00:00")) == timedelta(hours=1)
    assert cron.shortest("*/20 * * * mon", "UTC", at("2026-03-01T00:00")) == timedelta(minutes=20)


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */2 * * sun", "0 0 L * *"]),
    st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
)
def test_times_only_ever_go_forward_and_do_not_depend_on_when_they_are_asked_for(expression, zone, after):
    found = list(islice(cron.times(expression, zone, after), 30))

    assert all(a < b for a, b in zip([after, *found], found, strict=False))
    middle = found[10] + timedelta(microseconds=1)
    assert list(islice(cron.times(expression, zone, middle), 15)) == found[11:26]


@given(st.text("0123456789*/,-#L@ monfri", max_size=30))
def test_no_text_at_all_breaks_the_check(text):
    told = cron.wrong(text, "Europe/Berlin")

    assert told is None or told
    if told is None:
        assert next(cron.times(text, "Europe/Berlin", at("2026-01-01T00:00"))) > at("2026-01-01T00:00")
