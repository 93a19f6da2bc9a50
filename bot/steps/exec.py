"""Run a program on this machine: a list of arguments, no shell."""

import json
import shlex
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from bot.kit.errors import PermanentError
from bot.kit.text import clip
from bot.runs import process
from bot.runs.expressions import templated
from bot.runs.step import SECRETS, Cancelled, StepContext, StepResult, Text, not_yet, refuse

EFFECT = "write"
RESULT = ("stdout", "stderr", "exit_code", "timed_out", "json", "lines", "kv")


def _argv(value: object) -> object:
    if isinstance(value, str):
        raise refuse("must be a list, one item per argument; there is no shell here that could take a line apart")
    if isinstance(value, list) and value and templated(value[0]):
        raise refuse("the program itself must be written out; only its arguments may be filled in")
    return value


def _env(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not str(name).isidentifier() or not str(name).isascii():
            raise refuse(f"{name!r} is not a name for an environment variable")
        if name == process.MARK or str(name).startswith(("LD_", "DYLD_")):
            raise refuse(f"{name} cannot be set")
    return value


class Params(BaseModel):
    """What to run and how to read what it prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: Annotated[list[Text], BeforeValidator(_argv), Field(min_length=1, max_length=200)] = Field(
        description="program and arguments; each item stays ONE argument, no shell"
    )
    cwd: Text | None = Field(default=None, description="directory to run in; an empty one of its own otherwise")
    env: Annotated[dict[str, Text], BeforeValidator(_env), SECRETS] = Field(
        default={}, description="environment variables on top of PATH, LANG, TZ and HOME"
    )
    stdin: Annotated[Text | None, SECRETS] = Field(
        default=None, description="what the program reads; nothing otherwise"
    )
    ok_codes: list[int] = Field(default=[0], min_length=1, description="exit codes that mean it went well")
    parse: Literal["text", "json", "lines", "kv"] = Field(
        default="text", description="how to read the output: json, lines, or kv for key=value lines"
    )
    host: Annotated[str | None, not_yet("running on another host")] = Field(
        default=None, description="name of a target; not in this version"
    )
    max_output: int = Field(
        default=65536, ge=1024, le=1048576, description="bytes of output that are kept, first and last"
    )


async def run(context: StepContext, params: Params) -> StepResult:
    """Run it and read what it printed; an exit code that is not expected, or a timeout, is a result that is not ok."""
    outcome = await process.run(
        params.argv,
        mark=f"{context.run_id}/{context.step_key}",
        seconds=context.timeout,
        redact=context.redact,
        cancelled=context.cancelled,
        say=context.say,
        stdin=None if params.stdin is None else params.stdin.encode("utf-8", "replace"),
        env={**context.env, **params.env},
        cwd=params.cwd,
        keep=params.max_output,
    )
    name = clip(params.argv[0], 60)
    if outcome.survivors:
        pids = ", ".join(map(str, outcome.survivors))
        raise PermanentError(
            f"{name} was killed and still runs (process {pids}); look at the host before you try again"
        )
    if outcome.cancelled:
        raise Cancelled(f"{name} was stopped")
    values: dict[str, JsonValue] = {
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "exit_code": outcome.exit_code,
        "timed_out": outcome.timed_out,
    }
    ok = not outcome.timed_out and outcome.exit_code in params.ok_codes
    if ok:
        values |= _read(params.parse, outcome)
    return StepResult(
        ok=ok,
        summary=_summary(context, name, outcome, ok),
        output=outcome.stdout + (f"\n{outcome.stderr}" if outcome.stderr else ""),
        values=values,
        truncated=outcome.dropped,
    )


def judge(params: Params, values: Mapping[str, Any]) -> str | None:
    """An exit code that is not expected is a failure, and so is a program that was stopped."""
    if values.get("timed_out"):
        return f"{params.argv[0]} was stopped"
    code = values.get("exit_code", params.ok_codes[0])
    return None if code in params.ok_codes else f"{params.argv[0]} ended with exit code {code}"


def preview(params: Params) -> str:
    """The command line, and what else it is given, by name."""
    told = f"would run: {shlex.join(params.argv)}"
    if params.env:
        told += f" (with {', '.join(sorted(params.env))} in its environment)"
    if params.stdin is not None:
        told += " (with input)"
    return told


def _read(how: str, outcome: process.Outcome) -> dict[str, JsonValue]:
    if how == "text":
        return {}
    if outcome.dropped:
        raise PermanentError(f"printed {outcome.dropped} bytes too many to be read as {how}; raise max_output")
    lines = [line for line in outcome.stdout.split("\n") if line]
    if how == "lines":
        return {"lines": list[JsonValue](lines)}
    if how == "kv":
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {"kv": {key.strip(): value.strip() for key, _, value in pairs}}
    try:
        found: Any = json.loads(outcome.stdout)
    except (ValueError, RecursionError) as error:
        raise PermanentError(f"the output is not JSON: {error}") from None
    return {"json": found}


def _summary(context: StepContext, name: str, outcome: process.Outcome, ok: bool) -> str:
    if outcome.timed_out:
        return f"{name} was stopped after {context.timeout:g} s; nothing of it still runs"
    code = outcome.exit_code or 0
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    if ok:
        return f"{name} {how} after {outcome.seconds:.1f} s"
    last = outcome.stderr.strip().rpartition("\n")[2] or outcome.stdout.strip().rpartition("\n")[2]
    return f"{name} {how}" + (f": {clip(last, 300)}" if last else "")
