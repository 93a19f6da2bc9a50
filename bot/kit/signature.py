"""Signatures on what we send, as the Standard Webhooks specification has them.

`webhook-id`, `webhook-timestamp` and the body are signed together. With two secrets there are two signatures, so that
a receiver can change from one to the other without losing anything.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"


def headers(secrets: Sequence[str], id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The three headers of a request."""
    signed = " ".join(f"v1,{_signature(secret, id_, timestamp, body)}" for secret in secrets)
    return {"webhook-id": id_, "webhook-timestamp": str(timestamp), "webhook-signature": signed}


def genuine(secrets: Sequence[str], told: Mapping[str, str], body: bytes, now: int, *, within: int = 300) -> bool:
    """Whether *body* with the headers *told* (names in lower case) was signed with one of *secrets* just now."""
    id_, timestamp = told.get("webhook-id", ""), told.get("webhook-timestamp", "")
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now - int(timestamp[:12])) > within:
        return False
    given = [part.removeprefix("v1,") for part in told.get("webhook-signature", "").split() if part.startswith("v1,")]
    wanted = [_signature(secret, id_, int(timestamp), body) for secret in secrets]
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in wanted)


def _signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    made = hmac.new(_key(secret), f"{id_}.{timestamp}.".encode() + body, hashlib.sha256)
    return base64.b64encode(made.digest()).decode()


def _key(secret: str) -> bytes:
    """What follows `whsec_` is base64; any other secret is taken as it is written."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()
