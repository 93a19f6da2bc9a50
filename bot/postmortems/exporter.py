"""What every exporter must offer: a way to turn a stored document into a file, without writing it anew."""

from typing import Protocol

from bot.postmortems.model import Postmortem


class Exporter(Protocol):
    """A file in ``bot/exporters``; its name is the file's. The same document always gives the same bytes."""

    SUFFIX: str
    MEDIA_TYPE: str

    def export(self, document: Postmortem) -> bytes:
        """The stored revision in this exporter's format."""
        ...
