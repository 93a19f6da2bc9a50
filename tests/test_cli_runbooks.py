"""Runbooks on the command line: tried, shown, played and run."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bot.engine import Engine
from bot.incidents import lifecycle
from bot.incidents.model import Sev
from bot.kit import yaml
from bot.kit.clock import utc_now
from bot.kit.db import Database
from bot.reactions import react
from tests.runs.conftest import processes

ROOT = Path(__file__).parents[1]
BOOK = textwrap.dedent(
    """\
    version: 1
    id: look
    name: Look at a folder
    owner: team-platform
    secrets: [LB_TOKEN]
    params:
      dir: {pattern: '/[a-z/0-9_.-]*', source: alert.labels.dir}
      most: {type: int, default: 3}
    vars: {there: '{{ params.dir }}/here'}
    steps:
      - id: list
        name: What is in {{ params.dir }}
        exec: {argv: [ls, '{{ params.dir }}'], parse: lines}
        effect: read
        outputs: {count: lines | length}
      - id: clear
        when: steps.list.count > params.most
        name: Clear
        exec:
          argv: [rm, -r, '{{ vars.there }}', 'because of {{ steps.list.count }}']
          env: {T: '{{ secrets.LB_TOKEN }}'}
        rollback:
          - exec: {argv: [mkdir, '{{ vars.there }}']}
      - note: 'There were {{ steps.list.count | float }} in {{ params.dir }}'
    outputs: {count: steps.list.count}
    """
)
TESTS = textwrap.dedent(
    """\
    tests:
      - name: much is cleared
        params: {dir: /srv}
        mock: {list: {count: 9}}
        expect: {state: succeeded, ran: [list, clear], outputs: {count: 9}}
      - name: little is left alone
        params: {dir: /srv}
        mock: {list: {lines: [a]}}
        expect: {state: succeeded, skipped: [clear]}
    """
)


@pytest.fixture
def granted(tmp_path: Path, monkeypatch) -> None:
    """The configuration lets runbooks use the token, and it is set."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/tocsin.yaml").write_text("version: 1\nrunbook_secrets: ['LB_*']\n")
    monkeypatch.setenv("LB_TOKEN", "a-secret-of-the-environment")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "look.yaml").write_text(BOOK + TESTS)
    return folder


# -- test -------------------------------------------------------------------------------------------------------------


def play(folder: Path, *arguments: str) -> tuple[int, str]:
    """In a process of its own: pytest does not like to be started inside of pytest."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV"))}
    command = [sys.executable, "-m", "bot", "runbooks", "test", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_tests_of_a_folder_are_played_and_what_has_none_is_named(books):
    (books / "bare.yaml").write_text("version: 1\nid: bare\nname: Bare\nowner: x\nsteps: [{note: x}]\n")

    code, told = play(books.parent)

    assert code == 0, told
    assert "runbooks/look.yaml::much is cleared PASSED" in told
    assert "2 passed" in told
    assert "without tests: bare" in told


def test_a_test_that_fails_says_what_came_and_the_command_ends_with_1(books):
    file = books / "look.yaml"
    file.write_text(BOOK + TESTS.replace("mock: {list: {count: 9}}", "mock: {list: {count: 8}}"))

    code, told = play(books.parent, str(file), "-k", "much")

    line = (
        file.read_text().splitlines().index("    expect: {state: succeeded, ran: [list, clear], outputs: {count: 9}}")
        + 1
    )
    assert code == 1
    assert f"look.yaml:{line}: outputs: count: expected 9, came 8" in told
    assert "✓ clear: not mocked" in told
    assert "1 failed, 1 deselected" in told
    assert "Traceback" not in told


def test_a_runbook_with_a_fault_fails_and_the_others_are_played_all_the_same(books):
    (books / "bad.yaml").write_text("version: 1\nid: bad\nname: Bad\nowner: x\nsteps: [{nte: x}]\n")

    code, told = play(books.parent, "runbooks")

    assert code == 1
    assert "bad.yaml:5: a step needs exactly one action" in told
    assert "2 passed, 1 error" in told


def test_where_there_is_nothing_to_play_this_is_no_success(books):
    (books / "look.yaml").write_text(BOOK)

    code, told = play(books.parent)

    assert code == 1
    assert "there are no tests in runbooks" in told
    assert "without tests: look" in told


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert play(tmp_path) == (2, "runbooks does not exist\n")


def test_other_yaml_beside_the_runbooks_is_left_alone(books):
    (books / "playbooks").mkdir()
    (books / "playbooks/site.yaml").write_text("- hosts: all\n  tasks: []\n")

    assert play(books.parent)[0] == 0


def test_pytest_plays_them_with_the_plugin_alone(books):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "bot.runs.pytest_plugin",
        "-q",
        "-p",
        "no:cacheprovider",
        "runbooks",
    ]
    done = subprocess.run(command, cwd=books.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


# -- schema, render ---------------------------------------------------------------------------------------------------


def test_the_schema_is_json_alone(tocsin):
    code, out, err = tocsin("runbooks", "schema")

    assert (code, err) == (0, "")
    assert out == (ROOT / "docs/reference/runbook.schema.json").read_text()


def test_what_is_known_is_filled_in_and_what_is_not_is_marked(tocsin, books):
    code, out, err = tocsin("runbooks", "render", str(books / "look.yaml"), "--param", "dir=/srv")

    made = yaml.load(out, "made").data
    assert (code, err) == (0, "")
    assert made["params"] == {"dir": "/srv", "most": 3}
    assert made["steps"][0] == {
        "id": "list",
        "name": "What is in /srv",
        "effect": "read",
        "outputs": {"count": "lines | length"},
        "exec": {"argv": ["ls", "/srv"], "parse": "lines"},
    }
    assert made["steps"][1]["exec"]["argv"] == ["rm", "-r", "/srv/here", "because of ‹steps.list.count›"]
    assert made["steps"][1]["exec"]["env"] == {"T": "‹secrets.LB_TOKEN›"}
    assert made["steps"][1]["effect"] == "write"
    assert made["steps"][1]["rollback"][0]["exec"]["argv"] == ["mkdir", "/srv/here"]
    assert made["steps"][2]["note"]["text"] == "There were ‹steps.list.count | float› in /srv"


@pytest.mark.parametrize(
    "alert",
    [
        {"labels": {"dir": "/srv"}},
        {"status": "firing", "alerts": [{"status": "firing", "labels": {"dir": "/srv"}, "annotations": {}}]},
    ],
)
def test_an_alert_fills_in_parameters(tocsin, books, tmp_path, alert):
    (tmp_path / "alert.json").write_text(json.dumps(alert))

    code, out, _ = tocsin("runbooks", "render", str(books / "look.yaml"), "--alert", str(tmp_path / "alert.json"))

    assert code == 0
    assert yaml.load(out, "made").data["params"]["dir"] == "/srv"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "dir is missing"),
        (["--param", "dir"], "write --param name=value"),
        (["--param", "dri=/srv"], "did you mean dir?"),
        (["--param", "dir=-rf"], "does not fit"),
        (["--param", "most=x", "--param", "dir=/srv"], "must be a whole number"),
        (["--alert", "missing.json"], "cannot be read"),
        (["--alert", "no.json"], "is not JSON"),
        (["--alert", "list.json"], "holds no alert"),
        (["--alert", "bad.json"], "labels.a: Input should be a valid string"),
    ],
)
def test_what_cannot_be_filled_in_is_said(tocsin, books, tmp_path, arguments, told):
    (tmp_path / "no.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "bad.json").write_text('{"labels": {"a": 1}}')

    code, out, err = tocsin("runbooks", "render", str(books / "look.yaml"), *arguments)

    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["render"], ["dry-run"]])
@pytest.mark.parametrize("value", ["xoxb-0123456789-abcdef", "a-secret-of-the-environment"])
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(tocsin, books, monkeypatch, command, value):
    monkeypatch.setenv("LB_TOKEN", "a-secret-of-the-environment")

    code, out, err = tocsin("runbooks", *command, str(books / "look.yaml"), "--param", f"dir={value}")

    assert (code, out) == (2, "")
    assert "looks like a secret" in err
    assert value not in err


# -- dry-run ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("granted")
def test_a_dry_run_does_what_reads_and_shows_the_rest_without_a_database(tocsin, books, tmp_path, monkeypatch):
    monkeypatch.setenv("TOCSIN_DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/none")
    folder = tmp_path / "full"
    (folder / "here").mkdir(parents=True)
    for name in "abcd":
        (folder / name).touch()

    code, out, _ = tocsin("runbooks", "dry-run", str(books / "look.yaml"), "--param", f"dir={folder}")

    assert code == 0
    assert f"✓ What is in {folder}: ls ended with exit code 0" in out
    assert "    here" in out
    assert f"… Clear: would run: rm -r {folder}/here 'because of 5' (with T in its environment)" in out
    assert "… note: would note (note): There were 5.0" in out
    assert "count: 5" in out
    assert (folder / "here").is_dir()
    assert "a-secret-of-the-environment" not in out


@pytest.mark.usefixtures("granted")
def test_a_dry_run_that_fails_ends_with_1_and_can_be_read_by_programs(tocsin, books):
    code, out, err = tocsin("runbooks", "dry-run", str(books / "look.yaml"), "--param", "dir=/nonsuch", "--json")

    made = json.loads(out)
    assert code == 1
    assert (made["state"], made["steps"][0]["state"], made["failure"]["step"]) == (
        "failed",
        "failed",
        "What is in /nonsuch",
    )
    assert "failed: ls ended with exit code 2" in err


def test_a_secret_that_is_in_the_environment_and_not_allowed_ends_a_dry_run_with_a_word(tocsin, books, monkeypatch):
    monkeypatch.setenv("LB_TOKEN", "a-secret-of-the-environment")

    code, out, err = tocsin("runbooks", "dry-run", str(books / "look.yaml"), "--param", "dir=/srv")

    assert code == 1
    assert "LB_TOKEN is nothing that runbooks may use here: say in targets.yaml" in err
    assert "a-secret-of-the-environment" not in out + err


@pytest.mark.usefixtures("granted")
def test_a_secret_that_is_not_set_ends_a_dry_run_with_a_word(tocsin, books, monkeypatch):
    monkeypatch.delenv("LB_TOKEN")
    code, _, err = tocsin("runbooks", "dry-run", str(books / "look.yaml"), "--param", "dir=/srv")

    assert code == 1
    assert "the secret LB_TOKEN is not set" in err


def test_ctrl_c_stops_a_dry_run_and_what_it_has_started(tmp_path):
    (tmp_path / "going").touch()
    book = f"steps:\n  - {{exec: {{argv: [tail, -f, {tmp_path}/going]}}, effect: read}}\n"
    (tmp_path / "slow.yaml").write_text(f"version: 1\nid: slow\nname: Slow\nowner: x\n{book}")
    command = [sys.executable, "-m", "bot", "runbooks", "dry-run", "slow.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOCSIN_CONFIG": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as begun:
        deadline = time.monotonic() + 30
        while not (found := processes(str(tmp_path / "going"))):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        begun.send_signal(signal.SIGINT)
        out, _ = begun.communicate(timeout=30)

    assert begun.returncode == 1
    assert "✗ exec: cancelled" in out
    assert found
    assert processes(str(tmp_path / "going")) == []


def test_a_dry_run_uses_the_targets_of_the_configuration(tocsin, books, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "token").write_text("a-secret-of-a-file")
    (tmp_path / "config/targets.yaml").write_text(f"version: 1\nsecrets:\n  LB_TOKEN: {{file: {tmp_path}/token}}\n")

    code, out, _ = tocsin("runbooks", "dry-run", str(books / "look.yaml"), "--param", f"dir={tmp_path}/config")

    assert code == 0
    assert "targets.yaml" in out


# -- run, show --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def incident(database_url, monkeypatch):
    """INC-1, open, made beside any bot."""
    engine = Engine(Database(database_url))
    async with engine.transaction() as tx:
        await lifecycle.declare(tx, react, title="Disk is full", severity=Sev.SEV2, by="U1", now=utc_now())
    await engine.close()
    await engine.db.close()
    return database_url


@pytest.fixture
def on(tocsin, monkeypatch, incident, books):
    """The command, on a database with an incident."""
    monkeypatch.setenv("TOCSIN_DATABASE_URL", incident)
    return tocsin


def test_a_run_is_handed_over_and_its_number_alone_is_printed(on):
    first = on("runbooks", "run", "look", "--incident", "INC-1", "--param", "dir=/srv", "--dry-run")
    again = on("runbooks", "run", "look", "--incident", "inc-1", "--param", "dir=/srv")
    listed = on("runbooks", "show", "INC-1")
    shown = on("runbooks", "show", "INC-1", "1")
    plain = json.loads(on("runbooks", "show", "INC-1", "1", "--json")[1])

    assert (first[0], first[1]) == (0, "1\n")
    assert "tocsin runbooks show INC-1 1" in first[2]
    assert again[0] == 2
    assert "is at work on this already" in again[2]
    assert "INC-1 run 1: look (dry run) is queued" in listed[1]
    assert "with dir=/srv, most=3" in shown[1]
    assert (plain["trigger"], plain["state"], plain["params"]) == ("command", "queued", {"dir": "/srv", "most": 3})
    assert plain["requested_by"].startswith("cli:")
    assert json.loads(on("runbooks", "show", plain["id"], "--json")[1]) == plain


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lok", "--incident", "INC-1"], "Did you mean look?"),
        (["look", "--incident", "INC-9", "--param", "dir=/srv"], "There is no INC-9"),
        (["look", "--incident", "x", "--param", "dir=/srv"], "is not an incident"),
        (["look", "--incident", "INC-1"], "dir is missing"),
        (["look", "--incident", "INC-1", "--param", "dir=xoxb-0123456789-abcdef"], "looks like a secret"),
    ],
)
def test_a_run_that_cannot_be_started_is_refused_with_a_word(on, arguments, told):
    code, out, err = on("runbooks", "run", *arguments)

    assert (code, out) == (2, "")
    assert told in err
    assert "abcdef" not in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["INC-1", "7"], "INC-1 has no run 7; there is: none"),
        (["INC-9"], "There is no INC-9"),
        (["nonsuch"], "does not exist"),
    ],
)
def test_a_run_that_is_not_there_is_said(on, arguments, told):
    code, out, err = on("runbooks", "show", *arguments)

    assert (code, out) == (2, "")
    assert told in err


def test_an_incident_without_runs_is_no_error(on):
    assert on("runbooks", "show", "INC-1")[:2] == (0, "No runbook was run for INC-1.\n")
    assert json.loads(on("runbooks", "show", "INC-1", "--json")[1]) == []
