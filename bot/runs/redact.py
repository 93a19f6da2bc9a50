"""Secrets out of everything a run prints, before anybody sees or stores it.

Two layers: the secrets we know, in every form they are usually written, then the looks of secrets we do not know.
Every pattern is bounded and possessive, so that a megabyte of hostile text costs no more than one of prose.
"""

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

from bot.kit.text import clean

MASK = "[redacted]"
SHORTEST = 4  # a shorter secret would blank out half of every text
LONGEST = 10 * 1024
_KEY_BLOCK = 8000

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]|\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|"
    r"[PX^_][^\x1b]{0,500}\x1b\\|[ -/]{0,4}[0-~])"
)
_OPEN_ESCAPE = re.compile(r"(?:\r|\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]PX^_][^\x07\x1b]{0,500}\x1b?|[ -/]{0,4}))\Z")

_KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_WORDS = r"(?:pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)"
_KEY_NAME = re.compile(_KEY_WORDS + r"\Z", re.IGNORECASE)

_PATTERNS = (
    (
        re.compile(
            _KEY_BEGIN.pattern
            + rf"(?:(?!-----END )[\s\S]){{0,{_KEY_BLOCK}}}+(?:-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
        MASK,
    ),
    (re.compile(r"(?<![A-Za-z0-9])xox[a-z](?:\.[a-z]{1,10})?-[A-Za-z0-9-]{8,500}+"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])xapp-[A-Za-z0-9-]{8,500}+"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])gh[a-z]_[A-Za-z0-9]{20,500}+"), MASK),
    (re.compile(r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{20,500}+"), MASK),
    (
        re.compile(
            r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,4000}+\.[A-Za-z0-9_-]{2,4000}+\.[A-Za-z0-9_-]{0,2000}+",
        ),
        MASK,
    ),
    (
        re.compile(
            r"(?i)(authorization[\"']?[ \t]{0,5}[:=][ \t]{0,5}[\"']?(?:(?:basic|bearer|token|digest)[ \t]{1,5})?)"
            r"[^\s\"',;]{1,4000}+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(?<![a-z0-9])(bearer[ \t]{1,5})[a-z0-9._~+/-]{16,4000}+=*"), rf"\1{MASK}"),
    (
        re.compile(rf"(?i)({_KEY_WORDS}[\"']?[ \t]{{0,5}}[=:][ \t]{{0,5}})(\"[^\"\n]{{1,500}}+\"|'[^'\n]{{1,500}}+')"),
        rf'\1"{MASK}"',
    ),
    (
        re.compile(rf"(?i)({_KEY_WORDS}[\"']?[ \t]{{0,5}}[=:][ \t]{{0,5}})(?![ \t\"'\[{{])[^\s\"',;&]{{1,500}}+"),
        rf"\1{MASK}",
    ),
    (
        re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{1,20}+://[^\s/:@]{0,100}+:)[^\s/@]{1,300}+@"),
        rf"\1{MASK}@",
    ),
)


class Redactor:
    """Takes known secrets and the looks of unknown ones out of text.

    Secrets shorter than four characters cannot be hidden this way and are not looked for.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # Longest first: a short form may be a part of a long one.
        self.forms = sorted(forms, key=_longest_first)
        # No secret that we know, and none that we would recognise, is longer.
        self.margin = max(LONGEST, *map(len, forms), 0)

    def knowing(self, *more: str) -> "Redactor":
        """One that knows *more* secrets besides."""
        made = Redactor(more)
        made.forms = sorted({*made.forms, *self.forms}, key=_longest_first)
        made.margin = max(made.margin, self.margin)
        return made

    def text(self, text: str) -> str:
        """*text* without secrets, escape sequences and hidden characters."""
        return self._mask(_tidy(text))

    def value(self, value: Any) -> Any:
        """The same for every text inside a JSON value; the values of keys such as `password` go whatever they hold."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {
                self.text(str(key)): MASK
                if isinstance(item, str) and item and _KEY_NAME.search(str(key))
                else self.value(item)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in self.forms:
            return MASK
        return value

    def split(self, text: str, at: int) -> tuple[str, str]:
        """What stands before and after about *at*, both without secrets; none is cut in two. Negative: from the end."""
        text = _tidy(text)
        cut = self.between(text, max(0, len(text) + at) if at < 0 else min(at, len(text)))
        return self._mask(text[:cut]), self._mask(text[cut:])

    def between(self, text: str, cut: int) -> int:
        """*cut*, or the beginning of the secret in *text* that it would go through."""
        # A few rounds only: text that is nothing but the looks of secrets could send this back to its beginning.
        for _ in range(4):
            spans = (self._spanning(pattern, text, cut) for pattern, _ in _PATTERNS)
            earlier = min((start for start in spans if start is not None), default=cut)
            if earlier == cut:
                break
            cut = earlier
        moved = True
        while moved:  # what we know is never cut, however long that takes
            moved = False
            for form in self.forms:
                at = text.find(form, max(0, cut - len(form) + 1), cut + len(form) - 1)
                if 0 <= at < cut:
                    cut, moved = at, True
        return cut

    def _spanning(self, pattern: re.Pattern[str], text: str, cut: int) -> int | None:
        for match in pattern.finditer(text, max(0, cut - self.margin), cut + self.margin):
            if match.start() >= cut:
                break
            if match.end() > cut:
                return match.start()
        return None

    def stream(self) -> "Stream":
        """For text that comes in pieces, wherever the pieces are cut."""
        return Stream(self)

    def _mask(self, text: str) -> str:
        for form in self.forms:
            text = text.replace(form, MASK)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text


class Open(Redactor):
    """Hides nothing: for what a program prints as data, which must be read whole before secrets are taken out of it.

    Whoever uses it shows none of that text and redacts what is made of it.
    """

    def _mask(self, text: str) -> str:
        return text


class Stream:
    """Gives out whole lines, and keeps back what may turn out to be the beginning of a secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._raw = ""
        self._held = ""
        self._multiline = [form for form in redactor.forms if "\n" in form]

    def feed(self, chunk: str) -> str:
        """What can be shown now."""
        text = self._raw + chunk
        cut = found.start() if (found := _OPEN_ESCAPE.search(text, max(0, len(text) - 600))) else len(text)
        self._raw = text[cut:]
        self._held += _tidy(text[:cut])
        return self._give(self._safe())

    def close(self) -> str:
        """The rest."""
        self._held += _tidy(self._raw)
        self._raw = ""
        return self._give(len(self._held))

    def _give(self, cut: int) -> str:
        ready, self._held = self._held[:cut], self._held[cut:]
        return self._redactor._mask(ready) if ready else ""

    def _safe(self) -> int:
        """Up to where no secret can be cut in two."""
        text = self._held
        cut = text.rfind("\n") + 1
        if (
            len(text) - cut > 2 * self._redactor.margin
        ):  # a line without end: cut inside it, far from what may still grow
            cut = self._redactor.between(text, len(text) - self._redactor.margin)
        moved = True
        while moved:
            earlier = self._earlier(cut)
            moved, cut = earlier < cut, earlier
        return cut

    def _earlier(self, cut: int) -> int:
        """*cut*, or the beginning of what spans lines and is not over there."""
        text = self._held
        for form in self._multiline:
            for at in range(max(0, cut - len(form) + 1), cut):
                if form.startswith(text[at:cut]):
                    return at
        key = text.rfind("-----BEGIN ", 0, cut)
        if key >= 0 and text.find("-----END ", key, cut) < 0 and len(text) - key < _KEY_BLOCK + 200:
            return key
        return cut


def _longest_first(form: str) -> tuple[int, str]:
    return -len(form), form


def _tidy(text: str) -> str:
    return clean(_ESCAPE.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def _forms(secret: str) -> set[str]:
    """Every way in which *secret* is likely to be written."""
    whole = secret.strip("\r\n")
    raw = whole.encode("utf-8", "surrogateescape")
    found = {
        whole,
        quote(whole, safe="", errors="replace"),
        quote_plus(whole, errors="replace"),
        quote(whole, errors="replace"),
    }
    found |= {json.dumps(whole)[1:-1], json.dumps(whole, ensure_ascii=False)[1:-1], raw.hex(), raw.hex().upper()}
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        found |= {encode(raw).decode(), encode(raw).decode().rstrip("=")}
        # Inside longer base64, as in `user:secret` of basic authentication, the secret starts at any of three
        # places of a group; the letters that its neighbours do not touch are always the same.
        for shift in range(3):
            inner = encode(b"\0" * shift + raw).decode().rstrip("=")
            first = -(-shift * 8 // 6)
            last = (shift + len(raw)) * 8 // 6
            found |= {part for part in (inner[first:last],) if len(part) >= 8}
    # Long secrets of several lines, such as keys, are also printed line by line.
    found |= {line for line in whole.splitlines() if len(line) >= 16}
    return {tidy for form in found if len(tidy := _tidy(form)) >= SHORTEST}
