"""Matchers as Alertmanager writes them: `severity=~"critical|page"` decides which alerts something is meant for."""

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast

from bot.kit.errors import UserError

LONGEST = 500  # characters of a regular expression
VALUE_LIMIT = 1024  # characters of a label value that are looked at
# How many ways of matching a value there may be, as a power of two. Python's engine tries them one by one, so this
# bounds the time: three `.*` reach it, four do not pass.
MOST_BITS = 32.0
ENDLESS = 10.0  # what `*` costs on a value of VALUE_LIMIT characters

Operator = Literal["=", "!=", "=~", "!~"]

_MATCHER = re.compile(
    r'\s*(?P<name>"(?:[^"\\]|\\.)*"|[^\s"{}=!~,]+)\s*(?P<operator>=~|!=|!~|=)(?![=~])\s*(?P<value>.*?)\s*', re.DOTALL
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\n])')
_REPEAT = re.compile(r"\{(\d*)(,?)(\d*)\}")


class MatcherError(UserError):
    """What is wrong with a matcher, for whoever wrote it."""


@dataclass(frozen=True)
class Matcher:
    """One condition on one label; a label that is not there counts as empty."""

    name: str
    operator: Operator
    value: str
    pattern: re.Pattern[str] | None = None

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether *labels* fulfil the condition."""
        found = labels.get(self.name, "")[:VALUE_LIMIT]
        same = found == self.value if self.pattern is None else self.pattern.fullmatch(found) is not None
        return same is (self.operator in ("=", "=~"))

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.operator}"{value}"'


@lru_cache(maxsize=1000)  # runbooks keep theirs as text, and each card asks all of them about each of its alerts
def parse(text: str) -> Matcher:
    """Read one matcher, its value quoted or not; regular expressions match the whole value.

    Raises MatcherError with an example.
    """
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise MatcherError(
            f'{_short(text)} is not a matcher; write for example severity="critical" or alertname=~"Postgres.*"'
        )
    operator = cast(Operator, found["operator"])
    name, value = _unquoted(found["name"], text), _unquoted(found["value"], text)
    return Matcher(name, operator, value, _compiled(value) if operator in ("=~", "!~") else None)


def _unquoted(text: str, whole: str) -> str:
    if '"' not in text:
        return text
    if not _QUOTED.fullmatch(text):
        raise MatcherError(f'the quotes in {_short(whole)} do not pair up; inside quotes write \\" for a quote')
    return _ESCAPE.sub(lambda escape: "\n" if escape[1] == "n" else escape[1], text[1:-1])


def _compiled(text: str) -> re.Pattern[str]:
    if len(text) > LONGEST:
        raise MatcherError(f"the regular expression has {len(text)} characters; at most {LONGEST} are allowed")
    try:
        with warnings.catch_warnings():
            # A bracket inside brackets: RE2 knows classes such as [[:alpha:]], Python would read them as letters.
            warnings.simplefilter("error")
            pattern = re.compile(text)
        bits = _Reader(text).whole()
    except (re.error, Warning, OverflowError, RecursionError) as error:
        raise MatcherError(f"{_short(text)} is not a regular expression that works here: {error}") from None
    if bits > MOST_BITS:
        raise MatcherError(f"{_short(text)} could take very long on some labels; use fewer `*`, `+` and alternatives")
    return pattern


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "…")


class _Reader:
    """Walks over a regular expression that Python accepts and adds up what matching it may cost, in bits."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def whole(self) -> float:
        bits = self.alternatives()
        if self.at < len(self.text):
            raise MatcherError(f"{_short(self.text)} is not a regular expression that works here: unexpected ')'")
        return bits

    def alternatives(self) -> float:
        branches = [self.sequence()]
        while self._take("|"):
            branches.append(self.sequence())
        return math.log2(sum(2.0 ** min(bits, 64.0) for bits in branches))

    def sequence(self) -> float:
        bits = 0.0
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            bits += self.repeated(self.atom())
        return bits

    def atom(self) -> float:
        if self._take("["):
            self._take("^")
            self._take("]")
            while not self._take("]"):
                self.at += 2 if self.text[self.at] == "\\" else 1
            return 0.0
        if self._take("\\"):
            if self.text[self.at] in "123456789":
                raise MatcherError(
                    f"{_short(self.text)} refers back to a group (\\{self.text[self.at]}); that is not supported"
                )
            self.at += 1
            return 0.0
        if self._take("("):
            return self.group()
        self.at += 1
        return 0.0

    def group(self) -> float:
        if self._take("?"):
            opening = re.compile(r":|P<\w+>|[aiLmsux]+\)|[aiLmsux]*(?:-[imsx]+)?:").match(self.text, self.at)
            if opening is None:
                raise MatcherError(f"{_short(self.text)} looks ahead or behind or refers back; that is not supported")
            self.at = opening.end()
            if opening[0].endswith(")"):
                return 0.0
        bits = self.alternatives()
        self._take(")")
        return bits

    def repeated(self, inner: float) -> float:
        bits = inner
        while (times := self._times()) is not None:
            least, most = times
            if most is None and bits > 0:
                raise MatcherError(
                    f"{_short(self.text)} repeats without end what itself repeats or chooses; that could take very long"
                )
            bits = ENDLESS if most is None else math.log2(most - least + 1) + most * bits
        return bits

    def _times(self) -> tuple[int, int | None] | None:
        """How often what was just read may stand; None when it is not repeated."""
        found: tuple[int, int | None] | None = None
        if self._take("*"):
            found = (0, None)
        elif self._take("+"):
            found = (1, None)
        elif self._take("?"):
            found = (0, 1)
        elif (braces := _REPEAT.match(self.text, self.at)) and (braces[1] or braces[3]):
            self.at = braces.end()
            least = int(braces[1] or 0)
            found = (least, least if not braces[2] else int(braces[3]) if braces[3] else None)
        if found is not None and not self._take("?"):  # the lazy forms: *? +? ??
            self._take("+")  # the possessive ones
        return found

    def _take(self, character: str) -> bool:
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False
