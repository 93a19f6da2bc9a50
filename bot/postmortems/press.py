"""Writes a document in a process of its own: setting a long one takes seconds and memory, which the bot has not.

The process has no secrets, and it ends: a document that is not written within its time is not written.
"""

import asyncio
import json
import sys
from types import ModuleType

from bot.kit.errors import BotError, PermanentError
from bot.kit.shelf import Shelf
from bot.kit.text import clip, one_line
from bot.postmortems.model import Postmortem

SHELF, NEEDS = "bot.exporters", ("SUFFIX", "MEDIA_TYPE", "export")
# Thousands of events take about ten seconds; a machine with more to do takes longer.
SECONDS = 120.0
_REFUSED = 3


async def write(exporters: Shelf, name: str, document: Postmortem, *, seconds: float = SECONDS) -> bytes:
    """*document* as the exporter called *name* writes it. PermanentError with a reason for people."""
    module = exporters[name]
    if getattr(module, "QUICK", False):
        made: bytes = module.export(document)
        return made
    return await _pressed(name, document, seconds)


async def _pressed(name: str, document: Postmortem, seconds: float, python: str = sys.executable) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-I", "-m", "bot.postmortems.press", name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
    except OSError as error:
        raise PermanentError(f"{name}: {python} cannot be started ({error.strerror})") from None
    try:
        async with asyncio.timeout(seconds):
            made, said = await process.communicate(document.model_dump_json().encode())
    except TimeoutError:
        raise PermanentError(
            f"{name}: the document was not written within {seconds:g} s; `md` and `html` are the quickest formats"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == _REFUSED:
        raise PermanentError(f"{name}: {clip(one_line(said.decode(errors='replace')), 500)}")
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2].partition(":")[0]
        raise PermanentError(f"{name}: the document could not be written ({clip(last, 80) or process.returncode})")
    return made


def _main() -> None:
    module: ModuleType = Shelf(SHELF, must_have=NEEDS).find()[sys.argv[1]]
    try:
        made = module.export(Postmortem.model_validate(json.load(sys.stdin.buffer)))
    except BotError as error:
        sys.stderr.write(str(error))
        raise SystemExit(_REFUSED) from None
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    _main()
