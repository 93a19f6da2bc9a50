"""The script step: which file runs, what it is given, and what is known of it afterwards."""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from bot.kit.errors import PermanentError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, prepare
from bot.steps import script as step
from tests.runs.test_process import alive

ECHO = "import json, sys\nprint(json.dumps({'given': json.load(sys.stdin), 'args': sys.argv[1:]}))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    return tmp_path


@pytest.fixture
def script(run, folder):
    """Writes a script and runs it."""

    async def go(content: str | bytes = ECHO, raw: dict | None = None, **more):
        file = folder / "scripts" / "do.py"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return await run(step, {"file": "do.py", **(raw or {})}, folder=folder, **more)

    return go


async def test_input_goes_in_as_json_and_json_comes_out(script):
    raw = {"input": {"host": "{{ params.host }}", "n": [1, None], "é": "ü"}, "args": ["a b", 2, "{{ params.host }}"]}

    result = await script(raw=raw, values={"params": {"host": "web-1; $(id)"}})

    assert result.ok
    assert result.values["json"] == {
        "given": {"host": "web-1; $(id)", "n": [1, None], "é": "ü"},
        "args": ["a b", "2", "web-1; $(id)"],
    }


async def test_its_hash_is_told(script):
    assert (await script()).values["sha256"] == hashlib.sha256(ECHO.encode()).hexdigest()


async def test_what_runs_is_what_was_hashed_whoever_changes_it_meanwhile(script, folder):
    content = f"echo first; sleep 0.3; echo 'echo changed' > {folder}/scripts/do.py; sleep 0.1; echo last\n"

    result = await script(content, {"interpreter": "bash", "parse": "lines"})

    assert result.values["lines"] == ["first", "last"]
    assert result.values["sha256"] == hashlib.sha256(content.encode()).hexdigest()


async def test_bash_runs_with_its_arguments_and_without_anybodys_profile(script):
    content = 'printf "%s|" "$@" "${BASH_ENV-none}"; cat'

    result = await script(content, {"interpreter": "bash", "args": ["a b", "*"], "parse": "text"})

    assert result.values["stdout"] == "a b|*|none|{}"


async def test_python_is_isolated_from_its_surroundings(script, folder):
    (folder / "scripts" / "json.py").write_text("raise SystemExit('intruded')")
    content = "import sys, json, os\nprint(json.dumps([sys.flags.isolated, os.getcwd() in sys.path]))"

    result = await script(content, {"env": {"PYTHONPATH": str(folder / "scripts")}})

    assert result.values["json"] == [1, False]


async def test_a_script_finds_what_lies_beside_it(script, folder):
    (folder / "scripts" / "hosts.txt").write_text("web-1\n")
    content = "import os\nprint(open(os.environ['RUNBOOK_FOLDER'] + '/hosts.txt').read())"

    assert (await script(content, {"parse": "lines"})).values["lines"] == ["web-1"]


async def test_secrets_go_in_by_input_and_environment_and_never_come_out(script, bench):
    raw = {"input": {"token": "{{ secrets.T }}"}, "env": {"TOKEN": "{{ secrets.T }}"}, "parse": "text"}
    content = "import os, sys\nprint(sys.stdin.read(), os.environ['TOKEN'], len(os.environ['TOKEN']))"

    result = await script(content, raw, secrets={"T": "hunter22"})

    assert result.values["stdout"] == f'{{"token": "{MASK}"}} {MASK} 8\n'
    assert "hunter22" not in repr(result) + repr(bench.said)


@pytest.mark.parametrize("field", ["args", "file"])
def test_a_secret_cannot_be_an_argument_or_a_name(bench, field):
    value = "{{ secrets.T }}" if field == "file" else ["{{ secrets.T }}"]

    with pytest.raises(PermanentError):
        prepare(step, {"file": "x.py", field: value}, bench.context(secrets={"T": "hunter22"}))


async def test_an_exit_code_that_is_not_expected_says_the_last_line(script):
    result = await script("import sys; sys.exit('no such pool')", {"parse": "text"})

    assert not result.ok
    assert result.summary == "do.py ended with exit code 1: no such pool"
    assert result.values["sha256"]


async def test_output_that_is_no_json_fails_for_good(script):
    with pytest.raises(PermanentError, match="not JSON"):
        await script("print('hello')")


async def test_a_timeout_ends_it_and_all_that_it_started(script):
    token = f"44{os.getpid()}{id(script) % 10**6}"

    result = await script(f"sleep {token} & sleep {token}", {"interpreter": "bash"}, timeout=0.5)

    assert result.values["timed_out"] is True
    assert alive(f"sleep\0{token}") == []


async def test_a_cancelled_script_is_no_result(script):
    cancelled = asyncio.Event()
    task = spawn(script("sleep 30", {"interpreter": "bash"}, cancelled=cancelled), name="test")
    await asyncio.sleep(0.2)

    cancelled.set()

    with pytest.raises(Cancelled, match=r"do\.py was stopped"):
        await task


@pytest.mark.parametrize(
    "name",
    ["../runbook.yaml", "x/../../y", "/etc/passwd", "-c", "a b", "a\nb", "", ".hidden", "{{ params.x }}", "x\0y"],
)
def test_a_name_that_leads_elsewhere_or_is_filled_in_is_refused(bench, name):
    with pytest.raises(PermanentError):
        prepare(step, {"file": name}, bench.context(values={"params": {"x": "y.py"}}))


async def test_a_link_that_leads_elsewhere_is_refused(run, folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "evil.py"
    outside.write_text(ECHO)
    (folder / "scripts" / "do.py").symlink_to(outside)

    with pytest.raises(PermanentError, match="leads out of the folder"):
        await run(step, {"file": "do.py"}, folder=folder)


async def test_a_file_that_is_not_there_is_named(run, folder):
    (folder / "scripts" / "sub").mkdir()

    with pytest.raises(PermanentError, match=r"there is no 'scripts/absent\.py'"):
        await run(step, {"file": "absent.py"}, folder=folder)
    with pytest.raises(PermanentError, match=r"scripts/sub is no file"):
        await run(step, {"file": "sub"}, folder=folder)


async def test_a_file_that_is_too_large_is_refused(script):
    with pytest.raises(PermanentError, match="larger than 1 MiB"):
        await script(b"#" * (1024 * 1024 + 1))


async def test_without_a_folder_there_are_no_scripts(run):
    with pytest.raises(PermanentError, match="no folder"):
        await run(step, {"file": "do.py"})


def test_what_it_needs_is_the_file():
    assert step.needs(step.Params.model_validate({"file": "a/b.py"})) == [("file", "scripts/a/b.py")]


def test_the_preview_names_what_it_is_given_and_shows_no_values():
    params = step.Params.model_validate(
        {
            "file": "x.sh",
            "interpreter": "bash",
            "args": ["a b"],
            "env": {"TOKEN": "hunter22"},
            "input": {"k": "hunter22"},
        }
    )

    assert step.preview(params) == "would run: scripts/x.sh 'a b' (with TOKEN in its environment) (with k as input)"


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, None),
        ({"exit_code": 0}, None),
        ({"exit_code": 2}, "x.py ended with exit code 2"),
        ({"timed_out": True}, "stopped"),
    ],
)
def test_a_rehearsal_judges_as_a_run_does(values, why):
    told = step.judge(step.Params.model_validate({"file": "x.py"}), values)

    assert told == why or (why == "stopped" and told == "x.py was stopped")
