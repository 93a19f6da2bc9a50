"""What steps that run a program have in common: what may be set, how its output is read, how its end is told."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, JsonValue

from bot.kit.errors import PermanentError
from bot.kit.text import clip
from bot.runs import process
from bot.runs.step import Cancelled, StepContext, StepResult, Text, refuse

RESULT = ("stdout", "stderr", "exit_code", "timed_out", "json", "lines", "kv")

Parse = Literal["text", "json", "lines", "kv"]


def _env(value: object) -> object:
    for name in value if isinstance(value, dict) else ():
        if not str(name).isidentifier() or not str(name).isascii():
            raise refuse(f"{name!r} is not a name for an environment variable")
        if str(name).startswith(("LD_", "DYLD_", "RUNBOOK_")):
            raise refuse(f"{name} cannot be set")
    return value


Env = Annotated[dict[str, Text], BeforeValidator(_env)]


def need(program: str, hint: str) -> None:
    """Refuse to go on where *program* is missing, with a *hint* at what to do."""
    try:
        process.find(program)
    except PermanentError as error:
        raise PermanentError(f"{error}; {hint}") from None


def settle(name: str, outcome: process.Outcome, where: str = "the host") -> None:
    """Raise where there is no end to speak of: something of *name* still runs, or its run was cancelled."""
    if outcome.survivors:
        pids = ", ".join(map(str, outcome.survivors))
        raise PermanentError(f"{name} was killed and still runs (process {pids}); look at {where} before you try again")
    if outcome.cancelled:
        raise Cancelled(f"{name} was stopped")


def told(
    context: StepContext,
    name: str,
    outcome: process.Outcome,
    ok_codes: list[int],
    parse: Parse,
    where: str = "the host",
) -> StepResult:
    """The end of the program called *name* as the result of its step; *where* is the machine it ran on."""
    settle(name, outcome, where)
    values: dict[str, JsonValue] = {
        "stdout": outcome.stdout,
        "stderr": outcome.stderr,
        "exit_code": outcome.exit_code,
        "timed_out": outcome.timed_out,
    }
    ok = not outcome.timed_out and not outcome.crowded and outcome.exit_code in ok_codes
    if ok:
        values |= _read(parse, outcome)
    return StepResult(
        ok=ok,
        summary=_summary(context, name, outcome, ok),
        output=outcome.stdout + (f"\n{outcome.stderr}" if outcome.stderr else ""),
        values=values,
        truncated=outcome.dropped,
    )


def judged(name: str, ok_codes: list[int], values: Mapping[str, Any]) -> str | None:
    """Why *values* that a test of a runbook gives for the program called *name* are a failure, or None."""
    if values.get("timed_out"):
        return f"{name} was stopped"
    code = values.get("exit_code", ok_codes[0])
    return None if code in ok_codes else f"{name} ended with exit code {code}"


def _read(how: Parse, outcome: process.Outcome) -> dict[str, JsonValue]:
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


def end(outcome: process.Outcome) -> str:
    """How a program ended by itself, in words."""
    if outcome.crowded:
        return "had too many processes and was ended"
    code = outcome.exit_code or 0
    return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _summary(context: StepContext, name: str, outcome: process.Outcome, ok: bool) -> str:
    if outcome.timed_out:
        return f"{name} was stopped after {context.timeout:g} s; nothing of it still runs"
    if outcome.crowded:
        return f"{name} {end(outcome)}; nothing of it still runs"
    how = end(outcome)
    if ok:
        return f"{name} {how} after {outcome.seconds:.1f} s"
    last = outcome.stderr.strip().rpartition("\n")[2] or outcome.stdout.strip().rpartition("\n")[2]
    return f"{name} {how}" + (f": {clip(last, 300)}" if last else "")
