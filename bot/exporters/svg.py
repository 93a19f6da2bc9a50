"""The picture of the timeline alone, as SVG: for a page, or to be drawn at any size."""

from bot.kit.errors import PermanentError
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import paper

SUFFIX = ".svg"
MEDIA_TYPE = "image/svg+xml"


def export(document: Postmortem) -> bytes:
    """In DejaVu Sans, where the reader has it."""
    made = paper(document)
    if made.strip is None:
        raise PermanentError(f"revision {made.revision} has no picture: its timeline has no times")
    return f"{made.strip.svg}\n".encode()
