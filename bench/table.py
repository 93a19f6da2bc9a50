"""What came out: one line for each goal, as a table for people and as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HEAD = ("what", "database", "ours", "floor", "ratio", "goal", "")


@dataclass(frozen=True)
class Line:
    """One figure. *met* is None where there is no goal: the figure is there to be known."""

    what: str
    database: str
    ours: str
    floor: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line as it is shown."""
        ratio = "" if self.ratio is None or math.isnan(self.ratio) else f"{self.ratio:.2f}"
        verdict = "" if self.met is None else "met" if self.met else "NOT MET"
        return (self.what, self.database, self.ours, self.floor, ratio, self.goal, verdict)


def drawn(lines: Sequence[Line]) -> str:
    """The table, its columns as wide as they need to be; notes follow below."""
    rows = [HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    shown.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"  {line.database} {line.what}: {line.note}".rstrip() for line in lines if line.note]
    return "\n".join([*shown, *(["", "Notes"] if notes else []), *notes])


def write(path: Path, lines: Sequence[Line], about: dict[str, Any]) -> None:
    """The same as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**about, "lines": [asdict(line) for line in lines]}, indent=2) + "\n")
