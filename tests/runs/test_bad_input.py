"""What comes from outside, or goes wrong around a run, and must not do more than it should."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from bot.kit.clock import utc_now
from bot.runs import params
from bot.runs.model import RunState
from bot.runs.runbook import LintError, load, read_file
from bot.runs.step import StepResult
from tests.runs.test_runbook import SHELF

HOSTILE = {
    "command": "$(touch {made})",
    "backticks": "`touch {made}`",
    "semicolon": "; touch {made};",
    "pipe": "| tee {made}",
    "newline": "web-1\ntouch {made}",
    "option": "--output={made}",
    "short option": "-o{made}",
    "template": "{{{{ 7 * 7 }}}}",
    "block": "{{% for x in range(9) %}}x{{% endfor %}}",
    "quotes": "\"'; touch {made} #",
    "way out": "../../../{made}",
    "bell": "\x1b]0;{made}\x07",
    "direction": "\u202e{made}",
}
OPEN = """
params:
  text: {pattern: '(?s).*', source: alert.labels.instance}
steps:
  - id: argument
    exec: {argv: [printf, '%s', '{{ params.text }}']}
  - id: variable
    exec: {argv: [printenv, WORD], env: {WORD: '{{ params.text }}'}}
  - id: input
    exec: {argv: [cat], stdin: '{{ params.text }}'}
"""


def hostile(name: str, made: Path) -> str:
    return HOSTILE[name].format(made=made)


@pytest.mark.parametrize("name", list(HOSTILE))
async def test_a_label_that_is_more_than_a_name_fills_no_form_and_starts_no_run(bench, tmp_path, name):
    text = hostile(name, tmp_path / "made")
    book = bench.runbook("params: {host: {source: alert.labels.instance}}\nsteps:\n  - note: x\n")

    filled = params.prefill(book, {"labels": {"instance": text}}, {})
    with pytest.raises(params.ParamErrors, match="host"):
        await bench.start(book, {"host": text})

    assert filled.get("host") != text


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - {"bell"}))  # of which nothing is shown
async def test_where_a_runbook_takes_any_text_it_is_one_argument_one_value_and_input_and_nothing_else(
    bench, tmp_path, name
):
    made = tmp_path / "made"
    text = hostile(name, made)

    run = await bench.carry_out(await bench.start(OPEN, {"text": text}))

    shown = [row.output for row in await bench.rows(run.id)]
    assert run.state == RunState.SUCCEEDED
    # What is shown has no control characters any more; that it came whole is seen by its words.
    assert all(str(made) in one or "7 * 7" in one or "endfor" in one for one in shown), shown
    assert "49" not in shown
    assert not made.exists()


@pytest.mark.parametrize(
    "action",
    [
        "exec: {argv: ['{{ alert.labels.instance }}']}",
        "exec: {argv: [ping, '{{ alert.labels.instance }}']}",
        "exec: {argv: [env], env: {HOST: '{{ incident.title }}'}}",
        "exec: {argv: ['{{ params.host }}']}",
        "exec: 'ping {{ params.host }}'",
        "script: {file: '{{ params.host }}.py'}",
        "script: {file: ../../etc/passwd}",
        "exec: {argv: [ls], env: {LD_PRELOAD: /tmp/x.so}}",
        "http: {url: 'https://example.com/{{ alert.labels.instance }}'}",
        "sql: {connection: a, query: 'select {{ params.host }}'}",
    ],
)
def test_what_would_let_text_from_outside_be_a_command_is_no_runbook(action):
    head = "version: 1\nid: book\nname: Book\nowner: team\nparams: {host: {default: web-1}}\n"
    with pytest.raises(LintError):
        load(f"{head}steps:\n  - {action}\n", "book.yaml", SHELF)


@pytest.mark.parametrize("name", ["a b.yaml", "$(id).yaml", "-x.yaml", "a;b.yaml", "ünicode.yaml"])
def test_the_name_of_a_file_is_an_id_or_the_file_is_no_runbook(tmp_path, name):
    file = tmp_path / name
    file.write_text(f"version: 1\nid: '{file.stem}'\nname: x\nowner: x\nsteps: [{{note: x}}]\n")

    with pytest.raises(LintError, match="is not a name that can be used here"):
        read_file(file, SHELF)


async def test_a_step_that_does_not_come_back_is_left_and_the_run_goes_on_to_what_tidies_up(bench):
    async def deaf(context):
        while True:  # it keeps no time of its own
            await asyncio.sleep(0.01)

    stuck, tidy = bench.plugin("stuck", deaf), bench.plugin("tidy")
    plain = bench.interpreter

    def interpreter():
        made = plain()
        made._attempts.grace = 0.1
        return made

    bench.interpreter = interpreter
    run = await bench.carry_out(
        await bench.start("steps:\n  - stuck: {}\n    timeout: 100ms\n    retry: 1\nalways:\n  - tidy: {}\n")
    )

    assert run.state == RunState.FAILED
    assert run.failure["message"].startswith("took longer than")
    assert (stuck.calls, tidy.calls) == (1, 1)


async def test_a_run_goes_on_with_the_runbook_that_it_began_with_whatever_becomes_of_the_file(bench, tmp_path):
    file = tmp_path / "book.yaml"
    text = "version: 1\nid: book\nname: Book\nowner: team\nsteps:\n  - edit: {}\n  - say: {text: as it was}\n"

    async def edit(context):
        file.write_text(text.replace("as it was", "as it is now"))
        return StepResult(ok=True, summary="")

    bench.plugin("edit", edit)
    said = bench.plugin("say")
    said.run, heard = _hearing(said)
    file.write_text(text)
    book = load(file.read_text(), file.name, bench.steps)

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.SUCCEEDED
    assert heard == ["as it was"]
    assert run.sha256 == book.sha256 != read_file(file, bench.steps).runbook.sha256


def _hearing(plugin):
    heard: list[str] = []

    async def run(context, given):
        heard.append(given.text)
        return StepResult(ok=True, summary="")

    return run, heard


@pytest.mark.parametrize(
    ("jump", "state"),
    [(timedelta(days=1), RunState.ROLLED_BACK), (-timedelta(days=1), RunState.SUCCEEDED)],
    ids=["forward", "back"],
)
async def test_a_clock_that_jumps_in_the_middle_ends_a_run_with_a_word_and_nothing_twice(bench, jump, state):
    async def jumps(context):
        bench.clock = lambda: utc_now() + jump
        return StepResult(ok=True, summary="")

    change, undo, more = bench.plugin("change", jumps, effect="write"), bench.plugin("undo"), bench.plugin("more")
    book = "timeout: 15m\nsteps:\n  - change: {}\n    rollback: [{undo: {}}]\n  - more: {}\n  - wait: {for: 10ms}\n"

    run = await bench.carry_out(await bench.start(book))
    (ended,) = [event for event in await bench.events("run.ended") if event.data["run"] == run.id]

    assert run.state == state
    assert change.calls == 1
    assert ended.data["seconds"] >= 0
    assert "-" not in ended.text.partition(" s")[0]
    if state == RunState.SUCCEEDED:
        assert (more.calls, undo.calls) == (1, 0)
    else:
        assert (more.calls, undo.calls) == (0, 1)
        assert run.failure["message"].startswith("the run took longer than its 15 min")
    seconds = [event.data["seconds"] for event in await bench.events("run.step_succeeded") if "seconds" in event.data]
    assert min(seconds) >= 0
