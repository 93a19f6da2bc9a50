"""Real dumps of a real PostgreSQL are checked, restored, counted, and nothing of it is left behind."""

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.postgres import Postgres, postgres
from tests.runbooks.conftest import Said, play

SHOP = """
create table orders (id int primary key, total numeric);
insert into orders select n, n from generate_series(1, 40) n;
create table "Odd "" name" (id int);
create schema more; create table more.things (id int); insert into more.things values (1), (2);
"""


@dataclass
class Backups:
    """A server, and a folder with dumps of one of its databases."""

    server: Postgres
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {"PGHOST": str(self.server.folder), "PGPORT": str(self.server.port), "PGUSER": "postgres"}

    def dump(self, name: str = "shop.dump", sql: str = SHOP, *, how: str = "custom") -> Path:
        url = self.server.database()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql)
        place = self.folder / name
        with place.open("wb") as out:
            subprocess.run(["pg_dump", f"--format={how}", "-d", url], stdout=out, check=True)
        return place

    def play(self, *args: str) -> Said:
        return play("backup.py", *args, env=self.env)

    def check(self, *more: str) -> dict:
        return self.play("check", str(self.folder), *more).json

    def databases(self) -> list[str]:
        with psycopg.connect(self.server.url("postgres")) as connection:
            return [name for (name,) in connection.execute("select datname from pg_database order by 1")]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with postgres(port=port) as made:
        yield made


@pytest.fixture
def backups(server: Postgres, tmp_path: Path) -> Backups:
    return Backups(server, tmp_path)


def test_a_good_dump_has_nothing_against_it(backups):
    place = backups.dump()
    (backups.folder / "shop.dump.sha256").write_text(f"{hashlib.sha256(place.read_bytes()).hexdigest()}  shop.dump\n")

    found = backups.check()

    assert found["ok"], found
    assert found["file"] == str(place)
    assert (found["tables"], found["checksum"], found["problems"]) == (3, "ok", [])
    assert found["bytes"] == place.stat().st_size


def test_of_several_the_newest_is_looked_at(backups):
    place = backups.dump()
    old = shutil.copy(place, backups.folder / "older.dump")
    os.utime(old, (1e9, 1e9))

    assert backups.check()["file"] == str(place)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda place: os.utime(place, (1e9, 1e9)), "hours old, more than 26"),
        (lambda place: place.write_bytes(place.read_bytes()[:300]), "pg_restore failed"),
        (lambda place: place.write_bytes(b"-- a dump as text\n"), "pg_restore failed"),
        (lambda place: place.write_bytes(b""), "it has 0 bytes"),
        (lambda place: place.with_name("shop.dump.sha256").write_text("00  shop.dump"), "its checksum is not the one"),
    ],
    ids=["old", "cut", "text", "empty", "checksum"],
)
def test_what_is_wrong_with_a_dump_is_told(backups, spoil, told):
    spoil(backups.dump())

    found = backups.check()

    assert not found["ok"]
    assert told in "; ".join(found["problems"])


def test_a_dump_without_data_is_no_backup(backups):
    backups.dump(sql="create schema nothing")

    assert "it holds no table's data" in backups.check()["problems"]


def test_where_there_is_no_dump_that_is_said(backups):
    assert "there is no backup" in backups.play("check", str(backups.folder)).err
    assert "there is no folder" in backups.play("check", "/nowhere").err
    assert "no pattern of file names" in backups.play("check", str(backups.folder), "--pattern=../*").err


def test_a_restore_counts_the_rows_and_leaves_no_database_behind(backups):
    before = backups.databases()
    place = backups.dump()

    found = backups.play("restore", str(place), "--database=tocsin_restore_1").json

    assert (found["tables"], found["rows"]) == (3, 42)
    assert found["empty"] == ['public."Odd "" name"']
    assert len(backups.databases()) == len(before) + 1  # the one that was dumped


def test_a_restore_that_fails_says_why_and_leaves_no_database_behind(backups):
    place = backups.dump()
    place.write_bytes(place.read_bytes()[:-200])

    said = backups.play("restore", str(place), "--database=tocsin_restore_2")

    assert said.code == 1
    assert "pg_restore failed" in said.err
    assert "tocsin_restore_2" not in backups.databases()


@pytest.mark.parametrize("action", ["restore", "drop"])
@pytest.mark.parametrize(
    "name", ["postgres", "orders", "tocsin_restore_", 'tocsin_restore_1"; drop', "TOCSIN_RESTORE_1"]
)
def test_no_database_but_one_of_ours_is_touched(backups, action, name):
    args = [action, *(["x.dump"] if action == "restore" else []), f"--database={name}"]

    said = backups.play(*args)

    assert said.code == 1
    assert "tocsin_restore_" in said.err
    assert "postgres" in backups.databases()


def test_dropping_what_is_not_there_is_no_fault(backups):
    assert backups.play("drop", "--database=tocsin_restore_9").json == {"dropped": "tocsin_restore_9"}
