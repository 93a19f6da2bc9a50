"""What makes two alerts the same one, and one vocabulary for how bad an alert is."""

from collections.abc import Mapping

from bot.alerts.model import Severity
from bot.kit.ids import derived_id

LONGEST = 255  # characters of an identity that are kept as they are
_OFFSET, _PRIME, _MASK = 14695981039346656037, 1099511628211, (1 << 64) - 1
_HASHED = 64 * 1024  # bytes of labels above which the slow hash is not worth its time

_WORDS = {
    Severity.CRITICAL: ("critical", "crit", "p1", "sev0", "fatal", "page", "emergency", "alert", "disaster"),
    Severity.HIGH: ("high", "error", "err", "major", "p2", "sev1"),
    Severity.MEDIUM: ("medium", "warning", "warn", "minor", "average", "p3", "sev2"),
    Severity.LOW: ("low", "p4", "sev3"),
    Severity.INFO: ("info", "information", "informational", "notice", "debug", "p5", "sev4", "none", "ok"),
}
_SEVERITY = {word: level for level, words in _WORDS.items() for word in words}


def severity(word: str | None, *, default: Severity = Severity.MEDIUM) -> Severity:
    """What a sender's own word means here; a word nobody knows is *default*, never an error."""
    return _SEVERITY.get((word or "").strip().lower(), default)


def fingerprint(labels: Mapping[str, str]) -> str:
    """The fingerprint that Prometheus and Alertmanager give to *labels*: FNV-1a over sorted names and values.

    https://github.com/prometheus/common/blob/main/model/signature.go
    """
    parts = [part.encode("utf-8", "surrogatepass") for name in sorted(labels) for part in (name, labels[name])]
    if sum(map(len, parts)) > _HASHED:
        return derived_id("labels", *(part.hex() for part in parts))
    value = _OFFSET
    for part in parts:
        for byte in (*part, 0xFF):
            value = ((value ^ byte) * _PRIME) & _MASK
    return f"{value:016x}"


def short(key: str) -> str:
    """*key* as an identity that fits its column: itself, or a hash of it when it is long."""
    return key if len(key) <= LONGEST else derived_id("key", key)
