"""Says who does what a sentence tells: a person or a thing."""

from collections.abc import Mapping

# Tokens that stand for somebody whose name is known.
NAME, MENTION, HANDLE, STRANGER = "‹name›", "‹mention›", "‹handle›", "‹capital›"

Words = Mapping[str, frozenset[str]]

# How far back a subject is looked for.
WINDOW = 12
AGO = 26


def who(words: list[str], at: int, lists: Words) -> str:
    """The kind of the one who does what begins at the word *at*: see `rules.KINDS`; "thing" if it is no person."""
    if at and words[at - 1] in lists["determiners"]:
        return "thing"  # what follows is no verb: "the corrupted entries"
    passed, ends, prepositions = lists["passed"], lists["ends"], lists["prepositions"]
    end = at
    while end > 0 and (
        words[end - 1] in passed or (words[end - 1].endswith("ly") and words[end - 1] not in lists["people"])
    ):
        end -= 1
    start = end
    while start > 0 and end - start < WINDOW and words[start - 1] not in ends:
        start -= 1
    if start == end:
        if end == 0:
            return "none"
        return _inherited(words, end, lists)
    return _head(words[start:end], lists, prepositions)


def _inherited(words: list[str], end: int, lists: Words) -> str:
    """Who did what stands before an "and", a comma or a "which"; what is done here is theirs as well."""
    boundary = words[end - 1]
    if boundary in lists["relatives"]:
        return kind(words, end - 2, lists) if end >= 2 else "none"
    if boundary not in lists["continues"]:
        return "none"
    stop = end - 1
    start = stop
    while start > 0 and stop - start < AGO and words[start - 1] not in lists["breaks"]:
        start -= 1
    return _opening(words, start, stop, lists)


def actor(words: list[str], at: int, lists: Words) -> str:
    """The kind of the one whom the clause around the word *at* speaks of, if that stands before it."""
    start = at
    while start > 0 and at - start < AGO and words[start - 1] not in lists["breaks"]:
        start -= 1
    return _opening(words, start, at, lists)


def _opening(words: list[str], start: int, stop: int, lists: Words) -> str:
    """The subject at the beginning of a clause."""
    done = False
    for at in range(start, min(stop, start + 12)):
        # Somebody behind a verb is whom it was done to, until a new clause begins.
        done = words[at] not in lists["continues"] and (done or _verb(words[at], lists))
        found = "thing" if done else kind(words, at, lists)
        if found in ("thing", "none"):
            continue
        before = words[at - 1] if at > start else ""
        if before in lists["prepositions"] and at - 1 > start and words[at - 2] not in lists["partitives"]:
            return "thing"
        following = words[at + 1] if at + 1 < len(words) else ""
        if following == "'s":
            return "thing"
        return found
    return "thing"


def _head(part: list[str], lists: Words, prepositions: frozenset[str]) -> str:
    """Who the noun phrase *part* speaks of."""
    if any(word in lists["whoever"] for word in part):
        return "role"
    led = part[0] in prepositions
    for at in range(len(part)):
        found = kind(part, at, lists)
        if found in ("thing", "none", "maybe"):
            continue
        last = at == len(part) - 1
        following = "" if last else part[at + 1]
        if not (last or following in prepositions or following in lists["after_people"] or _verbal(following)):
            continue
        inside = [place for place in range(at) if part[place] in prepositions]
        if led and inside == [0]:
            # "At noon the engineer …": no part of what the preposition began, if something else began there too.
            begun = sum(word in lists["articles"] or word in lists["subjects"] for word in part[1 : at + 1])
            return found if begun > 1 or part[1][:1].isdigit() or not last else "thing"
        if not inside or part[inside[-1] - 1] in lists["partitives"] or (inside and part[0] in lists["partitives"]):
            return found
        if last and part[at] in lists["subjects"]:
            return found
        if not last:
            continue
        return "thing"
    if part[-1] == STRANGER and not any(word in prepositions for word in part):
        rest = part[:-1]
        if all(word == STRANGER for word in rest):
            return "maybe"
    return "thing"


def _verb(word: str, lists: Words) -> bool:
    return word in lists["past"] or word in lists["verbs_to_be"] or (word.endswith("ed") and len(word) > 4)


def _verbal(word: str) -> bool:
    return word.endswith(("ing", "ed")) and len(word) > 4


def kind(words: list[str], at: int, lists: Words) -> str:
    """What kind of one the word *at* names, seen with the words beside it."""
    word = words[at]
    if word in (NAME, MENTION, HANDLE):
        return "name"
    for name in ("nobody", "someone", "we", "you", "they"):
        if word in lists[name]:
            return "nobody" if name == "someone" and at and words[at - 1] == "no" else name
    if word in lists["people"]:
        before = words[at - 1] if at else ""
        if word in lists["ambiguous_people"] and (before in lists["machine_people"]):
            return "thing"
        if word in lists["choosy_people"] and before and before not in lists["people_makers"]:
            return "thing"
        if before in lists["none_of"]:
            return "nobody"
        if before == "of" and at >= 2 and words[at - 2] in lists["nobody"] | lists["none_of"]:
            return "nobody"
        near = words[max(0, at - 3) : at]
        if any(one in lists["indefinite"] for one in near):
            return "someone"
        return "role"
    return "maybe" if word == STRANGER else "thing"
