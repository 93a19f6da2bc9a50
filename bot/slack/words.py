"""What people type, as Slack sends it, made into plain text: https://docs.slack.dev/messaging/formatting-message-text."""

import html
import re
from typing import Any

from bot.kit.text import clean

_MARKUP = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def heard(text: str) -> str:
    """*text* without Slack's markup; of that only mentions of people (`<@U…>`) stay, to be shown as such."""
    # Slack escapes exactly these three; anything else that looks like an entity was typed.
    plain = _MARKUP.sub(_plain, text)
    return clean(re.sub(r"&(?:amp|lt|gt);", lambda found: html.unescape(found[0]), plain)).strip()


def scrubbed(value: Any) -> Any:
    """A payload in which every text can be kept in any database."""
    match value:
        case str():
            return clean(value)
        case dict():
            return {clean(str(key)): scrubbed(item) for key, item in value.items()}
        case list() | tuple():
            return [scrubbed(item) for item in value]
    return value


def _plain(found: re.Match[str]) -> str:
    kind, target, label = found[1], found[2], found[3]
    match kind:
        case "@":
            return f"<@{target}>"
        case "#":
            return f"#{label or target}"
        case "!":
            return label or "@" + target.partition("^")[0]
    return target.removeprefix("mailto:") if target else found[0]
