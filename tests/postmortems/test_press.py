"""Documents are written elsewhere, within a time, and what goes wrong there is said here."""

import asyncio
import sys
import time

import pytest

from bot.kit.errors import PermanentError
from bot.kit.shelf import Shelf
from bot.postmortems import press
from tests.postmortems.papers import rich, stored, written

SHELF = Shelf(press.SHELF, must_have=press.NEEDS).load()


async def test_what_is_written_elsewhere_is_what_is_written_here():
    document = stored(rich())
    loaded = "typst" in sys.modules

    made = await press.write(SHELF, "pdf", document)

    assert ("typst" in sys.modules) == loaded
    assert made == SHELF["pdf"].export(document)


async def test_the_loop_goes_on_meanwhile():
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.01)
            beats += 1

    beating = asyncio.ensure_future(beat())
    await press.write(SHELF, "html", stored(rich()))
    beating.cancel()

    assert beats > 5


async def test_what_takes_too_long_is_ended_and_said():
    began = time.monotonic()

    with pytest.raises(PermanentError, match=r"pdf: the document was not written within 0\.01 s; `md` and `html`"):
        await press.write(SHELF, "pdf", stored(rich()), seconds=0.01)

    assert time.monotonic() - began < 5


async def test_a_refusal_comes_back_as_it_was_said():
    document = written("# A\n")
    document.facts = {"reference": 1}

    with pytest.raises(PermanentError, match="docx: the facts of revision 1 are not those of this version"):
        await press.write(SHELF, "docx", document)


async def test_a_format_that_does_not_exist_names_those_there_are():
    with pytest.raises(PermanentError, match=r"no 'rtf' in bot\.exporters; there is: confluence, docx"):
        await press.write(SHELF, "rtf", written("# A\n"))
