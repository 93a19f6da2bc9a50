"""A dry run without a database: what reads is really done, the rest is shown."""

import asyncio
import signal
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.catalog.targets import Reach
from bot.incidents.model import TimelineEvent
from bot.kit.clock import utc_now
from bot.kit.shelf import Shelf
from bot.runs.grants import Grants
from bot.runs.interpreter import Interpreter
from bot.runs.memory import Memory, remembered
from bot.runs.model import RunStep
from bot.runs.runbook import Alert, Runbook, used


@dataclass(frozen=True)
class Site:
    """Where a runbook is tried: what its steps may reach, and what lies beside it."""

    steps: Shelf
    reach: Reach
    environment: Mapping[str, str]
    allow_private: tuple[str, ...] = ()
    folder: Path | None = None
    books: Mapping[str, Runbook] | None = None
    grants: Grants = field(default_factory=Grants)


async def dry_run(
    runbook: Runbook,
    params: Mapping[str, Any],
    alert: Alert | None,
    site: Site,
    told: Callable[[RunStep], None],
) -> Memory:
    """Go through *runbook* as a dry run does; *told* hears of each step that ended. Ctrl-C stops it in order."""
    uses = used(runbook, site.books or {})
    memory = remembered(runbook, params, alert, utc_now, uses=uses, dry_run=True, told=told)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        memory.run.cancelled_by = memory.run.requested_by

    with tempfile.TemporaryDirectory(prefix="tocsin-dry-run-") as home:
        interpreter = Interpreter(
            None,
            _nothing_follows,
            site.steps,
            utc_now,
            site.environment,
            site.allow_private,
            reach=site.reach,
            folder=site.folder,
            home=Path(home),
            record=memory,
            grants=site.grants,
        )
        loop.add_signal_handler(signal.SIGINT, stop)
        try:
            await interpreter.run(memory.run.id, memory.run.round)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
    return memory


def _nothing_follows(event: TimelineEvent) -> list[Any]:
    return []
