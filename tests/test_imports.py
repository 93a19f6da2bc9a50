"""The order of the house: imports flow one way, and a step out of line is noticed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        LINT,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )


def test_every_contract_is_kept():
    done = lint(ROOT)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "bot", folder / "bot", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("bot/alerts/grouping.py", "import bot.incidents.model", "Imports follow the data flow"),
        ("bot/sources/generic.py", "import bot.sources.alertmanager", "Plugins on one shelf"),
        ("bot/slack/views/run.py", "import bot.slack.commands.note", "Views draw, listeners listen"),
        ("bot/incidents/roles.py", "import slack_sdk", "Only the Slack edge knows Slack"),
        ("bot/runs/run.py", "import aiohttp", "What decides talks to nobody"),
        ("bot/kit/clock.py", "import aiohttp", "What decides talks to nobody"),
        ("bot/runs/params.py", "import bot.kit.fetch", "Only plugins fetch"),
        ("bot/sinks/grafana.py", "import bot.sinks.datadog", "Plugins on one shelf"),
        ("bot/incidents/sink.py", "import bot.kit.api", "Only plugins fetch"),
        ("bot/incidents/parts.py", "import dbos", "Only the engine's face knows the engine"),
        ("bot/web/health.py", "import bot.settings", "Settings stop at the door"),
        ("bot/sandbox/state.py", "import bot.incidents.model", "The sandbox knows only the kit"),
    ],
)
def test_a_step_out_of_line_is_noticed(copy: Path, module: str, statement: str, contract: str):
    file = copy / module
    before = file.read_text()
    head, quotes, rest = before.partition('"""\n')
    file.write_text(f"{head}{quotes}{statement}\n{rest}")
    try:
        done = lint(copy)
    finally:
        file.write_text(before)

    assert done.returncode != 0
    assert any(contract in line and "BROKEN" in line for line in done.stdout.splitlines()), done.stdout


def test_a_new_top_level_module_must_be_given_its_place(copy: Path):
    stranger = copy / "bot" / "stranger.py"
    stranger.write_text('"""Nobody knows where this belongs."""\n')
    try:
        done = lint(copy)
    finally:
        stranger.unlink()

    assert done.returncode != 0
    assert "stranger" in done.stdout
