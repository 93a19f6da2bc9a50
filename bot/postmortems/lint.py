"""Reads a post-mortem for language that blames people, and for what a document of its kind must hold."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bot.kit.text import clip, one_line
from bot.postmortems import prose, subject
from bot.postmortems.prose import HIDDEN, Page, Passage, Sentence
from bot.postmortems.rules import LEVELS, STEM, Pattern, Rule, Ruleset
from bot.postmortems.rules import rules as load
from bot.postmortems.structure import Fault, structure

# As long as a draft can be; see `render.LIMIT`.
LIMIT = 4_000_000
# A word longer than that is no word.
WORD = 40
# Of what was found, in a finding.
TEXT = 200

_SUPPRESSION = re.compile(r"<!--\s*(?:lint-ok|blameless:\s*ignore)\b([^>]*?)-->", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t\r]*(?=\n)")
_RULE_ID = re.compile(r"[A-Z]{2}\d{2}")
_NAMES = re.compile(r"[^\W\d_][\w.’'-]*")


@dataclass(frozen=True)
class Finding:
    """What is to be looked at, where, why, and what to write instead. Lines and columns begin at 1."""

    rule: str
    family: str
    level: str
    line: int
    column: int
    text: str
    why: str
    hint: str


@dataclass(frozen=True)
class _Found:
    rule: Rule
    start: int
    end: int
    text: str | None = None
    why: str = ""


@dataclass(frozen=True)
class Names:
    """The participants of an incident, as they may stand in a sentence."""

    whole: dict[str, tuple[tuple[str, ...], ...]]
    single: frozenset[str]

    @classmethod
    def of(cls, people: Iterable[str]) -> "Names":
        """Each of *people* by the whole name and by each part of it that is long enough to tell."""
        whole: dict[str, list[tuple[str, ...]]] = {}
        single: set[str] = set()
        for person in people:
            parts = tuple(part.lower() for part in _NAMES.findall(person.lstrip("@")))
            if len(parts) > 1:
                whole.setdefault(parts[0], []).append(parts)
            single |= {part.rstrip(".") for part in parts if len(part.rstrip(".")) > 1}
        return cls(
            {first: tuple(sorted(names, key=len, reverse=True)) for first, names in whole.items()}, frozenset(single)
        )


def lint(text: str, people: Iterable[str] = (), ruleset: Ruleset | None = None) -> list[Finding]:
    """Everything to look at in the Markdown *text*, in order; *people* are the names of participants.

    The time it takes grows with the length of the text, whatever the text is.
    """
    known = ruleset or load()
    page = prose.read(text, [(section.name, section.heading) for section in known.sections])
    names = Names.of(people)
    found: list[_Found] = []
    for passage in page.passages:
        if passage.column and any(word in known.words["owner_columns"] for word in passage.column.split()):
            continue
        for sentence in prose.sentences(page, passage):
            found += _sentence(_read(sentence, text, names, known), passage, known)
    found += [_told(fault, known) for fault in structure(page, known)]
    return _written(_kept(found, page, known), text)


@dataclass(frozen=True)
class _Line:
    """A sentence as the rules read it: `norm` is its words, each with its tags; `at` is where each begins."""

    words: list[str]
    actors: list[str]
    spans: list[tuple[int, int]]
    norm: str
    at: list[int]


def _read(sentence: Sentence, text: str, names: Names, known: Ruleset) -> _Line:
    words: list[str] = []
    actors: list[str] = []
    spans: list[tuple[int, int]] = []
    raw = sentence.words
    lower = [word.lower().replace("’", "'") for word in raw]
    at = 0
    while at < len(raw):
        span = sentence.spans[at]
        length = _named(raw, lower, at, names, known)
        if length:
            last = lower[at + length - 1]
            pieces: tuple[str, ...] = (subject.NAME, "'s") if last.endswith("'s") else (subject.NAME,)
            span = (span[0], sentence.spans[at + length - 1][1])
            at += length
        elif at + 1 < len(raw) and (lower[at], lower[at + 1]) in known.joined:
            pieces = (f"{lower[at]}-{lower[at + 1]}",)
            span = (span[0], sentence.spans[at + 1][1])
            at += 2
        else:
            pieces = _pieces(raw[at], lower[at], known)
            at += 1
        for piece in pieces:
            if piece == "of" and words and words[-1] in ("should", "could", "would", "might", "must"):
                piece = "have"
            if piece == "'d":
                piece = "had"
            words.append(piece)
            actors.append(piece)
            spans.append(span)
        if len(pieces) == 1 and _stranger(raw[at - 1], pieces[0], known):
            actors[-1] = subject.STRANGER
    if actors and actors[0] == subject.STRANGER and subject.STRANGER not in actors[1:2]:
        actors[0] = words[0]  # every sentence begins with a capital
    starts: list[int] = []
    length = 0
    tagged = [f"{word}/{known.tags(word)} " for word in words]
    for word in tagged:
        starts.append(length)
        length += len(word)
    return _Line(words, actors, spans, "".join(tagged), starts)


def _named(raw: Sequence[str], lower: Sequence[str], at: int, names: Names, known: Ruleset) -> int:
    """How many words from *at* are the name of somebody; 0 if they are not."""
    word = lower[at].removesuffix("'s")
    for parts in names.whole.get(word, ()):
        end = at + len(parts)
        if end <= len(lower) and all(lower[at + i].removesuffix("'s") == part for i, part in enumerate(parts)):
            return len(parts)
    given = word in known.words["given_names"] and word not in known.words["words_as_names"]
    if not raw[at][:1].isupper() or not (given or word in names.single):
        return 0
    if word in known.words["systems"] and word not in names.single:
        return 0
    if word in known.words["words_as_names"] and not _meant(raw, lower, at, known):
        return 0
    if at and lower[at - 1] in known.words["determiners"] and not lower[at].endswith("'s"):
        return 0
    return 1


def _meant(raw: Sequence[str], lower: Sequence[str], at: int, known: Ruleset) -> bool:
    """Whether a word that is a name too is one here: something a person does, or has, follows."""
    if lower[at].endswith("'s"):
        return True
    following = lower[at + 1] if at + 1 < len(lower) else ""
    after = known.words["past"]
    acts = following in after or following.endswith("ed") or following in known.words["after_name"]
    if not at:
        return acts
    return acts or following in known.words["closers"] or not following


def _pieces(raw: str, word: str, known: Ruleset) -> tuple[str, ...]:
    """What a written word is read as."""
    if raw[0] == "<" and raw[-1] == ">":
        return (subject.MENTION,)
    if raw[0] == "@":
        return (subject.HANDLE,)
    if len(word) > WORD or HIDDEN in word:
        return (HIDDEN,)
    if word in known.spelled:
        return known.spelled[word]
    if raw == "IT":
        return ("it-department",)
    if "'" in word and word != "'s":
        base, _, tail = word.rpartition("'")
        if tail == "t" and base.endswith("n") and len(base) > 2:
            stem = {"won": "will", "ca": "can", "can": "can", "sha": "shall", "shan": "shall"}.get(base) or base[:-1]
            return ({"ca": "can", "wo": "will", "sha": "shall"}.get(stem, stem), "not")
        if base and tail in _TAILS:
            return (*known.spelled.get(base, (base,)), _TAILS[tail])
    return (word,)


_TAILS = {"s": "'s", "ve": "have", "re": "are", "ll": "will", "m": "am", "d": "'d"}


def _stranger(raw: str, word: str, known: Ruleset) -> bool:
    """A word with a capital that is neither a system nor known otherwise: perhaps a name."""
    return (
        raw[:1].isupper()
        and raw[1:].islower()
        and raw.isalpha()
        and word == raw.lower()
        and word not in known.vocabulary
    )


def _sentence(line: _Line, passage: Passage, known: Ruleset) -> list[_Found]:
    found: list[_Found] = []
    done: set[str] = set()
    here: dict[tuple[int, bool], str] = {}
    for at, word in enumerate(line.words):
        for rule, pattern in (*known.index.get(word, ()), *known.index.get(word[:STEM] + "~", ())):
            if rule.id in done:
                continue
            match = pattern.regex.match(line.norm, line.at[at])
            if match and _applies(rule, pattern, line, at, passage, known, here):
                last = bisect_right(line.at, max(match.end() - 2, line.at[at])) - 1
                found.append(_Found(rule, line.spans[at][0], line.spans[last][1]))
                done.add(rule.id)
    return _distinct(found)


def _applies(
    rule: Rule,
    pattern: Pattern,
    line: _Line,
    at: int,
    passage: Passage,
    known: Ruleset,
    here: dict[tuple[int, bool], str],
) -> bool:
    if rule.section and rule.section != passage.section:
        return False
    before = line.words[at - 1] if at else ""
    if pattern.at_start and before and before not in known.words["openings"]:
        return False
    if before in rule.not_after or (rule.not_with and not rule.not_with.isdisjoint(line.words)):
        return False
    if not pattern.who:
        return True
    key = (at, pattern.clause)
    if key not in here:
        here[key] = (subject.actor if pattern.clause else subject.who)(line.actors, at, known.words)
    return here[key] in pattern.who


def _distinct(found: list[_Found]) -> list[_Found]:
    """Of findings about the same words the gravest."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda one: (LEVELS.index(one.rule.level), one.start, -one.end)):
        if not any(one.start < other.end and other.start < one.end for other in kept):
            kept.append(one)
    return kept


def _told(fault: Fault, known: Ruleset) -> _Found:
    rule = known.rules[fault.rule]
    if fault.level:
        rule = replace(rule, level=fault.level)
    return _Found(rule, fault.start, fault.end, fault.text, fault.why)


@dataclass
class _Suppression:
    start: int
    rules: tuple[str, ...]
    reason: str
    first: int
    last: int
    used: bool = False


def _kept(found: list[_Found], page: Page, known: Ruleset) -> list[_Found]:
    """What no comment with a reason takes back, and what is wrong with the comments."""
    blanks = [found.start() for found in _BLANK.finditer(page.text)] if page.comments else []
    comments = [one for one in (_suppression(page, *span, blanks) for span in page.comments) if one]
    if not comments:
        return found
    by_rule: dict[str, tuple[list[int], list[_Suppression]]] = {}
    for comment in comments:
        for rule in comment.rules:
            firsts, those = by_rule.setdefault(rule, ([], []))
            firsts.append(comment.first)
            those.append(comment)
    kept: list[_Found] = []
    for one in found:
        silenced = False
        firsts, those = by_rule.get(one.rule.id, ([], []))
        last = bisect_right(firsts, one.start)
        for comment in those[:1] if one.rule.id in _WHOLE else those[max(0, last - 3) : last]:
            if one.rule.id in _WHOLE or one.start <= comment.last:
                comment.used = True
                silenced = silenced or bool(comment.reason)
        if not silenced:
            kept.append(one)
    for comment in comments:
        end = page.text.index("-->", comment.start) + 3
        if not comment.reason:
            kept.append(_Found(known.rules["SU01"], comment.start, end))
        elif not comment.used:
            kept.append(_Found(known.rules["SU02"], comment.start, end))
    return kept


# What is said about the whole document can be taken back anywhere in it.
_WHOLE = frozenset({"ST01"})


def _suppression(page: Page, start: int, end: int, blanks: list[int]) -> _Suppression | None:
    found = _SUPPRESSION.fullmatch(page.text, start, end) if end - start <= 2000 else None
    if not found:
        return None
    ids = _RULE_ID.findall(found[1].upper().partition(":")[0])
    reason = re.sub(r"^[\s,:]*(?:[A-Za-z]{2}\d{2}[\s,:]*)*", "", found[1]).strip(" \t\n\r-:–—")
    line = page.text.rfind("\n", 0, start) + 1
    line_end = page.text.find("\n", end)
    line_end = len(page.text) if line_end < 0 else line_end
    if page.text[line:start].strip() or page.text[end:line_end].strip():
        return _Suppression(start, tuple(ids), reason, line, line_end)
    # Alone on its line it speaks of the block below.
    below = line_end
    while below < len(page.text) and page.text[below] in "\n\r \t":
        below += 1
    blank = bisect_right(blanks, below)
    return _Suppression(start, tuple(ids), reason, line, blanks[blank] if blank < len(blanks) else len(page.text))


def _written(found: list[_Found], text: str) -> list[Finding]:
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    findings = []
    for one in sorted(found, key=lambda one: (one.start, one.end, one.rule.id)):
        line = bisect_right(starts, one.start)
        findings.append(
            Finding(
                one.rule.id,
                one.rule.family,
                one.rule.level,
                line,
                one.start - starts[line - 1] + 1,
                clip(one_line(text[one.start : one.end] if one.text is None else one.text), TEXT),
                one.why or one.rule.why,
                one.rule.hint,
            )
        )
    return findings
