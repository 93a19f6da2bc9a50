"""Markdown goes out as it is stored."""

from datetime import UTC, datetime

from bot.exporters import md
from bot.kit.shelf import Shelf
from bot.postmortems.exporter import Exporter
from bot.postmortems.model import Postmortem


def stored(text: str) -> Postmortem:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    return Postmortem(id="1", incident_id="2", revision=1, template="default", text=text, sha256="3", created_at=now)


def test_the_stored_text_is_not_touched():
    assert md.export(stored("# Ä\n\n- x\n")) == "# Ä\n\n- x\n".encode()


def test_it_stands_on_the_shelf_and_fits_the_port():
    exporter: Exporter = md

    assert "md" in Shelf("bot.exporters", must_have=("SUFFIX", "MEDIA_TYPE", "export")).load()
    assert (exporter.SUFFIX, exporter.MEDIA_TYPE) == (".md", "text/markdown; charset=utf-8")
