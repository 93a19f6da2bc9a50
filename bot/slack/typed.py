"""What somebody typed to start a runbook: `run NAME key=value … --dry-run --break-glass "why"`."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from bot.kit.errors import UserError
from bot.kit.text import nearest
from bot.slack.context import REFERENCE
from bot.slack.views.blocks import quoted

DRY_RUN, BREAK_GLASS = "--dry-run", "--break-glass"
_PARAM = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=(.*)", re.DOTALL)
_MENTION = re.compile(r"<@([UW][A-Z0-9]{2,20})>")
# What keyboards make of quotes and of two dashes.
_PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"'})


@dataclass(frozen=True)
class Typed:
    """A runbook by name, for an incident if one was named, with values. *run*: it was said that it shall run."""

    name: str = ""
    reference: str = ""
    run: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    break_glass: str | None = None

    @property
    def more(self) -> bool:
        """Whether it says more than a name, so that no form needs to ask."""
        return bool(self.given) or self.dry_run or self.break_glass is not None


def parse(text: str) -> Typed:
    """Read what was typed; UserError with what is wrong."""
    name, reference, run, dry_run, glass = "", "", False, False, None
    given: dict[str, str] = {}
    words = _words(text)
    while words:
        word = words.pop(0)
        flag, equals, value = re.sub(r"^[—–]+", "--", word).partition("=")
        if flag == DRY_RUN:
            dry_run = True
        elif flag == BREAK_GLASS:
            glass = value if equals else words.pop(0) if words else ""
        elif flag.startswith("--"):
            near = nearest(flag, [DRY_RUN, BREAK_GLASS])
            raise UserError(f"{quoted(word)} is not known here." + (f" Did you mean `{near}`?" if near else ""))
        elif found := _PARAM.fullmatch(word):
            given[found[1]] = _MENTION.sub(r"\1", found[2])
        elif REFERENCE.fullmatch(word) and not reference:
            reference = word
        elif word.lower() == "run" and not name and not run:
            run = True
        elif not name:
            name = word
        else:
            raise UserError(f'What is {quoted(word)}? Values are written `name=value`, those with blanks `name="a b"`.')
    return Typed(name, reference, run, given, dry_run, glass)


def _words(text: str) -> list[str]:
    lexer = shlex.shlex(text.translate(_PLAIN), posix=True)
    lexer.whitespace_split, lexer.quotes, lexer.escape, lexer.commenters = True, '"', "", ""
    try:
        return list(lexer)
    except ValueError:
        raise UserError('A `"` is not closed.') from None
