"""Finding what is wrong with a piece of Block Kit, and saying where."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and the JSON pointer of the place."""

    pointer: str
    message: str
    code: str = "invalid"

    def __str__(self) -> str:
        return f"{self.message} [json-pointer:{self.pointer or '/'}]"


@dataclass
class Check:
    """Collects problems while somebody walks through a payload."""

    surface: str
    problems: list[Problem] = field(default_factory=list)
    block_ids: set[str] = field(default_factory=set)
    action_ids: set[str] = field(default_factory=set)
    focused: int = 0

    def say(self, at: str, message: str, code: str = "invalid") -> None:
        self.problems.append(Problem(at, message, code))

    def mapping(self, value: Any, at: str) -> bool:
        if isinstance(value, dict):
            return True
        self.say(at, "must be an object")
        return False

    def keys(self, part: Json, at: str, known: Collection[str], needed: Collection[str] = ()) -> None:
        """Say which fields are unknown and which are missing."""
        for key in part:
            if key not in known and key not in needed and key != "type":
                self.say(f"{at}/{escape(key)}", f"unknown field {str(key)[:40]!r}")
        for key in needed:
            if part.get(key) is None:
                self.say(at, f"missing required field: {key}")

    def string(
        self, part: Json, key: str, at: str, longest: int, *, shortest: int = 1, needed: bool = False
    ) -> str | None:
        """The string under *key*, if there is one and it is one of the right length."""
        if part.get(key) is None:
            if needed:
                self.say(at, f"missing required field: {key}")
            return None
        value = part[key]
        if not isinstance(value, str):
            self.say(f"{at}/{key}", "must be a string")
            return None
        if len(value) > longest:
            self.say(f"{at}/{key}", f"must be no more than {longest} characters", "too_long")
        if len(value) < shortest:
            self.say(f"{at}/{key}", f"must be at least {shortest} characters")
        return value

    def flag(self, part: Json, key: str, at: str) -> None:
        if part.get(key) is not None and not isinstance(part[key], bool):
            self.say(f"{at}/{key}", "must be a boolean")

    def number(self, part: Json, key: str, at: str, low: float, high: float, *, needed: bool = False) -> float | None:
        value = part.get(key)
        if value is None:
            if needed:
                self.say(at, f"missing required field: {key}")
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.say(f"{at}/{key}", "must be a number")
            return None
        if not low <= value <= high:
            self.say(f"{at}/{key}", f"must be between {low:g} and {high:g}")
        return value

    def choice(self, part: Json, key: str, at: str, allowed: Collection[str], *, needed: bool = False) -> None:
        value = part.get(key)
        if value is None:
            if needed:
                self.say(at, f"missing required field: {key}")
        elif not isinstance(value, str) or value not in allowed:
            self.say(f"{at}/{key}", f"must be one of: {', '.join(sorted(allowed))}")

    def array(self, part: Json, key: str, at: str, most: int, *, least: int = 1, needed: bool = True) -> list[Any]:
        value = part.get(key)
        if value is None:
            if needed:
                self.say(at, f"missing required field: {key}")
            return []
        if not isinstance(value, list):
            self.say(f"{at}/{key}", "must be an array")
            return []
        if len(value) > most:
            self.say(f"{at}/{key}", f"no more than {most} items allowed", "too_many")
        if len(value) < least:
            self.say(f"{at}/{key}", f"must have at least {least} item(s)")
        return value

    def identity(self, part: Json, key: str, at: str, taken: set[str]) -> None:
        """A ``block_id`` or ``action_id``: at most 255 characters, and only once."""
        value = self.string(part, key, at, 255)
        if value is None:
            return
        if value in taken:
            self.say(f"{at}/{key}", f"{key} {value[:60]!r} already exists", "duplicate")
        taken.add(value)

    def link(self, part: Json, key: str, at: str, *, needed: bool = False) -> None:
        value = self.string(part, key, at, 3000, needed=needed)
        if value is not None and not value.startswith(("http://", "https://", "mailto:", "slack://")):
            self.say(f"{at}/{key}", "must be a valid URL")

    def text(
        self,
        part: Json,
        key: str,
        at: str,
        longest: int,
        *,
        plain: bool = False,
        needed: bool = False,
        shortest: int = 1,
    ) -> None:
        """A text object under *key*: ``plain_text`` only, or ``mrkdwn`` as well."""
        value = part.get(key)
        if value is None:
            if needed:
                self.say(at, f"missing required field: {key}")
            return
        self.text_object(value, f"{at}/{key}", longest, plain=plain, shortest=shortest)

    def text_object(self, value: Any, at: str, longest: int, *, plain: bool = False, shortest: int = 1) -> None:
        if not self.mapping(value, at):
            return
        kind = value.get("type")
        if kind not in (("plain_text",) if plain else ("plain_text", "mrkdwn")):
            self.say(f"{at}/type", "must be plain_text" if plain else "must be plain_text or mrkdwn")
            return
        self.keys(value, at, ("text", "emoji") if kind == "plain_text" else ("text", "verbatim"))
        self.string(value, "text", at, longest, shortest=shortest, needed=True)
        self.flag(value, "emoji", at)
        self.flag(value, "verbatim", at)


def escape(key: Any) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return str(key)[:80].replace("~", "~0").replace("/", "~1")
