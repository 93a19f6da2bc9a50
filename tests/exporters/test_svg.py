"""The picture alone, as SVG."""

import pytest

from bot.exporters import svg
from bot.kit.errors import PermanentError
from bot.postmortems.strip import strip
from tests.postmortems.papers import rich, stored, written


def test_it_is_the_picture_that_documents_hold():
    assert svg.export(stored(rich())).decode() == strip(rich()).svg + "\n"


def test_without_any_times_there_is_none():
    with pytest.raises(PermanentError, match="revision 1 has no picture"):
        svg.export(written("# A\n"))
