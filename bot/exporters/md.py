"""The post-mortem as Markdown, just as it is stored."""

from bot.postmortems.model import Postmortem

SUFFIX = ".md"
MEDIA_TYPE = "text/markdown; charset=utf-8"
QUICK = True


def export(document: Postmortem) -> bytes:
    """The stored text in UTF-8."""
    return document.text.encode()
