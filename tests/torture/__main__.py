"""`python -m tests.torture`: rounds of kills and faults on both databases, and a table of what they broke."""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import postgres
from tests.torture import rounds
from tests.torture.oracle import INVARIANTS
from tests.torture.rounds import Row


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="random rounds on each database")
    parser.add_argument("--points", type=int, default=400, help="fault points to die at, at most, on each database")
    parser.add_argument("--deep", type=int, default=2, help="how many passes of a point are points of their own")
    parser.add_argument("--chance", type=float, default=1.0, help="of dying at a point that nobody has died at yet")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--databases", default="sqlite,postgres")
    parser.add_argument("--seconds", type=float, default=15, help="how long things go wrong in a random round")
    parser.add_argument("--flood", type=float, default=60, help="seconds of 429 to everything in one round; 0: none")
    parser.add_argument("--incidents", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60, help="start no round after so many")
    parser.add_argument("--folder", type=Path, default=None, help="where rounds that went wrong are left")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="tocsin-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, folder {folder}", flush=True)
    bad = 0
    for database in given.databases.split(","):
        bad += asyncio.run(campaign(given, database, seed, folder))
    return 1 if bad else 0


async def campaign(given: argparse.Namespace, database: str, seed: int, folder: Path) -> int:
    """All rounds on one database; how many of them went wrong."""
    found: list[Row] = []
    end = time.monotonic() + given.minutes * 60
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.postgres(lasting=True)) if database == "postgres" else None
        points = folder / f"points-{database}"
        points.unlink(missing_ok=True)
        number = 0
        while given.points and time.monotonic() < end:
            before = _count(points)
            most = min(12, given.points - before)
            if most <= 0:
                break
            place = folder / f"{database}-points-{number}"
            row = await rounds.point_round(
                place, points, server=server, way=("socket", "http")[number % 2], seed=seed + number, deep=given.deep,
                most=most, incidents=2, chance=given.chance,
            )  # fmt: skip
            _tell(database, row, found, place)
            number += 1
            if row.kills == 0:
                break  # nobody died: every point there is has had its death
        if given.flood and time.monotonic() < end:
            place = folder / f"{database}-flood"
            way = "http" if database == "sqlite" else "socket"
            row = await rounds.flood_round(
                place, server=server, way=way, seed=seed, seconds=given.flood, incidents=given.incidents
            )
            _tell(database, row, found, place)
        for number in range(given.rounds):
            if time.monotonic() > end:
                break
            replicas = 2 if database == "postgres" and number % 2 else 1
            way = "socket" if replicas == 2 or number % 4 < 2 else "http"
            place = folder / f"{database}-random-{number}"
            row = await rounds.random_round(
                place, server=server, way=way, replicas=replicas, seed=seed + number, seconds=given.seconds,
                incidents=given.incidents,
            )  # fmt: skip
            _tell(database, row, found, place)
    _table(database, found, _count(points))
    return sum(not row.good for row in found)


def _count(points: Path) -> int:
    return len(points.read_text().splitlines()) if points.exists() else 0


def _tell(database: str, row: Row, found: list[Row], place: Path) -> None:
    found.append(row)
    faults = " ".join(f"{name}×{count}" for name, count in sorted(row.faults.items()))
    print(
        f"{database:8} {row.name:20} seed {row.seed:6} {row.seconds:5.1f} s  {row.kills:3} kills  "
        f"{'ok' if row.good else 'WRONG'}  {faults}",
        flush=True,
    )
    if row.failure:
        print(f"    did not come to its end: {row.failure}", flush=True)
    for invariant, wrong in row.verdict.wrong.items():
        for what in wrong[:6]:
            print(f"    {invariant}: {what}", flush=True)
    if row.good:
        rounds.forget(place)
    else:
        print(f"    left in {place}", flush=True)


def _table(database: str, found: list[Row], points: int) -> None:
    volume: Counter[str] = sum((row.verdict.volume for row in found), Counter())
    faults: Counter[str] = sum((row.faults for row in found), Counter())
    print(f"\n{database}: {len(found)} rounds, {sum(row.kills for row in found)} kills, {points} fault points died at")
    print("  faults:  " + (", ".join(f"{name} {count}" for name, count in sorted(faults.items())) or "none"))
    print("  volumes: " + ", ".join(f"{name} {count}" for name, count in sorted(volume.items())))
    for invariant in INVARIANTS:
        print(f"  {invariant:20} {sum(len(row.verdict.wrong[invariant]) for row in found)}")
    print(f"  {'rounds not ended':20} {sum(row.failure is not None for row in found)}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
