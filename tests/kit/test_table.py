"""Tables that can be read in Slack."""

from hypothesis import given
from hypothesis import strategies as st

from bot.kit.table import WIDTH, table, width


def test_columns_are_as_wide_as_they_must_be_and_numbers_stand_at_the_right():
    rows = [["7", "idle", ""], ["1234", "active", "select 1"]]

    assert table(["pid", "state", "query"], rows, right=[True, False, False]).splitlines() == [
        " pid  state   query",
        "----  ------  --------",
        "   7  idle",
        "1234  active  select 1",
    ]


def test_the_widest_column_gives_way():
    rows = [["1", "x" * 150, "short"]]

    lines = table(["pid", "query", "user"], rows).splitlines()

    assert max(map(len, lines)) == WIDTH
    assert lines[2].startswith("1    xxxx")
    assert lines[2].endswith("…  short")


def test_what_is_too_wide_for_columns_is_written_one_value_a_line():
    names = [f"column_{n}" for n in range(12)]

    lines = table(names, [[f"value {n} of a long row" for n in range(12)]] * 2).splitlines()

    assert lines[0] == "-- 1 --"
    assert lines[1] == "column_0   value 0 of a long row"
    assert len(lines) == 26


def test_letters_of_double_width_and_accents_keep_the_columns_straight():
    text = table(["名前", "x"], [["日本", "1"], ["e\u0301", "2"], ["abc", "3"]])

    assert [width(line) for line in text.splitlines()] == [7, 7, 7, 7, 7]


def test_line_breaks_and_hidden_characters_do_not_break_a_row():
    assert table(["a"], [["x\n\ty\u202e\x00"]]).splitlines()[2] == "x y"


def test_without_rows_the_names_stand_alone():
    assert table(["a", "b"], []) == "a  b\n-  -"


@given(st.lists(st.lists(st.text(), min_size=3, max_size=3), max_size=5))
def test_a_table_never_has_more_lines_than_rows_or_wider_ones_than_fit(rows):
    lines = table(["a", "b", "c"], rows).split("\n")

    assert len(lines) == len(rows) + 2
    assert all(width(line) <= WIDTH for line in lines)
