"""Holds installed Debian packages against advisories in the OSV format that lie in a folder or a ZIP file.

The format is described at ossf.github.io/osv-schema. Nothing is asked over the network; whoever runs the bot puts
fresh advisories there, and their age is told.
"""

import argparse
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LARGEST = 4 * 1024**2  # bytes of one advisory
SHOWN = 100


def order(text: str) -> list[tuple[int, ...]]:
    """The weight of each letter outside of digits, as dpkg compares it: `~` before the end, letters before the rest."""
    weights = {"~": -1}
    return [(weights.get(letter, ord(letter) if letter.isalpha() else ord(letter) + 256),) for letter in text]


def compare(one: str, other: str) -> int:
    """Below zero where *one* is the older of two versions of a Debian package, above where it is the newer."""
    epoch, upstream, revision = parts(one)
    other_epoch, other_upstream, other_revision = parts(other)
    if epoch != other_epoch:
        return -1 if epoch < other_epoch else 1
    return _piece(upstream, other_upstream) or _piece(revision, other_revision)


def parts(version: str) -> tuple[int, str, str]:
    """Epoch, upstream version and revision."""
    head, colon, rest = version.partition(":")
    epoch, rest = (int(head), rest) if colon and head.isdigit() else (0, version)
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "")


def _piece(one: str, other: str) -> int:
    while one or other:
        words, other_words = re.match(r"\D*", one), re.match(r"\D*", other)
        mine, theirs = words[0] if words else "", other_words[0] if other_words else ""
        one, other = one[len(mine) :], other[len(theirs) :]
        # The end of the letters weighs nothing, and so more than `~`.
        left, right = [*order(mine), (0,)], [*order(theirs), (0,)]
        if left != right:
            return -1 if left < right else 1
        digits, other_digits = re.match(r"\d*", one), re.match(r"\d*", other)
        number, other_number = digits[0] if digits else "", other_digits[0] if other_digits else ""
        one, other = one[len(number) :], other[len(other_number) :]
        if int(number or 0) != int(other_number or 0):
            return -1 if int(number or 0) < int(other_number or 0) else 1
    return 0


def hit(affected: dict[str, Any], version: str) -> str | None:
    """Why *version* is among those that are *affected*: the version that mends it, `""` if none does; None if not."""
    if version in (affected.get("versions") or ()):
        return _fixed(affected)
    for span in affected.get("ranges") or ():
        if span.get("type") != "ECOSYSTEM":
            continue
        inside, mended = False, ""
        for event in span.get("events") or ():
            if "introduced" in event:
                start = event["introduced"]
                inside = inside or start == "0" or compare(version, start) >= 0
            elif "fixed" in event:
                mended = event["fixed"]
                inside = inside and compare(version, mended) < 0
            elif "last_affected" in event:
                inside = inside and compare(version, event["last_affected"]) <= 0
        if inside:
            return mended
    return None


def _fixed(affected: dict[str, Any]) -> str:
    events = [event for span in affected.get("ranges") or () for event in span.get("events") or ()]
    return next((event["fixed"] for event in events if "fixed" in event), "")


def advisories(place: Path) -> Iterator[dict[str, Any]]:
    """Every advisory in the ZIP file or the folder *place*."""
    if place.is_dir():
        for file in sorted(place.rglob("*.json")):
            yield json.loads(file.read_text(encoding="utf-8"))
    else:
        with zipfile.ZipFile(place) as whole:
            for entry in whole.infolist():
                if entry.filename.endswith(".json") and entry.file_size <= LARGEST:
                    yield json.loads(whole.read(entry))


def installed(text: str) -> dict[str, str]:
    """Source packages and their versions, from the lines of dpkg-query: state, source package, its version."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[1]: row[2] for row in rows if len(row) >= 3 and row[0].startswith("ii")}


def holes(packages: dict[str, str], known: Iterator[dict[str, Any]], ecosystem: str) -> list[dict[str, Any]]:
    """What is known against the *packages*."""
    found = []
    for advisory in known:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected") or ():
            package = affected.get("package") or {}
            name, system = package.get("name"), str(package.get("ecosystem") or "")
            if name not in packages or system not in (ecosystem, ecosystem.partition(":")[0]):
                continue
            fixed = hit(affected, packages[name])
            if fixed is not None:
                found.append(
                    {
                        "id": str(advisory.get("id") or "?"),
                        "package": name,
                        "installed": packages[name],
                        "fixed": fixed,
                        "summary": str(advisory.get("summary") or advisory.get("details") or "")[:200],
                    }
                )
    unique = {(one["package"], one["id"]): one for one in found}
    return [unique[key] for key in sorted(unique)]


def main() -> None:
    """Read {"packages": the lines of dpkg-query} from stdin and print what is known against them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("advisories", type=Path, help="folder or ZIP file of OSV records")
    parser.add_argument("--ecosystem", default="Debian:12", help="such as Debian:12 or Ubuntu:22.04")
    asked = parser.parse_args()
    try:
        age = time.time() - asked.advisories.stat().st_mtime
    except OSError as error:
        raise SystemExit(f"the advisories in {asked.advisories} cannot be read: {error.strerror}") from None
    packages = installed(str(json.load(sys.stdin).get("packages") or ""))
    if not packages:
        raise SystemExit("no installed package was given; does dpkg-query work on that host?")
    found = holes(packages, advisories(asked.advisories), asked.ecosystem)
    fixable = [one for one in found if one["fixed"]]
    json.dump(
        {
            "installed": len(packages),
            "count": len(found),
            "fixable": len(fixable),
            "packages": sorted({one["package"] for one in fixable}),
            "age_hours": int(age // 3600),
            "holes": sorted(found, key=lambda one: not one["fixed"])[:SHOWN],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
