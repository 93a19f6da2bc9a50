"""Plan and apply changes of infrastructure with OpenTofu or Terraform, and look for drift.

Only a saved plan is applied: the very file that an earlier step made, which people could read before they said yes.
What a plan would destroy is counted from the plan itself, when it is made and again before it is applied. Every step
has a data folder (TF_DATA_DIR) of its own in the scratch folder of its run, so runs do not disturb each other; state
and its lock stay where the configuration keeps them.
"""

import asyncio
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from bot.kit.errors import PermanentError, TemporaryError
from bot.kit.ids import derived_id
from bot.kit.text import clip, nearest, one_line
from bot.runs import process, scratch
from bot.runs.program import Env, end, need, settle
from bot.runs.redact import MASK, Open, Redactor
from bot.runs.step import SECRETS, Cancelled, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = ("add", "change", "destroy", "changes", "drifted", "plan_file", "plan_digest", "exit_code")

INSTALL = {
    "tofu": "install OpenTofu (the package tofu) where the bot runs, or say binary: terraform",
    "terraform": "install Terraform (the package terraform) where the bot runs, or say binary: tofu",
}
PLAN_LIMIT = 16 * 1024**2  # letters of a plan as JSON
LISTED, NAMED, ATTRIBUTES, VALUE = 200, 5, 20, 200
SECRETS_LISTED = 200
LOCK_SECONDS = 20.0
# To write down what was done and to give the lock back before providers end too; a run waits 15 s for a step to end.
ORDERLY_SECONDS = 8.0

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_WORKSPACE = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,89}$"
_ADDRESS = re.compile(r"[A-Za-z_][^\x00-\x1f\x7f]{0,511}")
# What a plan tells of while it is made; the rest is shown when it is known what must not be.
_PROGRESS = re.compile(
    r"(?:Acquiring|Releasing) state lock|[^:]{1,300}: (?:Refreshing state|Reading|Still reading|Read)"
)
_PLANNED = re.compile(r"terraform/[a-z0-9-]{1,80}/[a-z0-9-]{1,80}/plan")
# Variables of the tools that a runbook may set: credentials of backends and registries, and where providers come from.
_OPEN = ("TF_HTTP_", "TF_TOKEN_", "TF_REGISTRY_", "TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR")


def _env(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if told := _closed(str(name)):
            raise refuse(told)
    return value


def _closed(name: str) -> str | None:
    if name.startswith("TF_") and not name.startswith(_OPEN):
        return f"{name} cannot be set; there are keys for variables, workspace and targets"
    return None


def _vars(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not _VARIABLE.fullmatch(str(name)):
            raise refuse(f"{name!r} cannot be the name of a variable")
    return value


def _given(value: object) -> object:
    # An empty value of a parameter must not mean the default workspace, or everything there is.
    if value is None or value == "" or value == []:
        raise ValueError("is empty; leave it out if that is meant")
    return value


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError(f"{clip(value, 60)!r} is not the address of a resource or a module")
    return value


class Params(BaseModel):
    """Which configuration, and what to do with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dir: Annotated[Text, Field(min_length=1)] = Field(description="folder of the configuration, beside the runbooks")
    binary: Literal["tofu", "terraform"] = Field(default="tofu", description="the program")
    workspace: Annotated[Annotated[Text, Field(pattern=_WORKSPACE)] | None, BeforeValidator(_given)] = Field(
        default=None, description="one that exists; default otherwise"
    )
    action: Literal["plan", "apply", "drift"] = Field(
        default="plan", description="plan saves a plan, apply carries one out, drift compares state and world"
    )
    targets: Annotated[list[Annotated[Text, AfterValidator(_address)]], BeforeValidator(_given)] = Field(
        default=[], max_length=100, description="addresses to keep to; everything otherwise"
    )
    vars: Annotated[dict[str, Any], BeforeValidator(_vars), SECRETS] = Field(
        default={}, description="variables of the configuration; handed over in a file"
    )
    plan_from: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] | None = Field(
        default=None, description="id of the step whose saved plan is applied"
    )
    max_destroy: int = Field(default=0, ge=0, strict=True, description="most resources that may be destroyed")
    env: Annotated[Env, BeforeValidator(_env), SECRETS] = Field(
        default={}, description="environment variables, such as credentials of providers"
    )
    providers: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None, description="folder with providers, so that none is downloaded; absolute or beside the runbooks"
    )

    @model_validator(mode="after")
    def _whole(self) -> "Params":
        if self.action == "apply" and self.plan_from is None:
            raise refuse("only a saved plan is applied: give plan_from the id of an earlier step with action: plan")
        if self.action != "apply" and self.plan_from is not None:
            raise refuse("plan_from goes with action: apply")
        if self.action == "apply" and (self.targets or self.vars):
            raise refuse("targets and vars are in the plan already; they go with the step that makes it")
        return self


def effect(params: Params) -> Literal["read", "write"]:
    """A plan and a look for drift change nothing."""
    return "write" if params.action == "apply" else "read"


def preview(params: Params) -> str:
    """What would be done where; of variables, the names."""
    told = f"{params.dir} with {params.binary}" + (f", workspace {params.workspace}" if params.workspace else "")
    if params.action == "apply":
        return f"would apply the plan of the step {params.plan_from} to {told}"
    only = f", only {', '.join(params.targets)}" if params.targets else ""
    given = f", with {', '.join(params.vars)}" if params.vars else ""
    return f"would {'plan' if params.action == 'plan' else 'look for drift of'} {told}{only}{given}"


async def run(context: StepContext, params: Params) -> StepResult:
    """Do it. A plan that would destroy more than it may is not kept, and not applied."""
    with _at_work(context, params) as work:
        if params.action == "apply":
            return await _apply(work)
        return await _plan(work)


async def dry_run(context: StepContext, params: Params) -> StepResult:
    """What the plan that would be applied holds; a plan and a look for drift run as they are."""
    if params.action != "apply":
        return await run(context, params)
    with _at_work(context, params) as work:
        _, plan = await _saved(work)
        told = _too_much(work, plan)
        result = StepResult(told is None, told or f"would apply: {plan.summary}", plan.listed(), plan.values())
        return _safe(context, plan, result)


# -- the plan --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """One thing that differs: what is done about it, and its attributes before and after, without secrets."""

    address: str
    action: str
    attributes: Mapping[str, tuple[str, str]]

    def value(self) -> JsonValue:
        """What later steps see of it."""
        shown: dict[str, JsonValue] = {name: list(pair) for name, pair in self.attributes.items()}
        return {"address": self.address, "action": self.action, "attributes": shown}

    def line(self) -> str:
        """What people see of it."""
        told = "; ".join(f"{name}: {before} → {after}" for name, (before, after) in self.attributes.items())
        return f"{self.action} {self.address}" + (f" ({told})" if told and self.action == "update" else "")


@dataclass(frozen=True)
class Plan:
    """A plan as its JSON tells it. *secrets* are the values that the configuration calls sensitive."""

    changes: tuple[Change, ...]
    drifted: tuple[Change, ...]
    outputs: tuple[Change, ...]
    variables: frozenset[str]
    secrets: tuple[str, ...]
    add: int
    change: int
    destroy: int
    destroyed: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In a few words."""
        if not self.changes:
            return "no changes" + (f" but outputs: {_some(self.outputs)}" if self.outputs else "")
        return f"{self.add} to add, {self.change} to change, {self.destroy} to destroy"

    def listed(self) -> str:
        """Line by line."""
        return "\n".join(change.line() for change in (*self.changes, *self.outputs)[:LISTED])

    def values(self) -> dict[str, JsonValue]:
        """What later steps see."""
        return {
            "add": self.add,
            "change": self.change,
            "destroy": self.destroy,
            "changes": [change.value() for change in self.changes[:LISTED]],
            "drifted": [change.value() for change in self.drifted[:LISTED]],
        }


def read(text: str) -> Plan:
    """What `show -json` says of a plan; PermanentError where it says nothing that can be understood."""
    try:
        found = json.loads(text)
        if not found["format_version"].startswith("1."):
            raise ValueError("an unknown format")
        changes = [_change(one) for one in found.get("resource_changes") or ()]
        drifted = [_change(one) for one in found.get("resource_drift") or ()]
        outputs = [_output(name, one) for name, one in (found.get("output_changes") or {}).items()]
        secrets = list(dict.fromkeys(_secrets(found)))
        actions = [_actions(one) for one in found.get("resource_changes") or () if one.get("mode") != "data"]
        destroyed = [
            str(one["address"]) for one in found.get("resource_changes") or () if "delete" in one["change"]["actions"]
        ]
        return Plan(
            changes=tuple(one for one in changes if one.action not in ("no-op", "read")),
            drifted=tuple(one for one in drifted if one.action != "no-op"),
            outputs=tuple(one for one in outputs if one.action != "no-op"),
            variables=frozenset(found.get("variables") or ()),
            secrets=tuple(secrets[:SECRETS_LISTED]),
            add=sum("create" in one for one in actions),
            change=sum("update" in one for one in actions),
            destroy=len(destroyed),
            destroyed=tuple(destroyed),
        )
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise PermanentError("the plan cannot be read, so nothing can be said of what it would do") from None


def _change(one: Mapping[str, Any]) -> Change:
    change = one["change"]
    address = str(one["address"]) + (f" (deposed {one['deposed']})" if one.get("deposed") else "")
    before, after = change.get("before"), change.get("after")
    shown: dict[str, tuple[str, str]] = {}
    if isinstance(before, dict) or isinstance(after, dict):
        old, new = (side if isinstance(side, dict) else {} for side in (before, after))
        unknown = change.get("after_unknown")
        later = unknown if isinstance(unknown, dict) else {}
        for name in sorted({*old, *new, *(name for name, told in later.items() if told)}):
            hidden = [_part(change.get(f"{side}_sensitive"), name) for side in ("before", "after")]
            if old.get(name) != new.get(name) or (later.get(name) and name not in new):
                known = new.get(name) if name in new or not later.get(name) else "(known after apply)"
                shown[name] = _pair(old.get(name), known, hidden)
    return Change(clip(address, 300), _word(_actions(one)), dict(list(shown.items())[:ATTRIBUTES]))


def _output(name: str, change: Mapping[str, Any]) -> Change:
    hidden = [change.get(f"{side}_sensitive") for side in ("before", "after")]
    after = change.get("after") if "after" in change or not change.get("after_unknown") else "(known after apply)"
    pair = _pair(change.get("before"), after, hidden)
    return Change(clip(f"output.{name}", 300), _word(_actions({"change": change})), {"value": pair})


def _pair(before: Any, after: Any, hidden: Sequence[Any]) -> tuple[str, str]:
    # What is sensitive on one side is on the other as well: it may be the old value of the same secret.
    if any(one is True for one in hidden):
        return MASK, MASK
    first, second = (_masked(_masked(side, hidden[0]), hidden[1]) for side in (before, after))
    return _short(first), _short(second)


def _short(value: Any) -> str:
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return clip(one_line(told), VALUE)


def _masked(value: Any, hidden: Any) -> Any:
    """*value* without what *hidden*, of the same shape, says is sensitive."""
    if value is None or not _any(hidden):
        return value
    if isinstance(value, dict) and isinstance(hidden, dict):
        return {key: _masked(item, _part(hidden, key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(hidden, list):
        return [_masked(item, _part(hidden, i)) for i, item in enumerate(value)]
    return MASK


def _part(hidden: Any, key: str | int) -> Any:
    """What *hidden* says of one part of a value."""
    if isinstance(hidden, dict):
        return hidden.get(key, False)
    if isinstance(hidden, list) and isinstance(key, int) and key < len(hidden):
        return hidden[key]
    return _any(hidden)


def _any(hidden: Any) -> bool:
    """Whether anything is sensitive."""
    if isinstance(hidden, dict):
        return any(map(_any, hidden.values()))
    return any(map(_any, hidden)) if isinstance(hidden, list) else bool(hidden)


def _actions(one: Mapping[str, Any]) -> list[str]:
    actions = one["change"]["actions"]
    if not isinstance(actions, list) or not actions or not all(isinstance(action, str) for action in actions):
        raise ValueError("no list of actions")
    return actions


def _word(actions: Sequence[str]) -> str:
    return "replace" if {"create", "delete"} <= set(actions) else "+".join(actions)


def _secrets(found: Mapping[str, Any]) -> Iterator[str]:
    """The texts in a plan that its configuration calls sensitive."""
    rows = [*(found.get("resource_changes") or ()), *(found.get("resource_drift") or ())]
    for change in [*(row["change"] for row in rows), *(found.get("output_changes") or {}).values()]:
        for side in ("before", "after"):
            yield from _sensitive(change.get(side), change.get(f"{side}_sensitive"))
    declared = ((found.get("configuration") or {}).get("root_module") or {}).get("variables") or {}
    for name, variable in (found.get("variables") or {}).items():
        if (declared.get(name) or {}).get("sensitive"):
            yield from _sensitive(variable.get("value"), True)


def _sensitive(value: Any, hidden: Any) -> Iterator[str]:
    if not _any(hidden):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _sensitive(item, _part(hidden, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _sensitive(item, _part(hidden, i))


def _some(changes: Sequence[Change]) -> str:
    return _names([change.address for change in changes])


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


# -- the program -----------------------------------------------------------------------------------------------------


def _silent(line: str) -> None:
    """Shows nothing."""


def _progress(say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(line) if _PROGRESS.match(line) else None


@dataclass(frozen=True)
class _Work:
    """One step at work: its configuration, its corner for private files, and when it must be over."""

    context: StepContext
    params: Params
    folder: Path
    corner: Path
    until: float

    async def call(
        self,
        *args: str,
        data: Path,
        say: Callable[[str], None] = _silent,
        redact: Redactor | None = None,
        keep: int = process.HEAD + process.TAIL,
    ) -> process.Outcome:
        """Run the program; *say* is given its lines while it runs."""
        context, binary = self.context, self.params.binary
        left = self.until - time.monotonic()
        if left <= 0:
            raise PermanentError(f"{binary} {args[0]} was not begun: the time of the step was over")
        outcome = await process.run(
            [binary, f"-chdir={self.folder}", *args],
            mark=f"{context.run_id}/{context.step_key}",
            seconds=left,
            redact=redact or context.redact,
            cancelled=context.cancelled,
            say=say,
            env={
                **context.env,
                **self.params.env,
                "TF_DATA_DIR": str(data),
                "TF_IN_AUTOMATION": "1",
                "TF_INPUT": "0",
                "CHECKPOINT_DISABLE": "1",
            },
            cwd=str(self.folder),
            keep=keep,
            alone=ORDERLY_SECONDS if args[0] in ("plan", "apply") else 0.0,
        )
        try:
            settle(f"{binary} {args[0]}", outcome)
        except Cancelled:
            raise Cancelled(f"{binary} {args[0]} was stopped{_hint(args[0])}") from None
        if outcome.exit_code and (who := locked(outcome.stderr)):
            raise TemporaryError(f"the state of {self.params.dir} is locked: {who}", after=15)
        return outcome

    def failed(self, what: str, outcome: process.Outcome) -> StepResult:
        """How it went wrong, in its own words."""
        name = f"{self.params.binary} {what}"
        if outcome.timed_out:
            told = f"{name} was stopped after {self.context.timeout:g} s{_hint(what)}"
        else:
            told = f"{name}: {wrong(outcome.stderr) or end(outcome)}{_hint(what)}"
        values: dict[str, JsonValue] = {"exit_code": outcome.exit_code}
        return StepResult(False, told, _output_of(outcome), values, truncated=outcome.dropped)


def _hint(what: str) -> str:
    return "; what it did until then stands: plan again to see what is left" if what == "apply" else ""


def _output_of(outcome: process.Outcome) -> str:
    return outcome.stdout + (f"\n{outcome.stderr}" if outcome.stderr else "")


@contextmanager
def _at_work(context: StepContext, params: Params) -> Iterator[_Work]:
    for name in context.env:
        if told := _closed(name):
            raise PermanentError(told)
    folder = context.file(params.dir)
    if not folder.is_dir():
        raise PermanentError(f"{params.dir!r} is not a folder; name the one that holds the configuration")
    need(params.binary, INSTALL[params.binary])
    with scratch.corner(context.scratch) as corner:
        yield _Work(context, params, folder, corner, time.monotonic() + context.timeout)


async def _plan(work: _Work) -> StepResult:
    """Make a plan, look what is in it, and keep it if it may be applied."""
    params = work.params
    place = _place(work)
    data, file = place / "data", place / "plan"
    if failed := await _init(work, data):
        return failed
    arguments = [f"-out={file}", "-detailed-exitcode", *_common(work)]
    if params.action == "drift":
        arguments.append("-refresh-only")
    if params.vars:
        text = json.dumps(params.vars, ensure_ascii=False)
        arguments.append(f"-var-file={scratch.put(work.corner / 'given.tfvars.json', text)}")
    arguments += [f"-target={target}" for target in params.targets]
    outcome = await work.call("plan", *arguments, data=data, say=_progress(work.context.say))
    if outcome.exit_code not in (0, 2):
        return work.failed("plan", outcome)
    plan = await _shown(work, data, file)
    _declared(params, plan)
    more: dict[str, JsonValue] = {"plan_file": None, "plan_digest": None, "exit_code": outcome.exit_code}
    summary = plan.summary
    if params.action == "drift":
        found = (*plan.drifted, *plan.outputs)
        more["drifted"] = [change.value() for change in found[:LISTED]]
        summary = _drift(found, outcome.exit_code)
    result = StepResult(True, summary, _output_of(outcome), {**plan.values(), **more}, truncated=outcome.dropped)
    result = _safe(work.context, plan, result)
    if params.action == "drift":
        return result
    if told := _too_much(work, plan):
        return replace(result, ok=False, summary=told)
    if work.context.scratch is None:
        return result
    digest = await asyncio.to_thread(_digest, file)
    kept = {"plan_file": str(file.relative_to(work.context.scratch)), "plan_digest": digest}
    return replace(result, values={**result.values, **kept})


def _safe(context: StepContext, plan: Plan, result: StepResult) -> StepResult:
    """*result* without what the plan calls sensitive, wherever a copy of it turns up."""
    redact = context.redact.knowing(*plan.secrets)
    return replace(
        result,
        summary=redact.text(result.summary),
        output=redact.text(result.output),
        values=redact.value(dict(result.values)),
    )


def _place(work: _Work) -> Path:
    """A new folder for the plan and the data of this step; it lasts as long as the run."""
    context, params = work.context, work.params
    if context.scratch is None or params.action == "drift":
        return work.corner
    place = context.scratch / "terraform" / _about(params) / _named(context.step_key)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o700, parents=True)
    return place


def _about(params: Params) -> str:
    """Stands for what a plan is made of; a plan fits nothing else."""
    return derived_id(params.binary, params.dir, params.workspace or "")


def _named(step: str) -> str:
    return derived_id("step", step)


async def _init(work: _Work, data: Path) -> StepResult | None:
    """Make the configuration ready to use; how it went wrong, or None."""
    params = work.params
    arguments = ["-input=false", "-no-color", "-lockfile=readonly"]
    if params.providers is not None:
        given = Path(params.providers)
        folder = given if given.is_absolute() else work.context.file(params.providers)
        if not folder.is_dir():
            raise PermanentError(f"{params.providers!r} is not a folder with providers")
        arguments.append(f"-plugin-dir={folder}")
    outcome = await work.call("init", *arguments, data=data)
    if outcome.exit_code != 0:
        if "could not connect to" in outcome.stderr:
            raise TemporaryError(f"{params.binary} init: {wrong(outcome.stderr)}")
        return work.failed("init", outcome)
    if params.workspace is not None:
        outcome = await work.call("workspace", "select", "-no-color", params.workspace, data=data)
        if outcome.exit_code != 0:
            result = work.failed("workspace", outcome)
            return replace(result, summary=f"{params.dir} has no workspace {params.workspace!r}; nothing was planned")
    return None


def _common(work: _Work) -> list[str]:
    patience = max(1, int(min(LOCK_SECONDS, (work.until - time.monotonic()) / 3)))
    return ["-input=false", "-no-color", f"-lock-timeout={patience}s"]


async def _shown(work: _Work, data: Path, file: Path) -> Plan:
    outcome = await work.call("show", "-json", "-no-color", str(file), data=data, redact=Open(), keep=PLAN_LIMIT)
    if outcome.exit_code != 0:
        raise PermanentError(f"the plan cannot be read: {work.context.redact.text(wrong(outcome.stderr))}")
    if outcome.dropped:
        raise PermanentError("the plan is too large to be checked; plan a part of it with targets")
    return await asyncio.to_thread(read, outcome.stdout)


def _declared(params: Params, plan: Plan) -> None:
    for name in params.vars:
        if name not in plan.variables:
            near = nearest(name, sorted(plan.variables))
            hint = f"; did you mean {near}?" if near else ""
            raise PermanentError(f"{params.dir} declares no variable {name!r}{hint}")


def _too_much(work: _Work, plan: Plan) -> str | None:
    most = work.params.max_destroy
    if plan.destroy <= most:
        return None
    return (
        f"would destroy {plan.destroy}, more than max_destroy {most}: {_names(plan.destroyed)}; nothing was changed. "
        "Raise max_destroy if that is meant"
    )


def _drift(found: Sequence[Change], exit_code: int | None) -> str:
    if found:
        return f"{len(found)} drifted: {_some(found)}"
    return "no drift" if exit_code == 0 else "the state is out of date; see the output"


async def _apply(work: _Work) -> StepResult:
    """Apply the saved plan, if it is still the one that was made and destroys no more than it may."""
    file, plan = await _saved(work)
    if told := _too_much(work, plan):
        return _safe(work.context, plan, StepResult(False, told, plan.listed(), plan.values()))
    redact = work.context.redact.knowing(*plan.secrets)
    arguments, data = [*_common(work), str(file)], file.parent / "data"
    outcome = await work.call("apply", *arguments, data=data, say=work.context.say, redact=redact)
    if outcome.exit_code != 0:
        return work.failed("apply", outcome)
    add, change, destroy = applied(outcome.stdout) or (plan.add, plan.change, plan.destroy)
    counted: dict[str, JsonValue] = {"add": add, "change": change, "destroy": destroy, "exit_code": 0}
    told = f"{add} added, {change} changed, {destroy} destroyed"
    result = StepResult(True, told, _output_of(outcome), {**plan.values(), **counted}, truncated=outcome.dropped)
    return _safe(work.context, plan, result)


async def _saved(work: _Work) -> tuple[Path, Plan]:
    """The plan of the step that `plan_from` names, exactly as that step left it."""
    params, steps = work.params, work.context.values.get("steps", {})
    given = steps.get(params.plan_from) if isinstance(steps, Mapping) else None
    name, digest = (given.get(key) if isinstance(given, Mapping) else None for key in ("plan_file", "plan_digest"))
    if not isinstance(name, str) or not isinstance(digest, str):
        raise PermanentError(f"the step {params.plan_from!r} saved no plan; it must be one with action: plan before")
    if work.context.scratch is None or not _PLANNED.fullmatch(name):
        _gone(params)
    if name.split("/")[1] != _about(params):
        raise PermanentError(
            f"the plan of the step {params.plan_from!r} is for another dir, workspace or binary; they must be the same"
        )
    file = work.context.scratch / name
    try:
        found = await asyncio.to_thread(_digest, file)
    except OSError:
        _gone(params)
    if found != digest:
        raise PermanentError(f"the saved plan of the step {params.plan_from!r} was changed since; plan again")
    return file, await _shown(work, file.parent / "data", file)


def _gone(params: Params) -> NoReturn:
    raise PermanentError(
        f"the saved plan of the step {params.plan_from!r} is gone; it stays on the machine where it was made, until "
        "the run ends. Plan again"
    )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# -- what it prints --------------------------------------------------------------------------------------------------


def wrong(text: str) -> str:
    """The first error that the program tells of, in one line."""
    lines = [re.sub(r"^[╷│╵]? ?", "", line).rstrip() for line in text.split("\n")]
    for i, line in enumerate(lines):
        if line.startswith("Error: "):
            below = " ".join(lines[i + 1 : i + 9]).split("Lock Info:")[0]
            return clip(one_line(f"{line.removeprefix('Error: ')}: {below}").rstrip(": "), 400)
    return clip(one_line(" ".join(lines)), 400)


def locked(text: str) -> str | None:
    """Who holds the lock of the state, if that is what went wrong."""
    if not re.search(r"Error (?:acquiring the state lock|locking state)", text):
        return None
    told = {
        name: found[1].strip()
        for name in ("Who", "Operation", "Created", "ID")
        if (found := re.search(rf"^[│ ]{{0,8}}{name}:[ \t]{{0,20}}([^\r\n]{{1,200}})$", text, re.MULTILINE))
    }
    if "Who" not in told:
        return "nobody says by whom; try again later"
    operation = told.get("Operation", "").removeprefix("OperationType").lower() or "something"
    return (
        f"{told['Who']} does {operation} since {told.get('Created', 'a while')[:19]}. If that is over, free it with "
        f"force-unlock {told.get('ID', '')}".rstrip()
    )


def applied(text: str) -> tuple[int, int, int] | None:
    """How many resources were added, changed and destroyed."""
    found = re.search(
        r"^Apply complete! Resources: [^\n]{0,40}?([0-9]{1,9}) added, ([0-9]{1,9}) changed, ([0-9]{1,9}) destroyed",
        text,
        re.MULTILINE,
    )
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
