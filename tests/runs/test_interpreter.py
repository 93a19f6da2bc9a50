"""How a runbook is carried out: retries, conditions, time, cancelling, outputs, dry runs, and plugins that break."""

import asyncio
import re
import sys
import time

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.ids import new_id
from bot.runs.model import RunState
from bot.runs.step import StepResult
from tests.conftest import new_database
from tests.runs.conftest import processes

PYTHON = sys.executable
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen(["sleep", "60"], start_new_session=True)
print("at work", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module", params=["sqlite"])
def shared_database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """These rules do not depend on the database; SQLite is the quicker one."""
    return new_database(request, tmp_path_factory.mktemp("shared"))


def program(code: str) -> str:
    """An exec step that runs Python *code*."""
    lines = "".join(f"          {line}\n" for line in code.strip().splitlines())
    return f"exec:\n      argv:\n        - {PYTHON}\n        - -c\n        - |\n{lines}"


async def test_a_read_is_tried_three_times_and_a_write_once(bench):
    read = bench.plugin("look", *[TemporaryError("away")] * 2)
    write = bench.plugin("change", TemporaryError("away"), effect="write")

    run_id = await bench.start("steps:\n  - look: {}\n  - change: {}\n")
    run = await bench.carry_out(run_id)

    assert (read.calls, write.calls) == (3, 1)
    assert run.state == RunState.FAILED
    assert run.failure == {"step": "change", "message": "away"}
    rows = await bench.rows(run_id)
    assert [(row.step, row.attempt, row.state) for row in rows] == [
        ("steps-0", 1, "failed"),
        ("steps-0", 2, "failed"),
        ("steps-0", 3, "succeeded"),
        ("steps-1", 1, "failed"),
    ]
    texts = [event.text for event in await bench.events("run.step_failed")]
    assert texts[0] == "Run 1: “look” failed, trying again: away"
    assert texts[-1] == "Run 1: “change” failed: away"


async def test_what_lasts_is_not_tried_again_even_where_retries_are_asked_for(bench):
    plugin = bench.plugin("look", PermanentError("no such thing"))

    run = await bench.carry_out(await bench.start("steps:\n  - look: {}\n    retry: 5\n"))

    assert plugin.calls == 1
    assert run.failure["message"] == "no such thing"


async def test_explicit_retries_are_for_writes_and_for_results_that_were_not_expected(bench):
    away, not_yet = TemporaryError("away"), StepResult(ok=False, summary="status 503")
    write = bench.plugin("change", away, not_yet, effect="write")
    once = bench.plugin("look", not_yet)
    book = "steps:\n  - change: {}\n    retry: {attempts: 3, delay: 10ms, backoff: constant}\n  - look: {}\n"

    run = await bench.carry_out(await bench.start(book))

    assert (write.calls, once.calls) == (3, 1)
    assert run.failure == {"step": "look", "message": "status 503"}


async def test_the_wait_that_the_other_side_asked_for_is_kept(bench):
    plugin = bench.plugin("look", TemporaryError("slow down", after=0.3))

    began = time.monotonic()
    run = await bench.carry_out(await bench.start("steps:\n  - look: {}\n"))

    assert run.state == RunState.SUCCEEDED
    assert plugin.calls == 2
    assert time.monotonic() - began >= 0.3


async def test_what_is_not_needed_is_skipped_and_what_may_fail_does_not_end_the_run(bench):
    bench.plugin("look", StepResult(ok=False, summary="no answer", values={"seen": 7}), PermanentError("gone"))
    book = """
steps:
  - id: first
    look: {}
    continue_on_error: true
  - id: second
    look: {}
    continue_on_error: true
  - id: third
    when: steps.first.ok
    look: {}
  - assert: {that: [steps.first.seen == 7, "steps.second.state == 'failed_ignored'", not steps.third.ok], message: no}
"""
    run_id = await bench.start(book)
    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert await bench.states(run_id) == ["failed_ignored", "failed_ignored", "skipped", "succeeded"]
    assert (await bench.rows(run_id))[2].summary == "not needed: steps.first.ok"


async def test_an_assert_that_does_not_hold_ends_the_run_and_says_why(bench):
    plugin = bench.plugin("look")
    book = "steps:\n  - assert: {that: '1 == 2', message: 'Too many files on {{ incident.reference }}'}\n  - look: {}\n"

    run = await bench.carry_out(await bench.start(book))

    assert run.state == RunState.FAILED
    assert run.failure == {"step": "assert", "message": f"Too many files on {bench.incident.reference}"}
    assert plugin.calls == 0


async def test_outputs_go_on_to_later_steps_and_to_the_run(bench):
    book = """
params: {name: {default: world}}
steps:
  - id: hello
    name: Greet {{ params.name }}
    exec: {argv: [echo, '3 {{ params.name }}'], parse: lines}
    effect: read
    outputs: {count: "lines | length", first: "lines[0]"}
  - assert: {that: 'steps.hello.count == 1', message: no}
outputs: {greeting: steps.hello.first, never: steps.hello.first.nothing.there}
"""
    run_id = await bench.start(book)
    run = await bench.carry_out(run_id)

    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs["greeting"] == "3 world"
    assert (await bench.rows(run_id))[0].name == "Greet world"
    assert (await bench.rows(run_id))[0].result["outputs"] == {"count": 1, "first": "3 world"}


async def test_an_output_that_cannot_be_computed_fails_its_step(bench):
    book = (
        "steps:\n  - id: a\n    exec: {argv: [echo, x], parse: lines}\n    outputs: {n: 'lines[5].x'}\n"
        "    continue_on_error: true\n  - exec: {argv: [echo, x], parse: lines}\n    outputs: {n: 'lines[5].x'}\n"
    )
    run_id = await bench.start(book)
    run = await bench.carry_out(run_id)

    assert await bench.states(run_id) == ["failed_ignored", "failed"]
    assert run.failure["message"].startswith("outputs: n:")


async def test_a_secret_that_is_not_there_is_named(bench):
    book = "secrets: [LB_TOKEN]\nsteps:\n  - exec: {argv: [cat], stdin: '{{ secrets.LB_TOKEN }}'}\n"

    run = await bench.carry_out(await bench.start(book))

    assert run.failure["message"] == (
        "the secret LB_TOKEN is not set: it is neither in targets.yaml nor in the environment"
    )


async def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(bench):
    mark = new_id()
    run_id = await bench.start(f"steps:\n  - name: Slow\n    timeout: 300ms\n    {program(STUBBORN)}", run_id=mark)

    run = await bench.carry_out(run_id)

    assert run.state == RunState.FAILED
    assert re.search("was stopped after 0.3 s; nothing of it still runs", run.failure["message"])
    assert processes(mark) == []


@pytest.mark.parametrize("step", ["exec: {argv: [sleep, '60']}", "wait: {for: 1h}", "look: {}"])
async def test_a_run_that_takes_too_long_is_timed_out(bench, step):
    bench.plugin("look", *[TemporaryError("away", after=60)] * 9)
    mark = new_id()
    run_id = await bench.start(f"timeout: 500ms\nsteps:\n  - {step}\n    continue_on_error: true\n", run_id=mark)

    began = time.monotonic()
    run = await bench.carry_out(run_id)

    assert run.state == RunState.TIMED_OUT
    assert "the run took longer than its" in run.failure["message"]
    assert time.monotonic() - began < 3
    assert processes(mark) == []


@pytest.mark.parametrize("step", ["exec: {argv: [sleep, '60']}", "wait: {for: 1h}", "look: {}"])
async def test_a_run_is_cancelled_from_anywhere_and_soon(bench, step):
    async def ask_again(context):
        raise TemporaryError("away", after=60)

    bench.plugin("look", ask_again)
    after = bench.plugin("after")
    mark = new_id()
    run_id = await bench.start(f"steps:\n  - {step}\n  - after: {{}}\n", run_id=mark)
    task = bench.under_way(run_id)
    await bench.until(lambda: processes(mark) if "exec" in step else bench.states(run_id))

    await bench.cancel(run_id)
    began = time.monotonic()
    await asyncio.wait_for(task, 5)

    run = await bench.run(run_id)
    assert time.monotonic() - began < 2
    assert run.state == RunState.CANCELLED
    assert run.failure is None
    assert (await bench.states(run_id))[-1] == ("failed" if "look" in step else "cancelled")
    assert processes(mark) == []
    assert after.calls == 0


async def test_a_dry_run_reads_and_previews_what_writes_or_waits(bench, tmp_path):
    read = bench.plugin("look", StepResult(ok=True, summary="3 files", values={"seen": 3}))
    file = tmp_path / "touched"
    book = f"""
steps:
  - id: found
    look: {{}}
  - name: Touch
    exec: {{argv: [touch, {file}]}}
  - id: change
    exec: {{argv: [touch, {file}]}}
  - wait: {{for: 1h}}
  - note: 'Deleted {{{{ steps.found.seen }}}} files'
  - exec: {{argv: [rm, '{{{{ steps.change.stdout }}}}']}}
  - assert: {{that: steps.change.ok, message: failed}}
  - when: steps.change.ok
    look: {{}}
    dry_run: skip
"""
    run_id = await bench.start(book, dry_run=True)
    run = await bench.carry_out(run_id)

    assert run.state == RunState.DRY_RUN, run.failure
    rows = await bench.rows(run_id)
    assert [row.state for row in rows] == ["succeeded"] + ["previewed"] * 7
    assert rows[1].summary == f"would run: touch {file}"
    assert rows[3].summary == "would wait 1 h"
    assert rows[4].summary == "would note (note): Deleted 3 files"
    assert {row.summary for row in rows[5:7]} == {"cannot be previewed: it needs what a skipped step would give"}
    assert not file.exists()
    assert read.calls == 1
    assert await bench.events("note.") == []


async def test_a_note_is_on_the_timeline_with_the_end_of_its_step(bench):
    await bench.carry_out(
        await bench.start("steps:\n  - note: {kind: finding, text: 'Disk of {{ incident.title }}'}\n")
    )

    (note,) = await bench.events("note.")
    assert note.text == "Disk of Checkout fails"
    assert note.data["kind"] == "finding"


async def test_a_request_that_only_looks_is_a_read(bench):
    bench.environment = {}
    book = "steps:\n  - http: {url: 'http://{{ params.host }}:9/'}\nparams: {host: {default: '127.0.0.1'}}\n"
    run_id = await bench.start(book)
    run = await bench.carry_out(run_id)

    assert run.state == RunState.FAILED
    assert "not a public address" in run.failure["message"]
    assert (await bench.rows(run_id))[0].effect == "read"


async def test_each_step_is_on_the_timeline_once_before_and_once_after(bench):
    bench.plugin("look")
    await bench.carry_out(await bench.start("steps:\n  - look: {}\n  - look: {}\n"))

    assert [event.kind for event in await bench.events("run.")] == [
        "run.started",
        "run.step_started",
        "run.step_succeeded",
        "run.step_started",
        "run.step_succeeded",
        "run.ended",
    ]


async def test_a_constant_may_be_made_of_parameters_and_the_key_of_a_constant(bench):
    plugin = bench.plugin("probe")
    book = (
        "params: {host: {default: web-1}}\nvars: {base: 'https://{{ params.host }}:8080', most: 3}\n"
        "concurrency: {key: '{{ vars.base }}'}\nsteps:\n  - probe: {text: '{{ vars.base }}/x'}\n"
        "outputs: {base: vars.base, most: vars.most}\n"
    )

    run = await bench.carry_out(await bench.start(book))

    assert run.outputs == {"base": "https://web-1:8080", "most": 3}
    assert run.concurrency_key == "https://web-1:8080"
    assert plugin.contexts[0].values["vars"]["base"] == "https://web-1:8080"


async def test_a_dry_run_does_not_look_where_it_cannot_know_whether_it_would(bench):
    probe = bench.plugin("probe", StepResult(ok=False, summary="still full"))
    book = (
        "risk: high\naccess: {run: ['@responders']}\nsteps:\n  - {id: ask, approval: 'Go on?'}\n"
        "  - {when: steps.ask.approved, exec: {argv: [touch, x]}}\n  - {when: steps.ask.approved, probe: {}}\n"
    )

    run_id = await bench.start(book, dry_run=True)
    run = await bench.carry_out(run_id)

    rows = await bench.rows(run_id)
    assert run.state == RunState.DRY_RUN, run.failure
    assert [row.state for row in rows] == ["previewed"] * 3
    assert rows[1].summary == "would run: touch x"
    assert rows[2].summary == "cannot be previewed: whether it is needed depends on a skipped step"
    assert probe.calls == 0
