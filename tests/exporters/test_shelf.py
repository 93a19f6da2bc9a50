"""What holds for every exporter: the same bytes each time, and nothing loaded before it is needed."""

import hashlib
import json
import subprocess
import sys

import pytest

from bot.kit.errors import PermanentError
from bot.kit.shelf import Shelf
from bot.postmortems import press
from bot.postmortems.exporter import file_name
from tests.postmortems.papers import hostile, one, rich, stored, written

SHELF = Shelf(press.SHELF, must_have=press.NEEDS).load()
HARDLY = ["", "x", "---\nid: INC-1\n---\n", "#\n\n[x](#section)\n\n###### deep\n", "| a |\n|---|\n", "> - > 1. x"]
TEXTS = [name for name in SHELF if not SHELF[name].MEDIA_TYPE.startswith("image/")]
PAPERS = {"rich": rich, "hostile": hostile, "one": one}

EXPORT = """
import hashlib, json, sys
from bot.kit.shelf import Shelf
from bot.postmortems import press
from bot.postmortems.model import Postmortem
shelf = Shelf(press.SHELF, must_have=press.NEEDS).load()
heavy = [name for name in ("docx", "lxml", "typst", "resvg_py") if name in sys.modules]
document = Postmortem.model_validate(json.load(sys.stdin))
made = {name: hashlib.sha256(shelf[name].export(document)).hexdigest() for name in shelf}
print(json.dumps({"heavy": heavy, "made": made}))
"""


def test_the_formats_are_those_that_are_documented():
    assert set(SHELF) >= {"md", "html", "pdf", "docx", "json", "confluence", "gdocs", "png", "svg"}


@pytest.mark.parametrize("name", list(SHELF))
def test_it_says_how_its_files_end_and_what_they_are(name):
    module = SHELF[name]

    assert module.SUFFIX.startswith(".")
    assert module.MEDIA_TYPE.count("/") == 1
    assert file_name("INC-1", 2, module) == f"inc-1-postmortem-2{module.SUFFIX}"


def test_no_two_kinds_of_file_end_alike():
    endings = [SHELF[name].SUFFIX for name in SHELF]

    assert len(set(endings)) == len(endings)


def test_the_same_revision_gives_the_same_bytes_in_another_process_at_another_time_and_place():
    """And a shelf that was loaded has loaded nothing heavy."""
    document = stored(rich())
    environment = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"}

    done = subprocess.run(
        [sys.executable, "-I", "-c", EXPORT],
        input=document.model_dump_json().encode(),
        capture_output=True,
        check=True,
        env=environment,
    )

    told = json.loads(done.stdout)
    assert told["heavy"] == []
    assert told["made"] == {name: hashlib.sha256(SHELF[name].export(document)).hexdigest() for name in SHELF}


@pytest.mark.parametrize("name", TEXTS)
def test_another_revision_gives_other_bytes(name):
    first, second = stored(rich(), revision=1), stored(rich(), "# INC-42: another\n", revision=2)

    assert SHELF[name].export(first) != SHELF[name].export(second)


@pytest.mark.parametrize("name", list(SHELF))
@pytest.mark.parametrize("paper", list(PAPERS))
def test_every_document_can_be_written(name, paper):
    assert len(SHELF[name].export(stored(PAPERS[paper]()))) > 1000


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("text", HARDLY, ids=range(len(HARDLY)))
def test_a_document_that_is_hardly_one_can_be_written(name, text):
    assert isinstance(SHELF[name].export(written(text)), bytes)


@pytest.mark.parametrize("name", [name for name in SHELF if not getattr(SHELF[name], "QUICK", False)])
def test_facts_that_nobody_can_read_are_refused_with_what_to_do(name):
    document = written("# A\n")
    document.facts = {"reference": 1}

    with pytest.raises(PermanentError, match="/inc postmortem"):
        SHELF[name].export(document)
