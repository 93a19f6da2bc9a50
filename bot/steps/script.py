"""Run a script that lies beside the runbooks, with its input as JSON."""

import asyncio
import hashlib
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bot.kit.errors import PermanentError
from bot.kit.text import clip
from bot.runs import process, program
from bot.runs.program import Env, Parse
from bot.runs.step import LITERAL, SECRETS, StepContext, StepResult, Text, refuse

EFFECT = "write"
RESULT = (*program.RESULT, "sha256")
FOLDER = "scripts"
LIMIT = 1024 * 1024


def _file(value: object) -> object:
    if isinstance(value, str) and ".." in value.split("/"):
        raise refuse("must not lead out of scripts/")
    return value


class Params(BaseModel):
    """Which script, what it is given, and how to read what it prints."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Annotated[str, BeforeValidator(_file), LITERAL, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}$")] = (
        Field(description="path of the script inside `scripts/` beside the runbook; written out")
    )
    args: list[Text] = Field(default=[], max_length=200, description="arguments; each item stays ONE argument")
    interpreter: Literal["python", "bash"] = Field(
        default="python", description="what runs it: the bot's own Python, isolated, or bash"
    )
    input_: Annotated[dict[str, Any], SECRETS] = Field(
        default={}, alias="input", description="what it reads, as one JSON object on its standard input"
    )
    env: Annotated[Env, SECRETS] = Field(
        default={}, description="environment variables on top of PATH, LANG, TZ, HOME and RUNBOOK_FOLDER"
    )
    ok_codes: list[int] = Field(default=[0], min_length=1, description="exit codes that mean it went well")
    parse: Parse = Field(
        default="json", description="how to read the output: json, text, lines, or kv for key=value lines"
    )
    max_output: int = Field(
        default=65536, ge=1024, le=1048576, description="bytes of output that are kept, first and last"
    )


def needs(params: Params) -> list[tuple[str, str]]:
    """The script, by its place beside the runbook."""
    return [("file", f"{FOLDER}/{params.file}")]


async def run(context: StepContext, params: Params) -> StepResult:
    """Run a copy of the script as it is now: what runs is what was hashed, whoever changes the file meanwhile."""
    place = context.file(f"{FOLDER}/{params.file}")
    content = await asyncio.to_thread(_read, place, params.file)
    with tempfile.TemporaryDirectory(prefix="script-") as folder:
        copy = Path(folder) / place.name
        await asyncio.to_thread(copy.write_bytes, content)
        start = [sys.executable, "-I"] if params.interpreter == "python" else ["bash", "--noprofile", "--norc"]
        outcome = await process.run(
            [*start, str(copy), *params.args],
            mark=f"{context.run_id}/{context.step_key}",
            seconds=context.timeout,
            redact=context.redact,
            cancelled=context.cancelled,
            say=context.say,
            stdin=json.dumps(params.input_, ensure_ascii=False).encode("utf-8", "replace"),
            env={**context.env, **params.env, "RUNBOOK_FOLDER": str(place.parent)},
            keep=params.max_output,
        )
    told = program.told(context, clip(params.file, 60), outcome, params.ok_codes, params.parse)
    return replace(told, values={**told.values, "sha256": hashlib.sha256(content).hexdigest()})


def judge(params: Params, values: Mapping[str, Any]) -> str | None:
    """An exit code that is not expected is a failure, and so is a script that was stopped."""
    return program.judged(params.file, params.ok_codes, values)


def preview(params: Params) -> str:
    """The script and its arguments, and what else it is given, by name."""
    shown = f"would run: {FOLDER}/{params.file}"
    if params.args:
        shown += f" {shlex.join(params.args)}"
    if params.env:
        shown += f" (with {', '.join(sorted(params.env))} in its environment)"
    if params.input_:
        shown += f" (with {', '.join(sorted(params.input_))} as input)"
    return shown


def _read(place: Path, name: str) -> bytes:
    if not place.is_file():
        raise PermanentError(f"{FOLDER}/{name} is no file")
    try:
        with place.open("rb") as file:
            content = file.read(LIMIT + 1)
    except OSError as error:
        raise PermanentError(f"{FOLDER}/{name} cannot be read ({error.strerror})") from None
    if len(content) > LIMIT:
        raise PermanentError(f"{FOLDER}/{name} is larger than 1 MiB, which no script is")
    return content
