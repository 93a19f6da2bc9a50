"""What expressions may do, and that none of them can take the machine down."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.kit.errors import PermanentError
from bot.runs.expressions import ExpressionError, evaluate, names, render, render_quoted, render_value

CONTEXT = {
    "params": {"days": 14, "host": "web-1:9100", "nothing": None},
    "steps": {"a": {"json": {"items": [1, 2], "values": 3}, "lines": ["3\tx", "4\ty"], "stdout": "x" * 60000}},
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("params.days", 14),
        ("params.days > 3 and params.nothing is none", True),
        ("steps.a.lines | map('split', '\t') | map(attribute=0) | map('int') | sum", 7),
        ("steps.a.json.items", [1, 2]),
        ("steps.a.json.values", 3),
        ("params.host | host", "web-1"),
        ("'[::1]:9100' | host", "::1"),
        ("'http://a@web-1:80/x' | host", "web-1"),
        ("0.0345 | percent", "3.5 %"),
        ("1500000000 | filesize", "1.5 GB"),
        ("'1m30s' | seconds", 90),
        ("'2025-01-06T10:00:00+01:00' | epoch", 1736154000),
        ("'a.b' | re", "a\\.b"),
        ("'a/b c' | urlencode", "a%2Fb%20c"),
        ("{'a': [1]} | tojson", '{"a": [1]}'),
        ("params.none | default(3)", 3),
        ("'a' ~ 1 ~ params.days", "a114"),
        ("params.host.upper()", "WEB-1:9100"),
        ("steps.a.lines | select('ne', '3\tx') | list", ["4\ty"]),
        ("'12%' | replace('%', '') | int", 12),
        ("'none' | int", 0),
        ("2.567 | round(1)", 2.6),
    ],
)
def test_an_expression_gives_its_value_with_its_type(expression, expected):
    found = evaluate(expression, CONTEXT)

    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "bomb",
    [
        "'a' * 10**9",
        "[1] * 10**9",
        "'x' | center(900000000)",
        "'{:>900000000}'.format('x')",
        "'{0.__class__}'.format_map(params)",
        "'%0999999999d' % 1",
        "'x'.ljust(900000000)",
        "'x'.zfill(900000000)",
        "'x'.join(['a'])",
        "'x'.replace('x', 'y')",
        "'\t'.expandtabs(900000000)",
        "(1).to_bytes(900000000, 'big')",
        "9**9**9**9",
        "2**9999999",
        "1.5 | round(99999999, 'ceil')",
        "[1] | batch(900000000, 'x') | list",
        "[1] | slice(900000000) | list",
        "params | pprint",
        "params | tojson(indent=900000000)",
        "params | xmlattr",
        "'x' | indent(900000000)",
        "'x x' | wordwrap(1, wrapstring=steps.a.stdout)",
        "'%s' | format(1)",
        "range(999999999) | list",
        "lipsum(n=99999)",
        "cycler(1)",
        "namespace(a=1)",
        "steps.a.stdout | map('replace', 'x', steps.a.stdout) | list",
        "steps.a.stdout | map('list') | sum(start=[])",
        "steps.a.stdout | list | join(steps.a.stdout)",
        " ~ ".join(["steps.a.stdout"] * 400),
        " + ".join(["steps.a.stdout"] * 50),
        "+".join(["1"] * 4000),
        "(" * 3000 + "1" + ")" * 3000,
        "[" * 500 + "]" * 500,
        "9" * 5000,
        "''.__class__.__mro__",
        "params.__init__.__globals__",
        "params['__class__']",
        "params | attr('__class__')",
        "steps.a.lines.append(1)",
        "params.update({'a': 1})",
        "self._TemplateReference__context",
        "x" * 9000,
    ],
)
def test_a_bomb_fails_at_once(bomb):
    with pytest.raises(ExpressionError):
        evaluate(bomb, CONTEXT)


@pytest.mark.parametrize(
    "text",
    [
        "{% for a in steps.a.stdout %}{% for b in steps.a.stdout %}{{ a }}{% endfor %}{% endfor %}",
        "{% set a = 1 %}",
        "{% macro a() %}{% endmacro %}",
        "{% include 'x' %}",
        "{{ params.days ",
        "{{ }}",
        "{{ steps.a.stdout }}{{ steps.a.stdout }}",
        "{{ missing }}",
        "{{ params.missing }}",
    ],
)
def test_a_text_may_only_hold_values_that_exist_and_fit(text):
    with pytest.raises(ExpressionError):
        render(text, CONTEXT)


def test_a_missing_value_is_named():
    with pytest.raises(ExpressionError, match="there is no 'missing'"):
        evaluate("params.missing", CONTEXT)


def test_an_endless_computation_is_given_up():
    class Slow(dict):
        def __contains__(self, key):
            time.sleep(3)
            return True

    with pytest.raises(ExpressionError, match="longer than 2 s"):
        evaluate("a.b", {"a": Slow()})


def test_values_are_never_rendered_themselves():
    assert render("say {{ a }}", {"a": "{{ 7 * 7 }}{% endif %}"}) == "say {{ 7 * 7 }}{% endif %}"


def test_a_text_that_is_one_expression_keeps_the_type_and_all_others_are_text():
    raw = {
        "a": "{{ params.days }}",
        "b": ["+{{ params.days }}", "{{ params.days }}\n", 3],
        "c": "{{- params.nothing -}}",
    }

    assert render_value(raw, CONTEXT) == {"a": 14, "b": ["+14", "14\n", 3], "c": None}


def test_a_text_that_looks_like_a_list_stays_text():
    assert render_value("{{ a }}", {"a": "[1, 2]"}) == "[1, 2]"
    assert render_value("{{ a }}{{ b }}", {"a": "5", "b": 6}) == "56"


def test_names_are_found_wherever_they_hide():
    found = names(
        "steps.a[params.x].b ~ (steps['q'].z | map(attribute=env.y) | list) ~ {'k': vars.v}.k", expression=True
    )

    assert found == {("steps", "a"), ("params", "x"), ("steps", "q", "z"), ("env", "y"), ("vars", "v")}


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_any_text_is_rendered_or_refused(text):
    try:
        render("{{" + text + "}}" + text, CONTEXT)
    except ExpressionError:
        return


@settings(max_examples=50)
@given(st.text(alphabet="ab'\"()[]{}|.,~+*%-=<>1 \n", max_size=60))
def test_any_expression_is_computed_or_refused(text):
    try:
        evaluate(text, {"a": "text", "b": [1, {"a": 2}]})
    except ExpressionError:
        return


def test_what_is_filled_in_is_written_as_its_language_wants_it():
    seen = []

    def quote(before: str, value: object) -> str:
        seen.append((before, value))
        return f"<{value}>"

    text = "a {{ params.days }} b {{ params.host | host }}{{ none }} c {{ '{{ 1 }}' }}"

    assert render_quoted(text, CONTEXT, quote) == "a <14> b <web-1><None> c <{{ 1 }}>"
    assert seen[:2] == [("a ", 14), ("a <14> b ", "web-1")]
    assert render_quoted("no {braces}", CONTEXT, quote) == "no {braces}"


def test_a_value_that_has_no_place_in_a_language_is_refused_with_its_word():
    def quote(before: str, value: object) -> str:
        raise PermanentError("not here")

    with pytest.raises(PermanentError, match="not here"):
        render_quoted("{{ params.days }}", CONTEXT, quote)
    with pytest.raises(ExpressionError, match="there is no 'nowhere'"):
        render_quoted("{{ params.nowhere }}", CONTEXT, lambda before, value: "")
    with pytest.raises(ExpressionError, match="longer than"):
        render_quoted("{{ steps.a.stdout }}{{ steps.a.stdout }}", CONTEXT, lambda before, value: str(value))
