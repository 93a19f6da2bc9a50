"""Run a program on this machine or, over ssh, on another one: a list of arguments, no shell."""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from bot.kit.text import clip
from bot.runs import process, program, ssh
from bot.runs.expressions import templated
from bot.runs.program import Env, Parse
from bot.runs.step import SECRETS, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = program.RESULT


def _argv(value: object) -> object:
    if isinstance(value, str):
        raise refuse("must be a list, one item per argument; there is no shell here that could take a line apart")
    if isinstance(value, list) and value and templated(value[0]):
        raise refuse("the program itself must be written out; only its arguments may be filled in")
    return value


class Params(BaseModel):
    """What to run and how to read what it prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: Annotated[list[Text], BeforeValidator(_argv), Field(min_length=1, max_length=200)] = Field(
        description="program and arguments; each item stays ONE argument, no shell"
    )
    cwd: Text | None = Field(
        default=None, description="directory to run in; else an empty one of its own, on a host the user's home"
    )
    env: Annotated[Env, SECRETS] = Field(
        default={}, description="environment variables on top of PATH, LANG, TZ and HOME"
    )
    stdin: Annotated[Text | None, SECRETS] = Field(
        default=None, description="what the program reads; nothing otherwise"
    )
    ok_codes: list[int] = Field(default=[0], min_length=1, description="exit codes that mean it went well")
    parse: Parse = Field(default="text", description="how to read the output: json, lines, or kv for key=value lines")
    host: str | None = Field(
        default=None,
        min_length=1,
        description="name of a host in targets.yaml, reached over ssh; this machine otherwise",
    )
    max_output: int = Field(
        default=65536, ge=1024, le=1048576, description="bytes of output that are kept, first and last"
    )

    @model_validator(mode="after")
    def _remote(self) -> "Params":
        if self.host is None:
            return self
        if not ssh.PROGRAM.fullmatch(self.argv[0]):
            raise refuse(f"{clip(self.argv[0], 60)!r} is neither a program's name nor an absolute path")
        if self.cwd is not None and not self.cwd.startswith("/"):
            raise refuse("cwd on a host must be an absolute path")
        return self


def needs(params: Params) -> list[tuple[str, str]]:
    """The host it runs on."""
    return [] if params.host is None else [("host", params.host)]


async def run(context: StepContext, params: Params) -> StepResult:
    """Run it and read what it printed; an exit code that is not expected, or a timeout, is a result that is not ok."""
    mark = f"{context.run_id}/{context.step_key}"
    stdin = None if params.stdin is None else params.stdin.encode("utf-8", "replace")
    env = {**context.env, **params.env}
    name = clip(params.argv[0], 60)
    if params.host is None:
        outcome = await process.run(
            params.argv,
            mark=mark,
            seconds=context.timeout,
            redact=context.redact,
            cancelled=context.cancelled,
            say=context.say,
            stdin=stdin,
            env=env,
            cwd=params.cwd,
            keep=params.max_output,
        )
        return program.told(context, name, outcome, params.ok_codes, params.parse)
    outcome = await ssh.run(
        ssh.Target.of(context.reach, params.host),
        params.argv,
        mark=mark,
        seconds=context.timeout,
        redact=context.redact,
        cancelled=context.cancelled,
        say=context.say,
        stdin=stdin,
        env=env,
        cwd=params.cwd,
        keep=params.max_output,
    )
    return program.told(context, f"{name} on {params.host}", outcome, params.ok_codes, params.parse, params.host)


def judge(params: Params, values: Mapping[str, Any]) -> str | None:
    """An exit code that is not expected is a failure, and so is a program that was stopped."""
    return program.judged(params.argv[0], params.ok_codes, values)


def preview(params: Params) -> str:
    """The command line, and what else it is given, by name."""
    shown = f"would run: {shlex.join(params.argv)}"
    if params.host is not None:
        shown += f" (on {params.host})"
    if params.env:
        shown += f" (with {', '.join(sorted(params.env))} in its environment)"
    if params.stdin is not None:
        shown += " (with input)"
    return shown
