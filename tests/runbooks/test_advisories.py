"""Installed packages are held against advisories as the OSV format and Debian's order of versions say."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from tests.runbooks.conftest import play

PACKAGES = (
    "ii \topenssl\t3.0.15-1~deb12u1\nii \tcurl\t7.88.1-10+deb12u8\nrc \tgone\t1.0-1\nii \tzlib\t1:1.2.13.dfsg-1\n"
)


def advisory(name: str, package: str, *events: dict, ecosystem: str = "Debian:12", **more) -> dict:
    return {
        "id": name,
        "summary": f"A hole in {package}",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *events]}],
            }
        ],
        **more,
    }


def scan(place: Path, *known: dict, packages: str = PACKAGES, zipped: bool = False) -> dict:
    if zipped:
        place = place / "all.zip"
        with zipfile.ZipFile(place, "w") as whole:
            for one in known:
                whole.writestr(f"{one['id']}.json", json.dumps(one))
    else:
        for one in known:
            (place / f"{one['id']}.json").write_text(json.dumps(one))
    return play("advisories.py", str(place), "--ecosystem=Debian:12", given={"packages": packages}).json


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_package_older_than_the_fix_has_the_hole(tmp_path, zipped):
    found = scan(tmp_path, advisory("EX-1", "openssl", {"fixed": "3.0.15-1"}), zipped=zipped)

    assert found["installed"] == 3
    assert found["holes"] == [
        {
            "id": "EX-1",
            "package": "openssl",
            "installed": "3.0.15-1~deb12u1",
            "fixed": "3.0.15-1",
            "summary": "A hole in openssl",
        }
    ]
    assert (found["count"], found["fixable"], found["packages"]) == (1, 1, ["openssl"])


@pytest.mark.parametrize(
    "known",
    [
        advisory("EX-1", "openssl", {"fixed": "3.0.15-1~deb12u1"}),
        advisory("EX-2", "openssl", {"last_affected": "3.0.14-1"}),
        advisory("EX-3", "openssl", {"fixed": "4"}, ecosystem="Debian:11"),
        advisory("EX-4", "openssl", {"fixed": "4"}, ecosystem="Ubuntu:22.04"),
        advisory("EX-5", "openssl", {"fixed": "4"}, withdrawn="2025-01-01T00:00:00Z"),
        advisory("EX-6", "gone", {"fixed": "4"}),
        advisory("EX-7", "zlib", {"fixed": "2.0"}),
        {"id": "EX-8"},
        {"id": "EX-9", "affected": [{"package": {"name": "openssl", "ecosystem": "Debian:12"}}]},
    ],
    ids=lambda one: one["id"],
)
def test_what_does_not_concern_it_is_no_hole(tmp_path, known):
    assert scan(tmp_path, known)["count"] == 0


def test_a_hole_that_nothing_closes_is_counted_apart(tmp_path):
    found = scan(tmp_path, advisory("EX-1", "curl"), advisory("EX-2", "curl", {"last_affected": "8"}))

    assert (found["count"], found["fixable"], found["packages"]) == (2, 0, [])


def test_a_hole_that_came_back_after_a_fix_is_one(tmp_path):
    known = advisory("EX-1", "curl", {"fixed": "7.80"}, {"introduced": "7.85"}, {"fixed": "7.99"})

    assert scan(tmp_path, known)["holes"][0]["fixed"] == "7.99"


def test_the_age_of_the_advisories_is_told(tmp_path):
    one = tmp_path / "one.zip"
    with zipfile.ZipFile(one, "w"):
        pass
    os.utime(one, (1e9, 1e9))

    assert play("advisories.py", str(one), given={"packages": PACKAGES}).json["age_hours"] > 1000


@pytest.mark.parametrize(
    ("place", "packages", "told"),
    [("/nowhere", PACKAGES, "cannot be read"), ("", "", "no installed package was given")],
)
def test_what_cannot_be_scanned_says_why(tmp_path, place, packages, told):
    said = play("advisories.py", place or str(tmp_path), given={"packages": packages})

    assert said.code == 1
    assert told in said.err
