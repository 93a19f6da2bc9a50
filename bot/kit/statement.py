"""One SQL statement, taken apart as far as it must be: what it does, and where its `:name` binds are.

Knows what is text, a comment, a quoted name or a cast, in PostgreSQL and in SQLite, so that nothing in there is taken
for a bind. It decides nothing about safety; the database does.
"""

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*"
_TOKEN = re.compile(
    rf"""(?P<blank>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<escaped>[eE]'(?:[^'\\]|''|\\.)*(?P<escaped_end>')?)
    |(?P<text>'(?:[^']|'')*(?P<text_end>')?)
    |(?P<quoted>"(?:[^"]|"")*(?P<quoted_end>")?|`[^`]*(?P<ticks_end>`)?)
    |(?P<dollar>\$(?:{_NAME.replace("$", "")})?\$)
    |(?P<number>\$[0-9]+)
    |(?P<bind>:(?P<name>{_NAME.replace("$", "")}))
    |(?P<word>{_NAME})
    |::|[0-9][0-9A-Za-z_.]*|.""",
    re.VERBOSE | re.DOTALL,
)
_OPTIONS = frozenset({"ANALYZE", "ANALYSE", "VERBOSE", "QUERY", "PLAN"})
_VERBS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "REPLACE"})


@dataclass(frozen=True)
class Statement:
    """*verb* is what it does, whatever stands in its `WITH`; *explains* is the verb behind an `EXPLAIN`; *returning*
    whether it gives back what it has changed.

    *binds* are the names in the order they stand there, as often as they do; *pieces* is the text around them.
    """

    text: str
    verb: str
    returning: bool
    binds: tuple[str, ...]
    pieces: tuple[str, ...]
    explains: str = ""

    @property
    def numbered(self) -> str:
        """The text with `$1`, `$2` … for the binds, each of which stands for itself alone."""
        return self.pieces[0] + "".join(f"${n}{piece}" for n, piece in enumerate(self.pieces[1:], 1))


def read(text: str) -> Statement:
    """The one statement in *text*; ValueError with what is wrong otherwise."""
    tokens = _tokens(text)
    words = [word for word, depth in tokens.words if depth == 0]
    first = tokens.words[0][0] if tokens.words else ""
    if not first:
        raise ValueError("holds no statement")
    explained = [word for word in words[1:] if word not in _OPTIONS] if first == "EXPLAIN" else []
    pieces, at = [], 0
    for start, end in tokens.places:
        pieces.append(text[at:start])
        at = end
    pieces.append(text[at : tokens.end])
    return Statement(
        text=text[: tokens.end],
        verb=_verb(words, first),
        returning="RETURNING" in words,
        binds=tuple(tokens.names),
        pieces=tuple(pieces),
        explains=_verb(explained, explained[0]) if explained else "",
    )


def _verb(words: list[str], first: str) -> str:
    """`WITH a AS (…) DELETE …` deletes: the verb is the first one outside of all parentheses."""
    return next((word for word in words if word in _VERBS), first) if first == "WITH" else first


class _Tokens:
    def __init__(self, end: int) -> None:
        self.words: list[tuple[str, int]] = []
        self.names: list[str] = []
        self.places: list[tuple[int, int]] = []
        self.end = end


def _tokens(text: str) -> _Tokens:
    found, at, depth, over = _Tokens(len(text)), 0, 0, False
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:  # cannot be: the last branch takes anything
            raise ValueError("cannot be read")
        kind, at = match.lastgroup, match.end()
        if match["blank"]:
            continue
        if match["comment"]:
            at = _comment_end(text, match.start())
            continue
        if over:
            raise ValueError("holds more than one statement; a step carries out one")
        if match["dollar"]:
            at = text.find(match["dollar"], at) + len(match["dollar"])
            if at < len(match["dollar"]):
                raise ValueError(f"has a text that begins with {match['dollar']} and does not end")
        elif match["number"]:
            raise ValueError(f"holds {match['number']}; name what is given apart, :like_this, and list it in binds")
        elif (match["text"] and not match["text_end"]) or (match["escaped"] and not match["escaped_end"]):
            raise ValueError("has a text that does not end: a ' is missing")
        elif match["quoted"] and not (match["quoted_end"] or match["ticks_end"]):
            raise ValueError(f"has a quoted name that does not end: a {match['quoted'][0]} is missing")
        elif match["bind"]:
            found.names.append(match["name"])
            found.places.append(match.span())
        elif kind == "word":
            found.words.append((match["word"].upper(), depth))
        elif match[0] in "()":
            depth += 1 if match[0] == "(" else -1
        elif match[0] == ";":
            over, found.end = True, match.start()
    return found


def _comment_end(text: str, start: int) -> int:
    """Where the comment that begins at *start* is over; comments may hold comments."""
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    raise ValueError("has a comment that does not end: a */ is missing")
