"""What apt says of updates is read as it is printed, host by host."""

import pytest

from tests.runbooks.conftest import play

# As apt 2.6 printed it on a machine with Debian 12.
LISTED = """\
Listing...
appstream/oldstable 0.16.1-2+b1 amd64 [upgradable from: 0.16.1-2]
apt-transport-https/oldstable-security 2.6.2 all [upgradable from: 2.6.1]
apt/oldstable-security 2.6.2 amd64 [upgradable from: 2.6.1]
base-files/oldstable 12.4+deb12u15 amd64 [upgradable from: 12.4+deb12u11]
"""
# As Ubuntu prints where a package comes from.
UBUNTU = "openssl/jammy-updates,jammy-security 3.0.2-0ubuntu1.18 amd64 [upgradable from: 3.0.2-0ubuntu1.15]\n"


def read(*texts: str, reboots: list[bool] | None = None) -> dict:
    hosts = [f"web-{number}" for number in range(1, len(texts) + 1)]
    given = {"hosts": hosts, "texts": list(texts), "reboots": reboots or [False] * len(texts)}
    return play("upgrades.py", given=given).json


def test_updates_that_close_a_hole_are_told_apart_from_others():
    found = read(LISTED, UBUNTU)

    assert (found["count"], found["security"]) == (5, 3)
    assert found["packages"] == ["apt", "apt-transport-https", "openssl"]
    assert found["behind"] == ["web-1", "web-2"]


def test_a_host_that_is_up_to_date_is_not_behind():
    found = read("Listing...\n", UBUNTU, reboots=[True, False])

    assert found["behind"] == ["web-2"]
    assert found["reboot"] == ["web-1"]
    assert found["hosts"][0] == {"host": "web-1", "reboot": True, "count": 0, "security": []}


@pytest.mark.parametrize(
    "text", ["", "WARNING: apt does not have a stable CLI interface.", "x" * 100_000, "a/b c d [e]"]
)
def test_what_is_no_package_counts_for_nothing(text):
    assert read(text)["count"] == 0


def test_lists_that_do_not_belong_together_are_refused():
    said = play("upgrades.py", given={"hosts": ["a"], "texts": [], "reboots": []})

    assert said.code != 0
