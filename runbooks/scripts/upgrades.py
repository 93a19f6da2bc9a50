"""Reads what `apt list --upgradable` printed: which packages wait, and which of them close a security hole."""

import argparse
import json
import re
import sys
from typing import Any

# nginx/stable-security 1.22.1-9+deb12u1 amd64 [upgradable from: 1.22.1-9]
LINE = re.compile(r"(?P<name>[^/\s]+)/(?P<from>\S+) (?P<to>\S+) (?P<arch>\S+) \[[^\]:]+: (?P<now>[^\]]+)\]")


def waiting(text: str) -> list[dict[str, Any]]:
    """The packages in one listing."""
    found = [match.groupdict() for line in text.splitlines() if (match := LINE.fullmatch(line.strip()))]
    return [
        {
            "package": one["name"],
            "installed": one["now"],
            "candidate": one["to"],
            "security": any(part.endswith("security") for part in one["from"].split(",")),
        }
        for one in found
    ]


def summary(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """All hosts together, and each by itself. A report has a *host*, the listing (*text*) and *reboot*."""
    hosts = []
    for report in reports:
        packages = waiting(str(report.get("text") or ""))
        hosts.append(
            {
                "host": report.get("host") or "here",
                "reboot": bool(report.get("reboot")),
                "count": len(packages),
                "security": [one["package"] for one in packages if one["security"]],
            }
        )
    return {
        "count": sum(one["count"] for one in hosts),
        "security": sum(len(one["security"]) for one in hosts),
        "reboot": [one["host"] for one in hosts if one["reboot"]],
        "behind": [one["host"] for one in hosts if one["security"]],
        "packages": sorted({name for one in hosts for name in one["security"]}),
        "hosts": hosts,
    }


def main() -> None:
    """Read three lists side by side from stdin, {"hosts": …, "texts": …, "reboots": …}, and print the summary."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    given = json.load(sys.stdin)
    columns = zip(given["hosts"], given["texts"], given["reboots"], strict=True)
    reports = [{"host": host, "text": text, "reboot": reboot} for host, text, reboot in columns]
    json.dump(summary(reports), sys.stdout)


if __name__ == "__main__":
    main()
