"""A bench for runs: a real database, the real shelf of steps, and no engine at work, so a test decides what runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import create_model
from sqlmodel import col

from bot.engine import Engine
from bot.incidents import lifecycle, timeline
from bot.incidents.model import Incident, Sev, TimelineEvent
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.kit.ids import new_id
from bot.kit.shelf import Shelf
from bot.kit.tasks import spawn
from bot.runs import run as runs
from bot.runs.grants import Grants
from bot.runs.interpreter import Interpreter
from bot.runs.model import Run, RunStep
from bot.runs.runbook import Retry, Runbook, load
from bot.runs.step import StepContext, StepResult

ALICE = "UALICE"


def nothing_follows(event: TimelineEvent) -> list[Any]:
    return []


class Plugin:
    """A step type of a test: answers with what it is given, one answer an attempt, and counts."""

    def __init__(self, *answers: Any, effect: str = "read") -> None:
        self.Params = create_model("Params", text=(str, ""))
        self.EFFECT = effect
        self.RESULT = ("seen",)
        self.answers = list(answers)
        self.contexts: list[StepContext] = []
        self.started = asyncio.Event()

    @property
    def calls(self) -> int:
        return len(self.contexts)

    def preview(self, params: Any) -> str:
        return f"would say {params.text}"

    async def run(self, context: StepContext, params: Any) -> Any:
        self.contexts.append(context)
        self.started.set()
        answer = self.answers.pop(0) if self.answers else StepResult(ok=True, summary="fine")
        if callable(answer):
            answer = await answer(context)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Bench:
    """Starts runs of small runbooks and carries them out here."""

    def __init__(self, engine: Engine, incident: Incident) -> None:
        self.engine, self.incident = engine, incident
        self.steps = Shelf("bot.steps", must_have=("Params", "run", "EFFECT")).load()
        self.environment: dict[str, str] = {}
        self.grants = Grants(("REGION",), ("LB_TOKEN", "DOOR"))
        self.clock = utc_now
        self.react = nothing_follows
        self.book = f"book-{incident.number}"

    def plugin(self, name: str, *answers: Any, effect: str = "read") -> Plugin:
        made = Plugin(*answers, effect=effect)
        self.steps.modules[name] = made  # type: ignore[assignment]
        return made

    def interpreter(self) -> Interpreter:
        """As after a boot: knows nothing but what is in the database."""
        return Interpreter(
            self.engine,
            self.react,
            self.steps,
            lambda: self.clock(),
            self.environment,
            watch_seconds=0.05,
            read_tries=Retry(attempts=3, delay="10ms"),
            grants=self.grants,
        )

    def runbook(self, text: str) -> Runbook:
        head = f"version: 1\nid: {self.book}\nname: Book\nowner: team\n"
        return load(head + text, f"{self.book}.yaml", self.steps)

    async def start(
        self,
        runbook: Runbook | str,
        values: dict[str, Any] | None = None,
        *,
        by: str = ALICE,
        dry_run: bool = False,
        run_id: str | None = None,
        incident: Incident | None = None,
        asked: runs.Asked | None = None,
        email: str | None = None,
        uses: dict[str, Runbook] | None = None,
    ) -> str:
        book = self.runbook(runbook) if isinstance(runbook, str) else runbook
        async with self.engine.transaction() as tx:
            run = await runs.start(
                tx,
                self.react,
                incident or self.incident,
                book,
                values or {},
                asked=asked or runs.Asked(by, email=email),
                now=self.clock(),
                run_id=run_id or new_id(),
                dry_run=dry_run,
                uses=uses,
            )
        return run.id

    async def carry_out(self, run_id: str) -> Run:
        """Do what the engine would: go on with the run, under its newest promise."""
        await self.interpreter().run(run_id, (await self.run(run_id)).round)
        return await self.run(run_id)

    def under_way(self, run_id: str, round_: int = 1) -> "asyncio.Task[None]":
        return spawn(self.interpreter().run(run_id, round_), name="test.run")

    async def crash(self, task: "asyncio.Task[None]") -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def answer(self, run_id: str, choice: str, by: str = ALICE) -> Run:
        async with self.engine.transaction() as tx:
            return await runs.answer(tx, self.react, run_id, choice, by=by, now=self.clock())

    async def cancel(self, run_id: str, by: str = ALICE) -> None:
        async with self.engine.transaction() as tx:
            await runs.cancel(tx, self.react, run_id, by=by, now=self.clock())

    async def run(self, run_id: str) -> Run:
        async with self.engine.db.read() as session:
            return await runs.find(session, run_id)

    async def rows(self, run_id: str) -> list[RunStep]:
        async with self.engine.db.read() as session:
            return await runs.attempts(session, run_id)

    async def states(self, run_id: str) -> list[str]:
        return [row.state for row in await self.rows(run_id)]

    async def events(self, kind: str = "") -> list[TimelineEvent]:
        async with self.engine.db.read() as session:
            found = await timeline.whole(session, self.incident.id)
        return [event for event in found if event.kind.startswith(kind)]

    async def everything(self) -> str:
        """Every row about incidents and runs, as text."""
        told = []
        async with self.engine.db.read() as session:
            for table in ("run", "run_step", "timeline", "part", "request"):
                told += [str(row) for row in await session.execute(sa.text(f"select * from {table}"))]
        return "\n".join(told)

    async def change(self, run_id: str, **values: Any) -> None:
        async with self.engine.transaction() as tx:
            await tx.session.execute(sa.update(Run).where(col(Run.id) == run_id).values(**values))

    async def until(self, true: Callable[[], Any], within: float = 5.0) -> None:
        async with asyncio.timeout(within):
            while True:
                found = true()
                if await found if asyncio.iscoroutine(found) else found:
                    return
                await asyncio.sleep(0.01)


def processes(mark: str) -> list[int]:
    """The living processes that have *mark* in their environment or command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                zombie = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
            except OSError:
                continue
            if mark.encode() in told and not zombie:
                found.append(int(entry.name))
    return found


@pytest.fixture
async def database(shared_database_url: str) -> AsyncIterator[Database]:
    """One database for the tests of a module; each has an incident and a runbook of its own."""
    db = Database(shared_database_url)
    yield db
    await db.close()


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    engine = Engine(database)
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title="Checkout fails", severity=Sev.SEV2, by=ALICE, now=utc_now()
        )
    yield Bench(engine, incident)
    await engine.close()


@pytest.fixture
async def other_incident(bench: Bench) -> Incident:
    async with bench.engine.transaction() as tx:
        return await lifecycle.declare(
            tx, nothing_follows, title="Search fails", severity=Sev.SEV3, by=ALICE, now=utc_now()
        )
