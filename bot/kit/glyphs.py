"""Which letters a font has, read from its file: a letter without a shape would be an empty box, and nobody told.

The tables are those of OpenType: https://learn.microsoft.com/typography/opentype/spec/cmap
"""

import struct
from functools import cache
from pathlib import Path

from bot.kit.errors import PermanentError

OWN = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
# Where Debian's packages fonts-droid-fallback and fonts-noto-cjk put letters of East Asia.
MORE = (
    Path("/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf"),
    Path("/usr/share/fonts/truetype/droid/DroidSansFallback.ttf"),
    Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"),
)


@cache
def letters(font: Path) -> frozenset[int]:
    """The code points that *font* has shapes for. PermanentError if it is no font."""
    try:
        return frozenset(_read(font.read_bytes()))
    except (OSError, struct.error, IndexError, ValueError) as error:
        raise PermanentError(f"the font {font.name} cannot be read: {error}") from None


def _read(data: bytes) -> set[int]:
    start = struct.unpack_from(">I", data, 12)[0] if data[:4] == b"ttcf" else 0
    count = struct.unpack_from(">H", data, start + 4)[0]
    tables = (struct.unpack_from(">4sIII", data, start + 12 + 16 * n) for n in range(count))
    place = next((offset for tag, _, offset, _ in tables if tag == b"cmap"), None)
    if place is None:
        raise ValueError("it has no table of letters")
    found: set[int] = set()
    for n in range(struct.unpack_from(">H", data, place + 2)[0]):
        platform, encoding, offset = struct.unpack_from(">HHI", data, place + 4 + 8 * n)
        if platform == 0 or (platform == 3 and encoding in (1, 10)):
            found |= _table(data, place + offset)
    return found


def _table(data: bytes, at: int) -> set[int]:
    kind = struct.unpack_from(">H", data, at)[0]
    found: set[int] = set()
    if kind == 12:
        for n in range(struct.unpack_from(">I", data, at + 12)[0]):
            first, last, _ = struct.unpack_from(">III", data, at + 16 + 12 * n)
            found.update(range(first, last + 1))
    elif kind == 4:
        double = struct.unpack_from(">H", data, at + 6)[0]
        for n in range(0, double, 2):
            last = struct.unpack_from(">H", data, at + 14 + n)[0]
            first = struct.unpack_from(">H", data, at + 16 + double + n)[0]
            if first != 0xFFFF:
                found.update(range(first, last + 1))
    return found
