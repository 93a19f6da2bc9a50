"""The small tools: time, text, ids, shelves, logs."""

import json
import logging
import re
import sys
import types
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from bot.kit import log
from bot.kit.clock import duration_text, parse_duration, parse_time, utc_now
from bot.kit.errors import PermanentError
from bot.kit.ids import derived_id, new_id
from bot.kit.shelf import Shelf
from bot.kit.text import clean, clip, distance, nearest, one_line, slug, tame


def test_now_is_aware_and_utc():
    assert utc_now().utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("2d", 172800), ("0s", 0)]
)
def test_durations_are_read(text, seconds):
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5M", "1.5h", "5m\n", "٥m"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(seconds=3), "3 s"),
        (timedelta(seconds=250), "4 min 10 s"),
        (timedelta(minutes=65), "1 h 5 min"),
        (timedelta(days=2, hours=1, minutes=5), "2 d 1 h"),
        (timedelta(seconds=-5), "-5 s"),
        (timedelta(hours=2), "2 h"),
    ],
)
def test_durations_are_said_in_two_units_at_most(length, text):
    assert duration_text(length) == text


def test_times_of_vendors_are_read_and_unset_ones_are_none():
    assert parse_time("2026-08-08T14:32:08.326990857Z") == datetime(2026, 8, 8, 14, 32, 8, 326990, UTC)
    assert parse_time("2026-08-08T16:32:08+02:00") == datetime(2026, 8, 8, 14, 32, 8, tzinfo=UTC)
    assert parse_time("0001-01-01T00:00:00Z") is None
    assert parse_time("yesterday") is None
    assert parse_time("0001-01-01T00:00:00+14:00") is None


@given(st.text())
def test_no_text_breaks_the_reading_of_times(text):
    found = parse_time(text)

    assert found is None or found.tzinfo is not None


@given(st.text())
def test_clean_text_has_nothing_that_hides_or_reorders(text):
    cleaned = clean(text + "\u202e\u0000\u200b\ufeff")

    assert not set(cleaned) & set("\u202e\u202d\u2066\u0000\u200b\ufeff\u200f")
    assert clean(cleaned) == cleaned
    cleaned.encode()


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_clipped_text_fits_and_says_that_it_was_cut(text, limit):
    cut = clip(text, limit)

    assert len(cut) <= limit
    assert cut == text or cut.endswith("…")


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_a_slug_is_what_slack_allows(text, limit):
    made = slug(text, limit)

    assert len(made) <= limit
    assert all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in made)
    assert not made.startswith("-")
    assert not made.endswith("-")


def test_letters_with_marks_are_written_plain():
    assert slug("Größe: Zahlungen fallen aus!", 40) == "grosse-zahlungen-fallen-aus"
    assert slug("日本", 10) == ""


def test_the_nearest_word_is_found_within_two_edits():
    words = ["resolve", "reopen", "severity", "sev", "note"]

    assert nearest("resovle", words) == "resolve"
    assert nearest("serverity", words) == "severity"
    assert nearest("xyz", words) is None
    assert nearest("", words) is None


@given(st.text(max_size=8), st.text(max_size=8))
def test_distance_is_the_same_both_ways_and_zero_for_equals(a, b):
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)


def test_one_line_has_no_breaks():
    assert one_line(" a\n\t b\r\nc ") == "a b c"


def test_new_ids_differ_and_derived_ones_do_not():
    assert len({new_id() for _ in range(1000)}) == 1000
    assert derived_id("a", 1) == derived_id("a", 1)
    assert derived_id("a", 1) != derived_id("a1")
    assert len(new_id()) == len(derived_id("x")) == 32


@pytest.fixture
def package(tmp_path):
    """A package of plugins that exists for one test."""
    folder = tmp_path / "shelf_of_test"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Plugins."""\n')
    (folder / "one.py").write_text('"""One."""\n\n\ndef run():\n    """Run."""\n')
    (folder / "assert_.py").write_text('"""A word of Python\'s own."""\n\n\ndef run():\n    """Run."""\n')
    sys.path.insert(0, str(tmp_path))
    yield folder
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("shelf_of_test")]:
        del sys.modules[name]


def test_a_plugin_is_a_file_and_its_name_is_the_files(package):
    shelf = Shelf("shelf_of_test", must_have=("run",)).load()

    assert list(shelf) == ["assert", "one"]
    assert isinstance(shelf["one"], types.ModuleType)
    assert "one" in shelf


def test_a_plugin_that_lacks_something_is_named(package):
    (package / "two.py").write_text('"""Two."""\n')

    with pytest.raises(PermanentError, match=r"two lacks run"):
        Shelf("shelf_of_test", must_have=("run",)).load()


def test_a_plugin_that_is_only_found_is_imported_when_it_is_asked_for(package):
    (package / "two.py").write_text('"""Two."""\n')
    shelf = Shelf("shelf_of_test", must_have=("run",)).find()

    assert list(shelf) == ["assert", "one", "two"]
    assert "shelf_of_test.one" not in sys.modules
    assert shelf["one"].__name__ == "shelf_of_test.one"
    with pytest.raises(PermanentError, match=r"two lacks run"):
        shelf["two"]


def test_what_is_not_on_the_shelf_names_what_is(package):
    with pytest.raises(PermanentError, match="there is: assert, one"):
        Shelf("shelf_of_test", must_have=("run",)).load()["three"]


@pytest.fixture
def logging_as_before():
    root = logging.getLogger()
    handlers, level, settings = root.handlers[:], root.level, structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**settings)


def test_logs_are_json_with_what_is_bound_and_without_tokens(capsys, logging_as_before):
    log.configure(json=True)
    structlog.contextvars.bind_contextvars(incident="INC-1")
    try:
        structlog.get_logger().info("it.happened", token="xoxb-123456-abcdef", url="postgresql://me:secret@db/x")
        logging.getLogger("other").warning("plain %s", "xapp-1-A123-456")
    finally:
        structlog.contextvars.clear_contextvars()
    first, second = (json.loads(line) for line in capsys.readouterr().err.strip().splitlines())

    assert first["incident"] == "INC-1"
    assert first["event"] == "it.happened"
    assert "abcdef" not in json.dumps(first)
    assert "secret" not in json.dumps(first)
    assert second["event"] == "plain xapp-***"
    assert second["level"] == "warning"


def test_logs_at_a_terminal_are_lines(capsys, logging_as_before):
    log.configure(json=False)
    structlog.get_logger().warning("it.happened", why="a reason")

    assert "it.happened" in capsys.readouterr().err


def test_a_row_that_the_database_refused_is_not_quoted_in_the_log():
    told = (
        'null value in column "x"\nDETAIL:  Failing row contains (hunter22,\nmore).\n[SQL: INSERT INTO run]\n'
        "\nThe above exception was the direct cause"
    )

    assert log.masked(told) == (
        'null value in column "x"\nDETAIL: ***\n[SQL: INSERT INTO run]\n\nThe above exception was the direct cause'
    )


MARKS = ["@", "#", "/", "[", "](", "!", "`", "<", "x", "1", "\n", " ", "\\", "\u200b"]


@given(st.text() | st.lists(st.sampled_from(MARKS)).map("".join))
def test_tamed_text_mentions_links_and_commands_nothing(text):
    made = tame(text)

    assert not re.search(r"@\w|#\d|(?m:^\s*/)|<", made)
    assert not re.search(r"(?<!\\)(?:\\\\)*[`\[\]!]", made)
