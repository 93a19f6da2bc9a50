"""Against real programs: the whole bot with a Prometheus and Alertmanagers, steps with what they work on."""

import json
import os
import re
import shutil
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bot.alerts.model import Delivery
from bot.app import Tempo
from bot.kit.db import Database
from tests.real.monitoring import PROGRAMS, Monitoring, monitoring
from tests.real.sshd import SSHD
from tests.scenarios.conftest import QUICK, TOKEN, Stage, app_of_the_bot, staged, write_config

# What needs a program that is absent is not collected; CI sets TOCSIN_TEST_ALL, which makes that an error.
NEEDS = {
    "test_alertmanager.py": tuple(map(shutil.which, PROGRAMS)),
    "test_ansible.py": (SSHD, shutil.which("ansible-playbook")),
    "test_kubectl.py": (shutil.which("kubectl"), shutil.which("openssl")),
    "test_prometheus.py": tuple(map(shutil.which, PROGRAMS)),
    "test_ssh.py": (SSHD, shutil.which("ssh")),
    "test_terraform.py": (shutil.which("terraform"),),
}
# Debian has no package of Terraform, and Debian 12 a kubectl of 2021, so CI cannot install them and says aloud when
# they are not there.
UNPACKAGED = ("test_kubectl.py", "test_terraform.py")
absent = [name for name, found in NEEDS.items() if not all(found)]
collect_ignore = [name for name in absent if name in UNPACKAGED or not os.environ.get("TOCSIN_TEST_ALL")]

CONNECTIONS = (
    "version: 1\nconnections:\n"
    "  prometheus: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n"
    "  second: {source: alertmanager, token: {env: ALERTS_TOKEN}}\n"
)

Play = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Started once: it takes longer than any of the stories."""
    with monitoring(tmp_path_factory.mktemp("monitoring"), TOKEN) as made:
        yield made


@pytest.fixture
def play(watch: Monitoring, tmp_path: Path, request: pytest.FixtureRequest) -> Play:
    """Makes a running bot at the place where the Alertmanagers expect it, on a given database."""

    @asynccontextmanager
    async def start(database_url: str, tempo: Tempo = QUICK) -> AsyncIterator[Stage]:
        folder = write_config(tmp_path / "config", connections=CONNECTIONS)
        async with staged(database_url, folder, app_of_the_bot(), port=watch.bot, tempo=tempo) as stage:
            yield stage
            if place := os.environ.get("TOCSIN_TEST_CAPTURE"):
                await keep(stage.bot.db, Path(place), request.node.name)

    return start


async def bodies(db: Database) -> list[tuple[str, Any]]:
    """What the Alertmanagers sent and got a 202 for, in order: connection and body."""
    async with db.read() as session:
        rows = await session.scalars(sa.select(Delivery).order_by(sa.text("received_at, id")))
        return [(row.connection, json.loads(zlib.decompress(row.body))) for row in rows]


async def keep(db: Database, folder: Path, story: str) -> None:
    """Write the bodies down, for people."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "_", story.lower()).strip("_")
    for number, (connection, body) in enumerate(await bodies(db), 1):
        path = folder / f"{name}-{number:02}-{connection}-{body['status']}.json"
        path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n")
