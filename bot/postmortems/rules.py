"""The rules of the linter: data, one file for each language, made ready to be looked up by the word they begin with.

A pattern is written in words. ``a|b`` is one of two, ``{name}`` one of a list of words, ``_`` any word, ``(a b|c)``
one of several phrases. ``?`` behind it means perhaps, ``*`` up to three times; ``!`` before it says what must not
follow, ``&`` what must. ``~`` is any letters, ``^`` and ``$`` the beginning and the end of a sentence. Nothing in it
can repeat without bound, so a pattern takes the same small time wherever it is tried.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from bot.kit import yaml
from bot.kit.errors import UserError
from bot.postmortems.render import templates_folder

LEVELS = ("error", "warn", "info")
# Who a pattern may ask for as the one who does it; `any` asks for nobody.
KINDS = frozenset({"we", "they", "you", "name", "role", "someone", "nobody", "maybe", "thing", "none"})
WHO: dict[str, frozenset[str]] = {
    "any": frozenset(),
    "person": frozenset({"we", "they", "you", "name", "role", "someone", "nobody"}),
    "other": frozenset({"they", "you", "name", "role", "someone"}),
    "human": frozenset({"we", "they", "you", "name", "role", "someone", "nobody", "maybe"}),
    "unsaid": frozenset({"we", "they", "you", "name", "role", "someone", "nobody", "maybe", "none"}),
    "named": frozenset({"name"}),
    "nobody": frozenset({"nobody"}),
    "we": frozenset({"we"}),
    "someone": frozenset({"someone"}),
}
# Lists of words that code asks for, empty where a language has none; all others serve patterns alone.
ASKED = (
    *("people", "ambiguous_people", "machine_people", "choosy_people", "people_makers", "after_people"),
    *("we", "you", "they", "someone", "nobody", "whoever", "indefinite", "none_of", "subjects", "partitives"),
    *("given_names", "words_as_names", "after_name", "systems", "owner_columns"),
    *(
        "articles",
        "determiners",
        "prepositions",
        "relatives",
        "continues",
        "breaks",
        "ends",
        "passed",
        "verbs_to_be",
        "closers",
        "openings",
        "past",
    ),
)
# A pattern may begin with the beginning of a word, if it is so long.
STEM = 3
FOLDER = Path("postmortems", "rules")

_LETTERS = "[^ /]{0,60}"
_WORD = "[^ /,;:()][^ /]{0,60}/[^ ]* "
_REST = "/[^ ]* "


@dataclass(frozen=True)
class Pattern:
    """What is looked for at a word, and who must have done it."""

    who: frozenset[str]
    source: str
    at_start: bool
    # Whether the clause must be about them; otherwise they must stand before the pattern as its subject.
    clause: bool = False

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Made when it is first tried: most documents try few of them."""
        return re.compile(self.source)


@dataclass(frozen=True)
class Rule:
    """One rule as it stands in the file; `flag` and `accept` are sentences that it must and must not find."""

    id: str
    family: str
    level: str
    why: str
    hint: str
    title: str = ""
    not_after: frozenset[str] = frozenset()
    not_with: frozenset[str] = frozenset()
    section: str = ""
    flag: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A section that documents have, by what its heading says."""

    name: str
    title: str
    heading: re.Pattern[str]
    required: bool


@dataclass(frozen=True)
class Ruleset:
    """Everything the linter knows of one language."""

    language: str
    rules: Mapping[str, Rule]
    words: Mapping[str, frozenset[str]]
    spelled: Mapping[str, tuple[str, ...]]
    vocabulary: frozenset[str]
    tags: Callable[[str], str]
    joined: frozenset[tuple[str, str]]
    index: Mapping[str, tuple[tuple[Rule, Pattern], ...]]
    sections: tuple[Section, ...]
    looks: Mapping[str, tuple[re.Pattern[str], ...]]


@cache
def rules(language: str = "en", folder: Path | None = None) -> Ruleset:
    """The rules for *language*, from `templates/postmortems/rules`; raises UserError if the file is wrong."""
    place = (folder or templates_folder()) / FOLDER
    path = place / f"{language}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        known = ", ".join(sorted(found.stem for found in place.glob("*.yaml")))
        raise UserError(f"There are no rules for the language {language!r}; there are: {known or 'none'}.") from None
    return parse(text, str(path.name))


def parse(text: str, name: str) -> Ruleset:
    """A file of rules made ready; raises UserError with the line of what is wrong."""
    document = yaml.load(text, name)
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), "a mapping with language, words, sections and rules is wanted")
    words = dict.fromkeys(ASKED, frozenset[str]())
    words |= {key: frozenset(str(value).split()) for key, value in data.get("words", {}).items()}
    # A class is a letter behind the word, not a hundred alternatives: patterns stay small, and quick to make.
    classes = {key: rf"[^ /]{{1,60}}/[^ ]*{_letter(number)}[^ ]* " for number, key in enumerate(words)}
    for key, value in data.get("phrases", {}).items():
        classes[key] = _phrases(value, classes)
    found: dict[str, Rule] = {}
    index: dict[str, list[tuple[Rule, Pattern]]] = {}
    for key, entry in data.get("rules", {}).items():
        at = ("rules", key)
        rule = found[key] = _rule(document, key, entry)
        for line in str(entry.get("find") or "").splitlines():
            if not line.strip():
                continue
            try:
                pattern, first = compiled(line, classes, words)
            except ValueError as error:
                raise document.error(at, f"{key}: {error} in the pattern {line.strip()!r}") from None
            for word in first:
                key = word[:STEM] + "~" if "~" in word else word
                index.setdefault(key, []).append((rule, pattern))
    return Ruleset(
        language=str(data.get("language", "")),
        rules=found,
        words=words,
        spelled=_spelled(str(data.get("spelled") or ""), words),
        vocabulary=frozenset().union(*(found for key, found in words.items() if key != "given_names")),
        tags=_tags(words),
        joined=frozenset(
            (pair[0], pair[1])
            for pair in (line.split() for line in str(data.get("joined") or "").splitlines())
            if len(pair) == 2
        ),
        index={word: tuple(entries) for word, entries in index.items()},
        sections=tuple(
            Section(key, str(entry["title"]), re.compile(str(entry["heading"])), entry.get("required") is True)
            for key, entry in data.get("sections", {}).items()
        ),
        looks={key: tuple(re.compile(str(one)) for one in value) for key, value in data.get("looks", {}).items()},
    )


def _rule(document: yaml.Document, key: str, entry: Any) -> Rule:
    at: yaml.Path = ("rules", key)
    known = {"family", "level", "title", "why", "hint", "find", "not_after", "not_with", "section", "flag", "accept"}
    if not isinstance(entry, dict) or set(entry) - known:
        odd = ", ".join(sorted(set(entry) - known)) if isinstance(entry, dict) else "no mapping"
        raise document.error(at, f"{key}: a rule has {', '.join(sorted(known))}; this has {odd}")
    missing = {"family", "level", "why", "hint"} - set(entry)
    if missing or entry["level"] not in LEVELS:
        raise document.error(at, f"{key}: needs family, why, hint and a level, one of {', '.join(LEVELS)}")
    return Rule(
        id=key,
        family=str(entry["family"]),
        level=str(entry["level"]),
        why=str(entry["why"]),
        hint=str(entry["hint"]),
        title=str(entry.get("title", "")),
        not_after=frozenset(str(entry.get("not_after") or "").split()),
        not_with=frozenset(str(entry.get("not_with") or "").split()),
        section=str(entry.get("section") or ""),
        flag=tuple(entry.get("flag") or ()),
        accept=tuple(entry.get("accept") or ()),
    )


def _tags(words: Mapping[str, frozenset[str]]) -> Callable[[str], str]:
    """A function that says of a word in which lists it is, a letter for each list."""
    letters = {name: _letter(number) for number, name in enumerate(words)}
    whole: dict[str, str] = {}
    endings: list[tuple[str, str]] = []
    never: set[str] = set()
    for name, listed in words.items():
        for word in sorted(listed):
            if word.startswith("-") and len(word) > 2:
                never.add(word[1:])
            elif word.startswith("~"):
                endings.append((word[1:], letters[name]))
            else:
                whole[word] = whole.get(word, "") + letters[name]

    @lru_cache(maxsize=8192)
    def tags(word: str) -> str:
        ends = "" if word in never else "".join(letter for end, letter in endings if word.endswith(end))
        return whole.get(word, "") + ends

    return tags


def _letter(number: int) -> str:
    return chr(0x4E00 + number)


def _phrases(text: Any, classes: Mapping[str, str]) -> str:
    lines = [_compile(line, classes)[0] for line in str(text).splitlines() if line.strip()]
    return "(?:" + "|".join(lines) + ")"


def compiled(
    line: str, classes: Mapping[str, str], words: Mapping[str, frozenset[str]]
) -> tuple[Pattern, frozenset[str]]:
    """The pattern in *line*, ``WHO > PATTERN``, and the words it can begin with; raises ValueError on a bad one."""
    who, arrow, text = line.rpartition(" > ")
    kinds: frozenset[str] = frozenset()
    for word in who.split() if arrow else ():
        if word == "clause":
            continue
        sign, word = word[0] == "-", word.lstrip("-")
        if word not in WHO and word not in KINDS:
            raise ValueError(f"nobody is called {word!r}")
        kinds = kinds - WHO.get(word, frozenset({word})) if sign else kinds | WHO.get(word, frozenset({word}))
    text = text.strip()
    at_start = text.startswith("^")
    regex, _ = _compile(text.removeprefix("^"), classes)
    return Pattern(kinds, regex, at_start, "clause" in who.split()), _first(text.removeprefix("^"), words)


def _compile(text: str, classes: Mapping[str, str]) -> tuple[str, int]:
    """A regular expression over words that each have a blank behind them."""
    items = _items(text)
    regex, at = _sequence(items, 0, classes)
    if at != len(items):
        raise ValueError("a bracket that was never opened")
    return regex, at


def _items(text: str) -> list[str]:
    items: list[str] = []
    depth = 0
    for item in re.findall(r"[!&]?\(|\)[?*]?|[^\s()]+", text):
        depth += item.endswith("(") - item.startswith(")")
        items += re.findall(r"\||[^|]+", item) if depth and "(" not in item else [item]
    return items


def _sequence(items: list[str], at: int, classes: Mapping[str, str]) -> tuple[str, int]:
    regex = ""
    while at < len(items):
        item = items[at]
        if item == "|" or item.startswith(")"):
            return regex, at
        sign, item = (item[0], item[1:]) if item[0] in "!&" else ("", item)
        if item == "(":
            branches = []
            while True:
                branch, at = _sequence(items, at + 1, classes)
                branches.append(branch)
                if at >= len(items):
                    raise ValueError("a bracket that is never closed")
                if items[at].startswith(")"):
                    break
            piece, often = "(?:" + "|".join(branches) + ")", items[at][1:]
        elif item == "$":
            piece, often = r"(?:[,;:()\]%–—-]{1,2}/[^ ]* ){0,4}\Z", ""
        else:
            often = item[-1] if item[-1] in "?*" and len(item) > 1 else ""
            piece = _word(item.removesuffix(often), classes)
        at += 1
        if sign:
            regex += f"(?{'!' if sign == '!' else '='}{piece})"
        else:
            regex += {"": piece, "?": f"(?:{piece})?", "*": f"(?:{piece}){{0,3}}?"}[often]
    return regex, at


def _word(item: str, classes: Mapping[str, str]) -> str:
    options = []
    for word in item.split("|"):
        if word == "_":
            options.append(_WORD)
        elif word.startswith("{") and word.endswith("}"):
            if word[1:-1] not in classes:
                raise ValueError(f"there is no list of words {word}")
            options.append(classes[word[1:-1]])
        elif word:
            options.append(re.escape(word).replace(r"\~", "~").replace("~", _LETTERS) + _REST)
        else:
            raise ValueError("an empty word")
    return options[0] if len(options) == 1 else "(?:" + "|".join(options) + ")"


def _first(text: str, words: Mapping[str, frozenset[str]]) -> frozenset[str]:
    found, empty, _ = _beginnings(_items(text), 0, words)
    if empty or not found or any(word == "_" or "~" in word[:STEM] for word in found):
        raise ValueError("no words that it has to begin with")
    return frozenset(found)


def _beginnings(items: list[str], at: int, words: Mapping[str, frozenset[str]]) -> tuple[set[str], bool, int]:
    """The words a sequence can begin with, whether it can be empty, and where it ends."""
    found: set[str] = set()
    empty = True
    while at < len(items):
        item = items[at]
        if item == "|" or item.startswith(")"):
            return found, empty, at
        sign, item = (item[0], item[1:]) if item[0] in "!&" else ("", item)
        if item == "(":
            here: set[str] = set()
            skip = False
            while True:
                branch, nothing, at = _beginnings(items, at + 1, words)
                here |= branch
                skip = skip or nothing
                if at >= len(items) or items[at].startswith(")"):
                    break
            skip = skip or items[min(at, len(items) - 1)][1:] != ""
        else:
            often = item[-1] if item[-1] in "?*" and len(item) > 1 else ""
            here, skip = set(), bool(often) or item == "$"
            for word in item.removesuffix(often).split("|"):
                here |= words.get(word[1:-1], frozenset()) if word.startswith("{") else {word}
        at += 1
        if sign:
            continue
        if empty:
            found |= here - {"$"}
        empty = empty and skip
    return found, empty, at


def _spelled(given: str, words: Mapping[str, frozenset[str]]) -> dict[str, tuple[str, ...]]:
    """What is read for a word: contractions and slips written out, and one letter lost, doubled or swapped."""
    found: dict[str, tuple[str, ...]] = {}
    right = {word for one in words.values() for word in one}
    for word in words.get("often_misspelled", frozenset()):
        for slip in _slips(word):
            if slip not in right:
                found.setdefault(slip, (word,))
    for line in given.splitlines():
        written, colon, meant = line.partition(":")
        if colon:
            for slip in written.split():
                found[slip] = tuple(meant.split())
    return found


def _slips(word: str) -> Iterable[str]:
    # Neither the first letter nor the end: those make other words, and other forms of the same word.
    for at in range(1, len(word) - 2):
        if word[at] in "aeiou" and len(word) > 6:
            yield from (word[:at] + vowel + word[at + 1 :] for vowel in "aeiou" if vowel != word[at])
    for at in range(1, len(word) - 2):
        yield word[:at] + word[at + 1 :]
        yield word[:at] + word[at] + word[at:]
        yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]
