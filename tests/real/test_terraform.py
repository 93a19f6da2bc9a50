"""The terraform step with a real Terraform, which needs no provider but its own."""

import asyncio
import json
import os
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.tasks import spawn
from bot.runs import approval as approvals
from bot.runs import run as runs
from bot.runs.model import Run, RunState
from bot.runs.redact import MASK
from bot.runs.runbook import load
from bot.runs.step import Cancelled, StepResult, prepare
from bot.steps import terraform as step
from tests.runbooks.conftest import BOB, Library, library
from tests.steps.conftest import Bench

__all__ = ["library"]  # a fixture

WEB = """
variable "size" {
  type    = string
  default = "small"
}
variable "number" {
  type    = number
  default = 2
}
resource "terraform_data" "web" {
  input            = var.size
  triggers_replace = var.size
}
resource "terraform_data" "api" {
  count = var.number
  input = "api ${count.index}"
}
"""
# Both names are read on each look, so that the world can change behind the state's back.
WATCHED = """
resource "terraform_data" "web" { input = "web" }
output "release" { value = file("${path.module}/release.txt") }
"""
SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" { command = "echo begun; touch ${path.module}/begun; sleep 45; echo over" }
}
"""
SECRET = """
variable "key" {
  type      = string
  sensitive = true
}
variable "shown" { type = string }
resource "terraform_data" "web" {
  input = { key = var.key, shown = var.shown }
}
resource "terraform_data" "loud" {
  input = nonsensitive(var.key)
}
output "key" {
  value     = var.key
  sensitive = true
}
"""


class Stack:
    """A configuration beside the runbooks, and the steps of one run that use it."""

    def __init__(self, home: Path) -> None:
        self.books = home / "runbooks"
        self.folder = self.books / "infra"
        self.folder.mkdir(parents=True)
        self.scratch = home / "run1"
        self.scratch.mkdir(mode=0o700)
        self.bench = Bench()
        self.steps: dict[str, Any] = {}

    def write(self, text: str, name: str = "main.tf") -> None:
        (self.folder / name).write_text(text)

    def context(self, key: str = "plan", params: dict[str, Any] | None = None, **more: Any):
        given = {"folder": self.books, "scratch": self.scratch, "timeout": 60.0, "step_key": key, **more}
        return self.bench.context(values={"steps": self.steps, "params": params or {}}, **given)

    async def run(self, key: str = "plan", params: dict[str, Any] | None = None, **raw: Any) -> StepResult:
        more = {name: raw.pop(name) for name in ("timeout", "scratch", "secrets", "cancelled", "env_of") if name in raw}
        more = {("env" if name == "env_of" else name): value for name, value in more.items()}
        context = self.context(key, params, **more)
        raw = {"dir": "infra", "binary": "terraform", **raw}
        result = await step.run(context, prepare(step, raw, context))
        self.steps[key] = dict(result.values)
        return result

    async def apply(self, **raw: Any) -> StepResult:
        return await self.run("apply", action="apply", plan_from="plan", **raw)

    def state(self) -> list[str]:
        found = json.loads((self.folder / "terraform.tfstate").read_text())
        return sorted(f"{one['name']}[{i}]" for one in found["resources"] for i, _ in enumerate(one["instances"]))

    def terraform(self, *args: str, data: Path) -> subprocess.Popen[bytes]:
        """The program as anybody else may run it."""
        env = {"PATH": os.environ["PATH"], "TF_DATA_DIR": str(data), "CHECKPOINT_DISABLE": "1", "HOME": str(data)}
        return subprocess.Popen(["terraform", f"-chdir={self.folder}", *args], env=env, stdout=subprocess.DEVNULL)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


async def test_a_plan_is_made_shown_and_applied_as_it_is(stack):
    stack.write(WEB)

    plan = await stack.run()

    assert plan.ok
    assert plan.summary == "3 to add, 0 to change, 0 to destroy"
    assert (plan.values["add"], plan.values["destroy"], plan.values["exit_code"]) == (3, 0, 2)
    assert "# terraform_data.web will be created" in plan.output
    assert {one["address"]: one["action"] for one in plan.values["changes"]} == {
        "terraform_data.web": "create",
        "terraform_data.api[0]": "create",
        "terraform_data.api[1]": "create",
    }
    assert not (stack.folder / "terraform.tfstate").exists()

    done = await stack.apply()

    assert done.ok
    assert done.summary == "3 added, 0 changed, 0 destroyed"
    assert stack.state() == ["api[0]", "api[1]", "web[0]"]
    assert "Apply complete! Resources: 3 added, 0 changed, 0 destroyed." in stack.bench.said
    again = await stack.run("again")
    assert (again.summary, again.values["exit_code"], again.values["changes"]) == ("no changes", 0, [])
    assert any(line.startswith("terraform_data.web: Refreshing state...") for line in stack.bench.said)


async def test_nothing_is_left_beside_the_configuration_but_its_state(stack):
    stack.write(WEB)

    await stack.run()
    await stack.apply()

    assert sorted(file.name for file in stack.folder.iterdir()) == ["main.tf", "terraform.tfstate"]
    assert [file for file in stack.scratch.iterdir() if file.name.startswith("step-")] == []


async def test_a_plan_that_destroys_more_than_allowed_is_refused_and_not_kept(stack):
    stack.write(WEB)
    await stack.run()
    await stack.apply()

    plan = await stack.run(vars={"number": 0})

    assert not plan.ok
    assert plan.summary.startswith("would destroy 2, more than max_destroy 0: terraform_data.api[0], terraform_data.")
    assert (plan.values["destroy"], plan.values["plan_file"]) == (2, None)
    with pytest.raises(PermanentError, match="saved no plan"):
        await stack.apply(max_destroy=9)
    assert stack.state() == ["api[0]", "api[1]", "web[0]"]


async def test_what_is_replaced_counts_as_destroyed(stack):
    stack.write(WEB)
    await stack.run()
    await stack.apply()

    plan = await stack.run(vars={"size": "large"})

    assert not plan.ok
    assert "would destroy 1, more than max_destroy 0: terraform_data.web" in plan.summary
    assert plan.values["changes"][0]["action"] == "replace"


async def test_what_may_be_destroyed_is_asked_again_before_it_is(stack):
    stack.write(WEB)
    await stack.run()
    await stack.apply()
    assert (await stack.run(vars={"number": 0}, max_destroy=2)).ok

    refused = await stack.apply(max_destroy=1)

    assert not refused.ok
    assert "would destroy 2, more than max_destroy 1" in refused.summary
    assert stack.state() == ["api[0]", "api[1]", "web[0]"]
    done = await stack.apply(max_destroy=2)
    assert done.summary == "0 added, 0 changed, 2 destroyed"
    assert stack.state() == ["web[0]"]


async def test_a_dry_run_of_an_apply_tells_the_plan_and_applies_nothing(stack):
    stack.write(WEB)
    await stack.run()
    context = stack.context("apply")
    raw = {"dir": "infra", "binary": "terraform", "action": "apply", "plan_from": "plan"}

    told = await step.dry_run(context, prepare(step, raw, context))

    assert told.ok
    assert told.summary == "would apply: 3 to add, 0 to change, 0 to destroy"
    assert "create terraform_data.web" in told.output
    assert not (stack.folder / "terraform.tfstate").exists()


async def test_a_plan_that_was_changed_is_not_applied(stack):
    stack.write(WEB)
    await stack.run()
    file = stack.scratch / stack.steps["plan"]["plan_file"]
    file.write_bytes(file.read_bytes() + b"x")

    with pytest.raises(PermanentError, match="was changed since; plan again"):
        await stack.apply()
    assert not (stack.folder / "terraform.tfstate").exists()


async def test_a_plan_is_applied_only_where_it_was_made(stack, tmp_path):
    stack.write(WEB)
    await stack.run()

    with pytest.raises(PermanentError, match="is gone; it stays on the machine"):
        await stack.apply(scratch=None)
    other = tmp_path / "run2"
    other.mkdir()
    with pytest.raises(PermanentError, match="is gone; it stays on the machine"):
        await stack.apply(scratch=other)
    (stack.books / "other").mkdir()
    with pytest.raises(PermanentError, match="for another dir, workspace or binary"):
        await stack.apply(dir="other")
    with pytest.raises(PermanentError, match="for another dir, workspace or binary"):
        await stack.apply(workspace="prod")
    assert not (stack.folder / "terraform.tfstate").exists()


async def test_a_plan_that_the_state_has_overtaken_is_not_applied(stack):
    stack.write(WEB)
    await stack.run()
    await stack.run("second")
    await stack.run("third", action="apply", plan_from="second")

    late = await stack.apply()

    assert not late.ok
    assert "terraform apply: Saved plan is stale" in late.summary


async def test_drift_is_found_and_is_no_failure(stack):
    stack.write(WATCHED)
    (stack.folder / "release.txt").write_text("v1")
    await stack.run()
    await stack.apply()

    assert (await stack.run("before", action="drift")).summary == "no drift"
    (stack.folder / "release.txt").write_text("v2")
    drift = await stack.run("drift", action="drift")

    assert drift.ok
    assert drift.summary == "1 drifted: output.release"
    assert drift.values["exit_code"] == 2
    assert drift.values["drifted"] == [
        {"address": "output.release", "action": "update", "attributes": {"value": ["v1", "v2"]}}
    ]
    assert drift.values["plan_file"] is None
    with pytest.raises(PermanentError, match="saved no plan"):
        await stack.run("apply", action="apply", plan_from="drift")


async def test_targets_keep_a_plan_to_a_part(stack):
    stack.write(WEB)

    plan = await stack.run(targets=["terraform_data.api[1]"])

    assert plan.values["add"] == 1
    assert plan.values["changes"][0]["address"] == "terraform_data.api[1]"


@pytest.mark.parametrize(
    "evil",
    ["-destroy", "--destroy", "-out=/tmp/x", "\nterraform_data.web", "a\0b", "", "../main.tf", "; touch x", "каша.x"],
)
async def test_a_target_from_outside_is_an_address_or_nothing(stack, evil):
    stack.write(WEB)

    with pytest.raises(PermanentError, match=r"targets\.0: .* is not the address of a resource"):
        await stack.run(params={"x": evil}, targets=["{{ params.x }}"])


@pytest.mark.parametrize(
    "evil", ['a" -destroy "', "terraform_data.web -destroy", "a.b; touch x", "terraform_data.web\u2028x"]
)
async def test_a_target_that_is_no_address_is_refused_by_terraform(stack, evil):
    stack.write(WEB)

    told = await stack.run(params={"x": evil}, targets=["{{ params.x }}"])

    assert not told.ok
    assert "Invalid target" in told.summary
    assert sorted(file.name for file in stack.folder.iterdir()) == ["main.tf"]


@pytest.mark.parametrize(
    "evil",
    [
        '${file("/etc/passwd")}',
        "%{ if true }x%{ endif }",
        '"\nnumber = 9\nx = "',
        "-destroy",
        "a\0b",
        "$(touch x)",
        "é\u2028\U0001f600",
        "",
        "x" * 20_000,
    ],
)
async def test_a_variable_is_taken_as_it_stands(stack, evil):
    stack.write(WEB)

    await stack.run(params={"x": evil}, vars={"size": "{{ params.x }}"})
    await stack.apply()

    found = json.loads((stack.folder / "terraform.tfstate").read_text())["resources"]
    web = next(one for one in found if one["name"] == "web")
    assert web["instances"][0]["attributes"]["input"]["value"] == evil
    assert stack.state() == ["api[0]", "api[1]", "web[0]"]


async def test_a_variable_that_is_not_declared_is_refused_with_the_nearest(stack):
    stack.write(WEB)

    with pytest.raises(PermanentError, match="declares no variable 'numbr'; did you mean number"):
        await stack.run(vars={"numbr": 9})


async def test_sensitive_values_are_nowhere_to_be_read(stack):
    stack.write(SECRET)
    secret = "correct-horse-battery"
    raw = {"vars": {"key": "{{ secrets.KEY }}", "shown": "seen"}}
    # Known to the plan alone, not to the run: the run hides its own secrets whatever the plan says.
    plan = await stack.run(vars={"key": secret, "shown": "seen"})
    applied = await stack.apply()
    second = await stack.run("second", secrets={"KEY": "another-horse-staple"}, **raw)

    told = repr([plan, applied, second, stack.bench.said])
    assert secret not in told
    assert "another-horse-staple" not in told
    first = {one["address"]: one["attributes"] for one in plan.values["changes"]}
    assert first["terraform_data.web"]["input"][1] == f'{{"key": "{MASK}", "shown": "seen"}}'
    assert {one["address"]: one for one in second.values["changes"]}["terraform_data.web"]["action"] == "update"


async def test_files_of_a_step_are_for_the_bot_alone(stack):
    stack.write(SLOW)
    cancelled = asyncio.Event()
    await stack.run()
    task = spawn(stack.apply(cancelled=cancelled), name="test")
    await until(lambda: (stack.folder / "begun").exists())

    commands = [file.read_bytes() for file in processes("terraform", stack.bench.run_id)]
    modes = {oct(stat.S_IMODE(folder.stat().st_mode)) for folder in stack.scratch.iterdir()}
    cancelled.set()

    with pytest.raises(Cancelled, match="terraform apply was stopped; what it did until then stands"):
        await task
    assert commands
    assert modes <= {"0o700", "0o755"}  # all of it below the folder of the run, which is 0700
    assert list(processes("terraform", stack.bench.run_id)) == []


async def test_a_variable_is_in_no_command_line(stack):
    stack.write(SLOW + 'variable "key" { type = string }\n' + 'data "terraform_data" "none" {}\n')
    # Reading a pipe keeps the program at its work for as long as it takes to look at it.
    os.mkfifo(stack.folder / "zz.tf")
    task = spawn(stack.run(vars={"key": "correct-horse"}, timeout=3), name="test")
    await until(lambda: list(processes("terraform", stack.bench.run_id)))
    seen = [
        file.read_bytes() + (file.parent / "environ").read_bytes()
        for file in processes("terraform", stack.bench.run_id)
    ]

    result = await task

    assert not result.ok
    assert seen
    assert all(b"correct-horse" not in one for one in seen)


async def test_a_lock_that_is_held_is_a_passing_failure_that_names_the_holder(stack, tmp_path):
    stack.write(SLOW)
    stack.terraform("init", "-input=false", data=tmp_path / "data").wait(20)
    holder = stack.terraform("apply", "-auto-approve", "-input=false", data=tmp_path / "data")
    try:
        await until(lambda: (stack.folder / "begun").exists())
        lock = json.loads((stack.folder / ".terraform.tfstate.lock.info").read_text())

        with pytest.raises(TemporaryError) as caught:
            await stack.run(timeout=8)
    finally:
        holder.terminate()
        holder.wait(60)

    assert f"the state of infra is locked: {lock['Who']} does apply since " in str(caught.value)
    assert f"force-unlock {lock['ID']}" in str(caught.value)


async def test_two_runs_on_one_configuration_wait_for_each_other(stack, tmp_path):
    stack.write(WEB)
    other = tmp_path / "run2"
    other.mkdir()

    plans = await asyncio.gather(
        stack.run("one", vars={"number": 5}),
        stack.run("two", vars={"number": 7}, scratch=other),
        stack.run("three", vars={"number": 9}, workspace="default"),
    )

    assert [plan.values["add"] for plan in plans] == [6, 8, 10]


async def test_a_workspace_is_used_if_it_is_there_and_never_made(stack, tmp_path):
    stack.write(WEB)
    for words in (("init",), ("workspace", "new", "prod")):
        stack.terraform(*words, data=tmp_path / "data").wait(20)

    missing = await stack.run(workspace="prot")
    await stack.run(workspace="prod")
    await stack.apply(workspace="prod")

    assert not missing.ok
    assert missing.summary == "infra has no workspace 'prot'; nothing was planned"
    assert sorted(file.name for file in (stack.folder / "terraform.tfstate.d").iterdir()) == ["prod"]
    assert not (stack.folder / "terraform.tfstate").exists()
    assert (stack.folder / "terraform.tfstate.d/prod/terraform.tfstate").exists()


async def test_a_configuration_with_a_fault_says_which(stack):
    stack.write('resource "terraform_data" "web" { input = var.nope }\n')

    told = await stack.run()

    assert not told.ok
    assert told.summary.startswith("terraform plan: Reference to undeclared input variable: on main.tf line 1")
    assert told.values["exit_code"] == 1


async def test_a_folder_without_a_configuration_says_so(stack):
    (stack.books / "file.tf").write_text("")

    assert "No configuration files" in (await stack.run()).summary
    with pytest.raises(PermanentError, match="is not a folder"):
        await stack.run(dir="file.tf")
    with pytest.raises(PermanentError, match="leads out of the folder of the runbooks"):
        await stack.run(dir="../run1")
    with pytest.raises(PermanentError, match="leads out of the folder of the runbooks"):
        await stack.run(dir="/etc")


async def test_a_variable_without_a_value_is_not_asked_for(stack):
    stack.write('variable "size" { type = string }\nresource "terraform_data" "web" { input = var.size }\n')

    told = await stack.run(timeout=20)

    assert not told.ok
    assert "No value for required variable" in told.summary


async def test_providers_come_from_a_folder_and_the_lock_file_is_never_written(stack, tmp_path):
    stack.write('resource "local_file" "x" {\n  content  = "x"\n  filename = "x"\n}\n')
    mirror = tmp_path / "mirror/registry.terraform.io/hashicorp/local/2.5.1/linux_amd64"
    mirror.mkdir(parents=True)

    empty = await stack.run(providers=str(tmp_path / "mirror"))
    (mirror / "terraform-provider-local_v2.5.1_x5").write_text("#!/bin/sh\nexit 1\n")
    (mirror / "terraform-provider-local_v2.5.1_x5").chmod(0o755)
    unlocked = await stack.run(providers=str(tmp_path / "mirror"))

    assert not empty.ok
    assert "terraform init: " in empty.summary
    assert not unlocked.ok
    assert "terraform init: Provider dependency changes detected" in unlocked.summary
    assert sorted(file.name for file in stack.folder.iterdir()) == ["main.tf"]
    with pytest.raises(PermanentError, match="is not a folder with providers"):
        await stack.run(providers=str(tmp_path / "nowhere"))


async def test_a_plan_that_takes_too_long_is_ended(stack):
    os.mkfifo(stack.folder / "main.tf")

    told = await stack.run(timeout=1.5)

    assert not told.ok
    assert "was stopped after 1.5 s" in told.summary
    assert list(processes("terraform", stack.bench.run_id)) == []


async def test_an_apply_that_takes_too_long_is_ended_and_says_that_it_may_be_half_done(stack):
    stack.write(SLOW)
    await stack.run()

    told = await stack.apply(timeout=4)

    assert not told.ok
    assert told.summary.startswith("terraform apply was stopped after 4 s; what it did until then stands: plan again")
    assert "begun" in told.output
    assert list(processes("terraform", stack.bench.run_id)) == []


async def test_an_apply_that_is_ended_gives_its_lock_back_and_keeps_what_it_did(stack):
    stack.write(SLOW.replace("sleep 45", "sleep 5") + 'resource "terraform_data" "quick" {}\n')
    await stack.run()

    told = await stack.apply(timeout=3)
    again = await stack.run("again")

    assert "was stopped after 3 s" in told.summary
    assert stack.state() == ["quick[0]", "slow[0]"]
    assert "Gracefully shutting down" in told.output
    assert again.summary.startswith("would destroy 1, more than max_destroy 0: terraform_data.slow")
    assert not (stack.folder / ".terraform.tfstate.lock.info").exists()


async def test_endless_output_is_bounded(stack):
    stack.write('resource "terraform_data" "loud" {\n  provisioner "local-exec" { command = "yes $PPID" }\n}\n')
    await stack.run()

    told = await stack.apply(timeout=4)

    assert not told.ok
    assert told.truncated > 1_000_000
    assert len(told.output) < 200_000


async def test_an_apply_that_fails_in_the_middle_says_so(stack):
    stack.write('resource "terraform_data" "bad" {\n  provisioner "local-exec" { command = "echo oh; exit 3" }\n}\n')
    await stack.run()

    told = await stack.apply()

    assert not told.ok
    assert told.summary.startswith("terraform apply: local-exec provisioner error:")
    assert told.summary.endswith("what it did until then stands: plan again to see what is left")
    assert told.values["exit_code"] == 1


async def test_credentials_go_by_environment_and_the_tools_own_variables_are_ours(stack):
    stack.write('resource "terraform_data" "x" {\n  provisioner "local-exec" { command = "env | sort" }\n}\n')
    await stack.run()

    told = await stack.apply(env={"AWS_SECRET_ACCESS_KEY": "{{ secrets.AWS }}"}, secrets={"AWS": "correct-horse"})

    assert f"AWS_SECRET_ACCESS_KEY={MASK}" in told.output
    assert "correct-horse" not in repr(told) + repr(stack.bench.said)
    with pytest.raises(PermanentError, match="TF_VAR_size cannot be set"):
        await stack.run(env_of={"TF_VAR_size": "large"})


RESIZE = """
version: 1
id: resize
name: Resize
owner: team-platform
params: {size: {default: large}}
steps:
  - id: plan
    terraform: {dir: infra, binary: terraform, vars: {size: '{{ params.size }}'}, max_destroy: 1}
  - id: ask
    approval: 'Add {{ steps.plan.add }}, destroy {{ steps.plan.destroy }}?'
  - id: apply
    terraform: {dir: infra, binary: terraform, action: apply, plan_from: plan, max_destroy: 1}
  - id: drift
    terraform: {dir: infra, binary: terraform, action: drift, vars: {size: '{{ params.size }}'}}
outputs: {added: steps.apply.add, drifted: steps.drift.drifted | length}
"""


async def test_a_run_plans_asks_and_applies_what_was_asked_about(stack, library):
    stack.write(WEB)
    library.folder = stack.books
    book = load(RESIZE, "resize.yaml", library.steps)
    run_id = await library.start(book, {}, email="alice@example.com")

    asked = await library.carry_out(run_id)
    run = await answered(library, run_id)

    assert asked.state == RunState.WAITING
    assert run.state == RunState.SUCCEEDED, run.failure
    assert run.outputs == {"added": 3, "drifted": 0}
    assert stack.state() == ["api[0]", "api[1]", "web[0]"]
    assert list(library.home.iterdir()) == []


async def test_a_yes_is_void_when_the_configuration_was_changed_after_the_question(stack, library):
    stack.write(WEB)
    library.folder = stack.books
    run_id = await library.start(load(RESIZE, "resize.yaml", library.steps), {}, email="alice@example.com")

    await library.carry_out(run_id)
    stack.write(WEB.replace("count = var.number", "count = 0"))
    run = await answered(library, run_id)

    assert run.state == RunState.EXPIRED
    assert "has changed since people said yes" in run.failure["message"]
    assert not (stack.folder / "terraform.tfstate").exists()


async def test_a_dry_run_plans_and_says_what_would_be_applied(stack, library):
    stack.write(WEB)
    library.folder = stack.books
    run_id = await library.start(load(RESIZE, "resize.yaml", library.steps), {}, dry_run=True)

    run = await library.carry_out(run_id)

    assert run.state == RunState.DRY_RUN
    assert {row.step: row.summary for row in await library.rows(run_id)}["apply"] == (
        "would apply: 3 to add, 0 to change, 0 to destroy"
    )
    assert not (stack.folder / "terraform.tfstate").exists()


async def answered(library: Library, run_id: str) -> Run:
    """The run after somebody else has said yes."""
    async with library.engine.db.read() as session:
        row = next(row for row in await runs.attempts(session, run_id) if row.type == "approval")
        question = await approvals.of_step(session, row.id)
    async with library.engine.transaction() as tx:
        await approvals.vote(
            tx,
            library.react,
            question.id,
            yes=True,
            by=BOB,
            now=library.clock(),
            current=question.sha256,
            reason="seen",
        )
    return await library.carry_out(run_id)


async def until(there, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def processes(name: str, run_id: str) -> list[Path]:
    """The command lines of the programs of that name that the run has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if file.read_bytes().split(b"\0")[0].endswith(
                b"/" + name.encode()
            ) and f"RUNBOOK_RUN={run_id}/".encode() in ((file.parent / "environ").read_bytes()):
                found.append(file)
        except OSError:
            continue
    return found
