"""docs/reference/sandbox.md lists what there is: methods with their rates, limits, switches and violations."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from bot.sandbox import api
from bot.sandbox.faults import FaultPlan
from bot.sandbox.methods.table import METHODS
from bot.sandbox.state import Limits
from tests.sandbox import reference
from tests.test_docs import chapter, coded, first_cells, rows

PAGE = Path("docs/reference/sandbox.md")
TEXT = (Path(__file__).parents[2] / PAGE).read_text("utf-8")
RATES = {2: "20 a minute", 3: "50 a minute", 4: "100 a minute", 5: "special", 0: "none"}
SOURCES = "\n".join(p.read_text("utf-8") for p in Path(str(inspect.getfile(api))).parent.rglob("*.py"))


def test_every_method_is_listed_with_its_rate():
    listed = {
        name: cells[0] for cells in rows(chapter(TEXT, "Methods and their rates"))[2:] for name in coded(cells[1])
    }

    assert listed == {name: RATES[method.tier] for name, method in METHODS.items()}


def test_every_limit_is_listed_with_its_default():
    listed = {coded(cells[0])[0]: coded(cells[1])[0] for cells in rows(chapter(TEXT, "Limits"))[2:]}

    assert listed == {f.name: repr(f.default) for f in dataclasses.fields(Limits)}


def test_every_violation_is_listed_and_no_other():
    recorded = set(re.findall(r'violation\(\s*f?"([a-z_]+)"', SOURCES)) | set(api.BLUNDERS)

    assert first_cells(chapter(TEXT, "What it checks")) == recorded


def test_every_refusal_that_is_a_violation_is_one_that_some_method_can_give():
    given = {code for method in METHODS.values() for code in reference.Codes().of(method.run)}

    assert set(api.BLUNDERS) - {"invalid_arguments"} <= given


@pytest.mark.parametrize("name", ["add", "lag", "duplicate", "reorder", "clear", "kill_sockets", "send_disconnect"])
def test_every_switch_is_listed(name):
    assert hasattr(FaultPlan(), name)
    assert any(word.startswith(f"faults.{name}(") for word in first_cells(chapter(TEXT, "Switches")))
