"""Looks at the certificate that a TLS server shows, expired and self-signed ones too; needs the program openssl."""

import argparse
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
PROTOCOLS = ("smtp", "imap", "pop3", "ftp", "postgres", "mysql", "ldap", "xmpp")


def shown(host: str, port: int, name: str, starttls: str, seconds: float) -> str:
    """All that openssl tells of the server's end of a handshake."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    command = ["openssl", "s_client", "-connect", where, "-servername", name, "-verify_hostname", name, "-showcerts"]
    if starttls:
        command += ["-starttls", starttls]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except FileNotFoundError:
        raise SystemExit("openssl is not installed where the bot runs") from None
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{host}:{port} shows no certificate within {seconds:g} s") from None
    text = done.stdout.decode("utf-8", "replace")
    if not PEM.search(text):
        why = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SystemExit(f"{host}:{port} shows no certificate: {_cause(why)}")
    return text


def _cause(lines: list[str]) -> str:
    """The reason in the first of openssl's errors: number, error, code, library, function, reason, file, line."""
    errors = [line.split(":") for line in lines if ":error:" in line]
    return next((parts[5] for parts in errors if len(parts) > 5), (lines or ["nothing was said"])[0])


def read(pem: str) -> dict[str, str]:
    """Subject, issuer, names and last day of one certificate."""
    command = ["openssl", "x509", "-noout", "-subject", "-issuer", "-enddate", "-serial", "-nameopt", "RFC2253"]
    command += ["-ext", "subjectAltName"]
    done = subprocess.run(command, input=pem.encode(), capture_output=True, timeout=10, check=True)
    text = done.stdout.decode("utf-8", "replace")
    found = dict(re.findall(r"^(subject|issuer|notAfter|serial)=[ ]?(.*)$", text, re.MULTILINE))
    found["names"] = " ".join(re.findall(r"(?:DNS|IP Address):([^,\s]+)", text))
    return found


def about(text: str, now: datetime) -> dict[str, Any]:
    """What *text*, told by openssl, says of the server's certificate and of the chain to it."""
    pems = PEM.findall(text)
    own, *others = [read(pem) for pem in pems[:10]]
    ends = datetime.strptime(own["notAfter"], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    verdict = re.findall(r"Verif(?:y return code|ication error): (?:\d+ \()?([^)\n]+)", text)
    problem = verdict[-1].strip() if verdict and verdict[-1].strip() != "ok" else ""
    left = (ends - now).total_seconds()
    return {
        "subject": own["subject"],
        "issuer": own["issuer"],
        "serial": own["serial"],
        "names": own["names"].split(),
        "ends_at": ends.isoformat(),
        "days_left": int(left // 86400),
        "expired": left <= 0,
        "trusted": not problem,
        "problem": problem,
        "chain": [one["subject"] for one in others],
    }


def main() -> None:
    """Print what is known of the certificate as JSON; end with 1 and a word on stderr where none was shown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--name", default="", help="the name that is asked for, if it is not the host's")
    parser.add_argument("--starttls", choices=("", *PROTOCOLS), default="")
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    name = asked.name or asked.host
    for text in (asked.host, name):
        if not NAME.fullmatch(text):
            raise SystemExit(f"{text!r} is not the name of a host")
    found = about(shown(asked.host, asked.port, name, asked.starttls, asked.seconds), datetime.now(UTC))
    json.dump({"host": asked.host, "port": asked.port, **found}, sys.stdout)


if __name__ == "__main__":
    main()
