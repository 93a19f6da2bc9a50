"""Which alerts belong together: those whose group key is the same share one open incident."""

import hashlib
import json
from collections.abc import Iterable

MISSING = "∅"


def group_key(route: str, values: Iterable[str | None]) -> str:
    """The key of a group; a value that is missing is neither the same as an empty one nor as the word none."""
    parts = [route, *(MISSING if value is None else f"={value}" for value in values)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
