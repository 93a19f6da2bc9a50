"""Every question of the library to Prometheus is one that Prometheus understands."""

import json
import subprocess

import pytest

from bot.runs.expressions import render_quoted
from bot.steps.prometheus import quote
from tests.runbooks.test_library import BOOKS, steps

QUERIES = sorted(
    {
        (book.runbook.id, step.title, step.action["query"])
        for book in BOOKS.values()
        for step in steps(book.runbook)
        if step.type == "prometheus"
    }
)
# A value for whatever is filled in, as a person would give it.
PARAMS = {
    "service": "checkout",
    "dependency": "recommendations",
    "database": "orders",
    "queue": "orders",
    "metric": "kafka_consumergroup_lag",
    "label": "consumergroup",
}


def test_there_are_questions_to_try():
    assert len(QUERIES) > 10


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """All of them as rules, which promtool reads."""
    known = {"params": PARAMS, "vars": {"budget": 0.001}}
    made = [
        {"record": f"query:{number}", "expr": render_quoted(query, known, quote)}
        for number, (_, _, query) in enumerate(QUERIES)
    ]
    file = tmp_path_factory.mktemp("rules") / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "library", "rules": made}]}))
    return subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)


def test_prometheus_understands_all_of_them(rules):
    assert rules.returncode == 0, rules.stderr
    assert f"{len(QUERIES)} rules found" in rules.stdout
