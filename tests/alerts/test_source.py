import gzip
import json
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest

from bot.alerts import source
from bot.kit.errors import UserError
from bot.kit.shelf import Shelf

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def sources():
    return Shelf(source.SHELF, must_have=source.MUST_HAVE).load()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"{",
        b"\xff\xfe\xfa",
        b"\xc3\x28",
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b"[" * 65 + b"]" * 65,
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"9" * 5000,
    ],
)
def test_what_is_no_reasonable_json_is_refused_in_one_line(body):
    with pytest.raises(UserError) as refused:
        source.decode(body)

    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


def test_ordinary_depth_and_odd_numbers_are_read():
    assert source.decode(b"[" * 60 + b"]" * 60)
    assert source.decode(b'{"a": 1e999, "b": 12345678901234567890123}')


def test_a_small_body_that_unpacks_to_a_huge_one_is_refused():
    with pytest.raises(UserError, match="larger than 16 MiB"):
        source.inflate(gzip.compress(b"0" * (source.BODY_LIMIT + 1), mtime=0))


def test_a_torn_gzip_body_is_refused():
    with pytest.raises(UserError, match="gzip"):
        source.inflate(gzip.compress(b"{}", mtime=0)[:-4])


def test_several_gzip_files_in_one_body_are_read_as_gzip_reads_them():
    whole = gzip.compress(b'{"title": ') + gzip.compress(b"") + gzip.compress(b'"x"}', mtime=0)

    assert source.inflate(whole) == b'{"title": "x"}'
    assert source.inflate(gzip.compress(b"x", mtime=0) * source.MEMBERS_LIMIT) == b"x" * source.MEMBERS_LIMIT


@pytest.mark.parametrize("rest", [b"\0", b"\0" * 512, b"{}", b"\x1f", b"\x1f\x8b", gzip.compress(b"{}", mtime=0)[:-1]])
def test_what_follows_the_end_of_a_gzip_body_is_not_overlooked(rest):
    with pytest.raises(UserError, match="not valid gzip"):
        source.inflate(gzip.compress(b"{}", mtime=0) + rest)


def test_the_bound_on_what_is_unpacked_holds_for_all_gzip_files_of_a_body_together():
    half = gzip.compress(b" " * (source.BODY_LIMIT // 2), mtime=0)

    assert len(source.inflate(half * 2)) == source.BODY_LIMIT
    with pytest.raises(UserError, match="larger than 16 MiB"):
        source.inflate(half * 2 + gzip.compress(b" ", mtime=0))


def test_unpacking_never_holds_more_than_the_bound():
    layer = gzip.compress(b"\0" * 2**20, mtime=0)
    bomb = gzip.compress(b"\0" * 2**28, mtime=0) + layer * 500
    tracemalloc.start()
    with pytest.raises(UserError, match="larger than 1 MiB"):
        source.inflate(bomb, 2**20)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 4 * 2**20


def test_a_body_of_endless_empty_gzip_files_is_refused():
    with pytest.raises(UserError, match="gzip files"):
        source.inflate(gzip.compress(b"", mtime=0) * 50_000)


@pytest.mark.parametrize("body", [b"[" + b"[]," * 250_000 + b"[]]", b'{"alerts": [' + b"{}," * 250_000 + b"{}]}"])
def test_a_body_of_more_parts_than_anything_real_is_refused(body):
    with pytest.raises(UserError, match="more than 250,000 objects and lists"):
        source.decode(body)


def test_a_million_keys_are_read():
    assert len(source.decode(b"{" + b",".join(b'"%d":1' % i for i in range(1_000_000)) + b"}")) == 1_000_000


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://example.com/a?b=c", "https://example.com/a?b=c"),
        ("http://[::1]:9090/graph", "http://[::1]:9090/graph"),
        ("https://example.com/a|b>c", "https://example.com/a%7Cb%3Ec"),
        (" https://example.com ", "https://example.com"),
        ("javascript:alert(1)", None),
        ("ftp://example.com", None),
        ("//example.com", None),
        ("https://", None),
        ("http://[bad", None),
        ("https://example.com/" + "x" * 2000, None),
        ("https://example.com/" + "ü" * 300, "https://example.com/" + "ü" * 300),
        ("https://example.com/" + "ü" * 400, None),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_only_web_addresses_become_links(given, kept):
    assert source.link(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "0001-01-01T00:00:00Z",
        "0002-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "yesterday",
        "",
        None,
        5,
        {},
        "9999-12-31T23:59:59Z",
        "2026-03-03T00:00:00Z",
    ],
)
def test_a_time_that_cannot_be_meant_is_none(given):
    assert source.when(given, NOW) is None


def test_a_clock_may_be_a_little_ahead():
    assert source.when("2026-03-01T12:01:00+00:00", NOW) == NOW + timedelta(minutes=1)
    assert source.when("2026-03-01T13:00:00.123456789+01:00", NOW) == NOW.replace(microsecond=123456)


def test_labels_are_bounded_and_cleaned():
    found = source.labels({f"n{i}": "x" * 5000 for i in range(100)})
    odd = source.labels({"a": "b\0c\u202e", "n": 1, "t": True, "none": None, "list": [1], "\0": "x", "big": 10**6000})

    assert len(found) == 64
    assert {len(value) for value in found.values()} == {1024}
    assert odd == {"a": "bc", "n": "1", "t": "true", "big": ""}
    assert source.labels("nonsense") == source.labels(None) == {}


def test_reading_shows_what_a_source_understood(sources):
    body = gzip.compress(json.dumps({"title": "Queue is full", "dedup_key": "q"}).encode(), mtime=0)

    found = source.read("generic", body, {"content-encoding": "gzip"}, sources, NOW)

    assert json.loads(json.dumps(found))["alerts"][0]["dedup_key"] == "q"


@pytest.mark.parametrize(("name", "body"), [("nagios", b"{}"), ("generic", b"3"), ("alertmanager", b"{}")])
def test_reading_garbage_says_what_is_wrong(sources, name, body):
    with pytest.raises(UserError):
        source.read(name, body, {}, sources, NOW)
