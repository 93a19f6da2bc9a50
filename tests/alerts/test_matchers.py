import pytest

from bot.alerts.matchers import MatcherError, parse


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ('severity="critical"', {"severity": "critical"}, True),
        ("severity=critical", {"severity": "critical"}, True),
        (" severity = critical ", {"severity": "critical"}, True),
        ('severity="critical"', {}, False),
        ('severity=""', {}, True),
        ("severity=", {}, True),
        ('severity!="critical"', {}, True),
        ('severity!=""', {}, False),
        ('name=~"web"', {"name": "web-1"}, False),
        ('name=~"web.*"', {"name": "web-1"}, True),
        ('name=~"a|b"', {"name": "ab"}, False),
        ('name=~".*"', {}, True),
        ('name=~".+"', {}, False),
        ('name!~"web.*"', {"name": "db-1"}, True),
        ('name!~"web.*"', {"name": "web-1"}, False),
        ('say="a \\"b\\" \\\\ c"', {"say": 'a "b" \\ c'}, True),
        ('name=~"db-[0-9]+\\.example"', {"name": "db-12.example"}, True),
        ('name=~"db-[0-9]+\\\\.example"', {"name": "db-12xexample"}, False),
        ('name=~"(?i)WEB"', {"name": "web"}, True),
        ('"a label"="x"', {"a label": "x"}, True),
        ("k8s.pod/name=x", {"k8s.pod/name": "x"}, True),
        ('ip=~"(?:[0-9]{1,3}\\.){3}[0-9]{1,3}"', {"ip": "10.0.0.1"}, True),
    ],
)
def test_matchers_mean_what_they_mean_in_alertmanager(text, labels, matches):
    assert parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    "text",
    ["", "severity", "=x", 'a="b', 'a="b" c', 'a="b",c="d"', "a==b", 'a=~"("', 'a=~"[[:alpha:]]"', '{a="b"}', "a b=c"],
)
def test_what_is_no_matcher_is_refused_in_one_line(text):
    with pytest.raises(MatcherError) as refused:
        parse(text)

    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(a*)*b",
        "(a|a)*b",
        "(a|ab)+",
        "((a{1,5}){1,5})*",
        "(?:a?b?)*",
        "a?" * 40 + "a" * 40,
        ".*a.*b.*c.*d",
        "(.*){9}",
        "(a)\\1",
        "(?=a)a",
        "(?!a)b",
        "(?P<x>a)(?P=x)",
        "x" * 501,
    ],
)
def test_an_expression_that_could_take_very_long_is_refused(pattern):
    with pytest.raises(MatcherError):
        parse(f'name=~"{pattern}"')


def test_only_the_beginning_of_a_long_value_is_looked_at():
    assert parse("a=~x*").matches({"a": "x" * 1024 + "y"})


def test_a_matcher_prints_as_it_can_be_written():
    assert str(parse(str(parse('a=~"x\\"y"')))) == 'a=~"x\\"y"'
