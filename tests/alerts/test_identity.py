import pytest

from bot.alerts.identity import LONGEST, fingerprint, severity, short
from bot.alerts.model import Severity


def test_no_labels_give_the_offset_of_the_hash():
    assert fingerprint({}) == "cbf29ce484222325"


def test_a_fingerprint_is_the_one_prometheus_computes():
    labels = {"alertname": "CheckoutErrors", "service": "checkout"}
    value = 14695981039346656037
    for byte in b"alertname\xffCheckoutErrors\xffservice\xffcheckout\xff":
        value = (value ^ byte) * 1099511628211 % 2**64

    assert fingerprint(labels) == fingerprint(dict(reversed(labels.items()))) == f"{value:016x}"


def test_enormous_or_broken_labels_have_a_fingerprint_too():
    assert fingerprint({"a": "x" * 1_000_000}) != fingerprint({"a": "x" * 1_000_001})
    assert fingerprint({"a": "\ud800"})


@pytest.mark.parametrize(
    ("words", "level"),
    [
        (("critical", "P1", "Sev0", "fatal", "PAGE", "emergency"), Severity.CRITICAL),
        (("high", "error", "major", "P2", "Sev1"), Severity.HIGH),
        (("warning", "warn", "minor", "medium", "P3", "Sev2"), Severity.MEDIUM),
        (("low", "P4", "Sev3"), Severity.LOW),
        (("info", "P5", "Sev4", "none"), Severity.INFO),
        (("purple", "", None, " "), Severity.MEDIUM),
    ],
)
def test_every_vocabulary_is_understood(words, level):
    assert {severity(word) for word in words} == {level}


def test_a_long_key_is_hashed_and_a_short_one_kept():
    assert short("queue:orders") == "queue:orders"
    assert len(short("x" * (LONGEST + 1))) == 32
