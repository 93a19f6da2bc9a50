"""What the tests of the library share: its scripts as programs, its runbooks as runs on a database of their own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bot.catalog.targets import Reach
from bot.engine import Engine
from bot.incidents import lifecycle, roles
from bot.incidents.access import Person
from bot.incidents.model import RoleName, Sev
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.grants import Grants
from bot.runs.interpreter import Interpreter
from bot.runs.model import Run, RunState
from bot.runs.runbook import load
from tests.postgres import binaries
from tests.real.sshd import SSHD
from tests.runs.conftest import Bench, nothing_follows

FOLDER = Path(__file__).parents[2] / "runbooks"
SCRIPTS = FOLDER / "scripts"
BOB = Person("UBOB", "bob", "bob@example.com")

# What needs a program that is absent is not collected; CI sets TOCSIN_TEST_ALL, which makes that an error.
NEEDS = {
    "test_advisories_dpkg.py": (shutil.which("dpkg"),),
    "test_backup.py": (binaries(), shutil.which("pg_dump"), shutil.which("psql")),
    "test_certificate.py": (shutil.which("openssl"),),
    "test_on_hosts.py": (SSHD, shutil.which("ssh"), shutil.which("journalctl"), shutil.which("apt")),
    "test_on_infrastructure.py": (shutil.which("terraform"), shutil.which("ansible-playbook")),
    "test_on_kubernetes.py": (shutil.which("kubectl"), shutil.which("openssl")),
    "test_on_postgres.py": (binaries(), shutil.which("pg_dump"), shutil.which("psql")),
    "test_queries.py": (shutil.which("promtool"),),
}
# Debian has no package of Terraform, and Debian 12 a kubectl of 2021, so CI cannot install them and says aloud when
# they are not there.
UNPACKAGED = ("test_on_infrastructure.py", "test_on_kubernetes.py")
absent = [name for name, found in NEEDS.items() if not all(found)]
collect_ignore = [name for name in absent if name in UNPACKAGED or not os.environ.get("TOCSIN_TEST_ALL")]


@dataclass
class Said:
    """How a script ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def play(name: str, *args: str, given: Any = None, env: dict[str, str] | None = None) -> Said:
    """Run a script of the library as the step does: isolated, with little in its environment."""
    done = subprocess.run(
        [sys.executable, "-I", str(SCRIPTS / name), *args],
        input=json.dumps(given or {}),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@dataclass
class Library(Bench):
    """Carries out runbooks of the library for real. *change* is done to their text first, for a machine of a test."""

    reach: Reach = field(default_factory=Reach)
    home: Path | None = None
    folder: Path = FOLDER

    def __init__(self, engine: Engine, incident: Any, home: Path) -> None:
        super().__init__(engine, incident)
        self.reach, self.home, self.folder = Reach(), home, FOLDER

    def interpreter(self) -> Interpreter:
        made = super().interpreter()
        return Interpreter(
            self.engine,
            self.react,
            self.steps,
            lambda: self.clock(),
            self.environment,
            allow_private=("127.0.0.1", "localhost"),
            watch_seconds=0.05,
            read_tries=made.read_tries,
            reach=self.reach,
            folder=self.folder,
            home=self.home,
            grants=Grants(secrets=("RESTORE_PASSWORD",)),
        )

    async def play(
        self,
        name: str,
        values: dict[str, Any],
        change: Callable[[str], str] = lambda text: text,
        *,
        yes: bool = True,
        reason: str = "it was looked at",
        before_answer: Callable[[], None] = lambda: None,
    ) -> Run:
        """The runbook *name* to its end; whoever is asked says yes, or no."""
        text = change((FOLDER / f"{name}.yaml").read_text())
        book = load(text, f"{name}.yaml", self.steps)
        run_id = await self.start(book, values, email="alice@example.com")
        run = await self.carry_out(run_id)
        while run.state == RunState.WAITING:
            before_answer()
            async with self.engine.db.read() as session:
                row = [row for row in await runs.attempts(session, run_id) if row.type == "approval"][-1]
                question = await approvals.of_step(session, row.id)
            async with self.engine.transaction() as tx:
                await approvals.vote(
                    tx, self.react, question.id, yes=yes, by=BOB, now=self.clock(), current=question.sha256,
                    reason=reason,
                )  # fmt: skip
            run = await self.carry_out(run_id)
        return run

    async def said(self) -> str:
        """What stands on the timeline of the incident."""
        return "\n".join(event.text for event in await self.events())


@pytest.fixture
async def library(sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Library]:
    """A database, an incident, and nothing else at work."""
    path = tmp_path / "tocsin.db"
    shutil.copy(sqlite_template, path)
    db = Database(f"sqlite:///{path}")
    engine = Engine(db)
    async with engine.transaction() as tx:
        incident = await lifecycle.declare(
            tx, nothing_follows, title="Checkout fails", severity=Sev.SEV2, by="UALICE", now=utc_now()
        )
        await roles.assign(tx, nothing_follows, incident, RoleName.COMMANDER, BOB.id, by=BOB.id, now=utc_now())
    yield Library(engine, incident, tmp_path / "runs")
    await engine.close()
    await db.close()
