"""Calls people by the role they had, and turns chat markup into plain text."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bot.incidents.model import RoleName
from bot.kit.text import clean

BOT = "bot"
TITLES = {
    RoleName.COMMANDER: "incident commander",
    RoleName.COMMS: "communications lead",
    RoleName.SCRIBE: "scribe",
    RoleName.RESPONDER: "responder",
}
_ORDINALS = ("", "second ", "third ", "fourth ", "fifth ", "sixth ", "seventh ", "eighth ", "ninth ")

_TOKEN = re.compile(r"<([^<>|\n]*)(?:\|([^<>\n]*))?>")
_MENTION = re.compile(r"<@([A-Za-z0-9_.-]+)(?:\|[^<>\n]*)?>")
_WORD = re.compile(r"[A-Za-z0-9]+")
_ID = re.compile(r"[UW][A-Z0-9]{2,}")
# An id of somebody who is not on the timeline, in a pasted answer of an API for example.
_STRANGER = re.compile(r"(?=[A-Z]*[0-9])[UW][A-Z0-9]{8,10}")
_ENTITY = re.compile(r"&(lt|gt|amp);")
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&"}
_NOT_A_CHARACTER = re.compile("[\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True)
class People:
    """Who is who, by role."""

    labels: Mapping[str, str]

    def label(self, person: str | None) -> str:
        """The role of *person*; "the bot" for the bot, and nothing where nobody is known."""
        if not person:
            return ""
        return "the bot" if person == BOT else self.labels.get(person, "a responder")

    def plain(self, text: str) -> str:
        """*text* as a reader saw it, with roles in the place of people; what else was written stays as it was."""
        text = _NOT_A_CHARACTER.sub("", clean(unescaped(text)))
        return _WORD.sub(self._word, _TOKEN.sub(self._token, text))

    def _token(self, found: re.Match[str]) -> str:
        target, words = found[1], (found[2] or "").strip()
        if target.startswith("@"):
            return self.label(target[1:])
        if target.startswith("#"):
            return f"#{words.removeprefix('#')}" if words else "a channel"
        if target.startswith("!date^"):
            return words
        if target.startswith("!subteam^"):
            return "a user group"
        if target.startswith("!"):
            return f"@{target[1:]}"
        if target.startswith(("http://", "https://", "mailto:")):
            address = target.removeprefix("mailto:")
            return f"{words} ({address})" if words and words != address else address
        return found[0]

    def _word(self, found: re.Match[str]) -> str:
        word = found[0]
        if _ID.fullmatch(word) and word in self.labels:
            return self.labels[word]
        return "somebody" if _STRANGER.fullmatch(word) else word


def people(seen: Iterable[str], held: Sequence[tuple[str, str]]) -> People:
    """Labels for everybody in *seen*, in that order; *held* says (person, role name).

    One person keeps one label: that of the highest role they ever held. A second commander is the "second incident
    commander", and whoever held no role, or that of responder, is "responder A", "responder B" and so on.
    """
    ranks = {str(name): rank for rank, name in enumerate(TITLES)}
    best: dict[str, str] = {}
    for person, role in held:
        if ranks.get(role, 9) < ranks.get(best.get(person, ""), 9):
            best[person] = role
    labels: dict[str, str] = {}
    counts: dict[str, int] = {}
    for person in [*seen, *(person for person, _ in held)]:
        if not person or person == BOT or person in labels:
            continue
        role = best.get(person, str(RoleName.RESPONDER))
        counts[role] = nth = counts.get(role, 0) + 1
        labels[person] = f"responder {letters(nth)}" if role == RoleName.RESPONDER else ordinal(nth) + title(role)
    return People(labels)


def title(role: str) -> str:
    """What a role is called in a document."""
    return next((words for name, words in TITLES.items() if name == role), role)


def ordinal(nth: int) -> str:
    """Nothing for the first, then a word and a blank."""
    return _ORDINALS[nth - 1] if nth <= len(_ORDINALS) else f"{nth}th "


def letters(nth: int) -> str:
    """A, B … Z, AA, AB and so on."""
    text = ""
    while nth:
        nth, rest = divmod(nth - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def mentions(text: str) -> list[str]:
    """The ids of the people that *text* mentions."""
    return _MENTION.findall(unescaped(text))


def unescaped(text: str) -> str:
    """Slack writes ``<``, ``>`` and ``&`` of people as entities; this is what they typed."""
    return _ENTITY.sub(lambda found: _ENTITIES[found[1]], text)
