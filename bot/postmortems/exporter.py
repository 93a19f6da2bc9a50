"""What every exporter must offer: a way to turn a stored document into a file, without writing it anew."""

from typing import Protocol

from bot.postmortems.model import Postmortem


class Exporter(Protocol):
    """A file in ``bot/exporters``; its name is the file's. The same document always gives the same bytes.

    It is called in a process of its own (`bot.postmortems.press`), so it may take seconds and load what it needs, there
    and not at import. With ``QUICK = True`` it is called where it is: for what takes no time at all.
    """

    SUFFIX: str
    MEDIA_TYPE: str

    def export(self, document: Postmortem) -> bytes:
        """The stored revision in this exporter's format."""
        ...


def file_name(reference: str, revision: int, exporter: Exporter) -> str:
    """What a file is called: ``inc-1-postmortem-2.pdf``."""
    return f"{reference.lower()}-postmortem-{revision}{exporter.SUFFIX}"
