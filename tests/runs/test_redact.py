"""No secret gets out, however it is written and wherever its text is cut."""

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.runs.redact import MASK, Redactor

SECRET = "s3cr3t/+pass wörd&1"
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n"
    + "\n".join(["MIIEpAIBAAKCAQEA" + "x" * 48] * 12)
    + "\n-----END RSA PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_masked_in_every_form(form):
    assert form not in (told := Redactor([SECRET]).text(f"a {form} b"))
    assert MASK in told


@settings(max_examples=40)
@given(user=st.text(alphabet="abcxyz", max_size=9), after=st.text(alphabet="abc", max_size=4))
def test_a_secret_inside_basic_authentication_is_masked(user, after):
    encoded = base64.b64encode(f"{user}:{SECRET}{after}".encode()).decode()

    told = Redactor([SECRET]).text(f"x={encoded}")

    assert encoded not in told
    assert MASK in told


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("token xoxb-123456789012-abcdefABCDEF here", "xoxb-123456789012-abcdefABCDEF"),
        ("xapp-1-A012345-67890-abcdef", "67890"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("ghp_" + "a" * 36, "a" * 36),
        ("github_pat_" + "a" * 40, "a" * 40),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ("DB_PASSWORD=hunter22", "hunter22"),
        ('{"password": "two words"}', "two words"),
        ("api_key: abcdef", "abcdef"),
        ("Authorization: Basic dXNlcjpwdw==", "dXNlcjpwdw"),
        ("authorization: Bearer abc.def", "abc.def"),
        ("-H 'Bearer abcdefghijklmnopqrstuvwxyz'", "abcdefghijkl"),
        ("postgresql://bot:hunter22@db.example.com/x", "hunter22"),
        (KEY, "MIIEpAIBAAKCAQEA"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, hidden):
    told = Redactor().text(f"before {text} after")

    assert hidden not in told
    assert MASK in told
    assert told.startswith("before ")


@pytest.mark.parametrize(
    "text", ["load 0.52 0.58 0.59", "https://example.com/a:b@c", "/dev/sda1 ext4 90% /var", "12:30:00 ok"]
)
def test_plain_output_stays_as_it_is(text):
    assert Redactor().text(text) == text


def test_escape_sequences_and_nul_do_not_hide_a_secret():
    assert Redactor(["hunter22"]).text("\x1b[1;31mhun\x00ter\x1b[0m22\x1b]0;title\x07!") == f"{MASK}!"


def test_values_inside_json_are_masked_and_so_are_numbers_and_telling_keys():
    raw = {"a": ["x hunter22"], "password": "other", "n": 12345678, "ok": True, "none": None}

    told = Redactor(["hunter22", "12345678"]).value(raw)

    assert told == {"a": [f"x {MASK}"], "password": MASK, "n": MASK, "ok": True, "none": None}


def test_a_lot_of_hostile_text_comes_through():
    for piece in (
        "a",
        "eyJ",
        "password",
        "://",
        "a.",
        "-----BEGIN PRIVATE KEY-----",
        "xoxb-",
        "Bearer ",
        '"password":"',
    ):
        text = piece * (100_000 // len(piece))
        stream = Redactor(["hunter22"]).stream()

        assert Redactor(["hunter22"]).text(text)
        assert stream.feed(text) + stream.close()


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


@given(
    noise=st.lists(st.text(alphabet="hunter2 \n\x1b[m\0\r", max_size=30), min_size=2, max_size=6),
    sizes=st.lists(st.integers(1, 40), max_size=30),
    secret=st.sampled_from(["hunter22", "multi\nline secret\nhunter", "h" * 60]),
)
def test_a_stream_cut_anywhere_never_leaks(noise, sizes, secret):
    stream = Redactor([secret]).stream()

    told = "".join(stream.feed(piece) for piece in cut(secret.join(noise), sizes)) + stream.close()

    assert secret not in told


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 9000), max_size=30), pad=st.integers(0, 20000))
def test_a_line_without_end_never_leaks_and_is_not_kept_for_ever(sizes, pad):
    stream = Redactor(["hunter22hunter22"]).stream()
    text = "x" * pad + "hunter22hunter22" + "y" * 40000

    shown = [stream.feed(piece) for piece in cut(text, sizes)]
    told = "".join(shown) + stream.close()

    assert any(shown)
    assert told == "x" * pad + MASK + "y" * 40000


@pytest.mark.parametrize("size", [1, 3, 7, 64, 4096])
def test_a_private_key_that_comes_in_pieces_never_leaks(size):
    text = f"first\n{KEY}\nlast\n"
    stream = Redactor().stream()

    told = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.close()

    assert told == f"first\n{MASK}\nlast\n"


def test_a_whole_line_is_shown_at_once():
    stream = Redactor(["hunter22"]).stream()

    assert stream.feed("ready\nhun") == "ready\n"
    assert stream.feed("ter22\n") == f"{MASK}\n"


def test_one_that_knows_more_hides_both_and_the_first_is_as_it_was():
    first = Redactor(["hunter22"])

    more = first.knowing("hunter22-and-more", "swordfish", "x" * 20_000)

    assert more.text("hunter22-and-more hunter22 swordfish") == f"{MASK} {MASK} {MASK}"
    assert first.text("hunter22 swordfish") == f"{MASK} swordfish"
    assert (first.margin, more.margin) == (10_240, 40_000)
    assert first.knowing().forms == first.forms
