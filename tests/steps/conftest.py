"""What the tests of step types share: a context whose live lines are kept."""

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from bot.kit.ids import new_id
from bot.kit.shelf import Shelf
from bot.runs.redact import Redactor
from bot.runs.step import StepContext, StepResult, prepare
from tests.postgres import binaries

# Without any PostgreSQL this is not collected; CI sets TOCSIN_TEST_ALL, which makes that an error.
collect_ignore = [] if binaries() or os.environ.get("TOCSIN_TEST_ALL") else ["test_sql_postgres.py"]


class Bench:
    """Prepares and runs one step as the interpreter would; what it says while it runs is in `said`."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.run_id = new_id()  # what runs under the id of another run is ended, also by the tests of a neighbour

    def context(self, *, secrets: dict[str, str] | None = None, **more: Any) -> StepContext:
        known = secrets or {}
        return StepContext(
            **{"run_id": self.run_id, "step_key": "step", "timeout": 10.0, "say": self.said.append, **more},
            secrets=known,
            redact=Redactor(known.values()),
        )

    async def run(self, step: ModuleType, raw: dict[str, Any], **more: Any) -> StepResult:
        context = self.context(**more)
        return await step.run(context, prepare(step, raw, context))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def run(bench: Bench) -> Callable[..., Any]:
    return bench.run


@pytest.fixture(scope="session")
def shelf_of_steps() -> Shelf:
    """All step types."""
    return Shelf("bot.steps", must_have=("Params", "run", "EFFECT", "RESULT", "preview")).load()
