"""Text from outside, made safe to keep; text for people, made short."""

import re
import unicodedata

# Characters that reorder or hide what a reader sees, and NUL, which Postgres cannot store.
_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def clean(text: str) -> str:
    """*text* without control, bidirectional-override and zero-width characters or lone surrogates."""
    return _HIDDEN.sub("", text)


def clip(text: str, limit: int) -> str:
    """*text* in at most *limit* characters, with an ellipsis where it was cut."""
    return text if len(text) <= limit else text[: max(0, limit - 1)].rstrip() + "…"


def one_line(text: str) -> str:
    """*text* with every run of white space as one blank."""
    return " ".join(text.split())


def inert(text: str) -> str:
    """*text* in chat markup in which nothing can mention, link or format: it stands there as it was written."""
    plain = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A zero-width space after a mark that could open something keeps Slack from taking it for one; `web_1` stays whole.
    return re.sub(r"(?<![A-Za-z0-9])[*_~]|`|@(?=channel|here|everyone)", "\\g<0>\u200b", plain)


def tame(text: str) -> str:
    """*text* for the Markdown of an issue tracker: it mentions nobody, links to nothing and commands nothing."""
    plain = clean(text).replace("&", "&amp;").replace("<", "&lt;")
    plain = re.sub(r"([\\`\[\]!])", r"\\\1", plain)
    # GitLab obeys a line that begins with a slash, for example `/close`.
    return re.sub(r"@(?=\w)|#(?=\d)|(?m:^[ \t]*(?=/))", lambda found: f"{found[0]}\u200b", plain)


_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "ø": "o", "ð": "d", "þ": "th", "ł": "l", "đ": "d", "œ": "oe", "ı": "i"})


def slug(text: str, limit: int) -> str:
    """Lower-case ASCII letters, digits and single dashes; empty if nothing of *text* can be written so."""
    plain = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].rstrip("-")


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that *word* was most likely meant to be (edit distance of at most 2), or None."""
    best = min(((distance(word, k), k) for k in known), default=(9, ""))
    return best[1] if best[0] <= min(2, len(word) - 1) else None


def distance(a: str, b: str) -> int:
    """How many single-letter edits (neighbours swapped count as one) lie between two words."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        before, row = row, new
    return row[-1]
