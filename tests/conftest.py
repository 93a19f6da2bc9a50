"""What every test may ask for: a database of each kind, real and empty."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.cli import main
from bot.kit import log
from bot.kit.db import Database
from bot.migrations import migrate
from tests.postgres import Postgres, binaries, postgres

# Without any PostgreSQL its variants are not collected; CI sets TOCSIN_TEST_ALL, which makes that an error.
KINDS = ["sqlite"]
if binaries() or os.environ.get("TOCSIN_TEST_ALL"):
    KINDS.append("postgres")


# Real programs take their time.
REAL = ("real/", "runbooks/test_on_")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What works with real programs is slow as a whole."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(REAL):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def logs() -> None:
    """Logs as in production: plain JSON. The default would draw tracebacks with every local variable, for seconds."""
    log.configure(json=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One real server for the whole run; databases are made per test."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Postgres) -> str:
    """A migrated database to copy: making one takes a second, copying it a few milliseconds."""
    url = postgres_server.database()
    migrate(Database(url))
    return url.split("/")[3].split("?")[0]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "tocsin.db"
    migrate(Database(f"sqlite:///{path}"))
    return path


def new_database(request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of a migrated, empty database of the kind that *request* is parametrised with."""
    if request.param == "sqlite":
        path = folder / "tocsin.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        return f"sqlite:///{path}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.database(request.getfixturevalue("postgres_template"))


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated, empty database: once a SQLite file, once a PostgreSQL."""
    return new_database(request, tmp_path)


@pytest.fixture(scope="module", params=KINDS)
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, shared by the tests of a module."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


@pytest.fixture
async def database(database_url: str):
    """The same, ready to use."""
    db = Database(database_url)
    yield db
    await db.close()


@pytest.fixture
def tocsin(capsys, monkeypatch, tmp_path):
    """Run a command; its exit code, stdout and stderr. Settings come from the environment alone, as always."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOCSIN_DATABASE_URL", f"sqlite:///{tmp_path}/tocsin.db")
    monkeypatch.setenv("TOCSIN_CONFIG", str(tmp_path / "config"))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main(list(arguments))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        else:
            code = 0
        out, err = capsys.readouterr()
        return code, out, err

    return run
