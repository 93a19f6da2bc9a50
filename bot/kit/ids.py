"""Identifiers, made by us and not by the database."""

import hashlib
import secrets
import time


def new_id() -> str:
    """A UUIDv7 as 32 hex digits: sorts by the time it was made."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | secrets.randbits(80)
    value = value & ~(0xF << 76) | (0x7 << 76)
    value = value & ~(0x3 << 62) | (0x2 << 62)
    return f"{value:032x}"


def derived_id(*parts: object) -> str:
    """The same parts give the same id: for what must exist once, however often it is tried."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]
