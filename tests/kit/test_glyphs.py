"""Which letters a font has."""

import struct

import pytest

from bot.kit import glyphs
from bot.kit.errors import PermanentError


def font(*subtables: tuple[int, int, bytes], collection: bool = False) -> bytes:
    """A file that has nothing but a table of letters."""
    start = 16 if collection else 0
    head, body = b"", b""
    for platform, encoding, table in subtables:
        head += struct.pack(">HHI", platform, encoding, 4 + 8 * len(subtables) + len(body))
        body += table
    cmap = struct.pack(">HH", 0, len(subtables)) + head + body
    file = (
        struct.pack(">4sHHHH", b"\0\1\0\0", 1, 0, 0, 0)
        + struct.pack(">4sIII", b"cmap", 0, start + 28, len(cmap))
        + cmap
    )
    return struct.pack(">4sIII", b"ttcf", 0x10000, 1, 16) + file if collection else file


def ranges(*pairs: tuple[int, int]) -> bytes:
    """A table of the twelfth kind, for every letter there is."""
    groups = b"".join(struct.pack(">III", first, last, 1) for first, last in pairs)
    return struct.pack(">HHIII", 12, 0, 16 + len(groups), 0, len(pairs)) + groups


def segments(*pairs: tuple[int, int]) -> bytes:
    """A table of the fourth kind, for the first 65,536."""
    known = [*pairs, (0xFFFF, 0xFFFF)]
    ends = b"".join(struct.pack(">H", last) for _, last in known)
    starts = b"".join(struct.pack(">H", first) for first, _ in known)
    return struct.pack(">HHHHHHH", 4, 0, 0, 2 * len(known), 0, 0, 0) + ends + b"\0\0" + starts


@pytest.mark.parametrize("collection", [False, True], ids=["font", "collection"])
def test_the_letters_of_both_kinds_of_table_are_found(tmp_path, collection):
    file = tmp_path / "x.ttf"
    file.write_bytes(font((0, 3, segments((65, 67))), (3, 10, ranges((0x1F525, 0x1F526))), collection=collection))

    assert glyphs.letters(file) == {65, 66, 67, 0x1F525, 0x1F526}


def test_tables_for_other_codes_are_left_alone(tmp_path):
    file = tmp_path / "x.ttf"
    file.write_bytes(font((1, 0, segments((65, 67))), (3, 0, segments((70, 71)))))

    assert glyphs.letters(file) == frozenset()


@pytest.mark.parametrize("content", [b"", b"no font at all, only words", b"ttcf\0"], ids=["empty", "words", "cut"])
def test_what_is_no_font_is_refused(tmp_path, content):
    file = tmp_path / "x.ttf"
    file.write_bytes(content)

    with pytest.raises(PermanentError, match=r"the font x\.ttf cannot be read"):
        glyphs.letters(file)


def test_our_own_font_has_latin_hebrew_and_arabic_and_no_chinese():
    own = glyphs.letters(glyphs.OWN)

    assert {ord(letter) for letter in "aé→שخ☃"} <= own
    assert ord("障") not in own
    assert ord("🔥") not in own
