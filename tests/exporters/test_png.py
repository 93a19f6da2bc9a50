"""The picture alone, as PNG."""

import struct

import pytest

from bot.exporters import png
from bot.kit.errors import PermanentError
from tests.postmortems.papers import rich, stored, written


def test_it_is_the_picture_at_twice_its_width():
    made = png.export(stored(rich()))

    assert made.startswith(b"\x89PNG")
    assert struct.unpack(">I", made[16:20]) == (1920,)


def test_without_any_times_there_is_none():
    with pytest.raises(PermanentError, match="revision 1 has no picture"):
        png.export(written("# A\n"))
