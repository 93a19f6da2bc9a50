"""What is a bind in SQL, and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit.statement import read


@pytest.mark.parametrize(
    ("text", "binds"),
    [
        ("select :a", ["a"]),
        ("select :a, :b, :a", ["a", "b", "a"]),
        ("select x::int, :a::text, now()::date", ["a"]),
        ("select ':a', '', 'it''s :a' , :b", ["b"]),
        ("select E'\\':a', e'\\\\', :b", ["b"]),
        ("select '\\', :a, '\\'", ["a"]),
        ('select ":a", "x"":a", :b', ["b"]),
        ("select `:a`, :b", ["b"]),
        ("select $$:a$$, $x$ :a $$ $y$ $x$, :b", ["b"]),
        ("select foo$1, $a$:b$a$", []),
        ("select 1 -- :a\n, :b", ["b"]),
        ("select /* :a /* :b */ :c */ :d", ["d"]),
        ("select (array[1,2])[1:2], f(x := 1)", []),
        ("select 'a' as \"b\", :c", ["c"]),
        ("select 12:a", ["a"]),
        ("select :a;", ["a"]),
        ("select '12:30:00'::time, 1e5, 0x1f, :_x1", ["_x1"]),
        ("select :ä", ["ä"]),
    ],
)
def test_only_a_name_after_a_colon_is_a_bind(text, binds):
    assert list(read(text).binds) == binds


def test_every_bind_gets_a_number_of_its_own_and_the_rest_stays():
    found = read("select :a::int, ':a', :b -- :c\n where x = :a;  -- over\n")

    assert found.numbered == "select $1::int, ':a', $2 -- :c\n where x = $3"
    assert found.binds == ("a", "b", "a")


@pytest.mark.parametrize(
    ("text", "verb", "returning"),
    [
        ("select 1", "SELECT", False),
        ("  -- x\n/* y */ ((select 1) union select 2)", "SELECT", False),
        ("with a as (delete from t returning *) select * from a", "SELECT", False),
        ("with a as (select 1), b as (select 2) delete from t where x in (select 1)", "DELETE", False),
        ("WITH RECURSIVE a(n) AS (values (1)) INSERT INTO t TABLE a RETURNING n", "INSERT", True),
        ("update t set x = 'returning'", "UPDATE", False),
        ("delete from t where x = (select 1) returning id", "DELETE", True),
        ("set transaction read write", "SET", False),
        ("copy t to program 'x'", "COPY", False),
        ("explain analyze delete from t", "EXPLAIN", False),
    ],
)
def test_it_knows_what_a_statement_does(text, verb, returning):
    found = read(text)

    assert (found.verb, found.returning) == (verb, returning)


@pytest.mark.parametrize(
    ("text", "explains"),
    [
        ("explain select 1", "SELECT"),
        ("explain analyze verbose delete from t", "DELETE"),
        ("explain (analyze, format json) with a as (select 1) update t set x = 1", "UPDATE"),
        ("explain query plan select 1", "SELECT"),
        ("explain analyze create table x as select 1", "CREATE"),
        ("explain (select 1)", ""),
        ("select 'explain'", ""),
    ],
)
def test_it_knows_what_is_explained(text, explains):
    assert read(text).explains == explains


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no statement"),
        (" -- nothing\n;", "holds no statement"),
        ("select 1; select 2", "more than one statement"),
        ("select 1;;", "more than one statement"),
        ("begin; insert into t values (1)", "more than one statement"),
        ("select 'a", "a ' is missing"),
        ("select E'a\\'", "a ' is missing"),
        ('select "a', 'a " is missing'),
        ("select `a", "a ` is missing"),
        ("select /* a", r"a \*/ is missing"),
        ("select $x$ a $$", r"begins with \$x\$"),
        ("select $1", r"holds \$1; name what is given apart"),
    ],
)
def test_what_is_not_one_whole_statement_is_refused(text, told):
    with pytest.raises(ValueError, match=told):
        read(text)


@given(st.text(alphabet="a:'\"$-/*;\\\n eE1()`", max_size=40))
def test_nothing_is_lost_or_taken_from_the_inside_of_a_text(text):
    try:
        found = read(text)
    except ValueError:
        return

    pieces = list(found.pieces)
    rebuilt = pieces[0] + "".join(f":{name}{piece}" for name, piece in zip(found.binds, pieces[1:], strict=True))
    assert rebuilt == found.text
    assert text.startswith(found.text)
    # Taken apart again with numbers in the place of the names, it has no binds left.
    again = read(" 1 ".join(pieces))
    assert again.binds == ()
    assert again.verb == found.verb


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_word(text):
    try:
        told = read(f"select {text}").verb
    except ValueError as error:
        told = str(error)

    assert told
