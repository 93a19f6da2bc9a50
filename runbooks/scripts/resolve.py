"""Asks DNS servers one by one for a name, so that it can be seen which of them fails, and how."""

import argparse
import ipaddress
import json
import re
import secrets
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

KINDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def question(name: str, kind: str, number: int) -> bytes:
    """A query for *name* as it goes over the wire."""
    labels = name.rstrip(".").split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise SystemExit(f"{name!r} is not a name that DNS knows")
    wire = b"".join(bytes([len(label)]) + label.encode("ascii") for label in labels) + b"\0"
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + wire + struct.pack(">HH", KINDS[kind], 1)


def skip(wire: bytes, at: int) -> int:
    """Where the name at *at* ends."""
    while True:
        size = wire[at]
        if size == 0:
            return at + 1
        if size >= 0xC0:
            return at + 2
        at += size + 1


def answers(wire: bytes) -> tuple[str, list[str]]:
    """The code of an answer, and the addresses in it; of other records, how many bytes they have."""
    _, flags, asked, count, _, _ = struct.unpack_from(">HHHHHH", wire)
    at = 12
    for _ in range(asked):
        at = skip(wire, at) + 4
    found = []
    for _ in range(count):
        at = skip(wire, at)
        kind, _, _, size = struct.unpack_from(">HHIH", wire, at)
        data = wire[at + 10 : at + 10 + size]
        at += 10 + size
        if kind in (KINDS["A"], KINDS["AAAA"]):
            found.append(str(ipaddress.ip_address(data)))
        else:
            names = {number: name for name, number in KINDS.items()}
            found.append(f"{names.get(kind, kind)} ({size} bytes)")
    return CODES.get(flags & 15, str(flags & 15)), found


def ask(server: str, port: int, name: str, kind: str, seconds: float) -> dict[str, Any]:
    """What one server says, or why it says nothing."""
    number = secrets.randbelow(65536)
    wire = question(name, kind, number)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    begun = time.monotonic()
    told: dict[str, Any] = {"server": server, "ok": False, "code": "", "answers": [], "ms": 0, "problem": ""}
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as line:
            line.settimeout(seconds)
            line.connect((server, port))
            line.send(wire)
            reply = line.recv(4096)
            while len(reply) < 12 or reply[:2] != wire[:2]:  # a late answer to another question
                reply = line.recv(4096)
        told["code"], told["answers"] = answers(reply)
        told["ok"] = told["code"] == "NOERROR" and bool(told["answers"])
        told["problem"] = "" if told["ok"] else "no such record" if told["code"] == "NOERROR" else told["code"]
    except TimeoutError:
        told["problem"] = f"no answer within {seconds:g} s"
    except (struct.error, IndexError, ValueError):
        told["problem"] = "an answer that cannot be read"
    except OSError as error:
        told["problem"] = error.strerror or type(error).__name__
    told["ms"] = round((time.monotonic() - begun) * 1000)
    return told


def servers(conf: str) -> list[str]:
    """The servers that a resolv.conf names."""
    return re.findall(r"^\s*nameserver\s+([0-9A-Fa-f.:]+)", conf, re.MULTILINE)


def main() -> None:
    """Print for every server what it says, and in a word where the fault lies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--type", choices=tuple(KINDS), default="A", dest="kind")
    parser.add_argument("--servers", default="", help="addresses with commas between; those of resolv.conf otherwise")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--resolv-conf", type=Path, default=Path("/etc/resolv.conf"))
    asked = parser.parse_args()
    asking = [one for one in asked.servers.split(",") if one] or servers(
        asked.resolv_conf.read_text(encoding="utf-8", errors="replace")
    )
    if not asking:
        raise SystemExit(f"{asked.resolv_conf} names no server; give one with --servers")
    told = [ask(server, asked.port, asked.name, asked.kind, asked.seconds) for server in asking[:10]]
    failing = [one["server"] for one in told if not one["ok"]]
    seen = {tuple(sorted(one["answers"])) for one in told if one["ok"]}
    verdict = (
        "all servers fail" if len(failing) == len(told)
        else "some servers fail" if failing
        else "the servers disagree" if len(seen) > 1
        else "all servers answer"
    )  # fmt: skip
    json.dump({"name": asked.name, "verdict": verdict, "failing": failing, "servers": told}, sys.stdout)


if __name__ == "__main__":
    main()
