"""SVG drawn as PNG, in a process of its own: drawing takes the interpreter for a fifth of a second, and some memory.

No font of the machine is used, so that a picture looks the same everywhere, and has text where there are none.
"""

import asyncio
import importlib
import sys
from pathlib import Path

from bot.kit.errors import PermanentError, TemporaryError

FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
SECONDS = 20.0


async def png(svg: str, width: int, *, python: str = sys.executable) -> bytes:
    """*svg* as a picture of that width."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-I", "-m", "bot.kit.png", str(width)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
    except OSError as error:
        raise PermanentError(f"the picture cannot be drawn: {python} cannot be started ({error.strerror})") from None
    try:
        async with asyncio.timeout(SECONDS):
            picture, _ = await process.communicate(svg.encode("utf-8"))
    except TimeoutError:
        raise TemporaryError(f"the picture was not drawn within {SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not picture.startswith(b"\x89PNG"):
        raise PermanentError("the picture cannot be drawn; is the Python package resvg-py installed?")
    return picture


def draw(svg: str, width: int) -> bytes:
    """The same in this process. The library is only loaded here."""
    drawn: bytes = importlib.import_module("resvg_py").svg_to_bytes(
        svg_string=svg, width=width, font_files=[str(FONT)], skip_system_fonts=True, font_family="DejaVu Sans"
    )
    return drawn


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(sys.stdin.buffer.read().decode("utf-8"), int(sys.argv[1])))
