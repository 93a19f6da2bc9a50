"""The folder that the steps of one run hand files on in."""

import stat

import pytest

from bot.kit.errors import TemporaryError
from bot.runs import scratch
from bot.runs.model import RunState
from bot.runs.step import StepResult


async def test_steps_of_a_run_share_a_folder_which_is_gone_when_the_run_has_ended(bench, tmp_path):
    async def write(context):
        (context.scratch / "plan").write_text("x")
        return StepResult(ok=True, summary="planned")

    async def read(context):
        assert stat.S_IMODE(context.scratch.stat().st_mode) == 0o700
        return StepResult(ok=True, summary=(context.scratch / "plan").read_text())

    bench.plugin("plan", write, effect="write")
    bench.plugin("apply", read, effect="write")
    interpreter = bench.interpreter()
    interpreter.home = tmp_path / "runs"
    run_id = await bench.start("steps:\n  - plan: {}\n  - apply: {}\n")

    await interpreter.run(run_id, 1)

    assert (await bench.run(run_id)).state == RunState.SUCCEEDED
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_somebody_else_put_there_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "r1").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(TemporaryError, match="belongs to somebody else"):
        scratch.make(tmp_path, "r1")


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    made = scratch.make(tmp_path, "../x/y")

    assert made.parent == tmp_path
