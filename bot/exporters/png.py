"""The picture of the timeline alone, as PNG: for a message or a slide."""

from bot.kit.errors import PermanentError
from bot.kit.png import draw
from bot.postmortems.model import Postmortem
from bot.postmortems.paper import paper

SUFFIX = ".png"
MEDIA_TYPE = "image/png"
WIDTH = 1920


def export(document: Postmortem) -> bytes:
    """Twice as wide as it is shown, for screens that are."""
    made = paper(document)
    if made.strip is None:
        raise PermanentError(f"revision {made.revision} has no picture: its timeline has no times")
    return draw(made.strip.svg, WIDTH)
