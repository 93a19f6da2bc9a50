"""Looks after backups of PostgreSQL: is the newest dump young and whole, and can it really be restored.

`check` only reads. `restore` puts the dump into a new database whose name begins with `tocsin_restore_`, counts what
came of it, and drops that database again; `drop` removes one that was left behind, and no other. Needs pg_restore and
psql; the server is named as for these, in PGHOST, PGPORT, PGUSER and PGPASSWORD.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCRATCH = re.compile(r"tocsin_restore_[a-z0-9_]{1,40}")
COUNTED = 200  # tables


def newest(folder: Path, pattern: str) -> Path:
    """The youngest file of *folder* that fits *pattern*."""
    if not re.fullmatch(r"[A-Za-z0-9*?._-]{1,100}", pattern):
        raise SystemExit(f"{pattern!r} is no pattern of file names")
    if not folder.is_dir():
        raise SystemExit(f"there is no folder {folder}")
    found = [file for file in folder.glob(pattern) if file.is_file() and not file.name.endswith(".sha256")]
    if not found:
        raise SystemExit(f"there is no backup {pattern} in {folder}")
    return max(found, key=lambda file: file.stat().st_mtime)


def run(*command: str, seconds: float) -> str:
    """What a program of PostgreSQL prints; its last words where it fails."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not installed where the bot runs (postgresql-client)") from None
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{command[0]} took longer than {seconds:g} s") from None
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing was said"]
        raise SystemExit(f"{command[0]} failed: {told[0]}")
    return done.stdout.decode("utf-8", "replace")


def checksum(file: Path) -> str:
    """`ok`, `wrong`, or `none` where there is no FILE.sha256 beside it."""
    beside = file.with_name(file.name + ".sha256")
    if not beside.is_file():
        return "none"
    wanted = beside.read_text(encoding="utf-8", errors="replace").split()[:1]
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    return "ok" if wanted == [found] else "wrong"


def check(folder: Path, pattern: str, most_hours: float, least_bytes: int, seconds: float) -> dict[str, Any]:
    """What can be known of the newest dump without restoring it, and what is wrong with it."""
    file = newest(folder, pattern)
    about = file.stat()
    hours = (time.time() - about.st_mtime) / 3600
    told = checksum(file)
    problems = []
    if hours > most_hours:
        problems.append(f"the newest backup is {hours:.0f} hours old, more than {most_hours:g}")
    if about.st_size < least_bytes:
        problems.append(f"it has {about.st_size} bytes, fewer than {least_bytes}")
    if told == "wrong":
        problems.append("its checksum is not the one that was written beside it")
    tables = 0
    try:
        listed = run("pg_restore", "--list", str(file), seconds=seconds)
        tables = len(re.findall(r"^\d+; .* TABLE DATA ", listed, re.MULTILINE))
        if not tables:
            problems.append("it holds no table's data")
    except SystemExit as error:
        problems.append(str(error))
    return {
        "file": str(file),
        "bytes": about.st_size,
        "age_hours": round(hours, 1),
        "checksum": told,
        "tables": tables,
        "problems": problems,
        "ok": not problems,
    }


def restore(file: Path, name: str, seconds: float) -> dict[str, Any]:
    """Restore *file* into the new database *name*, count its rows, and drop it."""
    begun = time.monotonic()
    put(f'create database "{name}" template template0', "postgres", seconds)
    try:
        run("pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "-d", name, str(file), seconds=seconds)
        took = time.monotonic() - begun
        listed = put(
            "select format('%I.%I', schemaname, tablename) from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema') order by 1",
            name,
            seconds,
        ).splitlines()
        # The names come quoted by the server itself, so whatever a table is called, it is a name here.
        rows = {table: int(put(f"select count(*) from {table}", name, seconds)) for table in listed[:COUNTED]}  # noqa: S608
    finally:
        drop(name, seconds)
    return {
        "tables": len(listed),
        "rows": sum(rows.values()),
        "empty": [table for table, count in rows.items() if not count],
        "seconds": round(took, 1),
    }


def drop(name: str, seconds: float) -> None:
    """Drop a database that `restore` made."""
    if not SCRATCH.fullmatch(name):
        raise SystemExit(f"{name!r} is not a database of ours: its name must begin with tocsin_restore_")
    put(f'drop database if exists "{name}" with (force)', "postgres", seconds)


def put(statement: str, database: str, seconds: float) -> str:
    """What one statement gives, bare."""
    return run(
        "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement, seconds=seconds
    )


def main() -> None:
    """Print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    looking = actions.add_parser("check")
    looking.add_argument("folder", type=Path)
    looking.add_argument("--pattern", default="*.dump")
    looking.add_argument("--most-hours", type=float, default=26)
    looking.add_argument("--least-bytes", type=int, default=1)
    restoring = actions.add_parser("restore")
    restoring.add_argument("file", type=Path)
    restoring.add_argument("--database", required=True)
    dropping = actions.add_parser("drop")
    dropping.add_argument("--database", required=True)
    for one in (looking, restoring, dropping):
        one.add_argument("--seconds", type=float, default=600)
    asked = parser.parse_args()
    if asked.action == "check":
        found = check(asked.folder, asked.pattern, asked.most_hours, asked.least_bytes, asked.seconds)
    elif not SCRATCH.fullmatch(asked.database):
        raise SystemExit(f"{asked.database!r} must begin with tocsin_restore_")
    elif asked.action == "restore":
        found = restore(asked.file, asked.database, asked.seconds)
    else:
        drop(asked.database, asked.seconds)
        found = {"dropped": asked.database}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
