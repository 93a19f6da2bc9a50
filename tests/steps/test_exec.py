"""The exec step: what it makes of a program's end and output."""

import asyncio

import pytest

from bot.kit.errors import PermanentError
from bot.kit.tasks import spawn
from bot.runs.redact import MASK
from bot.runs.step import Cancelled, prepare
from bot.steps import exec as step


async def test_a_program_that_ends_well_is_ok_and_gives_its_output(run, bench):
    result = await run(step, {"argv": ["echo", "{{ params.host }}"]}, values={"params": {"host": "web-1"}})

    assert result.ok
    assert result.values["stdout"] == "web-1\n"
    assert result.values["exit_code"] == 0
    assert bench.said == ["web-1"]


async def test_an_exit_code_that_is_not_expected_is_not_ok_and_says_why(run):
    result = await run(step, {"argv": ["sh", "-c", "echo no such thing >&2; exit 4"]})

    assert not result.ok
    assert result.summary == "sh ended with exit code 4: no such thing"
    assert result.values["exit_code"] == 4


async def test_an_exit_code_can_be_expected(run):
    assert (await run(step, {"argv": ["sh", "-c", "exit 4"], "ok_codes": [0, 4]})).ok


async def test_a_signal_is_named(run):
    assert "signal 9" in (await run(step, {"argv": ["sh", "-c", "kill -9 $$"]})).summary


async def test_a_timeout_is_not_ok_and_keeps_what_was_printed(run):
    result = await run(step, {"argv": ["sh", "-c", "echo begun; sleep 30"]}, timeout=0.3)

    assert not result.ok
    assert result.values["timed_out"] is True
    assert result.values["stdout"] == "begun\n"
    assert "stopped after 0.3 s" in result.summary


async def test_a_value_stays_one_argument_whatever_is_in_it(run):
    evil = "a b; $(id) `id` 'x' \"y\" \n*"

    result = await run(step, {"argv": ["printf", "%s", "{{ params.x }}"]}, values={"params": {"x": evil}})

    assert result.values["stdout"] == evil


async def test_numbers_become_arguments(run):
    raw = {"argv": ["echo", 2, "{{ params.n }}", True]}

    assert (await run(step, raw, values={"params": {"n": 14}})).values["stdout"] == "2 14 true\n"


@pytest.mark.parametrize(
    ("how", "script", "expected"),
    [
        ("json", "echo '{\"a\": [1, null]}'", {"json": {"a": [1, None]}}),
        ("lines", "printf 'a\\n\\nb\\n'", {"lines": ["a", "b"]}),
        ("kv", "printf 'A=1\\nnothing\\nB = x=y\\n'", {"kv": {"A": "1", "B": "x=y"}}),
    ],
)
async def test_output_is_read_as_asked(run, how, script, expected):
    result = await run(step, {"argv": ["sh", "-c", script], "parse": how})

    assert expected.items() <= dict(result.values).items()


async def test_output_that_is_not_json_fails_for_good(run):
    with pytest.raises(PermanentError, match="not JSON"):
        await run(step, {"argv": ["echo", "{"], "parse": "json"})


async def test_output_that_was_cut_is_not_read_as_if_it_were_whole(run):
    with pytest.raises(PermanentError, match="raise max_output"):
        await run(step, {"argv": ["seq", "1", "9999"], "parse": "lines", "max_output": 1024})


async def test_a_secret_goes_in_by_environment_and_never_comes_out(run, bench):
    raw = {"argv": ["sh", "-c", 'echo "$TOKEN" | tee /dev/stderr; cat'], "env": {"TOKEN": "{{ secrets.T }}"}}

    result = await run(step, {**raw, "stdin": "{{ secrets.T }}"}, secrets={"T": "hunter22"})

    assert result.values["stdout"] == f"{MASK}\n{MASK}"
    assert "hunter22" not in repr(result) + repr(bench.said)


def test_a_secret_cannot_be_an_argument(bench):
    with pytest.raises(PermanentError, match="'secrets' is undefined"):
        prepare(step, {"argv": ["echo", "{{ secrets.T }}"]}, bench.context(secrets={"T": "hunter22"}))


async def test_a_cancelled_program_is_no_result(run):
    cancelled = asyncio.Event()
    task = spawn(run(step, {"argv": ["sleep", "30"]}, cancelled=cancelled), name="test")
    await asyncio.sleep(0.1)

    cancelled.set()

    with pytest.raises(Cancelled):
        await task


def test_the_preview_is_the_command_line_without_values_of_the_environment():
    params = step.Params.model_validate({"argv": ["df", "a b"], "env": {"TOKEN": "hunter22"}, "stdin": "x"})

    assert step.preview(params) == "would run: df 'a b' (with TOKEN in its environment) (with input)"


def test_on_a_host_the_preview_says_so_and_it_needs_the_host():
    params = step.Params.model_validate({"argv": ["df", "-h"], "host": "web-1"})

    assert step.preview(params) == "would run: df -h (on web-1)"
    assert step.needs(params) == [("host", "web-1")]
    assert step.needs(step.Params.model_validate({"argv": ["df"]})) == []


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"argv": ["./x"], "host": "web-1"}, "neither a program's name nor an absolute path"),
        ({"argv": ["A=b"], "host": "web-1"}, "neither a program's name nor an absolute path"),
        ({"argv": ["df"], "host": "web-1", "cwd": "tmp"}, "absolute"),
        ({"argv": ["df"], "host": ""}, "at least 1"),
        ({"argv": ["df"], "env": {"RUNBOOK_RUN": "x"}}, "RUNBOOK_RUN cannot be set"),
        ({"argv": ["df"], "env": {"LD_PRELOAD": "x"}}, "LD_PRELOAD cannot be set"),
        ({"argv": ["df"], "env": {"a b": "x"}}, "not a name for an environment variable"),
    ],
)
def test_what_no_host_could_run_is_refused_beforehand(bench, raw, told):
    with pytest.raises(PermanentError, match=told):
        prepare(step, raw, bench.context())


@pytest.mark.parametrize("name", ["web-9", "-oProxyCommand=touch x", "root@web-1"])
async def test_a_host_that_targets_yaml_does_not_name_is_refused(run, name):
    with pytest.raises(PermanentError, match=r"targets\.yaml has no host"):
        await run(step, {"argv": ["df"], "host": "{{ params.host }}"}, values={"params": {"host": name}})


async def test_too_many_processes_are_no_success(run):
    result = await run(step, {"argv": ["sh", "-c", "for i in $(seq 700); do sleep 9 & done; wait"]})

    assert not result.ok
    assert result.summary == "sh had too many processes and was ended; nothing of it still runs"
