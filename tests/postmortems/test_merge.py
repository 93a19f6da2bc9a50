"""Three texts become one: what people wrote is never lost, what the timeline says now is never left out."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.postmortems.merge import END, PEOPLE, TIMELINE, conflicts, merge

BASE = "# A\n\nOne.\n\n_What?_\n\nTwo.\n"
LINES = st.lists(st.sampled_from(["", "a", "b", "c", "d", "| 1 | x |", "_What?_"]), max_size=12)
OTHERS = st.lists(st.sampled_from(["", "a", "b", "p", "q", "r", "s"]), max_size=12)


def test_an_answer_of_a_person_stays_when_the_timeline_grows_elsewhere():
    theirs = BASE.replace("_What?_", "A lock was held.")
    ours = BASE.replace("Two.", "Two.\n\nThree.")

    made = merge(BASE, theirs, ours)

    assert made.text == "# A\n\nOne.\n\nA lock was held.\n\nTwo.\n\nThree.\n"
    assert made.conflicts == 0


@pytest.mark.parametrize(
    ("theirs", "ours", "merged"),
    [
        (BASE, BASE.replace("One", "1"), BASE.replace("One", "1")),
        (BASE.replace("One", "1"), BASE, BASE.replace("One", "1")),
        (BASE.replace("One", "1"), BASE.replace("One", "1"), BASE.replace("One", "1")),
        (BASE.replace("One.\n\n", ""), BASE.replace("Two", "2"), BASE.replace("One.\n\n", "").replace("Two", "2")),
    ],
    ids=["timeline", "people", "the_same", "a_deletion_holds"],
)
def test_what_one_side_changed_is_taken(theirs: str, ours: str, merged: str):
    assert merge(BASE, theirs, ours) == type(merge(BASE, BASE, BASE))(merged, 0)


def test_rows_that_both_added_at_one_place_stand_beside_each_other():
    base = "| a |\n|---|\n| 1 |\n\nEnd"
    made = merge(base, base.replace("| 1 |", "| 1 |\n| mine |"), base.replace("| 1 |", "| 1 |\n| 2 |"))

    assert made.text == "| a |\n|---|\n| 1 |\n| 2 |\n| mine |\n\nEnd"
    assert made.conflicts == 0


def test_words_beside_a_line_that_the_timeline_changed_are_no_conflict():
    made = merge("x\none\ny", "x\none\nmine\ny", "x\nuno\ny")

    assert (made.text, made.conflicts) == ("x\nuno\nmine\ny", 0)


def test_where_both_changed_a_line_a_reader_sees_both():
    made = merge("x\none\ny", "x\nmine\ny", "x\nuno\ny")

    assert made.conflicts == conflicts(made.text) == 1
    lines = made.text.split("\n")
    places = [lines.index(line) for line in ("x", PEOPLE, "mine", TIMELINE, "uno", END, "y")]
    assert places == sorted(places)


def test_a_line_that_people_changed_and_the_timeline_dropped_is_shown():
    made = merge("x\none\ny", "x\nmine\ny", "x\ny")

    assert made.conflicts == 1
    assert "mine" in made.text
    assert "_Nothing any more._" in made.text


def test_a_conflict_that_waits_is_not_made_again_and_takes_the_newer_words_of_the_timeline():
    first = merge("x\none\ny", "x\nmine\ny", "x\nuno\ny")
    again = merge("x\nuno\ny", first.text, "x\neins\ny")

    assert again.conflicts == 0
    assert conflicts(again.text) == 1
    assert "eins" in again.text
    assert "uno" not in again.text
    assert "mine" in again.text


@given(LINES, OTHERS, OTHERS)
def test_no_line_of_anybody_is_lost(base: list[str], theirs: list[str], ours: list[str]):
    made = Counter(merge("\n".join(base), "\n".join(theirs), "\n".join(ours)).text.split("\n"))

    for side in (theirs, ours):
        fresh = {line for line in side if line and line not in base}
        assert fresh <= set(made)


@given(LINES, OTHERS)
def test_without_news_from_the_timeline_the_text_is_the_persons_to_the_byte(base: list[str], theirs: list[str]):
    told = "\n".join(base)

    assert merge(told, "\n".join(theirs), told).text == "\n".join(theirs)
    assert merge(told, told, "\n".join(theirs)).text == "\n".join(theirs)


@given(LINES, OTHERS, OTHERS)
def test_a_line_that_nobody_touched_is_there_as_often_as_before(base: list[str], theirs: list[str], ours: list[str]):
    head, tail = ["top"], ["end"]

    made = merge(*("\n".join([*head, *text, *tail]) for text in (base, theirs, ours))).text.split("\n")

    assert (made[0], made[-1]) == ("top", "end")
    assert made.count("top") == made.count("end") == 1


def test_a_document_of_ten_thousand_lines_is_joined_at_once():
    base = [f"| {n} | something happened |" for n in range(10_000)]
    theirs = [line if n % 500 else f"{line} and I saw it" for n, line in enumerate(base)]
    ours = [*base, "| 10000 | resolved |"]

    made = merge("\n".join(base), "\n".join(theirs), "\n".join(ours))

    assert made.conflicts == 0
    assert made.text.count("and I saw it") == 20
    assert made.text.endswith("| 10000 | resolved |")
