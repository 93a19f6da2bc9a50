"""YAML is read without guessing, and what is wrong is named by its line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit import yaml


def test_words_that_look_like_something_else_stay_words():
    data = yaml.load("on: NO\nmode: 0755\nat: 12:30:00\nday: 2024-01-01\nyes: off\nhex: 0x1F\n", "a.yaml").data

    assert data == {"on": "NO", "mode": "0755", "at": "12:30:00", "day": "2024-01-01", "yes": "off", "hex": "0x1F"}


def test_numbers_booleans_and_nothing_are_read():
    data = yaml.load("a: 1\nb: -2.5\nc: true\nd: false\ne:\nf: null\ng: '1'\nh: 1e3\n", "a.yaml").data

    assert data == {"a": 1, "b": -2.5, "c": True, "d": False, "e": None, "f": None, "g": "1", "h": "1e3"}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "twice"),
        ("a: &x 1\nb: *x\n", 1, "aliases"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: [1\n", 2, "not valid YAML"),
        ("\n\nx: !!python/object:os.system 1\n", 3, "tags"),
        ("<<: {a: 1}\n", 1, "merge keys"),
        ("? [a]\n: 1\n", 1, "plain text"),
        ("a: " + "[" * 3000, 1, "not valid YAML"),
        ("a: " + "x" * (300 * 1024), 1, "larger than"),
        ("a: b: c\n", 1, "not valid YAML"),
        ("\ta: 1\n", 1, "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text, line, word):
    with pytest.raises(yaml.YamlError) as error:
        yaml.load(text, "f.yaml")

    assert str(error.value).startswith(f"f.yaml:{line}:")
    assert word in str(error.value)


def test_every_part_knows_its_line():
    document = yaml.load("a:\n  - x\n  - y: 1\n    z: 2\n", "f.yaml")

    assert document.line(("a", 1, "z")) == 4
    assert document.line(("a", 7, "nothing")) == 1
    assert str(document.error(("a", 0), "wrong")) == "f.yaml:2: wrong"


def test_an_empty_file_is_nothing():
    assert yaml.load("", "f.yaml").data is None
    assert yaml.load("# only a comment\n", "f.yaml").data is None


@given(st.text(max_size=200))
def test_no_text_does_more_than_load_or_say_what_is_wrong(text):
    with contextlib.suppress(yaml.YamlError):
        yaml.load(text, "f.yaml")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), inner)
    ),
)


@given(PLAIN)
def test_what_is_written_is_read_again(data):
    assert yaml.load(yaml.dump(data), "made.yaml").data == data


@pytest.mark.parametrize(
    "text", ["on", "NO", "0755", "12:30", "1.10", "~", "", "- a", "a: b", "{{ x }}", "two\nlines\n"]
)
def test_text_that_looks_like_something_else_stays_text(text):
    assert yaml.load(yaml.dump({"a": [text]}), "made.yaml").data == {"a": [text]}


def test_text_of_several_lines_is_a_block():
    assert yaml.dump({"a": "one\ntwo\n"}) == "a: |\n  one\n  two\n"
