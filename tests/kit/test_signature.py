"""Signatures of what we send: the specification's own example, two secrets, and what is not genuine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.kit import signature

# https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md and its libraries' tests
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'


def test_it_is_that_of_the_specification():
    assert signature.headers([SECRET], ID, AT, BODY) == {
        "webhook-id": ID,
        "webhook-timestamp": str(AT),
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_with_two_secrets_a_receiver_needs_one_of_them():
    told = signature.headers(["a" * 32, "b" * 32], ID, AT, BODY)

    assert len(told["webhook-signature"].split()) == 2
    for secret in ("a" * 32, "b" * 32):
        assert signature.genuine([secret], told, BODY, AT)
    assert not signature.genuine(["c" * 32], told, BODY, AT)


@pytest.mark.parametrize("late", [-301, 301])
def test_what_is_too_old_or_from_the_future_is_not_genuine(late):
    told = signature.headers([SECRET], ID, AT, BODY)

    assert signature.genuine([SECRET], told, BODY, AT)
    assert not signature.genuine([SECRET], told, BODY, AT + late)


@given(
    st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()), st.binary()
)
def test_nothing_that_was_not_signed_is_genuine(told, body):
    assert not signature.genuine([SECRET], told, body, AT)


@given(st.binary(), st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_secret_signs_and_any_changed_byte_is_seen(body, secret):
    told = signature.headers([secret], ID, AT, body)

    assert signature.genuine([secret], told, body, AT)
    assert not signature.genuine([secret], told, body + b"x", AT)
