"""Everything in one run, on SQLite and on Postgres, and one table at the end: `make bench`, `make bench QUICK=1`.

python -m bench [quick] [sqlite|postgres] [names of measures]
"""

import asyncio
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path

from bench import measures, table
from bench.place import ROOT, Place, place
from bench.table import Line
from bot.kit import log
from bot.kit.clock import utc_now
from tests.postgres import Postgres, postgres

RESULT = ROOT / "out" / "bench.json"


async def measured(here: Place, size: measures.Size, wanted: list[measures.Measure]) -> list[Line]:
    """All of it on one database. What breaks is a line of the table, and the rest is measured."""
    lines: list[Line] = []
    for measure in wanted:
        began = time.monotonic()
        try:
            found = await measure(here, size)
        except Exception as error:  # noqa: BLE001 - said in the table, and the exit code
            found = [
                Line(measure.__name__, here.kind, f"FAILED: {type(error).__name__}", met=False, note=str(error)[:300])
            ]
        finally:
            for process in here.started:  # a measure that broke may have left some
                await process.stop()
            here.started.clear()
        lines += found
        took = time.monotonic() - began
        print(
            f"{here.kind:9} {measure.__name__:10} {took:5.1f} s   {'; '.join(line.ours for line in found)}", flush=True
        )
    return lines


async def bench(
    folder: Path, server: Postgres | None, size: measures.Size, wanted: list[measures.Measure]
) -> list[Line]:
    async with place(folder, server) as here:
        return await measured(here, size, wanted)


def busy() -> float:
    """How many processes wanted a core during the last minute."""
    return os.getloadavg()[0]


def main() -> None:
    words = sys.argv[1:]
    size = measures.QUICK if "quick" in words or os.environ.get("QUICK") else measures.Size()
    kinds = [kind for kind in ("sqlite", "postgres") if kind in words] or ["sqlite", "postgres"]
    names = [measure.__name__ for measure in measures.ALL]
    wanted = [measure for measure in measures.ALL if measure.__name__ in words] or list(measures.ALL)
    if unknown := set(words) - {"quick", "sqlite", "postgres", *names}:
        sys.exit(f"{', '.join(sorted(unknown))}? There is: quick, sqlite, postgres, {', '.join(names)}")
    log.configure(json=True, level=50)
    began, load = time.monotonic(), busy()
    lines: list[Line] = []
    root = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
    try:
        for kind in kinds:
            given: AbstractContextManager[Postgres | None] = (
                contextlib.nullcontext() if kind == "sqlite" else postgres(durable=True)
            )
            with given as server:
                lines += asyncio.run(bench(root / kind, server, size, wanted))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    about = {
        "at": utc_now().isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_before": round(load, 2),
        "seconds": round(time.monotonic() - began),
    }
    table.write(RESULT, lines, about)
    print()
    print(table.drawn(lines))
    print()
    print(
        f"{about['machine']}; {about['seconds']} s; load before the run {about['load_before']}; also in {RESULT.name}"
    )
    if load > 0.5:
        print("The machine was busy with something else: look at the ratios and the CPU, not at the times.")


if __name__ == "__main__":
    main()
