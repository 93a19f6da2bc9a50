"""A stored revision made ready to be written in any format: its tree, its picture, and the words of its margins."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from bot.kit.errors import PermanentError
from bot.kit.text import clip, one_line
from bot.postmortems.facts import Facts
from bot.postmortems.model import Postmortem
from bot.postmortems.strip import Strip, strip
from bot.postmortems.tree import Tree, parse


@dataclass(frozen=True)
class Paper:
    """What every exporter needs to know. *made_at* is when the revision was written, never when it is exported."""

    tree: Tree
    strip: Strip | None
    facts: Facts | None
    revision: int
    made_at: datetime

    @property
    def reference(self) -> str:
        """The incident's."""
        return self.facts.reference if self.facts else clip(one_line(str(self.tree.front.get("id") or "")), 40)

    @property
    def private(self) -> bool:
        """Whether only some people may see it."""
        return self.facts.private if self.facts else self.tree.front.get("private") is True

    @property
    def margin(self) -> str:
        """What stands at the foot of each page."""
        told = [self.reference, f"revision {self.revision}", f"{self.made_at:%Y-%m-%d %H:%M} UTC"]
        return " · ".join([*(part for part in told if part), *(["private"] if self.private else [])])

    @property
    def front(self) -> Mapping[str, Any]:
        """What machines read."""
        return self.tree.front


def paper(document: Postmortem) -> Paper:
    """*document*, read."""
    facts = stated(document)
    drawn = strip(facts) if facts else None
    return Paper(parse(document.text, chart=drawn is not None), drawn, facts, document.revision, document.created_at)


def stated(document: Postmortem) -> Facts | None:
    """The facts of a revision; None where it has none."""
    if not document.facts:
        return None
    try:
        return Facts.from_json(document.facts)
    except ValidationError:
        raise PermanentError(
            f"the facts of revision {document.revision} are not those of this version of the bot; write a new "
            "revision with `/inc postmortem`"
        ) from None
