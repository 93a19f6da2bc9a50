"""Findings as SARIF 2.1.0, which code hosts and editors show beside the text."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from bot import __version__
from bot.postmortems.lint import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {"error": "error", "warn": "warning", "info": "note"}


def sarif(findings: Sequence[Finding], name: str) -> dict[str, Any]:
    """A log with one run; *name* is the file that was read."""
    seen = {finding.rule: finding for finding in findings}
    order = {rule: number for number, rule in enumerate(sorted(seen))}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tocsin",
                        "version": __version__,
                        "rules": [_rule(seen[rule]) for rule in order],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, order[finding.rule], name) for finding in findings],
            }
        ],
    }


def _rule(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.rule,
        "name": finding.family,
        "shortDescription": {"text": finding.why},
        "help": {"text": finding.hint},
        "defaultConfiguration": {"level": LEVELS[finding.level]},
    }


def _result(finding: Finding, number: int, name: str) -> dict[str, Any]:
    return {
        "ruleId": finding.rule,
        "ruleIndex": number,
        "level": LEVELS[finding.level],
        "message": {"text": f"{finding.why} {finding.hint}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(name)},
                    "region": {
                        "startLine": finding.line,
                        "startColumn": finding.column,
                        "snippet": {"text": finding.text},
                    },
                }
            }
        ],
    }
