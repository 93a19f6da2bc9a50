"""Runbooks of the library on a host, over a real sshd of this machine."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.catalog import targets
from bot.catalog.targets import Connection, Secret
from bot.runs.model import RunState
from tests.real.sshd import sshd
from tests.runbooks.services import TOKEN, Services, services
from tests.runbooks.test_on_services import quick

SYSTEMCTL = """\
#!/bin/sh
# A unit that is what the file beside it says.
case "$1" in
  restart) echo "$2" >> {folder}/restarted; echo up > {folder}/state ;;
  show) cat {folder}/show ;;
  list-units) echo "checkout.service loaded failed failed Checkout" ;;
esac
"""
ACTIVATE = '#!/bin/sh\necho "$1 $2" >> {folder}/activated\n'


@pytest.fixture(scope="module")
def reach(tmp_path_factory: pytest.TempPathFactory) -> Iterator[targets.Reach]:
    """The host web-1: this machine."""
    folder = tmp_path_factory.mktemp("sshd")
    with sshd(folder):
        yield targets.load(folder, {})


@pytest.fixture
def world(library, reach: targets.Reach) -> Iterator[Services]:
    """The host, and a load balancer, a health check and Prometheus beside it."""
    with services() as made:
        connection = {"url": made.url, "private": True}
        there = reach.targets.model_copy(
            update={
                "connections": {
                    "prometheus": Connection(kind="prometheus", **connection),
                    "loki": Connection(kind="loki", **connection),
                    "load_balancer": Connection(token=Secret(env="LB"), **connection),
                }
            }
        )
        library.reach = replace(reach, targets=there, environment={"LB": TOKEN})
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Programs that stand in for those that need root, and releases."""
    for name, text in (("systemctl", SYSTEMCTL), ("activate-release", ACTIVATE)):
        program = tmp_path / name
        program.write_text(text.format(folder=tmp_path))
        program.chmod(0o755)
    releases = tmp_path / "srv" / "checkout" / "releases"
    for age, name in enumerate(("43", "42")):
        (releases / name).mkdir(parents=True)
        os.utime(releases / name, (2e9 - age, 2e9 - age))
    (tmp_path / "srv" / "checkout" / "current").symlink_to(releases / "43")
    return tmp_path


def there(site: Path, world: Services) -> Callable[[str], str]:
    """The text of a runbook for this machine: no root, no /srv, no waiting, and the health check at its port."""

    def change(text: str) -> str:
        text = (
            quick(text).replace("sudo, -n, systemctl", f"{site}/systemctl").replace("[systemctl", f"[{site}/systemctl")
        )
        text = text.replace("sudo, -n, /usr/local/bin/activate-release", f"{site}/activate-release")
        text = text.replace("/srv/", f"{site}/srv/")
        return re.sub(r"http://\{\{ (params.host|item) \}\}:\{\{ params.port \}\}", world.url, text)

    return change


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


async def test_a_restart_that_helps_puts_the_instance_back(library, world, site):
    world.healthy = lambda: (site / "state").exists()
    world.number = lambda query: 0.001 if (site / "state").exists() else 0.4

    run = await library.play("restart-service", {"service": "checkout", "host": "web-1"}, there(site, world))

    assert run.state == RunState.SUCCEEDED, run.failure
    assert lines(site / "restarted") == ["checkout.service"]
    assert world.weights == [("web-1", 0), ("web-1", 100)]
    assert lines(site / "activated") == []
    assert "Restarted checkout on web-1; 5xx 40.0 % → 0.1 %." in await library.said()
    assert TOKEN not in await library.everything()


async def test_a_restart_that_does_not_help_goes_back_to_the_release_before(library, world, site):
    world.healthy = lambda: False

    run = await library.play("restart-service", {"service": "checkout", "host": "web-1"}, there(site, world))

    assert run.state == RunState.ROLLED_BACK
    assert world.weights == [("web-1", 0), ("web-1", 100)]
    assert lines(site / "activated") == [f"checkout {site}/srv/checkout/releases/43"]


async def test_a_host_that_nobody_knows_is_not_drained(library, world, site):
    run = await library.play("restart-service", {"service": "checkout", "host": "web-9"}, there(site, world))

    assert run.state == RunState.FAILED
    assert "did you mean web-1" in run.failure["message"]
    assert world.weights == []


async def test_errors_since_a_deploy_go_with_the_release_before(library, world, site):
    world.number = lambda query: 0.001 if lines(site / "activated") else 0.2

    run = await library.play("rollback-deploy", {"service": "checkout", "hosts": ["web-1"]}, there(site, world))

    assert run.state == RunState.SUCCEEDED, run.failure
    assert lines(site / "activated") == ["checkout 42"]
    assert (
        "Took checkout back from 43 to 42 on 1 hosts, with the yes of <@UBOB>; 5xx 20.0 % → 0.1 %."
        in await library.said()
    )


async def test_errors_that_stay_bring_the_new_release_back(library, world, site):
    world.number = lambda query: 0.2

    run = await library.play("rollback-deploy", {"service": "checkout", "hosts": ["web-1"]}, there(site, world))

    assert run.state == RunState.ROLLED_BACK
    assert lines(site / "activated") == ["checkout 42", "checkout 43"]


async def test_a_no_leaves_the_release_as_it_is(library, world, site):
    world.number = lambda query: 0.2

    run = await library.play(
        "rollback-deploy", {"service": "checkout", "hosts": ["web-1"]}, there(site, world), yes=False
    )

    assert run.state == RunState.REJECTED
    assert lines(site / "activated") == []


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with old files and new ones, names that a shell would trip over, and one elsewhere."""
    folder = tmp_path / "log"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.log", "deep/b c.log", "$(touch x);.log", "-rf"):
        (folder / name).write_bytes(b"x" * 1000)
        os.utime(folder / name, (time.time() - 30 * 86400,) * 2)
    (folder / "new.log").write_text("new")
    (tmp_path / "outside.log").write_text("old")
    os.utime(tmp_path / "outside.log", (1e9, 1e9))
    (folder / "link.log").symlink_to(tmp_path / "outside.log")
    return folder


def cleaned(folder: Path) -> Callable[[str], str]:
    """The runbook with another folder to choose, and a disk that may be as full as this one is."""
    return lambda text: (
        text.replace("[/var/log/app, /var/cache/app, /var/tmp, /tmp]", f"['{folder}']")
        .replace("default: /var/log/app", f"default: '{folder}'")
        .replace("max: 95", "max: 101")
    )


async def test_only_old_files_are_deleted_once_somebody_says_yes(library, world, old):
    seen = []

    run = await library.play(
        "disk-cleanup", {"host": "web-1", "target_percent": 101}, cleaned(old),
        before_answer=lambda: seen.append(sorted(file.name for file in old.rglob("*") if file.is_file())),
    )  # fmt: skip

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"files": 4, "bytes": 4000, "deleted": 4}
    assert len(seen[0]) == 6  # nothing was deleted before the answer
    assert sorted(file.name for file in old.rglob("*")) == ["deep", "link.log", "new.log"]
    assert (old.parent / "outside.log").exists()
    assert 'approved by <@UBOB>: "it was looked at"' in await library.said()


async def test_after_a_no_every_file_is_still_there(library, world, old):
    run = await library.play("disk-cleanup", {"host": "web-1"}, cleaned(old), yes=False)

    assert run.state == RunState.REJECTED
    assert len([file for file in old.rglob("*") if file.is_file()]) == 6


async def test_a_disk_that_is_still_too_full_is_a_failure(library, world, old):
    run = await library.play(
        "disk-cleanup", {"host": "web-1", "target_percent": 0},
        lambda text: cleaned(old)(text).replace("min: 50", "min: 0"),
    )  # fmt: skip

    assert run.state == RunState.FAILED
    assert "is still" in run.failure["message"]


async def test_who_takes_the_memory_is_named(library, world):
    run = await library.play("memory-pressure", {"host": "web-1"})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert 0 < run.outputs["available_percent"] < 100
    assert f"The largest process is {run.outputs['largest']}" in await library.said()


async def test_a_unit_that_failed_is_found(library, world, site):
    (site / "show").write_text(
        "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nExecMainStatus=1\nNRestarts=5\n"
        "ActiveEnterTimestamp=\n"
    )

    run = await library.play("service-down", {"host": "web-1", "unit": "checkout.service"}, there(site, world))

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"up": False}
    assert "checkout.service on web-1 is failed (failed, result exit-code, exit code 1) after 5 restarts" in (
        await library.said()
    )


async def test_the_journal_of_a_host_is_searched_beside_loki(library, world):
    run = await library.play("log-search", {"service": "checkout", "around": "2025-01-06T09:00:00Z", "host": "web-1"})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"in_journal": 0, "in_loki": 0}
    assert "The journal of web-1 has 0 lines" in await library.said()


async def test_the_updates_of_two_hosts_are_counted(library, world):
    run = await library.play("patch-check", {"hosts": ["web-1", "web-1"]})

    assert run.state == RunState.SUCCEEDED, run.failure
    assert "others wait on 2 hosts" in await library.said()


async def test_a_known_hole_is_found_in_what_is_installed(library, world, tmp_path):
    known = {
        "id": "EX-1",
        "affected": [
            {
                "package": {"ecosystem": "Debian:12", "name": "dpkg"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99:0"}]}],
            }
        ],
    }
    (tmp_path / "advisories").mkdir()
    (tmp_path / "advisories" / "EX-1.json").write_text(json.dumps(known))

    run = await library.play("vulnerability-scan", {"host": "web-1", "advisories": str(tmp_path / "advisories")})

    assert run.state == RunState.FAILED
    assert run.failure["message"].endswith("1 known holes of web-1 are closed by an update that waits: dpkg")
    assert "an update closes 1 of them: dpkg" in await library.said()
